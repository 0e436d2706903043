//! What a run looks at: everything, the keys that an earlier run found, or one side against what an earlier run recorded of the other.
//!
//! The two narrow kinds need the journal of the earlier run. A copy of it lies in the work of the new one, so that a look that was stopped
//! can go on, also when the earlier work is gone.

use std::path::{Path, PathBuf};

use journal::{Reader, Tail};
use serde::{Deserialize, Serialize};

use crate::run::RUN_KIND;
use crate::{Divergence, Frame, Plan, ReconcileError};

/// What a run looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Everything that is selected.
    #[default]
    All,
    /// Only the keys that an earlier run found. Whatever becomes of them, the collections are not verified by it.
    Keys {
        /// The earlier run.
        run_id: String,
    },
    /// The primary alone, against the digests that an earlier run recorded of the other side.
    Against {
        /// The earlier run.
        run_id: String,
    },
}

impl Look {
    /// The run that this one rests on.
    pub fn parent(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Keys { run_id } | Self::Against { run_id } => Some(run_id),
        }
    }
}

/// The journal of one job of an earlier run, merged.
#[derive(Debug, Clone)]
pub struct Earlier {
    path: PathBuf,
    plan: Plan,
}

impl Earlier {
    /// Opens it.
    ///
    /// # Errors
    /// `Journal`: it cannot be read. `Corrupt`: it is not the whole journal of a run.
    pub fn open(path: &Path) -> Result<Self, ReconcileError> {
        let corrupt = |why: String| ReconcileError::Corrupt(format!("{}: {why}", path.display()));
        let mut reader = Reader::open(path)?;
        reader.expect_kind(RUN_KIND)?;
        let (mut plan, mut is_ended) = (None, false);
        for frame in reader.records::<Frame>() {
            match frame? {
                Frame::Plan { plan: text, .. } => {
                    plan = Some(
                        serde_json::from_str(&text)
                            .map_err(|error| corrupt(format!("its plan was made by another version: {error}")))?,
                    );
                }
                Frame::End { .. } => is_ended = true,
                _ => {}
            }
        }
        let plan = plan.ok_or_else(|| corrupt("it holds no plan".to_owned()))?;
        if !is_ended || reader.tail() != Some(Tail::Clean) {
            return Err(corrupt("it does not come to an end".to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            plan,
        })
    }

    /// The plan of that run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its divergences, as they stand in the journal. One is in memory at a time.
    ///
    /// # Errors
    /// `Journal`; each item, too.
    pub fn divergences(&self) -> Result<impl Iterator<Item = Result<Divergence, ReconcileError>>, ReconcileError> {
        let frames = self.frames()?;
        Ok(frames.filter_map(|frame| match frame {
            Ok(Frame::Divergence(divergence)) => Some(Ok(*divergence)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    pub(crate) fn frames(&self) -> Result<impl Iterator<Item = Result<Frame, ReconcileError>>, ReconcileError> {
        let mut reader = Reader::open(&self.path)?;
        Ok(std::iter::from_fn(move || {
            reader
                .records::<Frame>()
                .next()
                .map(|frame| frame.map_err(ReconcileError::from))
        }))
    }

    /// Puts it into the work of a run that looks again.
    ///
    /// # Errors
    /// `Journal`.
    pub fn keep(&self, local: &Path, job: usize) -> Result<(), ReconcileError> {
        let to = kept(local, job);
        let copied = std::fs::hard_link(&self.path, &to).or_else(|_| std::fs::copy(&self.path, &to).map(drop));
        copied.map_err(|source| ReconcileError::Journal(journal::Error::Open { path: to, source }))
    }

    /// What [`keep`](Self::keep) put there.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn kept(local: &Path, job: usize) -> Result<Self, ReconcileError> {
        Self::open(&kept(local, job))
    }
}

fn kept(local: &Path, job: usize) -> PathBuf {
    local.join(format!("earlier.{job}.{}", crate::attempt::JOURNAL_ENDING))
}
