//! toxiproxy: delays, stops and cuts what goes between a probe and real servers.
//!
//! The relays of this crate live in the test's own process; this one is a program apart, so that a busy test cannot slow the line, and its delays are those of a
//! network: both ways, and for every connection.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::LabError;
use crate::account::Account;
use crate::folder::LabFolder;
use crate::java::cache;
use crate::ports::free_port;
use crate::process::ProcessId;
use crate::server_log::log_tail;

const NAME: &str = "toxiproxy";
/// From its start to its first answer.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it answers.
const READY_POLL: Duration = Duration::from_millis(10);
/// For one order.
const ORDER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a killed program may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Starts: somebody else may take the free port that was found.
const STARTS: usize = 3;
/// An answer of its own interface is a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 65_536;

/// A toxiproxy. It ends with its last handle, and so do its lines.
#[derive(Debug, Clone)]
pub struct Toxiproxy(Arc<Process>);

#[derive(Debug)]
struct Process {
    child: Child,
    id: ProcessId,
    api: u16,
    log: PathBuf,
    folder: LabFolder, // last: it goes when the program is gone
}

impl Drop for Process {
    fn drop(&mut self) {
        self.id.signal(Signal::SIGKILL);
        self.id.wait_end(KILL_PATIENCE);
        // Killed above; this only takes its exit status.
        let _status = self.child.wait();
    }
}

impl Toxiproxy {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// [`LabError::MissingArtefact`] before `scripts/install.sh toxiproxy`; it did not start.
    pub async fn start() -> Result<Self, LabError> {
        let mut last = None;
        for _ in 0..STARTS {
            match Process::start().await {
                Err(error @ LabError::Ended { .. }) => last = Some(error),
                other => return other.map(|process| Self(Arc::new(process))),
            }
        }
        Err(last.unwrap_or_else(|| failed("start", "was never tried")))
    }

    /// Opens a line from a free port to `port` of this machine, known by `name`.
    ///
    /// # Errors
    /// It was refused.
    pub async fn line(&self, name: &str, port: u16) -> Result<ToxicLine, LabError> {
        let order = json!({"name": name, "listen": "127.0.0.1:0", "upstream": upstream(port), "enabled": true});
        let made = self.0.order("POST", "/proxies", &order).await?;
        let made: Value = serde_json::from_str(&made).map_err(|error| failed("open a line", error))?;
        let listens = made["listen"].as_str().and_then(|address| address.rsplit(':').next());
        let port = listens.and_then(|port| port.parse().ok());
        Ok(ToxicLine {
            program: Arc::clone(&self.0),
            name: name.to_owned(),
            port: port.ok_or_else(|| failed("open a line", "it did not say where it listens"))?,
        })
    }
}

/// A line through a toxiproxy.
#[derive(Debug)]
pub struct ToxicLine {
    program: Arc<Process>,
    name: String,
    port: u16,
}

impl ToxicLine {
    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads it to another port. Connections that stand end.
    ///
    /// # Errors
    /// It was refused.
    pub async fn lead_to(&self, port: u16) -> Result<(), LabError> {
        self.set(&json!({"upstream": upstream(port)})).await
    }

    /// Ends all connections and takes no new one.
    ///
    /// # Errors
    /// It was refused.
    pub async fn cut(&self) -> Result<(), LabError> {
        self.set(&json!({"enabled": false})).await
    }

    /// Takes connections again.
    ///
    /// # Errors
    /// It was refused.
    pub async fn restore(&self) -> Result<(), LabError> {
        self.set(&json!({"enabled": true})).await
    }

    /// Answers come so much later.
    ///
    /// # Errors
    /// It was refused, also when there is a delay already.
    pub async fn delay(&self, delay: Duration) -> Result<(), LabError> {
        let latency_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.add("latency", &json!({"latency": latency_ms, "jitter": 0})).await
    }

    /// Answers come at once again.
    ///
    /// # Errors
    /// It was refused, also when there is no delay.
    pub async fn hurry(&self) -> Result<(), LabError> {
        self.take_away("latency").await
    }

    /// Connections stand, and no answer comes.
    ///
    /// # Errors
    /// It was refused, also when it is silent already.
    pub async fn silence(&self) -> Result<(), LabError> {
        self.add("timeout", &json!({"timeout": 0})).await
    }

