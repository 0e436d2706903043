//! Who is stated to take writes now, as the state folder has it: `event mark promoted` writes it, and a running probe re-reads it.
//!
//! What stands here beats the configuration, which may be older than the last failover; `--writers` beats both.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::topology::Unit;

/// The file in the state folder.
const FILE: &str = "writers.json";

/// The statement, one file, replaced by atomic rename.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stated {
    /// Grows with each statement.
    pub(crate) statement: u64,
    /// What made it, e.g. an event.
    pub(crate) by: String,
    /// The sites that take writes, by connection, or dataset without one. What is absent is as the configuration says.
    pub(crate) writers: BTreeMap<String, Vec<String>>,
}

impl Stated {
    /// The statement of a state folder; the empty one when nothing was stated yet.
    ///
    /// # Errors
    /// A file that cannot be read or is not a statement is an error, never skipped.
    pub(crate) fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("read the stated writers in {}", path.display())),
        };
        serde_json::from_str(&text).with_context(|| format!("{} does not hold stated writers", path.display()))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(FILE);
        self.write(folder, &path)
            .with_context(|| format!("write the stated writers to {}", path.display()))
    }

    fn write(&self, folder: &Path, path: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        let draft: PathBuf = folder.join(format!(".{FILE}.{}.tmp", std::process::id()));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        std::fs::File::open(folder)?.sync_all()?;
        Ok(())
    }

    /// States that `to` took over from `from` on `unit`: other writers, if there are several, stay.
    pub(crate) fn promote(&mut self, unit: &Unit<'_>, from: &str, to: &str) {
        let others = unit.writers.iter().filter(|writer| **writer != from && **writer != to);
        let writers = std::iter::once(to).chain(others.copied()).map(str::to_owned).collect();
        self.writers.insert(unit.name.to_owned(), writers);
    }

    /// Puts it into `config`. What it says of things that the configuration does not have any more is told and left out.
    ///
    /// # Errors
    /// A site that the configuration does not have.
    pub(crate) fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        for (name, writers) in &self.writers {
            if let Some(site) = writers.iter().find(|site| !config.site.contains_key(*site)) {
                bail!(
                    "the state folder states that site `{site}` takes the writes of {name} (by {}), and the configuration has no such site; \
                     declare it, or remove {FILE} from the state folder",
                    self.by
                );
            }
            if config.writers_of(name) == writers.as_slice() {
                continue;
            }
            if config.set_writers(name, writers.clone()) {
                tracing::info!(
                    unit = name,
                    writers = writers.join(","),
                    by = self.by,
                    "writers as stated"
                );
            } else {
                tracing::warn!(
                    unit = name,
                    by = self.by,
                    "writers are stated for what the configuration does not have"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
writers = ["use1"]
[site.use1]
[site.usw2]
[site.euw1]
[dataset.profiles.dynamodb]
tables = ["profiles"]
writers = ["use1", "euw1"]
"#;

    fn config() -> Config {
        Config::parse(Path::new("driftline.toml"), TEXT).unwrap()
    }

    #[test]
    fn a_promotion_replaces_one_writer_and_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config();
        assert_eq!(Stated::load(folder.path()).unwrap(), Stated::default());
        let mut stated = Stated::default();
        stated.promote(&crate::topology::units(&config)[0], "use1", "usw2");
        stated.statement += 1;
        stated.save(folder.path()).unwrap();
        let found = Stated::load(folder.path()).unwrap();
        assert_eq!(found, stated);
        found.apply(&mut config).unwrap();
        assert_eq!(config.writers_of("profiles"), ["usw2", "euw1"]);
    }

    #[test]
    fn what_cannot_be_used_is_an_error_and_never_skipped() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        let error = Stated::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("does not hold stated writers"), "{error}");
        let gone = Stated {
            writers: BTreeMap::from([("profiles".to_owned(), vec!["apne1".to_owned()])]),
            ..Stated::default()
        };
        let error = gone.apply(&mut config()).unwrap_err().to_string();
        assert!(error.contains("apne1"), "{error}");
    }

    #[test]
    fn a_dataset_that_is_gone_changes_nothing() {
        let mut config = config();
        let other = Stated {
            writers: BTreeMap::from([("gone".to_owned(), vec!["usw2".to_owned()])]),
            ..Stated::default()
        };
        other.apply(&mut config).unwrap();
        assert_eq!(config.writers_of("profiles"), ["use1", "euw1"]);
    }
}
