//! From the configuration to ends: which connections there are, who writes, and how to reach each site.

use std::collections::BTreeMap;

use stores::{End, Fork, Relation, SiteNames, StoreError, Trouble, aurora, dynamodb, kafka, s3};

use crate::config::{Config, Connection, Dataset, Tables};

/// One replication unit with its sites, its writers and the datasets over it. What a canary represents is one of these.
#[derive(Debug)]
pub(crate) struct Unit<'c> {
    /// The connection, or the dataset that has none.
    pub(crate) name: &'c str,
    /// Where its data is.
    pub(crate) source: Source<'c>,
    /// All sites that have a copy.
    pub(crate) sites: Vec<&'c str>,
    /// Sites that take writes; the first is the primary of comparisons.
    pub(crate) writers: Vec<&'c str>,
    /// The datasets whose data it carries.
    pub(crate) datasets: BTreeMap<&'c str, &'c Dataset>,
    /// How AWS's services are reached at each site.
    reached: &'c BTreeMap<String, stores::aws::Site>,
}

/// Where the data of a unit is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'c> {
    /// One cluster on each site.
    Aurora(&'c aurora::Config),
    /// One cluster on each site, and the mirroring between them.
    Kafka(&'c kafka::Config),
    /// One table of a dataset.
    Dynamodb(&'c dynamodb::Config, &'c SiteNames),
    /// One bucket of a dataset.
    S3(&'c s3::Config, &'c s3::Bucket),
}

/// All units of a configuration: connections by name, then the collections of datasets without one.
pub(crate) fn units(config: &Config) -> Vec<Unit<'_>> {
    let mut units = Vec::new();
    for (name, connection) in &config.connection {
        let datasets = config
            .dataset
            .iter()
            .filter(|(_, dataset)| dataset.connection() == Some(name));
        units.push(Unit {
            name,
            source: match connection {
                Connection::Aurora(aurora) => Source::Aurora(aurora),
                Connection::Kafka(kafka) => Source::Kafka(kafka),
            },
            sites: connection.sites(),
            writers: config.writers_of(name).iter().map(String::as_str).collect(),
            datasets: datasets.map(|(name, dataset)| (name.as_str(), dataset)).collect(),
            reached: &config.site,
        });
    }
    for (name, dataset) in &config.dataset {
        let collections: Vec<(Source<'_>, Option<Vec<&str>>)> = match dataset {
            Dataset::Dynamodb(tables) => {
                let of = |names| (Source::Dynamodb(tables, names), names.sites().map(Iterator::collect));
                tables.tables.iter().map(of).collect()
            }
            Dataset::S3(buckets) => {
                let buckets_of = buckets.buckets.iter();
                let of = buckets_of.map(|bucket| (Source::S3(buckets, bucket), &bucket.names));
                of.map(|(source, names)| (source, Some(names.keys().map(String::as_str).collect())))
                    .collect()
            }
            Dataset::Aurora(_) | Dataset::Kafka(_) => continue,
        };
        for (source, sites) in collections {
            let sites = sites.unwrap_or_else(|| config.site.keys().map(String::as_str).collect());
            let writers = config.writers_of(name).iter().map(String::as_str);
            units.push(Unit {
                name,
                source,
                writers: writers.filter(|writer| sites.contains(writer)).collect(),
                sites,
                datasets: BTreeMap::from([(name.as_str(), dataset)]),
                reached: &config.site,
            });
        }
    }
    units
}

