//! The configuration: what each crate wants, composed, and checked as a whole.

mod check;
mod fault;
mod print;
mod spans;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stores::secret::Secret;

pub(crate) use fault::ConfigError;

/// A whole configuration file, checked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where this process runs; `DRIFTLINE_SITE` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) here: Option<String>,
    /// Sites that take writes, unless a connection says otherwise.
    #[serde(default)]
    pub(crate) writers: Vec<String>,
    /// Parquet, reports and journals.
    #[serde(default = "default_output")]
    pub(crate) output: PathBuf,
    /// Events and stated writers.
    #[serde(default = "default_state")]
    pub(crate) state: PathBuf,
    #[serde(default)]
    pub(crate) ledger: probes::LedgerConfig,
    /// A price list for the requests that stores are paid for; the one that driftline comes with when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prices: Option<PathBuf>,
    /// Where a probe serves `/metrics`.
    #[serde(default = "default_listen")]
    pub(crate) listen: std::net::SocketAddr,
    /// How this probe runs.
    #[serde(default, skip_serializing_if = "Probe::is_default")]
    pub(crate) probe: Probe,
    #[serde(default)]
    pub(crate) defaults: Defaults,
    #[serde(default)]
    pub(crate) site: BTreeMap<String, stores::aws::Site>,
    #[serde(default)]
    pub(crate) connection: BTreeMap<String, Connection>,
    #[serde(default)]
    pub(crate) dataset: BTreeMap<String, Dataset>,
}

/// Settings of the running probe, over all of its routes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    /// Dollars that its requests may cost in an hour; routes that are paid for are slowed to stay within it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_usd_per_hour: Option<f64>,
    /// What its streams are called, in place of the name of the host: a watcher has the name of the probe whose streams it watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// By how many clocks canaries are read.
    #[serde(default)]
    pub(crate) clock: Clock,
    /// What this probe does of a route.
    #[serde(default)]
    pub(crate) part: probes::Part,
    /// The program that tells how far the clock of this host may be off; the `chronyc` of the search path when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chronyc: Option<PathBuf>,
}

/// By how many clocks canaries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Clock {
    /// By that of the probe, which writes and watches.
    #[default]
    One,
    /// By that of the probe, and by those of watchers on other hosts: canaries carry the instant of their writing.
    Two,
}

impl Probe {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings that datasets share.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defaults {
    #[serde(default)]
    pub(crate) probe: probes::Config,
    #[serde(default)]
    pub(crate) reconcile: Reconcile,
}

/// How reconciliation shows keys, where it hashes rows, and how gently it goes.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reconcile {
    /// `plain`, `hashed` or `none`.
    #[serde(default)]
    pub(crate) keys: reconcile::KeyDisclosure,
    /// The key of the hash, wanted with `keys = "hashed"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_hash: Option<Secret>,
    /// `pushdown`, `client` or `auto`.
    #[serde(default)]
    pub(crate) digest: reconcile::DigestChoice,
    /// How long a side should take for one chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chunk_target: Option<jiff::SignedDuration>,
    /// Chunks that are compared at the same time; one statement each at each site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parallel: Option<std::num::NonZeroUsize>,
    /// Reads of rows at the same time at one site, where it bears fewer than `parallel`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parallel_at: BTreeMap<String, std::num::NonZeroUsize>,
    /// Rows that are compared in a second, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows_per_second: Option<std::num::NonZeroU64>,
    /// No chunk is begun while the secondary is further behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_lag: Option<jiff::SignedDuration>,
    /// No chunk is begun while more sessions of others are active at a site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_load: Option<u64>,
}

/// How to reach one store on each site.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Connection {
    /// PostgreSQL, Aurora or not.
    Aurora(stores::aurora::Config),
    /// Kafka, MSK or not.
    Kafka(stores::kafka::Config),
}

/// A selection of collections.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dataset {
    /// Tables of one PostgreSQL connection.
    Aurora(Tables),
    /// DynamoDB tables.
    Dynamodb(stores::dynamodb::Config),
    /// Buckets.
    S3(stores::s3::Config),
    /// Topics of one Kafka connection.
    Kafka(stores::kafka::Topics),
}

/// Tables of one connection.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tables {
    /// Name of the connection.
    pub(crate) connection: String,
    /// Patterns of `schema.table`; `*` does not cross the dot.
    pub(crate) tables: Vec<String>,
    /// Patterns to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exclude: Vec<String>,
    /// Labels for policies and queries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// Settings of single tables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) table: BTreeMap<String, Table>,
}

