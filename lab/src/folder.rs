//! The folder of one lab, and the register by which the next start removes what a `kill -9` left.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::account::Account;
use crate::postgres::shared_memory;
use crate::process::{self, ProcessId};

/// How long an orphaned server may take to stop before it is killed.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often a folder is removed again when dying processes put files into it meanwhile.
const REMOVALS: usize = 20;
/// Address of a Unix socket: 107 bytes, of which `/.s.PGSQL.12345` takes 15.
const SOCKET_FOLDER_BYTES_MAX: usize = 92;

/// One line of a record: who runs the lab, or a server that it started.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Owner(ProcessId),
    /// One of PostgreSQL, with children.
    Server(ProcessId),
    /// Any other, which loses nothing that matters when it is killed.
    Program(ProcessId),
}

/// A lab's own folder. It is removed with the last handle.
///
/// Its record, `register/ID.lab`, is made before the folder and removed after it, and stays locked as long as the owner
/// lives: an unlocked record is a lab whose owner is gone.
#[derive(Debug)]
pub(crate) struct LabFolder {
    path: PathBuf,
    account: Account,
    record_path: PathBuf,
    record: File,
}

impl LabFolder {
    /// Removes what dead owners left, then makes a new folder, owned by `account`. Blocks.
    pub(crate) fn create(root: Option<&Path>, account: Account) -> Result<Self, LabError> {
        let base = root.map_or_else(std::env::temp_dir, Path::to_owned);
        let all = base.join(format!("driftline-lab-{}", Uid::effective()));
        // An account that root lowers itself to must be let through to its own folder, and may not list the others.
        private_folder(&all, if Uid::effective().is_root() { 0o711 } else { 0o700 })?;
        let register = all.join("register");
        private_folder(&register, 0o700)?;
        let _turn = take_turn(&register)?;
        remove_orphans(&all, &register)?;
        Self::create_new(&all, &register, account)
    }

    fn create_new(all: &Path, register: &Path, account: Account) -> Result<Self, LabError> {
        let id = format!("{:08x}", rand::random::<u32>());
        let record_path = register.join(format!("{id}.lab"));
        let record = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&record_path)
            .map_err(LabError::folder("create", &record_path))?;
        record.lock().map_err(LabError::folder("lock", &record_path))?;
        let folder = Self {
            path: all.join(id),
            account,
            record_path,
            record,
        };
        if let Some(owner) = ProcessId::ourselves() {
            folder.write(&Line::Owner(owner))?;
        }
        folder.make("")?;
        folder.make("sockets")?;
        let sockets = folder.sockets();
        if sockets.as_os_str().len() > SOCKET_FOLDER_BYTES_MAX {
            return Err(LabError::UnsafeFolder {
                path: sockets,
                problem: format!("is too long for a Unix socket (at most {SOCKET_FOLDER_BYTES_MAX} bytes)"),
            });
        }
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the servers' Unix sockets are.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.path.join("sockets")
    }

    pub(crate) fn account(&self) -> Account {
        self.account
    }

    /// Makes a folder of the account's in the lab.
    fn make(&self, name: &str) -> Result<(), LabError> {
        let path = self.path.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(LabError::folder("create", &path))?;
        self.account.give(&path)
    }

    /// Writes a file that the account alone can read.
    pub(crate) fn write_file(&self, path: &Path, contents: &[u8]) -> Result<(), LabError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(LabError::folder("create", path))?;
        file.write_all(contents).map_err(LabError::folder("write", path))?;
        self.account.give(path)
    }

    /// Notes a server, so that the next start can stop it if we do not live to do it.
    pub(crate) fn note_server(&self, server: ProcessId) -> Result<(), LabError> {
        self.write(&Line::Server(server))
    }

    /// Notes a program that the next start kills if we do not live to do it.
    pub(crate) fn note_program(&self, program: ProcessId) -> Result<(), LabError> {
        self.write(&Line::Program(program))
    }

    fn write(&self, line: &Line) -> Result<(), LabError> {
        let mut text = serde_json::to_string(line)
            .map_err(std::io::Error::from)
            .map_err(LabError::folder("write", &self.record_path))?;
        text.push('\n');
        // One write: a line is there as a whole, or it is the last and torn, and then ignored.
        (&self.record)
            .write_all(text.as_bytes())
            .map_err(LabError::folder("write", &self.record_path))
    }
}

