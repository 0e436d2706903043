//! Two real MinIO servers with bucket replication.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_sdk_s3::Client;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::pair::{S3Rule, client};
use super::{S3_ACCESS_KEY, S3_SECRET_KEY};
use crate::LabError;
use crate::account::Account;
use crate::folder::LabFolder;
use crate::ports::free_port;
use crate::process::ProcessId;
use crate::proxy::{Network, Proxy};
use crate::server_log::log_tail;

/// From the start of a server to its first answer.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it answers.
const READY_POLL: Duration = Duration::from_millis(20);
/// For one call of its client program.
const ADMIN_PATIENCE: Duration = Duration::from_secs(60);
/// How long a killed server may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Starts of a server: somebody else may take the free port that was found.
const STARTS: usize = 3;

/// What a pair of MinIO servers is started with.
#[derive(Debug, Clone)]
pub struct MinioOptions {
    /// The bucket at the primary and at the secondary; both are made, with versioning.
    pub buckets: [String; 2],
    /// Rules from the first to the second.
    pub rules: Vec<S3Rule>,
    /// Whether a HEAD or GET for what the primary lacks is answered from the secondary: MinIO's own default.
    pub proxies_reads: bool,
}

impl Default for MinioOptions {
    fn default() -> Self {
        Self {
            buckets: ["media-use1".to_owned(), "media-usw2".to_owned()],
            rules: vec![S3Rule::of_prefix("everything", "")],
            proxies_reads: false,
        }
    }
}

/// One MinIO server. Dropping it kills it.
#[derive(Debug)]
pub struct MinioServer {
    child: Child,
    id: ProcessId,
    port: u16,
    region: &'static str,
    log: PathBuf,
}

impl MinioServer {
    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The region that it says it is in.
    pub fn region(&self) -> &'static str {
        self.region
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        client(&self.endpoint(), self.region)
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.id.signal(Signal::SIGCONT);
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
        self.id.wait_end(KILL_PATIENCE);
    }

    /// Freezes it: connections stand, and nothing is answered.
    pub fn freeze(&self) {
        self.id.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.id.signal(Signal::SIGCONT);
    }
}

impl Drop for MinioServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two MinIO servers on free ports, with replication from the first to the second through a relay.
#[derive(Debug)]
pub struct MinioPair {
    servers: [MinioServer; 2],
    link: Proxy,
    _network: Network,
    _folder: LabFolder, // last: it goes when the servers are gone
}

impl MinioPair {
    /// Starts both servers.
    ///
    /// # Errors
    /// `MissingArtefact` names the command that installs MinIO; `Late` and `Ended` quote the server's log.
    pub async fn start(options: MinioOptions) -> Result<Self, LabError> {
        let (minio, mc) = (installed("minio")?, installed("mc")?);
        let folder = LabFolder::create(None, Account::find()?)?;
        let primary = start_server(&minio, &folder, "a", "us-east-1").await?;
        let secondary = start_server(&minio, &folder, "b", "us-west-2").await?;
        let network = Network::start().map_err(|error| no_relay(&error))?;
        let link = network.relay_to(secondary.port).map_err(|error| no_relay(&error))?;
        let admin = Admin {
            program: mc,
            home: folder.path().join("mc"),
        };
        for (alias, server, bucket) in [
            ("a", &primary, &options.buckets[0]),
            ("b", &secondary, &options.buckets[1]),
        ] {
            admin
                .run(&["alias", "set", alias, &server.endpoint(), S3_ACCESS_KEY, S3_SECRET_KEY])
                .await?;
            admin.run(&["mb", &format!("{alias}/{bucket}")]).await?;
            admin.run(&["version", "enable", &format!("{alias}/{bucket}")]).await?;
        }
        let remote = format!(
            "http://{S3_ACCESS_KEY}:{S3_SECRET_KEY}@127.0.0.1:{}/{}",
            link.port(),
            options.buckets[1]
        );
        for rule in &options.rules {
            let source = format!("a/{}", options.buckets[0]);
            admin.add_rule(&source, &remote, rule, options.proxies_reads).await?;
        }
        Ok(Self {
            servers: [primary, secondary],
            link,
            _network: network,
            _folder: folder,
        })
    }

    /// The server whose bucket has the rules.
    pub fn primary(&self) -> &MinioServer {
        &self.servers[0]
    }

    /// The server that they copy to.
    pub fn secondary(&self) -> &MinioServer {
        &self.servers[1]
    }

    /// Ends the second server as a power cut would.
    pub fn kill_secondary(&mut self) {
        self.servers[1].kill();
    }

    /// The way from the first to the second: cut it, and copies fail; silence it, and they wait.
    pub fn link(&self) -> &Proxy {
        &self.link
    }
}

fn no_relay(error: &std::io::Error) -> LabError {
    LabError::State {
        server: "relay between the MinIO servers".to_owned(),
        problem: error.to_string(),
    }
}

/// Where `scripts/install.sh minio` puts programs that are no packages.
fn installed(name: &str) -> Result<PathBuf, LabError> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let path = cache.unwrap_or_default().join("driftline/bin").join(name);
    find(path, name)
}

