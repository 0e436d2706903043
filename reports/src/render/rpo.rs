//! What an event lost, to `rpo` and `rpo_canaries`, and back.

use std::path::{Path, PathBuf};

use probes::{LagSample, Route, Rpo};

use crate::tables::{AtMicros, FileName, RpoCanaryRow, RpoRow, Span, TableError, TableWriter, read};

/// Writes the results of one `rpo` run: the canaries first, then what they prove.
///
/// # Errors
/// Unwritable output. The run's row must not be written then.
pub fn write_rpo(output: &Path, run_id: &str, results: &[Rpo]) -> Result<Vec<PathBuf>, TableError> {
    let mut canaries = TableWriter::create(output, FileName::of_run(run_id));
    let mut rows = TableWriter::create(output, FileName::of_run(run_id));
    for result in results {
        for canary in &result.canaries {
            canaries.push(RpoCanaryRow::from_record(run_id, &result.event_id, canary))?;
        }
        rows.push(RpoRow::from_record(run_id, result))?;
    }
    let mut files = canaries.finish()?;
    files.extend(rows.finish()?);
    Ok(files)
}

/// Every result in `span`, without its canaries, with the run that wrote it. Runs without a commit mark are the caller's to leave out.
///
/// # Errors
/// Unreadable output.
pub fn read_rpo(output: &Path, span: Span) -> Result<Vec<(String, Rpo)>, TableError> {
    let rows = read::<RpoRow>(output, span)?;
    rows.map(|row| row.map(RpoRow::into_record)).collect()
}

impl RpoRow {
    /// The row of a result.
    pub fn from_record(run_id: &str, rpo: &Rpo) -> Self {
        Self {
            run_id: run_id.to_owned(),
            dataset: rpo.route.dataset.clone(),
            store: rpo.route.store.clone(),
            primary_site: rpo.route.primary_site.clone(),
            secondary_site: rpo.route.secondary_site.clone(),
            observer: rpo.route.observer.clone(),
            event_id: rpo.event_id.clone(),
            epoch: rpo.epoch.clone(),
            acked: rpo.acked,
            survived: rpo.survived,
            lost: rpo.lost,
            unknown: rpo.unknown,
            first_lost_at: rpo.first_lost_at_us.map(AtMicros),
            last_lost_at: rpo.last_lost_at_us.map(AtMicros),
            rpo_low_us: rpo.rpo_low_us,
            rpo_high_us: rpo.rpo_high_us,
            ledger_complete_until: AtMicros(rpo.ledger_complete_until_us),
            shape: rpo.shape,
        }
    }

    /// The run and its result; the canaries are in their own table.
    pub fn into_record(self) -> (String, Rpo) {
        let rpo = Rpo {
            route: Route {
                dataset: self.dataset,
                store: self.store,
                primary_site: self.primary_site,
                secondary_site: self.secondary_site,
                observer: self.observer,
            },
            event_id: self.event_id,
            epoch: self.epoch,
            acked: self.acked,
            survived: self.survived,
            lost: self.lost,
            unknown: self.unknown,
            first_lost_at_us: self.first_lost_at.map(|at| at.0),
            last_lost_at_us: self.last_lost_at.map(|at| at.0),
            rpo_low_us: self.rpo_low_us,
            rpo_high_us: self.rpo_high_us,
            ledger_complete_until_us: self.ledger_complete_until.0,
            shape: self.shape,
            canaries: Vec::new(),
        };
        (self.run_id, rpo)
    }
}

impl RpoCanaryRow {
    /// The row of a lost or unknown canary.
    pub fn from_record(run_id: &str, event_id: &str, canary: &LagSample) -> Self {
        Self {
            run_id: run_id.to_owned(),
            dataset: canary.route.dataset.clone(),
            store: canary.route.store.clone(),
            primary_site: canary.route.primary_site.clone(),
            secondary_site: canary.route.secondary_site.clone(),
            observer: canary.route.observer.clone(),
            event_id: event_id.to_owned(),
            stream: canary.stream.clone(),
            epoch: canary.epoch.clone(),
            sequence: canary.sequence,
            planned_at: AtMicros(canary.planned_at_us),
            sent_at: canary.sent_at_us.map(AtMicros),
            acked_at: canary.acked_at_us.map(AtMicros),
            write_us: canary.write_us,
            late_us: canary.late_us,
            state: canary.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn what_was_lost_is_what_is_read() {
        let output = tempfile::tempdir().unwrap();
        let mut result = samples::rpo();
        write_rpo(output.path(), samples::RUN_ID, std::slice::from_ref(&result)).unwrap();
        let canaries: Vec<RpoCanaryRow> = read(output.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
        let sequences: Vec<u64> = canaries.iter().map(|canary| canary.sequence).collect();
        assert_eq!(sequences, [17, 18]);
        result.canaries.clear();
        assert_eq!(
            read_rpo(output.path(), Span::ALL).unwrap(),
            [(samples::RUN_ID.to_owned(), result)]
        );
    }
}