impl Drop for LabFolder {
    fn drop(&mut self) {
        match remove_folder(&self.path) {
            Ok(()) => {
                // Without its record nobody would look for the folder again, so it goes last.
                let _already_gone = fs::remove_file(&self.record_path);
            }
            Err(error) => tracing::warn!(%error, "the next lab tries again to remove this folder"),
        }
    }
}

/// Makes a folder, or checks that the one that is there is ours alone.
fn private_folder(path: &Path, mode: u32) -> Result<(), LabError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(LabError::folder("create", path)(error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(LabError::folder("look at", path))?;
    let problem = if !found.is_dir() {
        "is not a folder"
    } else if found.uid() != Uid::effective().as_raw() {
        "belongs to somebody else"
    } else if found.mode() & 0o022 != 0 {
        "can be written by others"
    } else {
        return Ok(());
    };
    Err(LabError::UnsafeFolder {
        path: path.to_owned(),
        problem: problem.to_owned(),
    })
}

/// One start at a time looks for orphans and writes the head of its record; the turn ends when the file is closed.
fn take_turn(register: &Path) -> Result<File, LabError> {
    let path = register.join("turn");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(LabError::folder("create", &path))?;
    file.lock().map_err(LabError::folder("lock", &path))?;
    Ok(file)
}

fn remove_orphans(all: &Path, register: &Path) -> Result<(), LabError> {
    let entries = fs::read_dir(register).map_err(LabError::folder("list", register))?;
    for entry in entries {
        let record = entry.map_err(LabError::folder("list", register))?.path();
        if record.extension().is_none_or(|extension| extension != "lab") {
            continue;
        }
        let Some(id) = record.file_stem() else { continue };
        if let Err(error) = remove_orphan(&record, &all.join(id)) {
            // An orphan that resists must not keep new labs from starting.
            tracing::warn!(%error, record = %record.display(), "could not remove what an earlier lab left");
        }
    }
    Ok(())
}

/// The folder's path comes from the record's name, never from its contents: a damaged record cannot name another folder.
fn remove_orphan(record: &Path, folder: &Path) -> Result<(), LabError> {
    let mut file = match File::open(record) {
        // Its owner just removed it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(LabError::folder("open", record))?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(LabError::folder("lock", record)(error)),
    }
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(LabError::folder("read", record))?;
    let mut servers = process::with_data_in(folder);
    for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match line {
            Line::Owner(owner) if owner.is_alive() => return Ok(()),
            Line::Owner(_) => {}
            Line::Server(server) => servers.push(server),
            Line::Program(program) => {
                program.signal(Signal::SIGKILL);
                program.wait_end(KILL_PATIENCE);
            }
        }
    }
    tracing::info!(folder = %folder.display(), "removing what an earlier lab left");
    for server in servers {
        stop_server(server, ORPHAN_PATIENCE);
    }
    remove_folder(folder)?;
    match fs::remove_file(record) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(LabError::folder("remove", record)),
    }
}

/// Stops a server of PostgreSQL without its leave to finish anything, and all below it, also when some of it is stopped
/// by a signal. Returns when it is gone.
pub(crate) fn stop_server(server: ProcessId, patience: Duration) {
    let children = server.children();
    for child in &children {
        child.signal(Signal::SIGCONT);
    }
    server.signal(Signal::SIGQUIT);
    if !server.wait_end(patience) {
        server.signal(Signal::SIGKILL);
        server.wait_end(KILL_PATIENCE);
    }
    for child in children {
        child.signal(Signal::SIGKILL);
        child.wait_end(KILL_PATIENCE);
    }
}

/// Removes the folder of a lab whose processes are gone.
fn remove_folder(path: &Path) -> Result<(), LabError> {
    shared_memory::release(path);
    for _ in 1..REMOVALS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => return result.map_err(LabError::folder("remove", path)),
        }
    }
    fs::remove_dir_all(path).map_err(LabError::folder("remove", path))
}
