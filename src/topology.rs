//! From the configuration to ends: which connections there are, who writes, and how to reach each site.

use std::collections::BTreeMap;

use stores::{End, Fork, Relation, StoreError, Trouble};

use crate::config::{Config, Connection, Dataset, Tables};

/// One replication unit: a connection with its sites, its writers and the datasets over it.
#[derive(Debug)]
pub(crate) struct Unit<'c> {
    pub(crate) name: &'c str,
    pub(crate) aurora: &'c stores::aurora::Config,
    /// Sites that take writes; the first is the primary of comparisons.
    pub(crate) writers: Vec<&'c str>,
    pub(crate) datasets: BTreeMap<&'c str, &'c Tables>,
}

/// All units of a configuration, by name.
pub(crate) fn units(config: &Config) -> Vec<Unit<'_>> {
    config
        .connection
        .iter()
        .map(|(name, Connection::Aurora(aurora))| Unit {
            name,
            aurora,
            writers: config.writers_of(name).iter().map(String::as_str).collect(),
            datasets: config
                .dataset
                .iter()
                .filter_map(|(dataset, Dataset::Aurora(tables))| {
                    (tables.connection == *name).then_some((dataset.as_str(), tables))
                })
                .collect(),
        })
        .collect()
}

impl<'c> Unit<'c> {
    pub(crate) fn has_site(&self, site: &str) -> bool {
        self.aurora.sites.contains_key(site)
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
    pub(crate) fn secondaries(&self) -> impl Iterator<Item = &'c str> + use<'c> {
        let primary = self.primary();
        self.aurora
            .sites
            .keys()
            .map(String::as_str)
            .filter(move |site| *site != primary)
    }

    /// The end of this unit at `site`, reached by its writer endpoint.
    pub(crate) fn writer_end(&self, site: &str) -> Result<End, StoreError> {
        stores::aurora::open(self.aurora, site, stores::aurora::Endpoint::Writer)
    }

    /// The end of this unit at `site`, reached by its reader endpoint.
    pub(crate) fn reader_end(&self, site: &str) -> Result<End, StoreError> {
        stores::aurora::open(self.aurora, site, stores::aurora::Endpoint::Reader)
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
    let end = unit.writer_end(site)?;
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
