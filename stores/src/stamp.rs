//! What a canary tells a watcher that has no other word from its writer: instants of the writer's wall clock, and how far it may be off.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Instants of the writer's wall clock, microseconds since 1970 UTC. Only with a bound of their error can another clock read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// When the canary left.
    pub sent_at_us: i64,
    /// The writer's clock was off by no more than this, by the account of whoever disciplines it.
    pub error_us: u64,
    /// The newest canary of the epoch that was acknowledged by then. Its acknowledgement could not travel inside itself.
    pub before: Option<AckedBefore>,
}

/// An earlier canary and its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AckedBefore {
    /// The canary.
    pub sequence: u64,
    /// When it was acknowledged.
    pub acked_at_us: i64,
}

/// Text that is no stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stamp")]
pub struct NoStamp;

/// `SENT,ERROR` or `SENT,ERROR,SEQUENCE,ACKED`.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.sent_at_us, self.error_us)?;
        match self.before {
            Some(before) => write!(f, ",{},{}", before.sequence, before.acked_at_us),
            None => Ok(()),
        }
    }
}

impl FromStr for Stamp {
    type Err = NoStamp;

    fn from_str(text: &str) -> Result<Self, NoStamp> {
        fn number<T: FromStr>(text: &str) -> Result<T, NoStamp> {
            text.parse().map_err(|_| NoStamp)
        }
        let parts: Vec<&str> = text.split(',').collect();
        let (sent, error, before) = match parts[..] {
            [sent, error] => (sent, error, None),
            [sent, error, sequence, acked] => {
                let before = AckedBefore {
                    sequence: number(sequence)?,
                    acked_at_us: number(acked)?,
                };
                (sent, error, Some(before))
            }
            _ => return Err(NoStamp),
        };
        Ok(Self {
            sent_at_us: number(sent)?,
            error_us: number(error)?,
            before,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_anything_else_is_none() {
        let alone = Stamp {
            sent_at_us: 1_795_251_600_000_000,
            error_us: 363,
            before: None,
        };
        let with = Stamp {
            before: Some(AckedBefore {
                sequence: u64::MAX,
                acked_at_us: i64::MIN,
            }),
            ..alone
        };
        for stamp in [alone, with] {
            assert_eq!(stamp.to_string().parse(), Ok(stamp));
        }
        for text in ["", "1", "1,", "1,-2", "1,2,3", "1,2,3,4,5", "1,2,x,4", "1.5,2"] {
            assert_eq!(text.parse::<Stamp>(), Err(NoStamp), "{text}");
        }
    }
}
