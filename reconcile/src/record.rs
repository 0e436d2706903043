//! Counting what was found, and writing it to the journal.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use stores::Class;

use crate::{Divergence, Frame, Origin, State};

/// Keys and collections by what became of them. Counts everything, whatever is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Divergences.
    pub confirmed: u64,
    /// Kept changing.
    pub volatile: u64,
    /// Could not be read again.
    pub unverified: u64,
    /// Were in flight only.
    pub transient: u64,
    /// Confirmed ones that are counted here and not listed, because the cap of the listing was reached.
    pub not_listed: u64,
    /// Confirmed ones by class.
    pub classes: BTreeMap<Class, u64>,
    /// Confirmed ones by origin; empty without an event.
    pub origins: BTreeMap<Origin, u64>,
}

impl Counts {
    pub(crate) fn count(&mut self, state: State, class: Class, origin: Option<Origin>) {
        match state {
            State::Confirmed => {
                self.confirmed += 1;
                *self.classes.entry(class).or_default() += 1;
                if let Some(origin) = origin {
                    *self.origins.entry(origin).or_default() += 1;
                }
            }
            State::Transient => self.transient += 1,
            State::Volatile => self.volatile += 1,
            State::Unverified | State::Pending | State::OutOfScope => self.unverified += 1,
        }
    }

    /// Keys about which there is no conclusion.
    pub fn undecided(&self) -> u64 {
        self.volatile + self.unverified
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.confirmed += other.confirmed;
        self.volatile += other.volatile;
        self.unverified += other.unverified;
        self.transient += other.transient;
        self.not_listed += other.not_listed;
        for (class, count) in &other.classes {
            *self.classes.entry(*class).or_default() += count;
        }
        for (origin, count) in &other.origins {
            *self.origins.entry(*origin).or_default() += count;
        }
    }
}

/// The one writer of a journal.
#[derive(Debug)]
pub(crate) struct Recorder {
    inner: Mutex<Inner>,
    listed_max: u64,
}

#[derive(Debug)]
struct Inner {
    writer: journal::Writer,
    listed: u64,
}

impl Recorder {
    /// `listed`: how many divergences count that stand in the journal already.
    pub(crate) fn new(writer: journal::Writer, listed_max: Option<u64>, listed: u64) -> Self {
        Self {
            inner: Mutex::new(Inner { writer, listed }),
            listed_max: listed_max.unwrap_or(u64::MAX),
        }
    }

    /// Appends a frame; it survives the death of this process when this returns.
    pub(crate) fn append(&self, frame: &Frame) -> journal::Result<()> {
        self.lock().writer.append_record(frame)
    }

    /// Counts a divergence, and lists it unless the cap is reached. Both or neither: a run that is cut short counts what it listed.
    pub(crate) fn divergence(&self, divergence: Divergence, counts: &Mutex<Counts>) -> journal::Result<()> {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, class, origin) = (divergence.state, divergence.class, divergence.origin);
        let mut inner = self.lock();
        if inner.listed < self.listed_max {
            inner.writer.append_record(&Frame::Divergence(Box::new(divergence)))?;
            inner.listed += 1;
        } else if state == State::Confirmed {
            counts.not_listed += 1;
        }
        counts.count(state, class, origin);
        Ok(())
    }

    /// Returns when everything appended is on the disk.
    pub(crate) fn sync(&self) -> journal::Result<()> {
        self.lock().writer.sync()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