    /// Ends the silence; connections that stood in it end too.
    ///
    /// # Errors
    /// It was refused, also when it is not silent.
    pub async fn speak(&self) -> Result<(), LabError> {
        self.take_away("timeout").await
    }

    async fn set(&self, change: &Value) -> Result<(), LabError> {
        let path = format!("/proxies/{}", self.name);
        self.program.order("POST", &path, change).await.map(drop)
    }

    async fn add(&self, kind: &str, attributes: &Value) -> Result<(), LabError> {
        let toxic =
            json!({"name": kind, "type": kind, "stream": "downstream", "toxicity": 1.0, "attributes": attributes});
        let path = format!("/proxies/{}/toxics", self.name);
        self.program.order("POST", &path, &toxic).await.map(drop)
    }

    async fn take_away(&self, kind: &str) -> Result<(), LabError> {
        let path = format!("/proxies/{}/toxics/{kind}", self.name);
        self.program.order("DELETE", &path, &Value::Null).await.map(drop)
    }
}

fn upstream(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn failed(tried: &str, message: impl std::fmt::Display) -> LabError {
    LabError::Service {
        server: NAME.to_owned(),
        tried: tried.to_owned(),
        message: message.to_string(),
    }
}

impl Process {
    async fn start() -> Result<Self, LabError> {
        let program = installed()?;
        let folder = tokio::task::spawn_blocking(|| LabFolder::create(None, Account::ourselves()))
            .await
            .map_err(|error| failed("make a folder", error))??;
        let api = free_port()?;
        let log = folder.path().join("toxiproxy.log");
        let output = File::create(&log).map_err(LabError::folder("create", &log))?;
        let errors = output.try_clone().map_err(LabError::folder("open", &log))?;
        let could_not = |status: String| LabError::Program {
            program: NAME.to_owned(),
            status,
            output: String::new(),
        };
        let mut child = Command::new(program)
            .args(["-host", "127.0.0.1", "-port", &api.to_string()])
            .env_clear()
            .env("LOG_LEVEL", "error")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| could_not(format!("could not be started: {error}")))?;
        let Some(id) = ProcessId::of_child(&child) else {
            let _ended_already = child.kill();
            return Err(could_not("its start time cannot be read from /proc".to_owned()));
        };
        let mut process = Self {
            child,
            id,
            api,
            log,
            folder,
        };
        process.folder.note_program(id)?;
        process.answers().await?;
        Ok(process)
    }

    async fn answers(&mut self) -> Result<(), LabError> {
        let deadline = Instant::now() + READY_PATIENCE;
        while self.order("GET", "/version", &Value::Null).await.is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(LabError::Ended {
                    server: NAME.to_owned(),
                    status: status.to_string(),
                    log_tail: log_tail(&self.log),
                });
            }
            if Instant::now() >= deadline {
                return Err(LabError::Late {
                    server: NAME.to_owned(),
                    what: "the first answer".to_owned(),
                    waited: READY_PATIENCE,
                    log_tail: log_tail(&self.log),
                });
            }
            sleep(READY_POLL).await;
        }
        Ok(())
    }

    /// Gives an order and returns what it answers.
    async fn order(&self, method: &str, path: &str, body: &Value) -> Result<String, LabError> {
        let tried = format!("{method} {path}");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: lab\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.api)).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(ORDER_PATIENCE, asked)
            .await
            .map_err(|_| failed(&tried, format!("no answer within {ORDER_PATIENCE:?}")))?
            .map_err(|error| failed(&tried, error))?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let words = answer.split_once("\r\n\r\n").map_or("", |(_, words)| words);
        if status.starts_with('2') {
            Ok(words.to_owned())
        } else {
            Err(failed(&tried, format!("{status}: {}", words.trim())))
        }
    }
}

/// Where `scripts/install.sh toxiproxy` puts it.
fn installed() -> Result<PathBuf, LabError> {
    let path = cache().join("bin").join("toxiproxy-server");
    if path.is_file() {
        return Ok(path);
    }
    Err(LabError::MissingArtefact {
        artefact: NAME.to_owned(),
        searched: path,
        command: "scripts/install.sh toxiproxy".to_owned(),
    })
}
