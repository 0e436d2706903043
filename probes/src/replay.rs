//! Reading a ledger again, in one pass and in bounded memory: each canary is handed over when its write has ended.

use std::collections::BTreeMap;
use std::path::Path;

use stores::Canary;

use crate::FinalState;
use crate::ledger::{Frame, LedgerError};
use crate::settled::Origin;

/// A canary as its writer knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The canary.
    pub sequence: u64,
    /// Its slot.
    pub planned_us: u64,
    /// w0; `None` when the ledger ends before it tells.
    pub sent_us: Option<u64>,
    /// How its write ended.
    pub outcome: WriteFate,
}

impl Written {
    /// An instant that is not after w0: the planned one where w0 was not recorded.
    pub fn sent_not_before_us(&self) -> u64 {
        self.sent_us.unwrap_or(self.planned_us)
    }
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFate {
    /// Acknowledged, at w1.
    Acked(u64),
    /// Certainly not written.
    Failed,
    /// Timed out, cut, or the ledger ends before it tells.
    Unknown,
}

/// What a whole ledger says beside its canaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Whose canaries these are.
    pub origin: Origin,
    /// Until when the ledger is known to hold everything, on the epoch's monotonic clock.
    pub complete_until_us: u64,
    /// Rings that were copied on a role change, of which only the last is kept.
    pub ring: Option<(u64, String, Vec<Canary>)>,
    /// Whether the probe ended in order.
    pub is_closed: bool,
    /// Whether the last frame was cut short, as by kill -9.
    pub is_torn: bool,
}

/// Reads the ledger at `path` and hands every canary that was, or may have been, sent to `visit`, when its write has ended.
///
/// Memory holds only the canaries whose write is open, and one ring.
///
/// # Errors
/// The ledger cannot be read or is corrupt. A torn tail is no error.
pub fn replay(path: &Path, mut visit: impl FnMut(&Written)) -> Result<Replayed, LedgerError> {
    let mut reader = journal::Reader::open(path)?;
    let mut records = reader.records::<Frame>();
    let Some(Frame::Epoch { origin, .. }) = records.next().transpose()? else {
        return Err(LedgerError::NoEpoch { path: path.to_owned() });
    };
    let mut replayed = Replayed {
        complete_until_us: origin.anchor.now_us,
        origin,
        ring: None,
        is_closed: false,
        is_torn: false,
    };
    let mut open: BTreeMap<u64, Written> = BTreeMap::new();
    for frame in records {
        follow(frame?, &mut open, &mut replayed, &mut visit);
    }
    replayed.is_torn = matches!(reader.tail(), Some(journal::Tail::Torn { .. }));
    for canary in open.values() {
        if canary.sent_us.is_some() || !replayed.is_closed {
            visit(canary);
        }
    }
    Ok(replayed)
}

fn follow(frame: Frame, open: &mut BTreeMap<u64, Written>, replayed: &mut Replayed, visit: &mut impl FnMut(&Written)) {
    let mut end = |open: &mut BTreeMap<u64, Written>, sequence: u64, outcome: WriteFate| {
        if let Some(mut canary) = open.remove(&sequence) {
            canary.outcome = outcome;
            visit(&canary);
        }
    };
    match frame {
        Frame::Planned { sequence, planned_us } => {
            open.insert(
                sequence,
                Written {
                    sequence,
                    planned_us,
                    sent_us: None,
                    outcome: WriteFate::Unknown,
                },
            );
        }
        Frame::Sent { sequence, sent_us, .. } => {
            if let Some(canary) = open.get_mut(&sequence) {
                canary.sent_us = Some(sent_us);
            }
        }
        Frame::Skipped { sequence, .. } => drop(open.remove(&sequence)),
        Frame::Acked { sequence, acked_us } => end(open, sequence, WriteFate::Acked(acked_us)),
        Frame::Unknown { sequence, .. } => end(open, sequence, WriteFate::Unknown),
        Frame::Settled(settled) if settled.state == FinalState::WriteFailed => {
            end(open, settled.sequence, WriteFate::Failed);
        }
        Frame::Ring {
            at_us,
            instance,
            canaries,
        } => match &mut replayed.ring {
            Some((at, _, held)) if *at == at_us => held.extend(canaries),
            ring => *ring = Some((at_us, instance, canaries)),
        },
        Frame::Complete { until_us } => replayed.complete_until_us = replayed.complete_until_us.max(until_us),
        Frame::Closed { .. } => replayed.is_closed = true,
        Frame::Settled(_) | Frame::Earlier { .. } | Frame::Reserved { .. } | Frame::Epoch { .. } => {}
    }
}
