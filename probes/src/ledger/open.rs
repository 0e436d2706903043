//! The canaries of a ledger whose fate it does not tell yet. Writing and reading follow the same frames with the same code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Frame;
use crate::FinalState;
use crate::settled::Settled;

/// A canary as its writer knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The canary.
    pub sequence: u64,
    /// Its slot.
    pub planned_us: u64,
    /// w0; `None` when the ledger ends before it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_us: Option<u64>,
    /// How its write ended.
    pub outcome: WriteFate,
    /// What the probe saw of it in the end; `None`: it was unsettled when the ledger ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<FinalState>,
}

impl Written {
    /// An instant that is not after w0: the planned one where w0 was not recorded.
    pub fn sent_not_before_us(&self) -> u64 {
        self.sent_us.unwrap_or(self.planned_us)
    }
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteFate {
    /// Acknowledged, at w1.
    Acked(u64),
    /// Certainly not written.
    Failed,
    /// Timed out, cut, or the ledger ends before it tells.
    Unknown,
}

/// Canaries that were planned and are not settled. The tracker bounds them: what is too much for it is settled as superseded.
#[derive(Debug, Default)]
pub(crate) struct OpenCanaries {
    by_sequence: BTreeMap<u64, Written>,
}

impl OpenCanaries {
    /// Takes in one frame. Returns the canary about which there is nothing more to learn from the ledger.
    pub(crate) fn follow(&mut self, frame: &Frame) -> Option<Written> {
        match frame {
            Frame::Planned { sequence, planned_us } => {
                self.by_sequence.insert(
                    *sequence,
                    Written {
                        sequence: *sequence,
                        planned_us: *planned_us,
                        sent_us: None,
                        outcome: WriteFate::Unknown,
                        fate: None,
                    },
                );
                None
            }
            Frame::Sent { sequence, sent_us, .. } => {
                if let Some(canary) = self.by_sequence.get_mut(sequence) {
                    canary.sent_us = Some(*sent_us);
                }
                None
            }
            Frame::Skipped { sequence, .. } => {
                self.by_sequence.remove(sequence);
                None
            }
            Frame::Acked { sequence, acked_us } => {
                if let Some(canary) = self.by_sequence.get_mut(sequence) {
                    canary.outcome = WriteFate::Acked(*acked_us);
                }
                None
            }
            Frame::Settled(settled) => self.settle(settled),
            Frame::Carried { canaries } => {
                self.by_sequence
                    .extend(canaries.iter().map(|canary| (canary.sequence, *canary)));
                None
            }
            Frame::Epoch { .. }
            | Frame::Continued { .. }
            | Frame::Reserved { .. }
            | Frame::Unknown { .. }
            | Frame::Earlier { .. }
            | Frame::Ring { .. }
            | Frame::Revised { .. }
            | Frame::Complete { .. }
            | Frame::Closed { .. } => None,
        }
    }

    /// Writers and readers hand in their frames side by side, so the last word may come before the acknowledgement that it rests on:
    /// it then brings the instants along.
    fn settle(&mut self, settled: &Settled) -> Option<Written> {
        let mut canary = self.by_sequence.remove(&settled.sequence)?;
        canary.fate = Some(settled.state);
        canary.sent_us = canary.sent_us.or(Some(settled.sent_us));
        canary.outcome = match (settled.state, settled.acked_us, canary.outcome) {
            (FinalState::WriteFailed, ..) => WriteFate::Failed,
            (_, Some(acked_us), WriteFate::Unknown) => WriteFate::Acked(acked_us),
            (_, _, outcome) => outcome,
        };
        Some(canary)
    }

    /// All of them, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Written> {
        self.by_sequence.values()
    }
}