/// Settings of one table.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// The column that tells when a row last changed: evidence of origin after a failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changed_at: Option<String>,
    /// Tables with a higher one are compared before others; 0 unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<i32>,
    /// Columns that may differ; named in the coverage's scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exclude_columns: Vec<String>,
    /// How values of single columns are compared; what is not named, exactly.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) compare: BTreeMap<String, Exactness>,
    /// The rows that are compared: an SQL expression, the same at every site; named in the coverage's scope.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<String>,
}

/// When two values of a column are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exactness {
    /// When they are the same in every bit.
    Exact,
    /// When their type holds them equal: 1.0 and 1.00, -0 and 0.
    Semantic,
}

impl Table {
    /// What of the table is compared, and how.
    pub(crate) fn scope(&self) -> stores::Scope {
        let semantic = self.compare.iter().filter(|(_, how)| **how == Exactness::Semantic);
        stores::Scope {
            filter: self.filter.clone(),
            semantic: semantic.map(|(name, _)| name.clone()).collect(),
        }
    }
}

/// SHA-256 of a text, 64 hex digits.
pub(crate) fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn default_output() -> PathBuf {
    PathBuf::from("./driftline-out")
}

fn default_state() -> PathBuf {
    PathBuf::from("./driftline-state")
}

fn default_listen() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 9464))
}

impl Config {
    /// Reads, parses and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with the place of the first fault.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            ConfigError::of_file(file, format!("cannot read the configuration: {error}"))
                .advise("name it with --config FILE; `driftline lab up` makes one to try")
        })?;
        Self::parse(file, &text)
    }

    /// Parses and checks `text`, which came from `file`.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::from_toml(file, text, &error))?;
        check::whole(&config, &spans::Spans::of(file, text)?)?;
        Ok(config)
    }

    /// SHA-256 of the effective configuration, 64 hex digits. Holds references to secrets, never secrets.
    pub(crate) fn sha256(&self) -> String {
        sha256(&serde_json::json!(self).to_string())
    }

    /// The `dataset_fingerprints` column of a run, JSON: for each dataset, and each connection, SHA-256 over what evidence about it depends
    /// on. Who writes is not part of it: roles swap, and the evidence still belongs together.
    pub(crate) fn fingerprints(&self) -> String {
        let probe = &self.defaults.probe;
        let mut all: BTreeMap<&str, String> = BTreeMap::new();
        for (name, connection) in &self.connection {
            let endpoints = connection.endpoints();
            let mut over = Vec::new();
            for (dataset, selected) in self
                .dataset
                .iter()
                .filter(|(_, selected)| selected.connection() == Some(name))
            {
                let basis = serde_json::json!({ "store": connection.store(), "endpoints": endpoints, "tables": [selected.basis()], "probe": probe });
                all.insert(dataset, sha256(&basis.to_string()));
                over.push(selected.basis());
            }
            let basis = serde_json::json!({ "store": connection.store(), "endpoints": endpoints, "tables": over, "probe": probe });
            all.entry(name).or_insert_with(|| sha256(&basis.to_string()));
        }
        for (dataset, selected) in self
            .dataset
            .iter()
            .filter(|(_, selected)| selected.connection().is_none())
        {
            let basis = serde_json::json!({ "store": selected.store(), "sites": self.site, "tables": selected.basis(), "probe": probe });
            all.insert(dataset, sha256(&basis.to_string()));
        }
        serde_json::json!(all).to_string()
    }

    /// The effective configuration as TOML.
    ///
    /// # Errors
    /// When a value has no TOML form.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        print::effective(self)
    }

    /// Applies `--writers SITE` and `--writers NAME=SITE`, where NAME is a connection, or a dataset without one: what is stated now
    /// beats the file.
    ///
    /// # Errors
    /// An unknown site, connection or dataset.
    pub(crate) fn state_writers(&mut self, stated: &[String]) -> anyhow::Result<()> {
        let mut default = Vec::new();
        let mut own: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for word in stated {
            let (unit, site) = match word.split_once('=') {
                Some((unit, site)) => (Some(unit), site),
                None => (None, word.as_str()),
            };
            anyhow::ensure!(
                self.site.contains_key(site),
                "--writers {word}: unknown site `{site}`; known: {}",
                self.site.keys().cloned().collect::<Vec<_>>().join(", ")
            );
            match unit {
                None => default.push(site.to_owned()),
                Some(unit) => own.entry(unit).or_default().push(site.to_owned()),
            }
        }
        if !default.is_empty() {
            self.connection.values_mut().for_each(|one| *one.writers_mut() = None);
            self.dataset
                .values_mut()
                .filter_map(Dataset::writers_mut)
                .for_each(|writers| *writers = None);
            self.writers = default;
        }
        for (name, writers) in own {
            if !self.set_writers(name, writers) {
                let datasets = self.dataset.iter().filter(|(_, one)| one.connection().is_none());
                let names = self.connection.keys().chain(datasets.map(|(name, _)| name));
                let known: Vec<&str> = names.map(String::as_str).collect();
                anyhow::bail!(
                    "--writers {name}=...: unknown connection `{name}`; known: {}",
                    known.join(", ")
                );
            }
        }
        self.stated_writers_are_sites()
    }

    /// States the writers of a connection, or of a dataset without one. `false`: there is none of that name.
    pub(crate) fn set_writers(&mut self, unit: &str, writers: Vec<String>) -> bool {
        let slot = match (self.connection.get_mut(unit), self.dataset.get_mut(unit)) {
            (Some(connection), _) => Some(connection.writers_mut()),
            (None, Some(dataset)) => dataset.writers_mut(),
            (None, None) => None,
        };
        slot.map(|slot| *slot = Some(writers)).is_some()
    }

    fn stated_writers_are_sites(&self) -> anyhow::Result<()> {
        for (name, connection) in &self.connection {
            let sites = connection.sites();
            for writer in self.writers_of(name) {
                anyhow::ensure!(
                    sites.contains(&writer.as_str()),
                    "writer `{writer}` is not a site of connection `{name}`; its sites: {}",
                    sites.join(", ")
                );
            }
        }
        Ok(())
    }

    /// Sites that take writes on a connection, or on a dataset without one: its own word, else the default.
    pub(crate) fn writers_of(&self, unit: &str) -> &[String] {
        let own = match (self.connection.get(unit), self.dataset.get(unit)) {
            (Some(connection), _) => connection.writers(),
            (None, Some(dataset)) => dataset.writers(),
            (None, None) => None,
        };
        own.map_or(&self.writers, Vec::as_slice)
    }
}