impl<'c> Unit<'c> {
    /// The kind of store, as evidence names it.
    pub(crate) fn store(&self) -> &'static str {
        match self.source {
            Source::Aurora(_) => "aurora",
            Source::Kafka(_) => "kafka",
            Source::Dynamodb(..) => "dynamodb",
            Source::S3(..) => "s3",
        }
    }

    /// What of its dataset it is, where a dataset is made of several units.
    pub(crate) fn collection(&self) -> Option<&'c str> {
        match self.source {
            Source::Aurora(_) | Source::Kafka(_) => None,
            Source::Dynamodb(_, names) => Some(names.shown(self.primary())),
            Source::S3(_, bucket) => bucket.names.get(self.primary()).map(String::as_str),
        }
    }

    /// Its configuration when it is PostgreSQL.
    pub(crate) fn aurora(&self) -> Option<&'c aurora::Config> {
        match self.source {
            Source::Aurora(config) => Some(config),
            _ => None,
        }
    }

    /// Where its own lag is read, for stores that do not tell it themselves.
    pub(crate) fn native(&self) -> Option<stores::aws::Native> {
        match self.source {
            Source::Aurora(_) => None,
            Source::Kafka(config) => config.native,
            Source::Dynamodb(config, _) => config.native,
            Source::S3(config, _) => config.native,
        }
    }

    /// Its datasets of tables, where it is PostgreSQL.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&'c str, &'c Tables)> + use<'_, 'c> {
        self.datasets.iter().filter_map(|(name, dataset)| match dataset {
            Dataset::Aurora(tables) => Some((*name, tables)),
            _ => None,
        })
    }

    pub(crate) fn has_site(&self, site: &str) -> bool {
        self.sites.contains(&site)
    }

    /// Whether one of `datasets` lies on this unit; an empty list means all.
    pub(crate) fn carries_any_of(&self, datasets: &[String]) -> bool {
        datasets.is_empty()
            || datasets
                .iter()
                .any(|dataset| self.datasets.contains_key(dataset.as_str()))
    }

    /// The site of comparisons and routes that stands for the writers. The configuration was checked to have one.
    pub(crate) fn primary(&self) -> &'c str {
        self.writers.first().copied().unwrap_or_default()
    }

    /// The name that lag evidence carries: of the only dataset, or of the connection where one canary stands for several datasets.
    pub(crate) fn lag_name(&self) -> &'c str {
        let mut datasets = self.datasets.keys();
        match (datasets.next(), datasets.next()) {
            (Some(only), None) => only,
            _ => self.name,
        }
    }

    /// Every other site: a star from the primary.
    pub(crate) fn secondaries(&self) -> impl Iterator<Item = &'c str> + use<'_, 'c> {
        let primary = self.primary();
        self.sites.iter().copied().filter(move |site| *site != primary)
    }

    /// How AWS's services are reached at `site`.
    pub(crate) fn aws(&self, site: &str) -> Result<&'c stores::aws::Site, StoreError> {
        self.reached.get(site).ok_or_else(|| {
            StoreError::Config(Trouble::new(
                site,
                format!("open {}", self.name),
                "the site is not declared",
            ))
        })
    }

    /// The end of this unit at `site`, reached by its writer endpoint.
    pub(crate) async fn writer_end(&self, site: &str) -> Result<End, StoreError> {
        self.end(site, aurora::Endpoint::Writer).await
    }

    /// The end of this unit at `site`, reached by its reader endpoint.
    pub(crate) async fn reader_end(&self, site: &str) -> Result<End, StoreError> {
        self.end(site, aurora::Endpoint::Reader).await
    }

    /// A publisher and its subscriber. `None`: only PostgreSQL has them.
    pub(crate) fn logical_ends(&self, publisher: &str, subscriber: &str) -> Option<Result<[End; 2], StoreError>> {
        use aurora::Endpoint::{Reader, Writer};
        let config = self.aurora()?;
        Some(aurora::open_logical(config, (publisher, Writer), (subscriber, Reader)))
    }

    /// A publisher and its subscriber whose canaries do not come by the subscription. `None`: only PostgreSQL has them.
    pub(crate) fn subscribed_ends(&self, publisher: &str, subscriber: &str) -> Option<Result<[End; 2], StoreError>> {
        Some(aurora::open_subscribed(self.aurora()?, publisher, subscriber))
    }

    async fn end(&self, site: &str, endpoint: aurora::Endpoint) -> Result<End, StoreError> {
        match self.source {
            Source::Aurora(config) => aurora::open(config, site, endpoint),
            Source::Dynamodb(config, names) => dynamodb::open(config, names, site, self.aws(site)?).await,
            Source::S3(config, bucket) => {
                // Who the bucket is does not depend on its rules.
                let keys = s3::KeySet {
                    rule: None,
                    prefix: bucket.prefix.clone().unwrap_or_default(),
                    tags: BTreeMap::new(),
                    destination: None,
                };
                s3::open(config, bucket, &keys, site, self.aws(site)?).await
            }
            Source::Kafka(config) => {
                let other = self.sites.iter().copied().find(|other| *other != site).unwrap_or(site);
                let [end, _] = kafka::open(config, site, other, 0)?;
                Ok(end)
            }
        }
    }
}

