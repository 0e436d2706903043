//! Minutes of earlier epochs that have not had their last word: put together again from their ledgers, and revised until all of their
//! canaries are settled.
//!
//! Memory holds those minutes alone, however long the ledgers are.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::PENDING_MAX;
use crate::carried::EPOCHS_CARRIED_MAX;
use crate::intervals::{INTERVAL_US, Intervals, Minute, start_of};
use crate::ledger::{EpochLedger, Frame, LedgerError, ledgers};
use crate::settled::Origin;

/// A row that was handed over so shortly before a kill may never have become a file: it is handed over again.
const UNSHOWN_US: u64 = 150_000_000;

/// An epoch that lasted longer has said that it revised a minute, or was written by a version that never says so.
const UNSAID_US_MAX: u64 = 150_000_000;

/// The minutes of each earlier epoch of `stream` that are not final, by epoch, of the newest [`EPOCHS_CARRIED_MAX`] ones.
///
/// # Errors
/// A ledger cannot be read or is corrupt.
pub(crate) fn leftovers(
    folder: &Path,
    stream: &str,
    overdue_after: Duration,
) -> Result<BTreeMap<String, Intervals>, LedgerError> {
    let files = ledgers(folder, |origin| origin.stream == stream)?;
    let newest = files.len().saturating_sub(EPOCHS_CARRIED_MAX);
    let mut minutes = Rebuilding {
        overdue_after,
        by_epoch: BTreeMap::new(),
    };
    for file in &files[newest..] {
        minutes.follow(file)?;
    }
    let mut left = minutes.by_epoch;
    let mut room = PENDING_MAX;
    for file in files.iter().rev() {
        let epoch = &file.origin.epoch;
        let open = left.get(epoch).map_or(0, Intervals::open_count);
        if open > room {
            tracing::warn!(
                stream,
                epoch,
                open,
                "too many canaries are open; the minutes of this epoch are not revised any more"
            );
            left.remove(epoch);
        } else {
            room -= open;
        }
    }
    left.retain(|_, intervals| !intervals.is_done());
    Ok(left)
}

struct Rebuilding {
    overdue_after: Duration,
    by_epoch: BTreeMap<String, Intervals>,
}

/// What one ledger has told so far.
struct Told<'a> {
    origin: &'a Origin,
    /// Slots that may have been used.
    planned: BTreeMap<u64, u64>,
    /// Minutes that got their last word of late, and when.
    said: Vec<(u64, String, i64, Minute)>,
    last_us: u64,
    has_revised: bool,
    is_closed: bool,
    /// Its first segments are gone: minutes that began before this instant are not whole.
    whole_from_us: i64,
    is_cut: bool,
}

impl Rebuilding {
    fn follow(&mut self, file: &EpochLedger) -> Result<(), LedgerError> {
        let epoch = &file.origin.epoch;
        let own = Intervals::new(file.origin.clone(), self.overdue_after);
        self.by_epoch.insert(epoch.clone(), own);
        let mut told = Told {
            origin: &file.origin,
            planned: BTreeMap::new(),
            said: Vec::new(),
            last_us: file.origin.anchor.now_us,
            has_revised: false,
            is_closed: false,
            whole_from_us: i64::MIN,
            is_cut: false,
        };
        for (index, segment) in file.segments.iter().enumerate() {
            for frame in journal::Reader::open(segment)?.records::<Frame>() {
                self.take(&mut told, frame?, index == 0);
            }
        }
        if !told.is_closed {
            for (at_us, epoch, start, minute) in told.said {
                if let Some(intervals) = self.by_epoch.get_mut(&epoch)
                    && at_us.saturating_add(UNSHOWN_US) > told.last_us
                {
                    intervals.put_back(start, minute);
                }
            }
        }
        let Some(own) = self.by_epoch.get_mut(epoch) else {
            return Ok(());
        };
        if !told.is_closed {
            for (sequence, planned_us) in told.planned {
                own.sent(sequence, planned_us);
            }
        }
        let lasted_us = told.last_us.saturating_sub(file.origin.anchor.now_us);
        own.ended(told.last_us);
        own.forget_before(told.whole_from_us);
        if !told.has_revised && lasted_us > UNSAID_US_MAX {
            own.forget_settled();
        }
        Ok(())
    }

    fn take(&mut self, told: &mut Told<'_>, frame: Frame, is_first_segment: bool) {
        let Some(own) = self.by_epoch.get_mut(&told.origin.epoch) else {
            return;
        };
        match frame {
            Frame::Continued { number, .. } => told.is_cut |= is_first_segment && number > 0,
            Frame::Carried { canaries } if told.is_cut && is_first_segment => {
                let planned = canaries.iter().map(|canary| canary.planned_us).max();
                told.cut_behind(planned.unwrap_or(0));
            }
            Frame::Planned { sequence, planned_us } => {
                if std::mem::take(&mut told.is_cut) {
                    told.cut_behind(planned_us);
                }
                told.planned.insert(sequence, planned_us);
            }
            Frame::Skipped { sequence, planned_us } => {
                told.planned.remove(&sequence);
                own.skipped(planned_us);
            }
            Frame::Sent {
                sequence, planned_us, ..
            } => {
                told.planned.remove(&sequence);
                own.sent(sequence, planned_us);
            }
            Frame::Acked { sequence, acked_us } => {
                told.last_us = told.last_us.max(acked_us);
                own.acked(sequence, acked_us);
            }
            Frame::Unknown { sequence, .. } => own.unknown(sequence),
            Frame::Settled(settled) => own.settled(&settled),
            Frame::Earlier { epoch, settled } => {
                if let Some(earlier) = self.by_epoch.get_mut(&epoch) {
                    earlier.settled_later(&settled);
                }
            }
            Frame::Revised {
                epoch,
                start_us,
                revision,
                is_final,
                at_us,
            } => {
                told.has_revised |= epoch.is_none();
                let epoch = epoch.unwrap_or_else(|| told.origin.epoch.clone());
                told.last_us = told.last_us.max(at_us);
                told.said
                    .retain(|(said_us, ..)| said_us.saturating_add(UNSHOWN_US) > at_us);
                if let Some(intervals) = self.by_epoch.get_mut(&epoch) {
                    intervals.was_revised(start_us, revision, told.origin.anchor.wall(at_us));
                    if is_final && let Some(minute) = intervals.take(start_us) {
                        told.said.push((at_us, epoch, start_us, minute));
                    }
                }
            }
            Frame::Complete { until_us } => told.last_us = told.last_us.max(until_us),
            Frame::Closed { at_us, .. } => {
                told.is_closed = true;
                told.last_us = told.last_us.max(at_us);
            }
            Frame::Epoch { .. } | Frame::Carried { .. } | Frame::Reserved { .. } | Frame::Ring { .. } => {}
        }
    }
}

impl Told<'_> {
    fn cut_behind(&mut self, planned_us: u64) {
        let start = start_of(self.origin.anchor.wall(planned_us));
        self.whole_from_us = self.whole_from_us.max(start + INTERVAL_US);
    }
}
