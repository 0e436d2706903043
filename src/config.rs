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
    pub(crate) ledger: Ledger,
    /// Where a probe serves `/metrics`.
    #[serde(default = "default_listen")]
    pub(crate) listen: std::net::SocketAddr,
    #[serde(default)]
    pub(crate) defaults: Defaults,
    #[serde(default)]
    pub(crate) site: BTreeMap<String, Site>,
    #[serde(default)]
    pub(crate) connection: BTreeMap<String, Connection>,
    #[serde(default)]
    pub(crate) dataset: BTreeMap<String, Dataset>,
}

/// Where the probe's ledger lives.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ledger {
    /// A folder on a local disk: its fsync is what an RPO is proved with.
    pub(crate) path: PathBuf,
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

/// How reconciliation shows keys.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reconcile {
    /// `plain`, `hashed` or `none`.
    #[serde(default)]
    pub(crate) keys: reconcile::KeyDisclosure,
    /// The key of the hash, wanted with `keys = "hashed"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_hash: Option<Secret>,
}

/// One place.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Site {
    /// The cloud region, for evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
}

/// How to reach one store on each site.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Connection {
    /// PostgreSQL, Aurora or not.
    Aurora(stores::aurora::Config),
}

/// A selection of collections.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dataset {
    /// Tables of one PostgreSQL connection.
    Aurora(Tables),
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
    /// Columns that may differ; named in the coverage's scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exclude_columns: Vec<String>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./driftline-ledger"),
        }
    }
}

fn sha256(text: &str) -> String {
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
        let of = |connection: &str, tables: Vec<&Tables>| {
            let endpoints = self
                .connection
                .get(connection)
                .map(|Connection::Aurora(aurora)| (&aurora.sites, &aurora.canary));
            let basis = serde_json::json!({ "store": "aurora", "endpoints": endpoints, "tables": tables, "probe": self.defaults.probe });
            sha256(&basis.to_string())
        };
        let mut all: BTreeMap<&str, String> = BTreeMap::new();
        for connection in self.connection.keys() {
            let mut over = Vec::new();
            for (name, Dataset::Aurora(tables)) in &self.dataset {
                if tables.connection == *connection {
                    all.insert(name, of(connection, vec![tables]));
                    over.push(tables);
                }
            }
            all.entry(connection).or_insert_with(|| of(connection, over));
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

    /// Applies `--writers SITE` and `--writers CONNECTION=SITE`: what is stated now beats the file.
    ///
    /// # Errors
    /// An unknown site or connection.
    pub(crate) fn state_writers(&mut self, stated: &[String]) -> anyhow::Result<()> {
        let mut default = Vec::new();
        let mut own: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for word in stated {
            let (connection, site) = match word.split_once('=') {
                Some((connection, site)) => (Some(connection), site),
                None => (None, word.as_str()),
            };
            anyhow::ensure!(
                self.site.contains_key(site),
                "--writers {word}: unknown site `{site}`; known: {}",
                self.site.keys().cloned().collect::<Vec<_>>().join(", ")
            );
            match connection {
                None => default.push(site.to_owned()),
                Some(connection) => own.entry(connection).or_default().push(site.to_owned()),
            }
        }
        if !default.is_empty() {
            for Connection::Aurora(aurora) in self.connection.values_mut() {
                aurora.writers = None;
            }
            self.writers = default;
        }
        for (name, writers) in own {
            let Some(Connection::Aurora(aurora)) = self.connection.get_mut(name) else {
                anyhow::bail!(
                    "--writers {name}=...: unknown connection `{name}`; known: {}",
                    self.connection.keys().cloned().collect::<Vec<_>>().join(", ")
                );
            };
            aurora.writers = Some(writers);
        }
        for (name, Connection::Aurora(aurora)) in &self.connection {
            for writer in self.writers_of(name) {
                anyhow::ensure!(
                    aurora.sites.contains_key(writer),
                    "writer `{writer}` is not a site of connection `{name}`; its sites: {}",
                    aurora.sites.keys().cloned().collect::<Vec<_>>().join(", ")
                );
            }
        }
        Ok(())
    }

    /// Sites that take writes on `connection`: its own word, else the default.
    pub(crate) fn writers_of(&self, connection: &str) -> &[String] {
        match self.connection.get(connection) {
            Some(Connection::Aurora(aurora)) => aurora.writers.as_deref().unwrap_or(&self.writers),
            None => &self.writers,
        }
    }
}