/// The `sites` column of a run: what each site is, and what was reached there in this run. JSON.
pub(crate) fn sites(config: &Config, reached: &[(String, stores::Identity)]) -> String {
    let about = config.site.iter().map(|(name, site)| {
        let identity = reached
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, identity)| identity);
        let facts = serde_json::json!({
            "region": site.region,
            "identity": identity.map(|identity| &identity.instance),
            "role": identity.map(|identity| identity.role),
            "version": identity.map(|identity| &identity.version),
        });
        (name.clone(), facts)
    });
    serde_json::Value::Object(about.collect()).to_string()
}

/// The fork that the promoted server of `unit` at `site` tells.
pub(crate) async fn fork(unit: &Unit<'_>, site: &str) -> Result<Fork, StoreError> {
    let end = unit.writer_end(site).await?;
    match &end.status {
        Some(status) => status.fork().await,
        None => Err(StoreError::Unsupported(Trouble::new(
            site,
            "read the fork",
            "this store keeps none",
        ))),
    }
}

/// How two ends are related: stated, or detected from what they say of themselves.
///
/// Two ends of one lineage of which exactly one takes writes replicate; two that both take writes are independent. Everything else
/// has to be stated.
pub(crate) fn relation(
    stated: Option<Relation>,
    primary: &stores::Identity,
    secondary: &stores::Identity,
) -> Result<Relation, String> {
    use stores::Role::{ReadOnly, Writable};
    let one_lineage = primary.lineage.is_some() && primary.lineage == secondary.lineage;
    if stated == Some(Relation::Replicating) && one_lineage && secondary.role == Writable {
        // Behind a link one look proves equality; without one, counters that never agree can look equal for an instant.
        return Err(
            "the relation is stated as replicating, but the secondary is a copy that takes writes itself, so nothing is applied \
             there; state `independent`, or the writer of today with --writers"
                .to_owned(),
        );
    }
    if let Some(relation) = stated {
        return Ok(relation);
    }
    match (primary.role, secondary.role) {
        (Writable, ReadOnly) if one_lineage => Ok(Relation::Replicating),
        (Writable, Writable) if one_lineage => Ok(Relation::Independent),
        (ReadOnly, Writable) if one_lineage => Err(
            "the stated writer is a standby and the other end takes writes; state the writer of today with --writers".to_owned(),
        ),
        (ReadOnly, ReadOnly) => Err("neither end takes writes; state `relation` in the connection or with --relation".to_owned()),
        _ => Err(
            "the ends have no common lineage, so a link between them cannot be detected; state `relation` in the connection or \
             with --relation"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stores::{Identity, Role};

    fn identity(lineage: &str, role: Role) -> Identity {
        Identity {
            store: "aurora".into(),
            version: "15".into(),
            role,
            lineage: Some(lineage.into()),
            instance: format!("{lineage}-{role:?}"),
            shares_storage_with: Vec::new(),
            facts: BTreeMap::new(),
        }
    }

    #[test]
    fn a_relation_is_never_guessed() {
        let of = |p, s| relation(None, &p, &s);
        assert_eq!(
            of(identity("a", Role::Writable), identity("a", Role::ReadOnly)),
            Ok(Relation::Replicating)
        );
        assert_eq!(
            of(identity("a", Role::Writable), identity("a", Role::Writable)),
            Ok(Relation::Independent)
        );
        assert!(of(identity("a", Role::Writable), identity("b", Role::Writable)).is_err());
        assert!(
            of(identity("a", Role::ReadOnly), identity("a", Role::Writable))
                .unwrap_err()
                .contains("--writers")
        );
        assert!(of(identity("a", Role::ReadOnly), identity("a", Role::ReadOnly)).is_err());
        let stated = relation(
            Some(Relation::Independent),
            &identity("a", Role::Writable),
            &identity("b", Role::Writable),
        );
        assert_eq!(stated, Ok(Relation::Independent));
    }
}
