//! Where the stages of one run meet: a folder of their own, or a prefix of a bucket.
//!
//! | object | is |
//! |---|---|
//! | `plan.json` | the plan, created once |
//! | `digest/SHARD/ATTEMPT.journal` | what one attempt at a shard found or read; `resolve/` for shards that need what others read |
//! | `digest/SHARD/ATTEMPT.FILE.spill` | keys and digests of one part of one side, until the run is merged |
//! | `digest/SHARD/winner.json` | which attempt counts, created once |

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use journal::{Place, PlaceError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::attempt::{Attempt, Head, make_private};
use crate::run_plan::{RunPlan, Shard};
use crate::scan_digest::ScannedPart;
use crate::shard::Stage;
use crate::spill::{SPILL_ENDING, spill_name};
use crate::{ReconcileError, attempt};

const PLAN: &str = "plan.json";
/// Tries to name the winner when the place does not tell whether it was named.
const NAMING_TRIES: u32 = 3;
const READ_BYTES: usize = 1 << 20;

/// The work of one run.
#[derive(Debug, Clone)]
pub struct Workplace {
    place: Place,
    local: PathBuf,
    plan: RunPlan,
    plan_sha256: String,
}

/// Which attempt at a shard counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Winner {
    attempt: String,
    bytes: u64,
    sha256: String,
}

impl Workplace {
    /// Puts a plan where every worker finds it, and opens its work. `place` is the run's own; `local` is a folder of this machine for
    /// journals that are being written, which may be the place itself.
    ///
    /// # Errors
    /// `Place`: above all a place that lets two workers both be first. `Request`: a plan is there already.
    pub async fn begin(place: Place, local: PathBuf, plan: RunPlan) -> Result<Self, ReconcileError> {
        make_private(&local)?;
        check_exclusive(&place).await?;
        let bytes = serde_json::to_vec(&plan)
            .map_err(|error| ReconcileError::Request(format!("the plan has no JSON form: {error}")))?;
        let plan_sha256 = crate::hex(&Sha256::digest(&bytes));
        if !place.create(PLAN, Bytes::from(bytes)).await? {
            return Err(ReconcileError::Request(format!(
                "{} holds a plan already, and a plan is never changed; plan a new run",
                place.name()
            )));
        }
        Ok(Self {
            place,
            local,
            plan,
            plan_sha256,
        })
    }

    /// Opens the work of a run that was planned before.
    ///
    /// # Errors
    /// `OtherPlan`: there is no plan, or one of another version. `Place`.
    pub async fn open(place: Place, local: PathBuf) -> Result<Self, ReconcileError> {
        let bytes = place.find(PLAN).await?;
        let bytes = bytes.ok_or_else(|| {
            ReconcileError::OtherPlan(format!(
                "{} holds no {PLAN}; give what `driftline reconcile plan` printed",
                place.name()
            ))
        })?;
        let plan = RunPlan::parse(&bytes)?;
        make_private(&local)?;
        Ok(Self {
            place,
            local,
            plan,
            plan_sha256: crate::hex(&Sha256::digest(&bytes)),
        })
    }

    /// Refuses a place that would let two workers both be first. [`begin`](Self::begin) has done so already.
    ///
    /// # Errors
    /// `Place`.
    pub async fn check_exclusive(&self) -> Result<(), ReconcileError> {
        check_exclusive(&self.place).await
    }

    /// The plan.
    pub fn plan(&self) -> &RunPlan {
        &self.plan
    }

    /// The folder of this machine.
    pub fn local(&self) -> &Path {
        &self.local
    }

    pub(crate) fn head(&self, shard: &Shard) -> Head {
        Head {
            run_id: self.plan.about.run_id.clone(),
            plan_sha256: self.plan_sha256.clone(),
            shard: shard.number,
        }
    }

    /// Whether an attempt at this shard counts already.
    ///
    /// # Errors
    /// `Corrupt`, `Place`.
    pub async fn is_won(&self, shard: &Shard) -> Result<bool, ReconcileError> {
        Ok(self.winner(shard).await?.is_some())
    }

    async fn winner(&self, shard: &Shard) -> Result<Option<Winner>, ReconcileError> {
        let object = format!("{}/winner.json", folder(shard));
        let Some(bytes) = self.place.find(&object).await? else {
            return Ok(None);
        };
        let winner: Winner = serde_json::from_slice(&bytes)
            .map_err(|error| ReconcileError::Corrupt(format!("{}/{object}: {error}", self.place.name())))?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if winner.attempt.is_empty() || !winner.attempt.bytes().all(is_plain) {
            let name = self.place.name();
            return Err(ReconcileError::Corrupt(format!("{name}/{object}: names no attempt")));
        }
        Ok(Some(winner))
    }

