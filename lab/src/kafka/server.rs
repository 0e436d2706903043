//! One real broker that is a cluster of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::FutureProducer;

use super::{clients, jars};
use crate::LabError;
use crate::account::Account;
use crate::certificates;
use crate::folder::LabFolder;
use crate::java::{JavaProcess, JavaProgram};
use crate::ports::free_ports;

/// From the start of the process to the first connection.
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// Starts with other ports each, when somebody else took one that was drawn.
const STARTS: usize = 3;
/// The user of the listener with SASL over TLS, and the password. Of this lab alone.
const USER: &str = "driftline";
const PASSWORD: &str = "lab-secret";
/// How they are proved without being sent.
const SCRAM: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];
/// A connection with a login that is older proves it again, or ends.
const REAUTHENTICATE_AFTER_MS: u32 = 3_000;

/// An Apache Kafka broker. Dropping it kills it.
pub struct KafkaServer {
    name: String,
    // Before the folder: the process goes first.
    _process: JavaProcess,
    plain: u16,
    secure: u16,
    behind: u16,
    ca_file: PathBuf,
    writes: FutureProducer,
    folder: Arc<LabFolder>,
}

impl std::fmt::Debug for KafkaServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaServer")
            .field("name", &self.name)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

struct Ports {
    plain: u16,
    controller: u16,
    secure: u16,
    behind: u16,
}

impl Ports {
    /// Four that are free now.
    fn draw() -> Result<Self, LabError> {
        let [plain, controller, secure, behind] = free_ports()?;
        Ok(Self {
            plain,
            controller,
            secure,
            behind,
        })
    }
}

impl KafkaServer {
    /// Starts one that mirrors nobody.
    ///
    /// # Errors
    /// [`LabError::MissingArtefact`] before `scripts/install.sh kafka`; it did not start.
    pub async fn start_alone() -> Result<Self, LabError> {
        let started = tokio::task::spawn_blocking(|| {
            let folder = Arc::new(LabFolder::create(None, Account::ourselves())?);
            Self::start("kafka", &folder, None)
        });
        started
            .await
            .map_err(|error| clients::failed("kafka", "start", error))?
    }

    /// Starts one in `folder`, whose clients behind a proxy find it at this port. Blocks.
    pub(super) fn start(name: &str, folder: &Arc<LabFolder>, proxy: Option<u16>) -> Result<Self, LabError> {
        let mut tries = 1;
        loop {
            match Self::try_start(name, folder, proxy, tries) {
                Err(error) if tries < STARTS && error.is_port_taken() => tries += 1,
                result => return result,
            }
        }
    }

    fn try_start(name: &str, folder: &Arc<LabFolder>, proxy: Option<u16>, tries: usize) -> Result<Self, LabError> {
        let home = folder.path().join(format!("{name}-{tries}"));
        fs::create_dir(&home).map_err(LabError::folder("create", &home))?;
        let ports = Ports::draw()?;
        let certificates = certificates::issue()?;
        let ca_file = home.join("ca.pem");
        let store = [&certificates.server_key, &certificates.server, &certificates.authority]
            .map(String::as_str)
            .concat();
        for (file, text) in [
            ("ca.pem", certificates.authority.as_str()),
            ("broker.pem", store.as_str()),
            ("log4j2.yaml", jars::LOGGING),
            (
                "server.properties",
                &settings(&home.display().to_string(), &ports, proxy),
            ),
        ] {
            folder.write_file(&home.join(file), text.as_bytes())?;
        }
        let program = |name: String, class, arguments: Vec<String>| -> Result<JavaProgram, LabError> {
            Ok(JavaProgram {
                name,
                jars: jars::find()?,
                options: vec![format!("-Dlog4j2.configurationFile={}", home.join("log4j2.yaml").display()).into()],
                class,
                arguments: arguments.into_iter().map(Into::into).collect(),
            })
        };
        let properties = home.join("server.properties").display().to_string();
        let id = uuid();
        let scram = |mechanism: &str| format!("{mechanism}=[name={USER},password={PASSWORD}]");
        let mut format: Vec<String> = ["format", "--standalone", "-t", &id, "-c", &properties]
            .map(str::to_owned)
            .into();
        for mechanism in SCRAM {
            format.extend(["--add-scram".to_owned(), scram(mechanism)]);
        }
        program(format!("storage of {name}"), "kafka.tools.StorageTool", format)?.run(folder.path())?;
        let process = JavaProcess::start(
            &program(name.to_owned(), "kafka.Kafka", vec![properties])?,
            folder,
            &home.join("server.log"),
            "Kafka Server started",
            READY_PATIENCE,
        )?;
        Ok(Self {
            name: name.to_owned(),
            _process: process,
            writes: clients::producer(name, &[format!("127.0.0.1:{}", ports.plain)])?,
            plain: ports.plain,
            secure: ports.secure,
            behind: ports.behind,
            ca_file,
            folder: Arc::clone(folder),
        })
    }

    /// `host:port` of the listener in clear.
    pub fn bootstrap(&self) -> Vec<String> {
        vec![format!("127.0.0.1:{}", self.plain)]
    }

