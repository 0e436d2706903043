//! Reading a ledger again, in one pass and in bounded memory: each canary is handed over when its fate is known, the others at the end.

use std::collections::BTreeMap;

use stores::{Canary, Covers};

use crate::FinalState;
use crate::ledger::{EpochLedger, Frame, LedgerError, OpenCanaries, Written};
use crate::settled::Origin;

/// A ring that was copied into the ledger around a change of roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRing {
    /// When the answer came in, on the epoch's monotonic clock.
    pub at_us: u64,
    /// The instance that answered.
    pub instance: String,
    /// What it held.
    pub canaries: Vec<Canary>,
    /// How much of it was read.
    pub covers: Covers,
}

/// What a whole ledger says beside its canaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Whose canaries these are.
    pub origin: Origin,
    /// Until when the ledger is known to hold everything, on the epoch's monotonic clock.
    pub complete_until_us: u64,
    /// The ring that was kept last.
    pub ring: Option<KeptRing>,
    /// What became of canaries that earlier epochs had left open, by epoch and sequence. As bounded as what can be carried on.
    pub earlier: BTreeMap<String, BTreeMap<u64, FinalState>>,
    /// Whether the probe ended in order.
    pub is_closed: bool,
    /// Whether the last frame was cut short, as by kill -9.
    pub is_torn: bool,
}

/// Reads the ledger of an epoch and hands every canary that was, or may have been, sent to `visit`: when it is settled, or else at the
/// end of the ledger.
///
/// Memory holds only the canaries that are open, and one ring.
///
/// # Errors
/// The ledger cannot be read or is corrupt. A torn tail is no error.
pub fn replay(ledger: &EpochLedger, mut visit: impl FnMut(&Written)) -> Result<Replayed, LedgerError> {
    let mut replayed = Replayed {
        complete_until_us: ledger.origin.anchor.now_us,
        origin: ledger.origin.clone(),
        ring: None,
        earlier: BTreeMap::new(),
        is_closed: false,
        is_torn: false,
    };
    let mut open = OpenCanaries::default();
    for path in &ledger.segments {
        let mut reader = journal::Reader::open(path)?;
        let mut is_epoch = false;
        for frame in reader.records::<Frame>() {
            let frame = frame?;
            is_epoch |= matches!(frame, Frame::Epoch { .. });
            if !is_epoch {
                break;
            }
            if let Some(canary) = open.follow(&frame) {
                visit(&canary);
            }
            replayed.follow(frame);
        }
        if !is_epoch {
            return Err(LedgerError::NoEpoch { path: path.clone() });
        }
        replayed.is_torn = matches!(reader.tail(), Some(journal::Tail::Torn { .. }));
    }
    for canary in open.iter() {
        if canary.sent_us.is_some() || !replayed.is_closed {
            visit(canary);
        }
    }
    Ok(replayed)
}

impl Replayed {
    fn follow(&mut self, frame: Frame) {
        match frame {
            Frame::Ring {
                at_us,
                instance,
                canaries,
                covers,
            } => match &mut self.ring {
                Some(ring) if ring.at_us == at_us => {
                    ring.canaries.extend(canaries);
                    if let (Covers::Slots(all), Covers::Slots(more)) = (&mut ring.covers, covers) {
                        all.extend(more);
                    }
                }
                ring => {
                    *ring = Some(KeptRing {
                        at_us,
                        instance,
                        canaries,
                        covers,
                    });
                }
            },
            Frame::Complete { until_us } => self.complete_until_us = self.complete_until_us.max(until_us),
            Frame::Closed { .. } => self.is_closed = true,
            Frame::Epoch { .. }
            | Frame::Continued { .. }
            | Frame::Carried { .. }
            | Frame::Reserved { .. }
            | Frame::Planned { .. }
            | Frame::Skipped { .. }
            | Frame::Sent { .. }
            | Frame::Acked { .. }
            | Frame::Unknown { .. }
            | Frame::Revised { .. }
            | Frame::Settled(_) => {}
            Frame::Earlier { epoch, settled } => {
                self.earlier
                    .entry(epoch)
                    .or_default()
                    .insert(settled.sequence, settled.state);
            }
        }
    }
}
