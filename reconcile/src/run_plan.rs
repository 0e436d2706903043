//! The plan of a whole run: what every worker reads, and nobody changes.

use serde::{Deserialize, Serialize};

use crate::plan::ENCODING_VERSION;
use crate::shard::{Piece, Stage, shards};
use crate::{Plan, ReconcileError};

/// Everything that a run pins: one plan for each dataset and pair. It is written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPlan {
    /// Version of the tool that made it.
    pub tool_version: String,
    /// [`ENCODING_VERSION`] of that tool.
    pub encoding_version: u32,
    /// What belongs into the `runs` row.
    pub about: About,
    /// Datasets that were wanted and could not be planned, with the reason.
    pub not_compared: Vec<String>,
    /// What is compared.
    pub jobs: Vec<Job>,
}

/// The identity of a run, as its `runs` row tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The run.
    pub run_id: String,
    /// When it began, microseconds since 1970 UTC.
    pub started_at_us: i64,
    /// Who made the plan.
    pub executed_by: String,
    /// Where.
    pub host: String,
    /// SHA-256 of the configuration.
    pub config_sha256: Option<String>,
    /// Fingerprint of each dataset and connection, JSON. A worker whose configuration has another one is refused.
    pub dataset_fingerprints: String,
    /// The event.
    pub event_id: Option<String>,
    /// What each site is, JSON.
    pub sites: String,
}

/// One dataset over one pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The dataset.
    pub dataset: String,
    /// Its connection.
    pub connection: String,
    /// Its store.
    pub store: String,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// What is compared, and how.
    pub plan: Plan,
}

/// One shard of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0.
    pub number: u64,
    /// Which of the run's jobs it is of.
    pub job: usize,
    /// What it does.
    pub stage: Stage,
    /// The chunks that it compares; none in stage `digest`.
    pub pieces: Vec<Piece>,
}

impl Shard {
    /// Whether `other` has to have a result before this one can begin.
    pub(crate) fn needs(&self, other: &Self) -> bool {
        let Stage::Digest(before) = &other.stage else {
            return false;
        };
        self.job == other.job
            && match &self.stage {
                Stage::Compare => false,
                Stage::Digest(scan) => scan.collection == before.collection && before.pass < scan.pass,
                Stage::Resolve => self.pieces.iter().any(|piece| piece.collection == before.collection),
            }
    }
}

/// What a plan must say before the rest of it is understood.
#[derive(Deserialize)]
struct Made {
    tool_version: String,
    encoding_version: u32,
}

impl RunPlan {
    /// A plan of this tool.
    pub fn new(about: About, not_compared: Vec<String>, jobs: Vec<Job>) -> Self {
        Self {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            encoding_version: ENCODING_VERSION,
            about,
            not_compared,
            jobs,
        }
    }

    /// Reads a plan that this tool made.
    ///
    /// # Errors
    /// `OtherPlan`: it is none, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReconcileError> {
        let unreadable = |error: serde_json::Error| ReconcileError::OtherPlan(format!("this is not a plan: {error}"));
        let made: Made = serde_json::from_slice(bytes).map_err(unreadable)?;
        let here = (env!("CARGO_PKG_VERSION"), ENCODING_VERSION);
        if (made.tool_version.as_str(), made.encoding_version) != here {
            return Err(ReconcileError::OtherPlan(format!(
                "the plan was made by driftline {} (encoding {}), and this is {} (encoding {}): use the same version for all stages, or plan again",
                made.tool_version, made.encoding_version, here.0, here.1
            )));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    /// Its shards, in the order of their numbers. The same plan has the same shards, always.
    pub fn shards(&self) -> Vec<Shard> {
        let of_jobs = self.jobs.iter().enumerate();
        let cut = of_jobs.flat_map(|(job, one)| shards(&one.plan).into_iter().map(move |cut| (job, cut)));
        (0..)
            .zip(cut)
            .map(|(number, (job, (stage, pieces)))| Shard {
                number,
                job,
                stage,
                pieces,
            })
            .collect()
    }
}