impl Connection {
    /// The kind of store, as evidence names it.
    pub(crate) fn store(&self) -> &'static str {
        match self {
            Self::Aurora(_) => "aurora",
            Self::Kafka(_) => "kafka",
        }
    }

    /// Its sites.
    pub(crate) fn sites(&self) -> Vec<&str> {
        match self {
            Self::Aurora(aurora) => aurora.sites.keys().map(String::as_str).collect(),
            Self::Kafka(kafka) => kafka.sites.keys().map(String::as_str).collect(),
        }
    }

    fn writers(&self) -> Option<&Vec<String>> {
        match self {
            Self::Aurora(aurora) => aurora.writers.as_ref(),
            Self::Kafka(kafka) => kafka.writers.as_ref(),
        }
    }

    fn writers_mut(&mut self) -> &mut Option<Vec<String>> {
        match self {
            Self::Aurora(aurora) => &mut aurora.writers,
            Self::Kafka(kafka) => &mut kafka.writers,
        }
    }

    /// What evidence depends on beside the selection.
    fn endpoints(&self) -> serde_json::Value {
        match self {
            Self::Aurora(aurora) => serde_json::json!([aurora.sites, aurora.canary]),
            Self::Kafka(kafka) => serde_json::json!([kafka.sites, kafka.canary, kafka.mapping]),
        }
    }
}

impl Dataset {
    /// The kind of store, as evidence names it.
    pub(crate) fn store(&self) -> &'static str {
        match self {
            Self::Aurora(_) => "aurora",
            Self::Dynamodb(_) => "dynamodb",
            Self::S3(_) => "s3",
            Self::Kafka(_) => "kafka",
        }
    }

    /// The connection that it lies on, for stores that have connections.
    pub(crate) fn connection(&self) -> Option<&String> {
        match self {
            Self::Aurora(tables) => Some(&tables.connection),
            Self::Kafka(topics) => Some(&topics.connection),
            Self::Dynamodb(_) | Self::S3(_) => None,
        }
    }

    fn writers(&self) -> Option<&Vec<String>> {
        match self {
            Self::Dynamodb(config) => config.writers.as_ref(),
            Self::S3(config) => config.writers.as_ref(),
            Self::Aurora(_) | Self::Kafka(_) => None,
        }
    }

    fn writers_mut(&mut self) -> Option<&mut Option<Vec<String>>> {
        match self {
            Self::Dynamodb(config) => Some(&mut config.writers),
            Self::S3(config) => Some(&mut config.writers),
            Self::Aurora(_) | Self::Kafka(_) => None,
        }
    }

    /// What evidence about it depends on: everything but who writes, and what stands beside the measurement.
    fn basis(&self) -> serde_json::Value {
        let mut copy = self.clone();
        if let Some(writers) = copy.writers_mut() {
            *writers = None;
        }
        match &mut copy {
            Self::Dynamodb(config) => config.native = None,
            Self::S3(config) => config.native = None,
            Self::Aurora(_) | Self::Kafka(_) => {}
        }
        match &copy {
            Self::Aurora(tables) => serde_json::json!(tables),
            other => serde_json::json!(other),
        }
    }
}
