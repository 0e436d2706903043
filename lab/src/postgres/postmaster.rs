//! One running server process of PostgreSQL.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::LabError;
use crate::folder::{LabFolder, stop_server};
use crate::process::{ProcessId, wait_until};
use crate::server_log::log_tail;

/// From the start of the process to the first connection, crash recovery included.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// A stop that disconnects clients and writes a checkpoint.
const FAST_STOP_PATIENCE: Duration = Duration::from_secs(20);
/// A stop that only ends processes.
const IMMEDIATE_STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Clients are disconnected, everything is flushed and shipped.
    Fast,
    /// Processes end at once; the next start recovers from the WAL.
    Immediate,
    /// SIGKILL to every process, as when the machine loses power (but with what the kernel had been given).
    Kill,
}

/// What a server is started with.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) port: u16,
}

/// A running postmaster. Dropping it stops it at once.
#[derive(Debug)]
pub(crate) struct Postmaster {
    child: Child,
    id: ProcessId,
}

impl Postmaster {
    /// Starts the server and waits until it takes connections. Blocks.
    pub(crate) fn start(launch: &Launch, folder: &LabFolder) -> Result<Self, LabError> {
        let mut postmaster = Self::spawn(launch, folder)?;
        folder.note_server(postmaster.id)?;
        let mut ended = None;
        let ready = wait_until(READY_PATIENCE, || {
            ended = postmaster.child.try_wait().ok().flatten();
            ended.is_some() || is_ready(&launch.data_dir, postmaster.id.pid)
        });
        let log_tail = || log_tail(&launch.log);
        match (ready, ended) {
            (_, Some(status)) => Err(LabError::Ended {
                server: launch.name.clone(),
                status: status.to_string(),
                log_tail: log_tail(),
            }),
            (true, None) => Ok(postmaster),
            (false, None) => Err(LabError::Late {
                server: launch.name.clone(),
                what: "the first connection".to_owned(),
                waited: READY_PATIENCE,
                log_tail: log_tail(),
            }),
        }
    }

    fn spawn(launch: &Launch, folder: &LabFolder) -> Result<Self, LabError> {
        let open_log = || {
            fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(&launch.log)
                .map_err(LabError::folder("open", &launch.log))
        };
        let mut command: Command = folder.account().command(&launch.program, folder.path());
        command
            .arg("-D")
            .arg(&launch.data_dir)
            .arg("-c")
            .arg(format!("port={}", launch.port))
            .arg("-c")
            .arg(format!("unix_socket_directories={}", folder.sockets().display()))
            .arg("-c")
            .arg(format!("cluster_name={}", launch.name))
            .stdin(Stdio::null())
            .stdout(open_log()?)
            .stderr(open_log()?)
            // Ctrl-C on the terminal is for the program that runs the lab; it decides when servers go.
            .process_group(0);
        let failed = |status: String| LabError::Program {
            program: "postgres".to_owned(),
            status,
            output: String::new(),
        };
        let mut child = command
            .spawn()
            .map_err(|error| failed(format!("could not be started: {error}")))?;
        match ProcessId::of_child(&child) {
            Some(id) => Ok(Self { child, id }),
            None => {
                let _ended_already = child.kill();
                Err(failed("its start time cannot be read from /proc".to_owned()))
            }
        }
    }

    pub(crate) fn children(&self) -> Vec<ProcessId> {
        self.id.children()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.id.is_alive()
    }

    /// Stops it and waits until every process of it is gone; escalates when it takes too long. Blocks.
    pub(crate) fn stop(mut self, how: Stop) {
        self.stop_now(how);
    }

    fn stop_now(&mut self, how: Stop) {
        match how {
            Stop::Fast => {
                for child in self.id.children() {
                    child.signal(Signal::SIGCONT);
                }
                self.id.signal(Signal::SIGINT);
                self.id.wait_end(FAST_STOP_PATIENCE);
            }
            Stop::Immediate => {}
            Stop::Kill => {
                let children = self.id.children();
                self.id.signal(Signal::SIGKILL);
                for child in children {
                    child.signal(Signal::SIGKILL);
                    child.wait_end(IMMEDIATE_STOP_PATIENCE);
                }
            }
        }
        stop_server(self.id, IMMEDIATE_STOP_PATIENCE);
        // Reaps it: it has ended, or was killed just now.
        let _status = self.child.wait();
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        self.stop_now(Stop::Immediate);
    }
}

/// The eighth line of `postmaster.pid` tells the state: `ready` once connections are taken, on a standby too.
fn is_ready(data_dir: &Path, pid: i32) -> bool {
    let Ok(text) = fs::read_to_string(data_dir.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = text.lines();
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}
