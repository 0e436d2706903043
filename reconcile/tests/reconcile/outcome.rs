//! Running a reconciliation, and reading its journal back.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use reconcile::{
    Chunk, Coverage, Divergence, Event, FenceKind, Frame, KeyDisclosure, Limits, Pair, Plan, ReconcileError, Request,
    Selected, Settings, Side, State, Stop, Summary,
};
use stores::{Class, Relation};
use tokio_util::sync::CancellationToken;

use crate::end::end;
use crate::world::{Shared, lock};

/// On the paused clock. No run of these tests has so much to wait for.
const RUN_MAX: Duration = Duration::from_secs(24 * 3_600);

pub(crate) fn pair(world: &Shared, relation: Relation) -> Pair {
    Pair {
        primary: end(world, Side::Primary),
        secondary: end(world, Side::Secondary),
        relation,
        fence: match relation {
            Relation::Replicating => FenceKind::Lsn,
            Relation::Independent | Relation::Frozen => FenceKind::None,
        },
    }
}

/// The one collection of the world as its catalogs show it.
pub(crate) fn request(world: &Shared) -> Request {
    let world = lock(world);
    Request {
        run_id: "run-1".to_owned(),
        selected: vec![Selected {
            primary: world.primary_collection.clone(),
            secondary: world.secondary_collection.clone(),
            settings: Settings::default(),
        }],
        not_selected: Vec::new(),
        disclosure: KeyDisclosure::Plain,
        key_hash: None,
        include_values: false,
        fork: None,
        limits: Limits {
            rows_per_chunk: 25,
            ..Limits::default()
        },
    }
}

/// A run and its journal.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) summary: Summary,
    pub(crate) frames: Vec<Frame>,
    pub(crate) events: Vec<Event>,
}

pub(crate) async fn run(pair: &Pair, request: &Request) -> Result<Outcome, ReconcileError> {
    run_until(pair, request, CancellationToken::new(), |_| {}).await
}

pub(crate) async fn run_until(
    pair: &Pair,
    request: &Request,
    shutdown: CancellationToken,
    listener: impl Fn(&Event) + Send + Sync,
) -> Result<Outcome, ReconcileError> {
    let folder = tempfile::tempdir().unwrap();
    let events = Mutex::new(Vec::new());
    let progress = |event: Event| {
        listener(&event);
        events.lock().unwrap().push(event);
    };
    let stop = Stop {
        now: shutdown,
        ..Stop::default()
    };
    let running = reconcile::run(pair, request, folder.path(), progress, stop);
    // The clock moves by itself while all wait: a run that waits for ever for what never comes ends here, and at once.
    let (summary, path) = tokio::time::timeout(RUN_MAX, require_send(running))
        .await
        .expect("the run ends")?;
    let mut reader = journal::Reader::open(&path).unwrap();
    let frames = reader.records::<Frame>().collect::<Result<Vec<_>, _>>().unwrap();
    let outcome = Outcome {
        summary,
        frames,
        events: events.into_inner().unwrap(),
    };
    outcome.check();
    Ok(outcome)
}

fn require_send<F: Future + Send>(future: F) -> F {
    future
}

impl Outcome {
    /// What holds for every run.
    fn check(&self) {
        assert!(
            matches!(self.frames.first(), Some(Frame::Plan { .. })),
            "the plan is the first frame"
        );
        let Some(Frame::End { complete, .. }) = self.frames.last() else {
            panic!("the end is the last frame: {:?}", self.frames.last());
        };
        assert_eq!(*complete, self.summary.complete);
        let mut committed = BTreeSet::new();
        for frame in &self.frames {
            if let Frame::Commit {
                collection, chunk_id, ..
            } = frame
            {
                assert!(
                    committed.insert((collection.clone(), *chunk_id)),
                    "{collection} {chunk_id:?} is committed once"
                );
            }
        }
        for divergence in self.divergences() {
            assert!(
                committed.contains(&(divergence.collection.clone(), divergence.chunk_id)),
                "every divergence counts"
            );
        }
        let confirmed = self.divergences().filter(|one| one.state == State::Confirmed).count() as u64;
        assert_eq!(
            confirmed + self.summary.counts.not_listed,
            self.summary.counts.confirmed
        );
        let by_class: u64 = self.summary.counts.classes.values().sum();
        assert_eq!(by_class, self.summary.counts.confirmed);
        for coverage in self.coverage() {
            let chunks = coverage.chunks_equal + coverage.chunks_different + coverage.chunks_failed;
            assert_eq!(chunks, coverage.chunks_total);
        }
        assert_eq!(self.coverage().cloned().collect::<Vec<_>>(), self.summary.coverage);
        if self.summary.exit_code() == 0 {
            assert!(self.summary.counts.undecided() == 0 && self.chunks().all(|chunk| chunk.error.is_empty()));
        }
    }

    pub(crate) fn divergences(&self) -> impl Iterator<Item = &Divergence> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::Divergence(divergence) => Some(divergence.as_ref()),
            _ => None,
        })
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::Chunk(chunk) => Some(chunk.as_ref()),
            _ => None,
        })
    }

    pub(crate) fn coverage(&self) -> impl Iterator<Item = &Coverage> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::Coverage(coverage) => Some(coverage.as_ref()),
            _ => None,
        })
    }

    pub(crate) fn plan(&self) -> Plan {
        match self.frames.first() {
            Some(Frame::Plan { plan, .. }) => serde_json::from_str(plan).unwrap(),
            other => panic!("the plan is the first frame: {other:?}"),
        }
    }

    /// Keys of one state with their classes.
    pub(crate) fn keys(&self, state: State) -> BTreeMap<i64, Class> {
        let of_state = self.divergences().filter(|one| one.state == state);
        of_state
            .filter_map(|one| Some((id(one.key.as_deref()?), one.class)))
            .collect()
    }

    pub(crate) fn confirmed(&self) -> BTreeMap<i64, Class> {
        self.keys(State::Confirmed)
    }
}

pub(crate) fn id(key: &str) -> i64 {
    let key: serde_json::Value = serde_json::from_str(key).unwrap();
    key["id"].as_i64().unwrap()
}

/// A journal of the same kind that holds these frames instead.
pub(crate) fn rewrite(path: &Path, frames: &[Frame]) {
    let kind = journal::Reader::open(path).unwrap().kind().unwrap().to_owned();
    std::fs::remove_file(path).unwrap();
    let mut writer = journal::Writer::create(path, &kind).unwrap();
    for frame in frames {
        writer.append_record(frame).unwrap();
    }
    writer.sync().unwrap();
}
