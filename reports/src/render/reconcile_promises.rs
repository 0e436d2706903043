//! Tests of what the rendering of a reconcile journal promises.

use std::collections::BTreeMap;
use std::path::Path;

use reconcile::{ChunkState, Coverage, CoverageState, Frame, KeyDisclosure};
use tempfile::TempDir;

use super::{Findings, JOURNAL_KIND, ReconcileContext, render_reconcile};
use crate::samples::{
    MIDNIGHT_US, RUN_ID, audit_coverage, chunk, commit, coverage, divergence, plan_frame, skipped_coverage,
};
use crate::tables::{ChunkRow, CoverageRow, DivergenceRow, Span, TableError, read};

const END: Frame = Frame::End {
    complete: true,
    finished_at_us: MIDNIGHT_US,
};

fn context() -> ReconcileContext {
    ReconcileContext {
        dataset: "payments".to_owned(),
        store: "aurora".to_owned(),
        labels: BTreeMap::from([("tier".to_owned(), "critical".to_owned())]),
        started_at_us: MIDNIGHT_US,
        keys_shown_max: 2,
    }
}

fn write_journal(folder: &Path, frames: impl IntoIterator<Item = Frame>) -> std::path::PathBuf {
    let path = folder.join("journal");
    let mut writer = journal::Writer::create(&path, JOURNAL_KIND).unwrap();
    for frame in frames {
        writer.append_record(&frame).unwrap();
    }
    writer.sync().unwrap();
    path
}

fn render(frames: Vec<Frame>) -> (TempDir, Result<Findings, TableError>) {
    let folder = tempfile::tempdir().unwrap();
    let journal = write_journal(folder.path(), frames);
    let findings = render_reconcile(&journal, folder.path(), &context()).map(|(findings, _)| findings);
    (folder, findings)
}

fn chunk_frame(chunk_id: u64, state: ChunkState) -> Frame {
    Frame::Chunk(Box::new(chunk(chunk_id, state)))
}

fn divergence_frame(chunk_id: u64, id: u64) -> Frame {
    Frame::Divergence(Box::new(divergence(chunk_id, id)))
}

fn coverage_frame(coverage: Coverage) -> Frame {
    Frame::Coverage(Box::new(coverage))
}

fn equal_chunks() -> Vec<Frame> {
    (0..3)
        .flat_map(|chunk_id| [chunk_frame(chunk_id, ChunkState::Equal), commit(Some(chunk_id))])
        .collect()
}

/// What `public.orders` amounts to after one chunk with `confirmed` divergences.
fn diverged(confirmed: u64) -> Coverage {
    Coverage {
        state: CoverageState::Diverged,
        chunks_equal: 2,
        chunks_different: 1,
        confirmed,
        ..coverage()
    }
}

fn keys(folder: &Path) -> Vec<Option<String>> {
    let rows = read::<DivergenceRow>(folder, Span::ALL).unwrap();
    rows.map(|row| row.unwrap().key).collect()
}