    /// `host:port` of the listener with TLS, where [`Self::login`] logs in by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub fn secure_bootstrap(&self) -> Vec<String> {
        vec![format!("localhost:{}", self.secure)]
    }

    /// Port of the listener in clear for clients behind a proxy.
    pub fn behind(&self) -> u16 {
        self.behind
    }

    /// Who signed its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.ca_file.clone()
    }

    /// User and password.
    pub fn login(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// It was refused.
    pub async fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), LabError> {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = self.admin()?.create_topics([&new], &AdminOptions::new()).await;
        self.answered(&format!("create topic {topic}"), made)
    }

    /// Removes a topic.
    ///
    /// # Errors
    /// It was refused.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), LabError> {
        let removed = self.admin()?.delete_topics(&[topic], &AdminOptions::new()).await;
        self.answered(&format!("delete topic {topic}"), removed)
    }

    /// Writes one record.
    ///
    /// # Errors
    /// It was not acknowledged.
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<i64, LabError> {
        clients::produce(&self.name, &self.writes, topic, partition, key, value).await
    }

    /// Takes the login by SCRAM-SHA-256 away. Connections that stand end within seconds.
    ///
    /// # Errors
    /// It was refused.
    pub async fn revoke_login(&self) -> Result<(), LabError> {
        let gone = format!("--delete-config {} --entity-type users --entity-name {USER}", SCRAM[0]);
        self.alter(gone).await
    }

    /// Gives it back.
    ///
    /// # Errors
    /// It was refused.
    pub async fn restore_login(&self) -> Result<(), LabError> {
        self.change_password(PASSWORD).await
    }

    /// Gives the login by SCRAM-SHA-256 this password. Connections that stand prove theirs again within seconds, or end.
    ///
    /// # Errors
    /// It was refused.
    pub async fn change_password(&self, password: &str) -> Result<(), LabError> {
        let scram = format!("{}=[password={password}]", SCRAM[0]);
        let back = format!("--add-config {scram} --entity-type users --entity-name {USER}");
        self.alter(back).await
    }

    /// Lets clients of this name read and write so few bytes a second that they fall behind a handful of records a second.
    ///
    /// # Errors
    /// It was refused.
    pub async fn throttle(&self, client_id: &str) -> Result<(), LabError> {
        let quotas = "consumer_byte_rate=400,producer_byte_rate=900";
        self.alter(format!(
            "--add-config {quotas} --entity-type clients --entity-name {client_id}"
        ))
        .await
    }

    /// Answers them as all others.
    ///
    /// # Errors
    /// It was refused.
    pub async fn relieve(&self, client_id: &str) -> Result<(), LabError> {
        let quotas = "consumer_byte_rate,producer_byte_rate";
        self.alter(format!(
            "--delete-config {quotas} --entity-type clients --entity-name {client_id}"
        ))
        .await
    }

    /// What the library cannot ask for.
    async fn alter(&self, arguments: String) -> Result<(), LabError> {
        let bootstrap = self.bootstrap().join(",");
        let (name, folder) = (self.name.clone(), Arc::clone(&self.folder));
        let altered = tokio::task::spawn_blocking(move || {
            let before = ["--bootstrap-server", &bootstrap, "--alter"];
            let program = JavaProgram {
                name: format!("settings of {name}"),
                jars: jars::find()?,
                options: Vec::new(),
                class: "kafka.admin.ConfigCommand",
                arguments: before.into_iter().chain(arguments.split(' ')).map(Into::into).collect(),
            };
            program.run(folder.path())
        });
        altered
            .await
            .map_err(|error| clients::failed(&self.name, "alter settings", error))?
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, LabError> {
        ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap().join(","))
            .create()
            .map_err(|error| clients::failed(&self.name, "administer", error))
    }

    fn answered(
        &self,
        tried: &str,
        answer: rdkafka::error::KafkaResult<Vec<rdkafka::admin::TopicResult>>,
    ) -> Result<(), LabError> {
        let answers = answer.map_err(|error| clients::failed(&self.name, tried, error))?;
        match answers.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some((_, code)) => Err(clients::failed(&self.name, tried, code)),
        }
    }
}

/// 16 random bytes in the alphabet of Kafka's IDs, which must not begin with a dash.
fn uuid() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = rand::random::<u128>() >> 1;
    let mut text = String::new();
    for _ in 0..21 {
        let letter = usize::try_from((bits >> 122) & 63).unwrap_or_default();
        text.push(char::from(LETTERS[letter]));
        bits <<= 6;
    }
    // 22 letters carry 132 bits; the last has to end in zeros.
    text.push('A');
    text
}

/// A client asks a broker where the brokers are: one that came through a proxy must be sent back to it.
fn settings(home: &str, ports: &Ports, proxy: Option<u16>) -> String {
    let Ports {
        plain,
        controller,
        secure,
        behind,
    } = ports;
    let proxy = proxy.unwrap_or(*behind);
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{secure},BEHIND://127.0.0.1:{behind}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://localhost:{secure},BEHIND://127.0.0.1:{proxy}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,BEHIND:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
connections.max.reauth.ms={REAUTHENTICATE_AFTER_MS}
listener.name.sasl_ssl.ssl.keystore.type=PEM
listener.name.sasl_ssl.ssl.keystore.location={home}/broker.pem
log.dirs={home}/data
num.partitions=1
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
background.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.dedupe.buffer.size=8388608
log.segment.delete.delay.ms=1000
"
    )
}
