//! The Kafka that canaries are written to, and the configuration for it.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use lab::{KafkaOptions, KafkaPair, KafkaServers, KafkaServersOptions};

/// The topic of the canaries.
const TOPIC: &str = "driftline-canary";
/// Its partitions; each is a stream of its own.
const PARTITIONS: i32 = 2;

/// A pair of clusters, and a folder for the probe.
pub(crate) struct Kafka {
    clusters: Clusters,
    folder: tempfile::TempDir,
}

enum Clusters {
    Servers(Box<KafkaServers>),
    Mock(Box<KafkaPair>),
}

impl Kafka {
    /// Starts `servers` or `mock`.
    pub(crate) async fn start(kind: &str) -> anyhow::Result<Self> {
        let topics = vec![(TOPIC.to_owned(), PARTITIONS)];
        let clusters = match kind {
            "servers" => {
                let options = KafkaServersOptions {
                    topics,
                    ..KafkaServersOptions::default()
                };
                let servers = KafkaServers::start(options).await;
                let servers = servers.context("start Apache Kafka; scripts/install.sh kafka fetches it")?;
                Clusters::Servers(Box::new(servers))
            }
            "mock" => {
                let options = KafkaOptions {
                    topics,
                    ..KafkaOptions::default()
                };
                Clusters::Mock(Box::new(
                    KafkaPair::start(options).await.context("start mock clusters")?,
                ))
            }
            other => anyhow::bail!("DRIFTLINE_BENCH_KAFKA={other}: servers or mock"),
        };
        Ok(Self {
            clusters,
            folder: tempfile::tempdir().context("make a folder")?,
        })
    }

    /// What it is, in words.
    pub(crate) fn against(&self) -> String {
        let what = match self.clusters {
            Clusters::Servers(_) => "Apache Kafka 4.3.1, two clusters of one broker each, and MirrorMaker 2",
            Clusters::Mock(_) => "librdkafka's mock clusters and the lab's mirror",
        };
        format!("{what}; {PARTITIONS} partitions")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// driftline with a configuration for this pair, at a rate over all partitions.
    pub(crate) fn command(&self, rate: u32) -> anyhow::Result<Command> {
        let each = rate / u32::try_from(PARTITIONS)?;
        let [above, below] = match &self.clusters {
            Clusters::Servers(servers) => [servers.primary().bootstrap(), servers.secondary().bootstrap()],
            Clusters::Mock(pair) => [pair.primary().bootstrap(), pair.secondary().bootstrap()],
        };
        let path = |name: &str| self.folder().join(name);
        let text = format!(
            "writers = [\"use1\"]\noutput = {out:?}\nstate = {state:?}\nledger = {{ path = {ledger:?} }}\nlisten = \"127.0.0.1:0\"\n\
             [defaults]\nprobe = {{ rate = \"{each}/s\" }}\n[site.use1]\n[site.usw2]\n\
             [connection.mirror.kafka]\ntls = \"disable\"\nmapping = {{ \"use1->usw2\" = \"use1.{{topic}}\" }}\n\
             sites.use1 = {{ bootstrap = {above:?} }}\nsites.usw2 = {{ bootstrap = {below:?} }}\n\
             [dataset.events.kafka]\nconnection = \"mirror\"\ntopics = [\"orders\"]\n",
            out = path("out"),
            state = path("state"),
            ledger = path("ledger"),
        );
        std::fs::write(path("driftline.toml"), text).context("write the configuration")?;
        let mut command = super::fixture::driftline();
        command.arg("--config").arg(path("driftline.toml"));
        Ok(command)
    }
}