#[test]
fn an_equal_pair_is_complete_and_has_tables_for_everything() {
    let mut frames = vec![plan_frame(KeyDisclosure::Plain)];
    frames.extend(equal_chunks());
    // The plan's second collection is settled as well, here by being equal.
    let audit = Coverage {
        collection: "public.audit".to_owned(),
        chunks_total: 0,
        chunks_equal: 0,
        ..coverage()
    };
    frames.extend([
        coverage_frame(coverage()),
        coverage_frame(audit),
        coverage_frame(skipped_coverage()),
        END,
    ]);
    let (folder, findings) = render(frames);
    let findings = findings.unwrap();
    assert!(findings.complete);
    assert_eq!(findings.exit_code, 0);
    let rows: Vec<ChunkRow> = read(folder.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
    let bounds: Vec<_> = rows
        .iter()
        .map(|row| (row.range_start.as_deref(), row.range_end.as_deref()))
        .collect();
    assert_eq!(
        bounds,
        [
            (None, Some("[100]")),
            (Some("[100]"), Some("[200]")),
            (Some("[200]"), None)
        ]
    );
    assert_eq!(rows[0].primary_digest.as_ref().unwrap().0, format!("{:032x}", 17));
    assert_eq!(rows[0].seeds, ["0000000000000007"]);
    let rows: Vec<CoverageRow> = read(folder.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[2].labels, r#"{"tier":"critical"}"#);
    assert_eq!(rows[2].clone().into_record(), coverage());
    assert_eq!(rows[2].run_id, RUN_ID);
}

#[test]
fn divergences_count_once_their_chunk_is_committed() {
    let (folder, findings) = render(vec![
        plan_frame(KeyDisclosure::Plain),
        divergence_frame(1, 150),
        divergence_frame(2, 250), // interleaved, and never committed
        divergence_frame(1, 151),
        chunk_frame(1, ChunkState::Different),
        commit(Some(1)),
        divergence_frame(2, 251),
    ]);
    let findings = findings.unwrap();
    assert_eq!(
        keys(folder.path()),
        [Some(r#"{"id":150}"#.to_owned()), Some(r#"{"id":151}"#.to_owned())]
    );
    assert_eq!(
        (findings.exit_code, findings.complete, findings.confirmed),
        (1, false, 2)
    );
    assert_eq!(findings.divergences[0].origin, Some("lost_write"));
    assert_eq!(findings.divergences[0].count, 2);
}

#[test]
fn what_a_resumed_run_does_again_counts_once() {
    let mut frames = vec![plan_frame(KeyDisclosure::Plain), divergence_frame(1, 150)];
    frames.push(plan_frame(KeyDisclosure::Plain)); // killed and resumed here
    frames.extend([
        divergence_frame(1, 150),
        chunk_frame(1, ChunkState::Different),
        commit(Some(1)),
    ]);
    let (folder, findings) = render(frames);
    assert_eq!(keys(folder.path()).len(), 1);
    assert_eq!(findings.unwrap().confirmed, 1);
}

#[test]
fn a_run_that_was_cut_short_is_never_equal() {
    let mut frames = vec![plan_frame(KeyDisclosure::Plain)];
    frames.extend(equal_chunks());
    frames.truncate(5); // two chunks of three
    let (folder, findings) = render(frames);
    let findings = findings.unwrap();
    assert_eq!((findings.exit_code, findings.complete), (3, false));
    let rows: Vec<CoverageRow> = read(folder.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.collection.as_str(), row.state, row.chunks_equal, row.chunks_total))
        .collect();
    assert_eq!(
        told,
        [
            ("public.audit", CoverageState::Failed, 0, 0),
            ("public.orders", CoverageState::Partial, 2, 3)
        ]
    );
    assert!(rows[1].reason.as_deref().unwrap().starts_with("cut_short"));
}

#[test]
fn a_torn_tail_is_read_up_to_its_last_whole_frame() {
    let folder = tempfile::tempdir().unwrap();
    let mut frames = vec![plan_frame(KeyDisclosure::Plain)];
    frames.extend([
        divergence_frame(1, 150),
        chunk_frame(1, ChunkState::Different),
        commit(Some(1)),
    ]);
    let whole = write_journal(folder.path(), frames.clone());
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::remove_file(&whole).unwrap();
    frames.push(END);
    let longer = write_journal(folder.path(), frames);
    let torn = std::fs::read(&longer).unwrap()[..bytes.len() + 9].to_vec();
    std::fs::write(&longer, torn).unwrap();
    let (findings, _) = render_reconcile(&longer, folder.path(), &context()).unwrap();
    assert_eq!((findings.confirmed, findings.complete), (1, false));
}

#[test]
fn a_journal_without_its_last_frame_is_not_complete() {
    let mut frames = vec![plan_frame(KeyDisclosure::Plain)];
    frames.extend(equal_chunks());
    let audit = Coverage {
        collection: "public.audit".to_owned(),
        chunks_total: 0,
        chunks_equal: 0,
        ..coverage()
    };
    frames.extend([coverage_frame(coverage()), coverage_frame(audit)]);
    assert_eq!(render(frames.clone()).1.unwrap().exit_code, 3);
    frames.push(END);
    assert_eq!(render(frames).1.unwrap().exit_code, 0);
}

#[test]
fn a_failed_collection_or_nothing_verified_is_not_complete_whatever_the_last_frame_says() {
    let mut frames = vec![plan_frame(KeyDisclosure::Plain)];
    frames.extend(equal_chunks());
    frames.extend([coverage_frame(coverage()), coverage_frame(audit_coverage()), END]);
    assert_eq!(render(frames).1.unwrap().exit_code, 3);
    let nothing = Coverage {
        collection: "public.orders".to_owned(),
        ..skipped_coverage()
    };
    let audit = Coverage {
        collection: "public.audit".to_owned(),
        ..skipped_coverage()
    };
    let frames = vec![
        plan_frame(KeyDisclosure::Plain),
        coverage_frame(nothing),
        coverage_frame(audit),
        END,
    ];
    assert_eq!(render(frames).1.unwrap().exit_code, 3);
}

#[test]
fn a_result_that_its_own_frames_contradict_is_refused() {
    let frames = |state, told: Coverage| {
        vec![
            plan_frame(KeyDisclosure::Plain),
            divergence_frame(1, 150),
            chunk_frame(0, ChunkState::Equal),
            commit(Some(0)),
            chunk_frame(1, state),
            commit(Some(1)),
            chunk_frame(2, ChunkState::Equal),
            commit(Some(2)),
            coverage_frame(told),
            END,
        ]
    };
    let refused = |state, told| matches!(render(frames(state, told)).1, Err(TableError::Contradiction(_)));
    assert!(refused(ChunkState::Different, coverage()));
    assert!(refused(
        ChunkState::Failed,
        Coverage {
            confirmed: 1,
            ..coverage()
        }
    ));
    assert!(refused(ChunkState::Different, diverged(0)), "fewer counted than listed");
    assert!(!refused(ChunkState::Different, diverged(1)));
    assert!(
        !refused(ChunkState::Different, diverged(7)),
        "a cap stops the listing, never the counting"
    );
}

#[test]
fn a_verified_collection_with_an_uncommitted_chunk_is_refused() {
    let mut frames = vec![plan_frame(KeyDisclosure::Plain)];
    frames.extend(equal_chunks());
    frames.pop(); // the commit of the last chunk
    frames.extend([coverage_frame(coverage()), END]);
    assert!(matches!(render(frames).1, Err(TableError::Contradiction(_))));
}

#[test]
fn hidden_keys_stay_hidden_even_if_the_journal_tells_them() {
    for disclosure in [KeyDisclosure::Hashed, KeyDisclosure::None] {
        let mut told = divergence(1, 150);
        told.key_hash = Some("ab".repeat(32));
        told.primary_value = Some(r#"{"id":150}"#.to_owned());
        let frames = vec![
            plan_frame(disclosure),
            Frame::Divergence(Box::new(told)),
            chunk_frame(1, ChunkState::Different),
            commit(Some(1)),
        ];
        let (folder, findings) = render(frames);
        let rows: Vec<DivergenceRow> = read(folder.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
        assert_eq!((rows[0].key.as_deref(), rows[0].primary_value.as_deref()), (None, None));
        assert_eq!(rows[0].key_hash.is_some(), disclosure == KeyDisclosure::Hashed);
        let rows: Vec<ChunkRow> = read(folder.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
        assert_eq!(
            (rows[0].range_start.as_deref(), rows[0].range_end.as_deref()),
            (None, None)
        );
        let json = serde_json::to_string(&findings.unwrap()).unwrap();
        assert!(!json.contains("150"), "{json}");
    }
}

#[test]
fn people_see_the_first_keys_and_the_count_of_all() {
    let mut frames = vec![plan_frame(KeyDisclosure::Plain)];
    frames.extend((0..5).map(|id| divergence_frame(1, 150 + id)));
    frames.extend([chunk_frame(1, ChunkState::Different), commit(Some(1))]);
    frames.extend([chunk_frame(0, ChunkState::Equal), commit(Some(0))]);
    frames.extend([
        chunk_frame(2, ChunkState::Equal),
        commit(Some(2)),
        coverage_frame(diverged(9)),
    ]);
    let findings = render(frames).1.unwrap();
    assert_eq!(findings.keys.len(), 2);
    assert_eq!((findings.confirmed, findings.not_listed), (9, 4));
}

#[test]
fn rendering_twice_gives_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let frames = [
        plan_frame(KeyDisclosure::Plain),
        divergence_frame(1, 150),
        chunk_frame(1, ChunkState::Different),
        commit(Some(1)),
    ];
    let journal = write_journal(folder.path(), frames);
    let first = render_reconcile(&journal, folder.path(), &context()).unwrap();
    let second = render_reconcile(&journal, folder.path(), &context()).unwrap();
    assert_eq!(first, second);
    assert_eq!(keys(folder.path()).len(), 1);
}

#[test]
fn a_journal_without_a_plan_is_refused() {
    let (_folder, refused) = render(Vec::new());
    assert!(refused.unwrap_err().to_string().contains("no plan"));
}