    pub(crate) fn attempt(&self, shard: &Shard, listed_max: Option<u64>) -> Result<Attempt, ReconcileError> {
        Attempt::open(&self.local.join(folder(shard)), &self.head(shard), listed_max)
    }

    /// Makes a whole attempt the one that counts, unless another one does already; `false`: another one does.
    pub(crate) async fn publish(&self, shard: &Shard, attempt: &Attempt) -> Result<bool, ReconcileError> {
        let object = journal_object(shard, &attempt.name);
        if self.place.file(&object).as_deref() != Some(attempt.path.as_path()) {
            let scanned = attempt.scanned(&self.head(shard))?;
            for spilled in scanned.iter().flat_map(|scanned| &scanned.spills) {
                let object = spill_object(shard, &attempt.name, spilled.number);
                self.place.put_file(&object, &attempt.spill(spilled.number)).await?;
            }
            self.place.put_file(&object, &attempt.path).await?;
        }
        let (bytes, sha256) = hash_file(&attempt.path)?;
        let ours = Winner {
            attempt: attempt.name.clone(),
            bytes,
            sha256,
        };
        let text = serde_json::to_vec(&ours)
            .map_err(|error| ReconcileError::Request(format!("the winner has no JSON form: {error}")))?;
        let object = format!("{}/winner.json", folder(shard));
        let mut tries = 1;
        loop {
            let created = self.place.create(&object, Bytes::from(text.clone())).await;
            // An answer that was lost, or a request that was sent twice, may have named us all the same.
            let named = self.winner(shard).await?;
            match (created, named) {
                (_, Some(named)) => return Ok(named == ours),
                (Err(error @ PlaceError::NotExclusive { .. }), None) => return Err(error.into()),
                (Err(error), None) if tries >= NAMING_TRIES => return Err(error.into()),
                (Ok(_), None) if tries >= NAMING_TRIES => {
                    let name = self.place.name();
                    return Err(ReconcileError::Corrupt(format!(
                        "{name}/{object}: was created and is not there"
                    )));
                }
                _ => tries += 1,
            }
        }
    }

    /// Which of the shards that `shard` needs have no result yet.
    pub(crate) async fn early(&self, shard: &Shard) -> Result<Vec<u64>, ReconcileError> {
        let mut open = Vec::new();
        for other in self.plan.shards().iter().filter(|other| shard.needs(other)) {
            if !self.is_won(other).await? {
                open.push(other.number);
            }
        }
        Ok(open)
    }

    /// What the parts that `shard` needs were read as, each with those of its files that `is_wanted` names, checked byte by byte.
    pub(crate) async fn scanned(
        &self,
        shard: &Shard,
        is_wanted: impl Fn(u32) -> bool,
    ) -> Result<Vec<(ScannedPart, Vec<(u32, PathBuf)>)>, ReconcileError> {
        let mut parts = Vec::new();
        for other in self.plan.shards().iter().filter(|other| shard.needs(other)) {
            let (Some(winner), Some(journal)) = (self.winner(other).await?, self.won(other).await?) else {
                continue;
            };
            let committed = attempt::Committed::read(&journal, &self.head(other))?;
            let Some(scanned) = committed.scanned else {
                return Err(self.not_published(other, &journal.display().to_string(), "tells of no part"));
            };
            let mut files = Vec::new();
            for spilled in scanned.spills.iter().filter(|spilled| is_wanted(spilled.number)) {
                let object = spill_object(other, &winner.attempt, spilled.number);
                let published = (spilled.bytes, spilled.sha256.clone());
                files.push((spilled.number, self.checked(other, &object, published).await?));
            }
            parts.push((scanned, files));
        }
        Ok(parts)
    }

    /// Deletes the rows of all parts of a job: they are keys, and nobody needs them when its run is put together.
    pub(crate) async fn forget_spills(&self, job: usize) -> Result<(), ReconcileError> {
        let is_spill = |object: &str| object.ends_with(&format!(".{SPILL_ENDING}"));
        let of_job = self.plan.shards().into_iter().filter(|shard| shard.job == job);
        for shard in of_job.filter(|shard| matches!(shard.stage, Stage::Digest(_))) {
            let folder = folder(&shard);
            let mut objects = Vec::new();
            let here = Place::folder(&self.local.join(&folder));
            for place in [self.place.below(&folder), here] {
                place
                    .each(|stored| objects.extend(is_spill(&stored.object).then_some(stored.object)))
                    .await?;
                for object in objects.drain(..) {
                    place.remove(&object).await?;
                }
            }
        }
        Ok(())
    }

