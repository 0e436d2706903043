//! The two kinds of server: one within this process, and AWS's own DynamoDB Local.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::LabError;
use crate::folder::LabFolder;
use crate::ports::free_port;
use crate::process::ProcessId;
use crate::server_log::log_tail;

/// What `scripts/install.sh` fetches.
const VERSION: &str = "2.6.1";
const MAIN: &str = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner";
/// How long a server may take to listen: a busy machine starts Java slowly.
const START_PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Starts with another port each, when somebody else took the one that was drawn.
const STARTS: usize = 3;

/// A running server.
#[derive(Debug)]
pub(crate) enum Server {
    /// On a thread of the lab.
    Embedded { port: u16, stop: CancellationToken },
    /// A process.
    Local { port: u16, process: Process },
}

/// A process that ends with its handle.
#[derive(Debug)]
pub(crate) struct Process {
    id: ProcessId,
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.id.signal(Signal::SIGKILL);
        self.id.wait_end(KILL_PATIENCE);
        // Killed above; this only takes its exit status.
        let _exit = self.child.wait();
    }
}

impl Server {
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Embedded { port, .. } | Self::Local { port, .. } => *port,
        }
    }

    /// The server's process, where it is one.
    pub(crate) fn process(&self) -> Option<ProcessId> {
        match self {
            Self::Embedded { .. } => None,
            Self::Local { process, .. } => Some(process.id),
        }
    }

    /// An empty server in this process, on a free port, served by `runtime`.
    pub(crate) fn embedded(name: &str, runtime: &Handle) -> Result<Self, LabError> {
        let failed = |message: String| LabError::Service {
            server: name.to_owned(),
            tried: "start an embedded server".to_owned(),
            message,
        };
        let database = dynoxide::Database::memory().map_err(|error| failed(error.to_string()))?;
        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed(error.to_string()))?;
        let port = listener.local_addr().map_err(|error| failed(error.to_string()))?.port();
        listener
            .set_nonblocking(true)
            .map_err(|error| failed(error.to_string()))?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let name = name.to_owned();
        runtime.spawn(async move {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let until = async move { stopped.cancelled().await };
                    dynoxide::server::serve_with_shutdown(listener, database, until).await
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = served {
                tracing::warn!(server = name, error, "an embedded server ended");
            }
        });
        Ok(Self::Embedded { port, stop })
    }

    /// An empty DynamoDB Local on a free port, its log in `folder`.
    pub(crate) async fn local(name: &str, folder: &LabFolder) -> Result<Self, LabError> {
        let mut starts = 1;
        loop {
            match Self::try_local(name, folder).await {
                Err(error) if starts < STARTS && error.is_port_taken() => starts += 1,
                result => return result,
            }
        }
    }

    async fn try_local(name: &str, folder: &LabFolder) -> Result<Self, LabError> {
        let installed = installed()?;
        let log = folder.path().join(format!("{name}.log"));
        let port = free_port()?;
        let output = File::create(&log).map_err(LabError::folder("create", &log))?;
        let errors = output.try_clone().map_err(LabError::folder("open", &log))?;
        let mut child = command(&installed, port)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| LabError::Program {
                program: "java".to_owned(),
                status: error.to_string(),
                output: "install it, on Debian: apt-get install openjdk-17-jre-headless".to_owned(),
            })?;
        let Some(id) = ProcessId::of_child(&child) else {
            let status = child
                .wait()
                .map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(ended(name, status, &log));
        };
        let mut process = Process { id, child };
        folder.note_server(id)?;
        listening(name, port, &mut process, &log).await?;
        Ok(Self::Local { port, process })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Embedded { stop, .. } = self {
            stop.cancel();
        }
    }
}

/// Where DynamoDB Local was put.
fn installed() -> Result<PathBuf, LabError> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = cache
        .filter(|path| path.is_absolute())
        .or(home)
        .unwrap_or_else(|| PathBuf::from("."))
        .join("driftline/dynamodb-local");
    if folder.join(VERSION).exists() {
        return Ok(folder);
    }
    Err(LabError::MissingArtefact {
        artefact: format!("DynamoDB Local {VERSION}"),
        searched: folder,
        command: "scripts/install.sh dynamodb".to_owned(),
    })
}

fn command(installed: &Path, port: u16) -> Command {
    let mut command = Command::new("java");
    command
        // Nothing of our environment: keys of a real account must not reach into a lab.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("AWS_REGION", "us-east-1")
        .args(["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(format!(
            "-Dsqlite4java.library.path={}",
            installed.join("native").display()
        ))
        .arg("-cp")
        .arg(installed.join("lib").join("*"))
        .arg(MAIN)
        .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port"])
        .arg(port.to_string());
    command
}

async fn listening(name: &str, port: u16, process: &mut Process, log: &Path) -> Result<(), LabError> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = process.child.try_wait() {
            return Err(ended(name, status.to_string(), log));
        }
        if Instant::now() >= deadline {
            return Err(LabError::Late {
                server: name.to_owned(),
                what: format!("listening on port {port}"),
                waited: START_PATIENCE,
                log_tail: log_tail(log),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn ended(name: &str, status: String, log: &Path) -> LabError {
    LabError::Ended {
        server: name.to_owned(),
        status,
        log_tail: log_tail(log),
    }
}
