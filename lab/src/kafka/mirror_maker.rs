//! MirrorMaker 2 in a process of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{clients, jars};
use crate::LabError;
use crate::folder::LabFolder;
use crate::java::{JavaProcess, JavaProgram};

/// From the start to the first record, on a machine that is busy otherwise.
const READY_PATIENCE: Duration = Duration::from_secs(180);

/// What it mirrors.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) primary: (String, String),
    pub(super) secondary: (String, String),
    /// Pattern of topics.
    pub(super) topics: String,
    /// Topics keep their names.
    pub(super) is_identity: bool,
}

/// One MirrorMaker 2. Dropping it kills it.
#[derive(Debug)]
pub struct MirrorMaker {
    process: Mutex<Option<JavaProcess>>,
    program: JavaProgram,
    folder: Arc<LabFolder>,
    home: PathBuf,
}

impl MirrorMaker {
    /// Starts one. Blocks until it mirrors.
    pub(super) fn start(route: &Route, folder: &Arc<LabFolder>) -> Result<Self, LabError> {
        let home = folder.path().join("mirror");
        fs::create_dir(&home).map_err(LabError::folder("create", &home))?;
        let properties = home.join("mirror.properties");
        folder.write_file(&properties, settings(route).as_bytes())?;
        let logging = home.join("log4j2.yaml");
        folder.write_file(&logging, jars::LOGGING.as_bytes())?;
        let mirror = Self {
            process: Mutex::new(None),
            program: JavaProgram {
                name: "mirror".to_owned(),
                jars: jars::find()?,
                options: vec![format!("-Dlog4j2.configurationFile={}", logging.display()).into()],
                class: "org.apache.kafka.connect.mirror.MirrorMaker",
                arguments: vec![properties.into()],
            },
            folder: Arc::clone(folder),
            home,
        };
        mirror.start_again_now()?;
        Ok(mirror)
    }

    /// Mirrors nothing until [`Self::resume`]: the process is stopped where it is.
    pub fn stall(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.stall();
        }
    }

    /// Goes on.
    pub fn resume(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.resume();
        }
    }

    /// Kills it without leave to finish anything.
    pub fn kill(&self) {
        drop(self.lock().take());
    }

    /// Starts it after [`Self::kill`]. It goes on at what it had noted, so some records arrive again.
    ///
    /// # Errors
    /// It did not start.
    pub async fn start_again(self: &Arc<Self>) -> Result<(), LabError> {
        let mirror = Arc::clone(self);
        let started = tokio::task::spawn_blocking(move || mirror.start_again_now()).await;
        started.map_err(|error| clients::failed("mirror", "start", error))?
    }

    fn start_again_now(&self) -> Result<(), LabError> {
        let log = self.home.join("mirror.log");
        // Its task is there; the first record follows soon, and there may be none.
        let ready = "WorkerSourceTask{id=MirrorSourceConnector-0}";
        let process = JavaProcess::start(&self.program, &self.folder, &log, ready, READY_PATIENCE)?;
        *self.lock() = Some(process);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<JavaProcess>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Low latency. Settings of a worker count only with the cluster that it writes to as prefix.
fn settings(route: &Route) -> String {
    let ((a, a_at), (b, b_at)) = (&route.primary, &route.secondary);
    let policy = if route.is_identity { "Identity" } else { "Default" };
    let topics = &route.topics;
    format!(
        "clusters={a},{b}
{a}.bootstrap.servers={a_at}
{b}.bootstrap.servers={b_at}
{a}->{b}.enabled=true
{a}->{b}.topics={topics}
{b}->{a}.enabled=false
replication.policy.class=org.apache.kafka.connect.mirror.{policy}ReplicationPolicy
tasks.max=1
{a}.plugin.discovery=service_load
{b}.plugin.discovery=service_load
replication.factor=1
heartbeats.topic.replication.factor=1
checkpoints.topic.replication.factor=1
offset-syncs.topic.replication.factor=1
config.storage.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
offset.storage.partitions=1
status.storage.partitions=1
refresh.topics.interval.seconds=1
refresh.groups.interval.seconds=5
sync.topic.configs.interval.seconds=5
sync.topic.acls.enabled=false
emit.heartbeats.interval.seconds=1
emit.checkpoints.interval.seconds=1
offset.lag.max=0
{b}.offset.flush.interval.ms=1000
{a}.offset.flush.interval.ms=1000
consumer.poll.timeout.ms=20
{a}.consumer.fetch.max.wait.ms=50
{a}.consumer.metadata.max.age.ms=1000
{a}.consumer.isolation.level=read_committed
{a}.consumer.auto.offset.reset=earliest
{b}.producer.linger.ms=0
{b}.producer.acks=all
{a}.session.timeout.ms=6000
{a}.heartbeat.interval.ms=1000
{b}.session.timeout.ms=6000
{b}.heartbeat.interval.ms=1000
{a}.scheduled.rebalance.max.delay.ms=0
{b}.scheduled.rebalance.max.delay.ms=0
"
    )
}