fn find(path: PathBuf, name: &str) -> Result<PathBuf, LabError> {
    if path.is_file() {
        return Ok(path);
    }
    Err(LabError::MissingArtefact {
        artefact: name.to_owned(),
        searched: path,
        command: "scripts/install.sh minio".to_owned(),
    })
}

async fn start_server(
    program: &Path,
    folder: &LabFolder,
    name: &str,
    region: &'static str,
) -> Result<MinioServer, LabError> {
    let mut last = None;
    for _ in 0..STARTS {
        match try_server(program, folder, name, region).await {
            Err(error @ LabError::Ended { .. }) => last = Some(error),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| LabError::State {
        server: name.to_owned(),
        problem: "was never started".to_owned(),
    }))
}

async fn try_server(
    program: &Path,
    folder: &LabFolder,
    name: &str,
    region: &'static str,
) -> Result<MinioServer, LabError> {
    let port = free_port()?;
    let log = folder.path().join(format!("{name}.log"));
    let output = File::create(&log).map_err(LabError::folder("create", &log))?;
    let errors = output.try_clone().map_err(LabError::folder("open", &log))?;
    let failed = |status: String| LabError::Program {
        program: "minio".to_owned(),
        status,
        output: String::new(),
    };
    let mut child = Command::new(program)
        .args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")])
        .arg(folder.path().join(name))
        .env_clear()
        .env("HOME", folder.path())
        .env("MINIO_ROOT_USER", S3_ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", S3_SECRET_KEY)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_UPDATE", "off")
        .env("MINIO_SITE_REGION", region)
        .env("MINIO_REGION", region)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(format!("could not be started: {error}")))?;
    let Some(id) = ProcessId::of_child(&child) else {
        let _ended_already = child.kill();
        return Err(failed("its start time cannot be read from /proc".to_owned()));
    };
    let mut server = MinioServer {
        child,
        id,
        port,
        region,
        log,
    };
    folder.note_server(id)?;
    let deadline = Instant::now() + READY_PATIENCE;
    loop {
        if let Ok(Some(status)) = server.child.try_wait() {
            return Err(LabError::Ended {
                server: format!("minio {name}"),
                status: status.to_string(),
                log_tail: server.log_tail(),
            });
        }
        if is_ready(port).await {
            return Ok(server);
        }
        if Instant::now() >= deadline {
            return Err(LabError::Late {
                server: format!("minio {name}"),
                what: "the first answer".to_owned(),
                waited: READY_PATIENCE,
                log_tail: server.log_tail(),
            });
        }
        sleep(READY_POLL).await;
    }
}

/// Asks the server's own health page.
async fn is_ready(port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        let request = b"GET /minio/health/ready HTTP/1.0\r\nHost: lab\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer.ends_with(b"200"))
    };
    matches!(timeout(Duration::from_secs(1), asked).await, Ok(Some(true)))
}

/// MinIO's client program, which alone can set up its replication.
#[derive(Debug)]
struct Admin {
    program: PathBuf,
    home: PathBuf,
}

impl Admin {
    async fn run(&self, arguments: &[&str]) -> Result<(), LabError> {
        // The last arguments may hold the lab's secret: only the first two are told.
        let shown = format!("mc {}", arguments.get(..2).unwrap_or_default().join(" "));
        let failed = |status: String, output: String| LabError::Program {
            program: shown.clone(),
            status,
            output,
        };
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(["--quiet", "--no-color"])
            .args(arguments)
            .env_clear()
            .env("HOME", &self.home)
            .env("MC_CONFIG_DIR", &self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(ADMIN_PATIENCE, command.output())
            .await
            .map_err(|_| failed(format!("did not end within {ADMIN_PATIENCE:?}"), String::new()))?
            .map_err(|error| failed(format!("could not be started: {error}"), String::new()))?;
        if output.status.success() {
            return Ok(());
        }
        let words = [output.stdout, output.stderr].concat();
        let words = String::from_utf8_lossy(&words).replace(S3_SECRET_KEY, "...");
        Err(failed(output.status.to_string(), words.trim().to_owned()))
    }

    async fn add_rule(&self, source: &str, remote: &str, rule: &S3Rule, proxies: bool) -> Result<(), LabError> {
        let tags: Vec<String> = rule
            .tags
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let (tags, priority) = (tags.join("&"), rule.priority.to_string());
        let target = format!("{source}/{}", rule.prefix);
        let mut arguments = vec!["replicate", "add", &target, "--remote-bucket", remote, "--id", &rule.id];
        arguments.extend(["--priority", &priority, "--healthcheck-seconds", "1"]);
        arguments.extend(["--replicate", "delete,delete-marker,existing-objects"]);
        if !tags.is_empty() {
            arguments.extend(["--tags", &tags]);
        }
        if !proxies {
            arguments.push("--disable-proxy");
        }
        if !rule.is_enabled {
            arguments.push("--disable");
        }
        self.run(&arguments).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_names_the_command_that_installs_it() {
        let error = find(PathBuf::from("/nowhere/minio"), "minio").unwrap_err().to_string();
        assert!(error.contains("scripts/install.sh minio"), "{error}");
        assert!(error.contains("/nowhere/minio"), "{error}");
    }
}
