//! What an event lost, for a person and as JSON.

use std::fmt::Write as _;

use probes::Rpo;
use serde::Serialize;

use super::terminal::{at_least, at_most, canaries, plain, table};

/// The results of one `rpo` run. Its JSON form is a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The run.
    pub run_id: String,
    /// Whether the fate of every acknowledged canary is known, on every route.
    pub complete: bool,
    /// 0: no canary was lost. 1: some were. 3: could not tell.
    pub exit_code: u8,
    /// One for each route.
    pub results: Vec<Rpo>,
}

impl Loss {
    /// Judges results. The canaries themselves are left to the table `rpo_canaries`.
    pub fn new(run_id: &str, mut results: Vec<Rpo>) -> Self {
        results.iter_mut().for_each(|result| result.canaries.clear());
        let complete = !results.is_empty() && results.iter().all(is_told);
        let is_lost = results.iter().any(|result| result.lost > 0);
        Self {
            run_id: run_id.to_owned(),
            complete,
            exit_code: match (is_lost, complete) {
                (true, _) => 1,
                (false, true) => 0,
                (false, false) => 3,
            },
            results,
        }
    }

    /// The results as text.
    pub fn terminal(&self) -> String {
        let mut rows = table(&[
            "dataset",
            "route",
            "acked",
            "survived",
            "lost",
            "RPO, at least",
            "at most",
            "shape",
        ]);
        let mut remarks = String::new();
        // Writing to a String cannot fail.
        for one in &self.results {
            let route = format!(
                "{} -> {}",
                plain(&one.route.primary_site),
                plain(&one.route.secondary_site)
            );
            let lost = match one.unknown {
                0 => one.lost.to_string(),
                unknown => format!("{} to {}", one.lost, one.lost + unknown),
            };
            rows.add_row([
                plain(&one.route.dataset),
                route.clone(),
                one.acked.to_string(),
                one.survived.to_string(),
                lost,
                at_least(Some(one.rpo_low_us)),
                at_most(one.rpo_high_us),
                one.shape.word().to_owned(),
            ]);
            if one.acked == 0 {
                let _ = writeln!(
                    remarks,
                    "{route}: no canary was acknowledged in that span: nothing is known."
                );
            }
            let _ = writeln!(
                remarks,
                "{route}: the ledger is complete until {}; later canaries may be missing.",
                instant(one.ledger_complete_until_us)
            );
        }
        let lost: u64 = self.results.iter().map(|one| one.lost).sum();
        let headline = match self.exit_code {
            1 => format!(
                "LOST: {} acknowledged before the event and absent after it.",
                canaries(lost)
            ),
            0 => "NO CANARY LOST. Zero loss of data is proved only by a reconciliation with the old copy.".to_owned(),
            _ => "COULD NOT TELL: the fate of some canaries is not known.".to_owned(),
        };
        format!("{headline}\n\n{rows}\n{remarks}\nexit {}\n", self.exit_code)
    }
}

fn is_told(result: &Rpo) -> bool {
    result.acked > 0
        && result.unknown == 0
        && result.rpo_high_us.is_some()
        && result.acked == result.survived + result.lost
}

fn instant(at_us: i64) -> String {
    jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| format!("{at_us} us"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn survived() -> Rpo {
        Rpo {
            survived: 400,
            lost: 0,
            unknown: 0,
            canaries: Vec::new(),
            ..samples::rpo()
        }
    }

    #[test]
    fn what_was_lost_in_words() {
        insta::assert_snapshot!(Loss::new(samples::RUN_ID, vec![samples::rpo()]).terminal());
    }

    #[test]
    fn nothing_lost_in_words() {
        insta::assert_snapshot!(Loss::new(samples::RUN_ID, vec![survived()]).terminal());
    }

    #[test]
    fn exit_codes_of_loss() {
        let code = |results| Loss::new(samples::RUN_ID, results).exit_code;
        assert_eq!(code(vec![survived()]), 0);
        assert_eq!(code(vec![survived(), samples::rpo()]), 1);
        assert_eq!(code(Vec::new()), 3, "nothing was judged");
        assert_eq!(
            code(vec![Rpo {
                unknown: 1,
                ..survived()
            }]),
            3
        );
        assert_eq!(
            code(vec![Rpo {
                rpo_high_us: None,
                ..survived()
            }]),
            3
        );
        assert_eq!(
            code(vec![Rpo {
                acked: 0,
                survived: 0,
                ..survived()
            }]),
            3
        );
        assert_eq!(
            code(vec![Rpo {
                survived: 399,
                ..survived()
            }]),
            3,
            "one is unaccounted for"
        );
    }
}
