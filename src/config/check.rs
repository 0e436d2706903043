//! Checks of meaning that no single type can make: names that must exist elsewhere in the file.

use super::spans::Spans;
use super::{Config, ConfigError, Connection, Dataset, Tables};

/// Checks the whole file. The first fault ends it.
pub(super) fn whole(config: &Config, spans: &Spans<'_>) -> Result<(), ConfigError> {
    if let Some(here) = &config.here {
        site_exists(config, spans, &["here"], here)?;
    }
    for (index, writer) in config.writers.iter().enumerate() {
        site_exists(config, spans, &["writers", &index.to_string()], writer)?;
    }
    for (name, connection) in &config.connection {
        let Connection::Aurora(aurora) = connection;
        connection_sites(config, spans, name, aurora)?;
    }
    for (name, dataset) in &config.dataset {
        let Dataset::Aurora(tables) = dataset;
        dataset_refers(config, spans, name, tables)?;
    }
    key_hash(config, spans)
}

fn site_exists(config: &Config, spans: &Spans<'_>, path: &[&str], site: &str) -> Result<(), ConfigError> {
    if config.site.contains_key(site) {
        return Ok(());
    }
    let fault = spans.fault(path, format!("unknown site `{site}`"));
    if config.site.is_empty() {
        return Err(fault.advise(format!("declare it: [site.{site}]")));
    }
    Err(fault.suggest(site, config.site.keys().map(String::as_str)))
}

fn connection_sites(
    config: &Config,
    spans: &Spans<'_>,
    name: &str,
    aurora: &stores::aurora::Config,
) -> Result<(), ConfigError> {
    let base = ["connection", name, "aurora"];
    if let Err(problem) = aurora.check() {
        return Err(spans.fault(&base, format!("connection `{name}`: {problem}")));
    }
    for site in aurora.sites.keys() {
        if !config.site.contains_key(site) {
            let path = [&base[..], &["sites", site]].concat();
            return Err(spans
                .fault_at_key(&path, format!("unknown site `{site}`"))
                .suggest(site, config.site.keys().map(String::as_str)));
        }
    }
    if aurora.sites.len() < 2 {
        return Err(spans
            .fault(
                &base,
                format!(
                    "connection `{name}` has {} site; a copy needs at least two",
                    aurora.sites.len()
                ),
            )
            .advise(format!("add [connection.{name}.aurora.sites.SITE] with `writer`")));
    }
    let writers = config.writers_of(name);
    if writers.is_empty() {
        return Err(spans
            .fault(&base, format!("connection `{name}` has no writers"))
            .advise(
                "state who takes writes now: `writers = [\"SITE\"]` at the top of the file, or in this connection",
            ));
    }
    for (index, writer) in writers.iter().enumerate() {
        if !aurora.sites.contains_key(writer) {
            let index = index.to_string();
            let own = [&base[..], &["writers", &index]].concat();
            let path = if aurora.writers.is_none() {
                vec!["writers", &index]
            } else {
                own
            };
            return Err(spans
                .fault(&path, format!("writer `{writer}` is not a site of connection `{name}`"))
                .suggest(writer, aurora.sites.keys().map(String::as_str)));
        }
    }
    Ok(())
}

fn dataset_refers(config: &Config, spans: &Spans<'_>, name: &str, tables: &Tables) -> Result<(), ConfigError> {
    let base = ["dataset", name, "aurora"];
    if !config.connection.contains_key(&tables.connection) {
        let path = [&base[..], &["connection"]].concat();
        return Err(spans
            .fault(&path, format!("unknown connection `{}`", tables.connection))
            .suggest(&tables.connection, config.connection.keys().map(String::as_str)));
    }
    if tables.tables.is_empty() {
        let path = [&base[..], &["tables"]].concat();
        return Err(spans
            .fault(&path, format!("dataset `{name}` selects nothing"))
            .advise("e.g. `tables = [\"public.*\"]`"));
    }
    for (key, patterns) in [("tables", &tables.tables), ("exclude", &tables.exclude)] {
        for (index, pattern) in patterns.iter().enumerate() {
            let index = index.to_string();
            let path = [&base[..], &[key, &index]].concat();
            if let Err(error) = crate::selection::pattern(pattern) {
                return Err(spans.fault(&path, format!("pattern `{pattern}`: {error}")));
            }
            if !pattern.contains('.') {
                return Err(spans
                    .fault(&path, format!("pattern `{pattern}` names no schema"))
                    .advise(format!("did you mean `public.{pattern}`?")));
            }
        }
    }
    Ok(())
}

fn key_hash(config: &Config, spans: &Spans<'_>) -> Result<(), ConfigError> {
    let reconcile = &config.defaults.reconcile;
    if reconcile.keys == reconcile::KeyDisclosure::Hashed && reconcile.key_hash.is_none() {
        return Err(spans
            .fault(
                &["defaults", "reconcile", "keys"],
                "keys = \"hashed\" needs a key for the hash",
            )
            .advise("add `key_hash = { env = \"DRIFTLINE_KEY_HASH\" }` or `{ file = \"...\" }`"));
    }
    Ok(())
}
