//! One attempt at a shard: its journal, which is the checkpoint too.
//!
//! What is committed in the journal of an attempt is never compared again by it, and the counts of a chunk are in the frame that commits it: so
//! what is counted and what is done cannot come apart, wherever a process dies.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use journal::{Reader, Tail, Writer};

use crate::record::Recorder;
use crate::scan_digest::ScannedPart;
use crate::spill::spill_name;
use crate::{Counts, Frame, ReconcileError};

/// The kind of journal that an attempt at a shard writes.
pub const SHARD_KIND: &str = "reconcile-shard";

/// Ending of an attempt's journal.
pub(crate) const JOURNAL_ENDING: &str = "journal";

/// Of what a journal is an attempt. Frames of another plan are never taken for frames of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) run_id: String,
    pub(crate) plan_sha256: String,
    pub(crate) shard: u64,
}

impl Head {
    fn frame(&self) -> Frame {
        Frame::Shard {
            run_id: self.run_id.clone(),
            plan_sha256: self.plan_sha256.clone(),
            shard: self.shard,
        }
    }
}

/// A chunk of a collection.
pub(crate) type ChunkName = (String, u64);

/// What the frames of an attempt say, whatever process wrote them.
#[derive(Debug)]
pub(crate) struct Committed {
    /// For each committed chunk, by which process (counted from 1) and what became of its keys.
    pub(crate) chunks: HashMap<ChunkName, (u64, Counts)>,
    /// What was read, in stage `digest`.
    pub(crate) scanned: Option<ScannedPart>,
    /// Whether every chunk of the shard is committed.
    pub(crate) is_ended: bool,
}

impl Committed {
    /// Reads a journal up to its last whole frame.
    ///
    /// # Errors
    /// `Corrupt`: it is damaged, of another shard or plan, or contradicts itself. `Journal`: it cannot be read now.
    pub(crate) fn read(path: &Path, head: &Head) -> Result<Self, ReconcileError> {
        let corrupt = |why: &str| ReconcileError::Corrupt(format!("{}: {why}", path.display()));
        let mut reader = Reader::open(path)?;
        reader.expect_kind(SHARD_KIND)?;
        let mut chunks: HashMap<ChunkName, (u64, Counts)> = HashMap::new();
        let mut listed: HashMap<ChunkName, u64> = HashMap::new();
        let mut told: HashSet<ChunkName> = HashSet::new();
        let mut scanned = None;
        let (mut process, mut is_ended) = (0, false);
        for frame in reader.records::<Frame>() {
            let frame = frame?;
            if is_ended {
                return Err(corrupt("frames follow the end of the shard"));
            }
            match frame {
                Frame::Shard { .. } if frame != head.frame() => {
                    return Err(corrupt("it belongs to another plan or shard"));
                }
                Frame::Shard { .. } => {
                    process += 1;
                    listed.clear();
                    told.clear();
                }
                _ if process == 0 => return Err(corrupt("it does not say which shard it is of")),
                Frame::Divergence(divergence) => {
                    let chunk = divergence
                        .chunk_id
                        .ok_or_else(|| corrupt("a divergence is of no chunk"))?;
                    *listed.entry((divergence.collection, chunk)).or_default() += 1;
                }
                Frame::Chunk(chunk) => {
                    told.insert((chunk.collection, chunk.chunk_id));
                }
                Frame::Commit {
                    collection,
                    chunk_id: Some(chunk_id),
                    counts,
                    ..
                } => {
                    let chunk = (collection, chunk_id);
                    let counted = counts.confirmed + counts.undecided();
                    let is_listed = listed.remove(&chunk).unwrap_or(0) <= counted;
                    if !told.remove(&chunk) || !is_listed {
                        return Err(corrupt("what a chunk commits is not what stands before"));
                    }
                    if chunks.insert(chunk, (process, counts)).is_some() {
                        return Err(corrupt("a chunk is committed twice"));
                    }
                }
                Frame::Scanned(part) => {
                    if scanned.replace(*part).is_some() {
                        return Err(corrupt("a part was read twice"));
                    }
                }
                Frame::ShardEnd => is_ended = true,
                _ => return Err(corrupt("it holds a frame that no shard has")),
            }
        }
        if is_ended && reader.tail() != Some(Tail::Clean) {
            return Err(corrupt("bytes follow the end of the shard"));
        }
        Ok(Self {
            chunks,
            scanned,
            is_ended,
        })
    }