    /// The journal that counts for a shard, checked byte by byte; `None`: there is none yet.
    pub(crate) async fn won(&self, shard: &Shard) -> Result<Option<PathBuf>, ReconcileError> {
        let Some(winner) = self.winner(shard).await? else {
            return Ok(None);
        };
        let object = journal_object(shard, &winner.attempt);
        let published = (winner.bytes, winner.sha256);
        self.checked(shard, &object, published).await.map(Some)
    }

    /// An object of a shard as a file of this machine, which has to be the one that was published.
    async fn checked(&self, shard: &Shard, object: &str, published: (u64, String)) -> Result<PathBuf, ReconcileError> {
        let path = match self.place.file(object) {
            Some(path) => path,
            None => {
                let path = self.local.join(object);
                make_private(path.parent().unwrap_or(&self.local))?;
                if !hash_file(&path).is_ok_and(|found| found == published) {
                    self.fetch(object, &path).await?;
                }
                path
            }
        };
        match hash_file(&path) {
            Ok(found) if found == published => Ok(path),
            Ok((bytes, _)) => Err(self.not_published(shard, object, &format!("has {bytes} bytes of {}", published.0))),
            Err(_) if !path.exists() => Err(self.not_published(shard, object, "is not there")),
            Err(error) => Err(error),
        }
    }

    fn not_published(&self, shard: &Shard, object: &str, found: &str) -> ReconcileError {
        let (place, number) = (self.place.name(), shard.number);
        ReconcileError::Corrupt(format!(
            "{place}/{object}: {found}, and is not what its worker published; remove {place}/{}/winner.json and run shard {number} again",
            folder(shard)
        ))
    }

    async fn fetch(&self, object: &str, path: &Path) -> Result<(), ReconcileError> {
        // A worker on this machine may be writing its own attempt under that name: nothing is written over.
        let draft = path.with_extension(format!("{:08x}.fetched", rand::random::<u32>()));
        self.place.fetch(object, &draft).await?;
        std::fs::rename(&draft, path).map_err(|source| ReconcileError::opening(path, source))
    }

    /// The journal of an attempt that this machine left unfinished, with the most chunks committed.
    pub(crate) fn unfinished(&self, shard: &Shard) -> Result<Option<PathBuf>, ReconcileError> {
        let head = self.head(shard);
        let journals = attempt::journals(&self.local.join(folder(shard)))?;
        let of = |path: PathBuf| {
            let committed = attempt::Committed::read(&path, &head).ok()?;
            Some((committed.chunks.len(), path))
        };
        Ok(journals.into_iter().filter_map(of).max().map(|(_, path)| path))
    }
}

async fn check_exclusive(place: &Place) -> Result<(), ReconcileError> {
    let probe = format!("exclusive-{:016x}", rand::random::<u64>());
    Ok(place.check_exclusive(&probe).await?)
}

/// Where the attempts at a shard are.
fn folder(shard: &Shard) -> String {
    let stage = match shard.stage {
        Stage::Compare | Stage::Digest(_) => "digest",
        Stage::Resolve => "resolve",
    };
    format!("{stage}/{:05}", shard.number)
}

fn spill_object(shard: &Shard, attempt: &str, number: u32) -> String {
    format!("{}/{}", folder(shard), spill_name(attempt, number))
}

fn journal_object(shard: &Shard, attempt: &str) -> String {
    format!("{}/{attempt}.{}", folder(shard), attempt::JOURNAL_ENDING)
}

/// Length and SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> Result<(u64, String), ReconcileError> {
    let reading = |source| ReconcileError::opening(path, source);
    let mut file = File::open(path).map_err(reading)?;
    let mut hasher = Sha256::new();
    let (mut bytes, mut buffer) = (0u64, vec![0; READ_BYTES]);
    loop {
        let read = file.read(&mut buffer).map_err(reading)?;
        if read == 0 {
            return Ok((bytes, crate::hex(&hasher.finalize())));
        }
        bytes += u64::try_from(read).unwrap_or(u64::MAX);
        hasher.update(&buffer[..read]);
    }
}
