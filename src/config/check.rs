//! Checks of meaning that no single type can make: names that must exist elsewhere in the file.

use std::time::Duration;

use reconcile::TIME_FENCE_MIN;
use stores::aurora::FenceChoice;

use super::spans::Spans;
use super::{Clock, Config, ConfigError, Connection, Dataset, Tables};

/// Checks the whole file. The first fault ends it.
pub(super) fn whole(config: &Config, spans: &Spans<'_>) -> Result<(), ConfigError> {
    if let Some(here) = &config.here {
        site_exists(config, spans, &["here"], here)?;
    }
    for (index, writer) in config.writers.iter().enumerate() {
        site_exists(config, spans, &["writers", &index.to_string()], writer)?;
    }
    for (name, connection) in &config.connection {
        connection_sites(config, spans, name, connection)?;
    }
    for (name, dataset) in &config.dataset {
        match dataset {
            Dataset::Aurora(tables) => dataset_refers(config, spans, name, tables)?,
            Dataset::Kafka(topics) => topics_refer(config, spans, name, topics)?,
            Dataset::Dynamodb(tables) => {
                let sites = tables
                    .tables
                    .iter()
                    .map(|names| names.sites().map(Iterator::collect))
                    .collect();
                own_sites(config, spans, (name, "dynamodb", "tables"), sites)?;
            }
            Dataset::S3(buckets) => {
                let sites = buckets
                    .buckets
                    .iter()
                    .map(|bucket| Some(bucket.names.keys().map(String::as_str).collect()))
                    .collect();
                own_sites(config, spans, (name, "s3", "buckets"), sites)?;
            }
        }
    }
    for site in config.defaults.reconcile.parallel_at.keys() {
        key_is_site(config, spans, &["defaults", "reconcile", "parallel_at"], site)?;
    }
    budget(config, spans)?;
    two_clocks(config, spans)?;
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

/// The key `site` of the table at `path` names a site.
fn key_is_site(config: &Config, spans: &Spans<'_>, path: &[&str], site: &str) -> Result<(), ConfigError> {
    if config.site.contains_key(site) {
        return Ok(());
    }
    Err(spans
        .fault_at_key(&[path, &[site]].concat(), format!("unknown site `{site}`"))
        .suggest(site, config.site.keys().map(String::as_str)))
}

fn connection_sites(
    config: &Config,
    spans: &Spans<'_>,
    name: &str,
    connection: &Connection,
) -> Result<(), ConfigError> {
    let base = ["connection", name, connection.store()];
    let sites = connection.sites();
    for site in &sites {
        key_is_site(config, spans, &[&base[..], &["sites"]].concat(), site)?;
    }
    let checked = match connection {
        Connection::Aurora(aurora) => aurora.check(),
        Connection::Kafka(kafka) => kafka.check(),
    };
    if let Err(problem) = checked {
        return Err(spans.fault(&base, format!("connection `{name}`: {problem}")));
    }
    if let Connection::Aurora(aurora) = connection
        && let Some(FenceChoice::Time(wait)) = aurora.fence
        && Duration::try_from(wait).map_or(true, |wait| wait < TIME_FENCE_MIN)
    {
        let path = [&base[..], &["fence", "time"]].concat();
        return Err(spans.fault(
            &path,
            format!("connection `{name}`: a fence by time waits {TIME_FENCE_MIN:?} at least, and ten times the worst lag of the last hour"),
        ));
    }
    if sites.len() < 2 {
        return Err(spans
            .fault(
                &base,
                format!(
                    "connection `{name}` has {} site; a copy needs at least two",
                    sites.len()
                ),
            )
            .advise(format!("add [connection.{name}.{}.sites.SITE]", connection.store())));
    }
    let writers = config.writers_of(name);
    if writers.is_empty() {
        return Err(spans
            .fault(&base, format!("connection `{name}` has no writers"))
            .advise(
                "state who takes writes now: `writers = [\"SITE\"]` at the top of the file, or in this connection",
            ));
    }
    let has_own_writers = !std::ptr::eq(writers, config.writers.as_slice());
    for (index, writer) in writers.iter().enumerate() {
        if !sites.contains(&writer.as_str()) {
            let index = index.to_string();
            let own = [&base[..], &["writers", &index]].concat();
            let path = if !has_own_writers { vec!["writers", &index] } else { own };
            return Err(spans
                .fault(&path, format!("writer `{writer}` is not a site of connection `{name}`"))
                .suggest(writer, sites.iter().copied()));
        }
    }
    Ok(())
}

fn dataset_refers(config: &Config, spans: &Spans<'_>, name: &str, tables: &Tables) -> Result<(), ConfigError> {
    let base = ["dataset", name, "aurora"];
    connection_exists(config, spans, &base, &tables.connection)?;
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
    for (table, settings) in &tables.table {
        if let Some(Err(reason)) = settings.filter.as_deref().map(stores::aurora::check_filter) {
            let path = [&base[..], &["table", table, "where"]].concat();
            return Err(spans.fault(&path, format!("the condition of table `{table}`: {reason}")));
        }
    }
    Ok(())
}

/// A dataset lies on a connection of its own store.
fn connection_exists(config: &Config, spans: &Spans<'_>, base: &[&str; 3], name: &str) -> Result<(), ConfigError> {
    let of_store = config.connection.iter().filter(|(_, one)| one.store() == base[2]);
    let known: Vec<&str> = of_store.map(|(name, _)| name.as_str()).collect();
    if known.contains(&name) {
        return Ok(());
    }
    let path = [&base[..], &["connection"]].concat();
    if let Some(other) = config.connection.get(name) {
        let fault = format!(
            "connection `{name}` is {}, and this dataset is {}",
            other.store(),
            base[2]
        );
        return Err(spans.fault(&path, fault));
    }
    Err(spans
        .fault(&path, format!("unknown connection `{name}`"))
        .suggest(name, known))
}

fn topics_refer(
    config: &Config,
    spans: &Spans<'_>,
    name: &str,
    topics: &stores::kafka::Topics,
) -> Result<(), ConfigError> {
    let base = ["dataset", name, "kafka"];
    connection_exists(config, spans, &base, &topics.connection)?;
    if topics.topics.is_empty() {
        let path = [&base[..], &["topics"]].concat();
        return Err(spans
            .fault(&path, format!("dataset `{name}` selects nothing"))
            .advise("e.g. `topics = [\"orders\", \"pay*\"]`"));
    }
    for (key, patterns) in [("topics", &topics.topics), ("exclude", &topics.exclude)] {
        for (index, pattern) in patterns.iter().enumerate() {
            if let Err(error) = crate::selection::pattern(pattern) {
                let index = index.to_string();
                let path = [&base[..], &[key, &index]].concat();
                return Err(spans.fault(&path, format!("pattern `{pattern}`: {error}")));
            }
        }
    }
    Ok(())
}

/// A dataset without a connection: `sites` are those that each of its collections names, `None` where one name serves everywhere.
fn own_sites(
    config: &Config,
    spans: &Spans<'_>,
    (name, store, key): (&str, &str, &str),
    sites: Vec<Option<Vec<&str>>>,
) -> Result<(), ConfigError> {
    let base = ["dataset", name, store];
    let path = [&base[..], &[key]].concat();
    if sites.is_empty() {
        return Err(spans.fault(&path, format!("dataset `{name}` selects nothing")));
    }
    if config.site.len() < 2 {
        return Err(spans.fault(&base, format!("dataset `{name}`: a copy needs at least two sites")));
    }
    let writers = config.writers_of(name);
    if writers.is_empty() {
        return Err(spans
            .fault(&base, format!("dataset `{name}` has no writers"))
            .advise("state who takes writes now: `writers = [\"SITE\"]` at the top of the file, or in this dataset"));
    }
    if let Some(writer) = writers.iter().find(|writer| !config.site.contains_key(*writer)) {
        let path = [&base[..], &["writers"]].concat();
        return Err(spans
            .fault(&path, format!("unknown site `{writer}`"))
            .suggest(writer, config.site.keys().map(String::as_str)));
    }
    for (index, named) in sites.iter().enumerate() {
        let Some(named) = named else { continue };
        let index = index.to_string();
        for site in named {
            key_is_site(config, spans, &[&path[..], &[&index]].concat(), site)?;
        }
        if !writers.iter().any(|writer| named.contains(&writer.as_str())) {
            let path = [&path[..], &[&index]].concat();
            return Err(spans.fault(
                &path,
                format!(
                    "dataset `{name}`: none of its writers ({}) is one of these sites",
                    writers.join(", ")
                ),
            ));
        }
    }
    Ok(())
}

fn two_clocks(config: &Config, spans: &Spans<'_>) -> Result<(), ConfigError> {
    let probe = &config.probe;
    if probe.part == probes::Part::Watch && probe.clock == Clock::One {
        return Err(spans
            .fault(&["probe", "part"], "a probe that only watches reads by two clocks")
            .advise("add `clock = \"two\"`, here and in the configuration of the probe that writes"));
    }
    if probe.part == probes::Part::Watch && probe.name.is_none() {
        return Err(spans
            .fault(&["probe", "part"], "whose canaries shall it watch?")
            .advise("add `name = \"NAME\"`, the same here and in the configuration of the probe that writes"));
    }
    Ok(())
}

fn budget(config: &Config, spans: &Spans<'_>) -> Result<(), ConfigError> {
    let Some(usd_per_hour) = config.probe.budget_usd_per_hour else {
        return Ok(());
    };
    let checked = reports::cost::Budget::new(usd_per_hour);
    checked
        .map(drop)
        .map_err(|error| spans.fault(&["probe", "budget_usd_per_hour"], error))
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
