//! Events to the `events` table.

use std::path::{Path, PathBuf};

use super::said;
use crate::Event;
use crate::tables::{AtMicros, EventRow, FileName, TableError, replace_rows};

/// Writes one revision of an event into a file of its own.
///
/// # Errors
/// Unwritable output.
pub fn write_event(output: &Path, run_id: &str, event: &Event) -> Result<Vec<PathBuf>, TableError> {
    let name = FileName::of_part(&event.event_id, &format!("r{}", event.revision));
    replace_rows(output, name, [EventRow::from_record(run_id, event)])
}

impl EventRow {
    /// The row of an event. Forks of several connections are summed up by the earliest lower and the latest upper end; each stands in
    /// `fork_evidence`.
    pub fn from_record(run_id: &str, event: &Event) -> Self {
        let forks = &event.forks;
        let only = forks.values().next().filter(|_| forks.len() == 1);
        Self {
            run_id: run_id.to_owned(),
            dataset: event.datasets.first().filter(|_| event.datasets.len() == 1).cloned(),
            store: None,
            event_id: event.event_id.clone(),
            kind: event.kind,
            exercise: event.exercise,
            datasets: event.datasets.clone(),
            from_site: event.from_site.clone(),
            to_site: event.to_site.clone(),
            declared_at: AtMicros(event.declared_at_us),
            promoted_at: event.promoted_at_us.map(AtMicros),
            traffic_shifted_at: event.traffic_shifted_at_us.map(AtMicros),
            verified_at: event.verified_at_us.map(AtMicros),
            ended_at: event.ended_at_us.map(AtMicros),
            fork_lsn: only.and_then(|fork| fork.position).map(|position| lsn(position.0)),
            fork_at_low: forks.values().map(|fork| AtMicros(fork.at_low_us)).min(),
            fork_at_high: forks.values().map(|fork| AtMicros(fork.at_high_us)).max(),
            fork_evidence: said(fork_evidence(event)),
            outcome: event.outcome.clone().and_then(said),
            scenario: event.scenario.clone().and_then(said),
            executed_by: event.executed_by.clone(),
            notes: said(event.notes.as_str()),
            revision: event.revision,
        }
    }
}

/// As PostgreSQL writes it.
fn lsn(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & u64::from(u32::MAX))
}

fn fork_evidence(event: &Event) -> String {
    if event.forks.is_empty() {
        return String::new();
    }
    let forks = event.forks.iter().map(|(connection, fork)| {
        let about = serde_json::json!({
            "lsn": fork.position.map(|position| lsn(position.0)),
            "at_low_us": fork.at_low_us,
            "at_high_us": fork.at_high_us,
            "evidence": fork.evidence,
        });
        (connection.clone(), about)
    });
    serde_json::Value::Object(forks.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use crate::tables::{Span, read};

    #[test]
    fn an_event_is_written_with_its_fork() {
        let output = tempfile::tempdir().unwrap();
        write_event(output.path(), samples::RUN_ID, &samples::event()).unwrap();
        let rows: Vec<EventRow> = read(output.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows[0].fork_lsn.as_deref(), Some("1/5000028"));
        assert_eq!(rows[0].dataset.as_deref(), Some("payments"));
        assert_eq!(rows[0].outcome, None);
        let evidence: serde_json::Value = serde_json::from_str(rows[0].fork_evidence.as_deref().unwrap()).unwrap();
        assert_eq!(evidence["orders-db"]["lsn"], "1/5000028");
    }

    #[test]
    fn several_forks_are_summed_up_by_their_outer_ends() {
        let mut event = samples::event();
        let mut later = event.forks["orders-db"].clone();
        later.at_low_us += 5;
        later.at_high_us += 5;
        event.forks.insert("users-db".to_owned(), later);
        let row = EventRow::from_record(samples::RUN_ID, &event);
        let first = &event.forks["orders-db"];
        assert_eq!(row.fork_lsn, None);
        assert_eq!(row.fork_at_low, Some(AtMicros(first.at_low_us)));
        assert_eq!(row.fork_at_high, Some(AtMicros(first.at_high_us + 5)));
    }
}