    /// Whether frames of this chunk that this process wrote count.
    pub(crate) fn counts(&self, chunk: &ChunkName, process: u64) -> bool {
        self.chunks.get(chunk).is_some_and(|(by, _)| *by == process)
    }
}

/// An attempt that is being written. Nobody else can write it meanwhile.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) recorder: Recorder,
    pub(crate) committed: Committed,
}

impl Attempt {
    /// Goes on with an attempt that nobody writes, or begins a new one.
    ///
    /// # Errors
    /// `Journal`: `folder` cannot be written.
    pub(crate) fn open(folder: &Path, head: &Head, listed_max: Option<u64>) -> Result<Self, ReconcileError> {
        make_private(folder)?;
        for path in journals(folder)? {
            match Self::resume(&path, head, listed_max) {
                Ok(attempt) => return Ok(attempt),
                Err(ReconcileError::Journal(journal::Error::Busy { .. })) => {
                    tracing::info!(path = %path.display(), "another process writes this attempt; a new one is begun");
                }
                Err(
                    error @ ReconcileError::Journal(journal::Error::DiskFull { .. } | journal::Error::Write { .. }),
                ) => return Err(error),
                Err(error) => tracing::warn!(%error, "an earlier attempt is of no use; it is left as it is"),
            }
        }
        let name = format!("{:016x}-{:08x}", crate::now_us(), rand::random::<u32>());
        let path = folder.join(format!("{name}.{JOURNAL_ENDING}"));
        let writer = Writer::create(&path, SHARD_KIND)?;
        let recorder = Recorder::new(writer, listed_max, 0);
        recorder.append(&head.frame())?;
        let committed = Committed {
            chunks: HashMap::new(),
            scanned: None,
            is_ended: false,
        };
        Ok(Self {
            name,
            path,
            recorder,
            committed,
        })
    }

    fn resume(path: &Path, head: &Head, listed_max: Option<u64>) -> Result<Self, ReconcileError> {
        let (writer, _tail) = Writer::resume(path, SHARD_KIND)?;
        let is_begun = Reader::open(path)?.next().is_some();
        let committed = if is_begun {
            Committed::read(path, head)?
        } else {
            Committed {
                chunks: HashMap::new(),
                scanned: None,
                is_ended: false,
            }
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let counted = committed
            .chunks
            .values()
            .map(|(_, counts)| counts.confirmed + counts.undecided());
        let not_listed: u64 = committed.chunks.values().map(|(_, counts)| counts.not_listed).sum();
        let recorder = Recorder::new(writer, listed_max, counted.sum::<u64>().saturating_sub(not_listed));
        if !committed.is_ended {
            recorder.append(&head.frame())?;
        }
        Ok(Self {
            name,
            path: path.to_owned(),
            recorder,
            committed,
        })
    }

    pub(crate) fn has(&self, collection: &str, chunk_id: u64) -> bool {
        self.committed.chunks.contains_key(&(collection.to_owned(), chunk_id))
    }

    /// Where the files of the attempt are.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// A file with rows that were read.
    pub(crate) fn spill(&self, number: u32) -> PathBuf {
        self.folder().join(spill_name(&self.name, number))
    }

    /// What this attempt read, in stage `digest`.
    pub(crate) fn scanned(&self, head: &Head) -> Result<Option<ScannedPart>, ReconcileError> {
        Ok(Committed::read(&self.path, head)?.scanned)
    }

    /// Says that every chunk is committed, and puts everything on the disk.
    pub(crate) fn end(&self) -> journal::Result<()> {
        if !self.committed.is_ended {
            self.recorder.append(&Frame::ShardEnd)?;
        }
        self.recorder.sync()
    }
}

/// The journals of a shard's attempts, the oldest first.
pub(crate) fn journals(folder: &Path) -> Result<Vec<PathBuf>, ReconcileError> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ReconcileError::opening(folder, source)),
    };
    let mut journals = Vec::new();
    for entry in listed {
        let path = entry.map_err(|source| ReconcileError::opening(folder, source))?.path();
        if path.extension().is_some_and(|ending| ending == JOURNAL_ENDING) {
            journals.push(path);
        }
    }
    journals.sort();
    Ok(journals)
}

/// Makes a folder for its owner only: what is in it holds keys of rows.
pub(crate) fn make_private(folder: &Path) -> Result<(), ReconcileError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| ReconcileError::opening(folder, source))
}
