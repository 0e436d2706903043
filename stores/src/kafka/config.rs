//! `[connection.NAME.kafka]` and `[dataset.NAME.kafka]`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::aws::Native;
use crate::secret::Secret;

/// How to reach one cluster on each site. The mirroring between them is one replication unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How clients prove who they are; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How brokers prove who they are. Default: a certificate from an authority that the system trusts.
    #[serde(default)]
    pub tls: Tls,
    /// Where the canaries live.
    #[serde(default)]
    pub canary: CanaryPlace,
    /// How topics are called at the other site, by route (`"use1->usw2" = "use1.{topic}"`); the same name where a route is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mapping: Mapping,
    /// Where the store's own lag is read. Default: nowhere, it is *not collected*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
    /// The MSK Replicators, by route (`"use1->usw2" = "orders-to-west"`): wanted with `native = "cloudwatch"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replicators: BTreeMap<String, String>,
    /// The sites that take writes, where they are not those of the whole configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers: Option<Vec<String>>,
    /// The cluster of each site.
    pub sites: BTreeMap<String, Cluster>,
}

/// Topic names at the other end, by route.
pub type Mapping = BTreeMap<String, String>;

/// The cluster of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// `host:port` of some brokers.
    pub bootstrap: Vec<String>,
}

/// SASL. `mechanism = "plain" | "scram_sha_256" | "scram_sha_512"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// How the password is proved.
    pub mechanism: Mechanism,
    /// Who.
    pub user: String,
    /// Read at each connect.
    pub password: Secret,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// The password itself; over TLS only.
    Plain,
    /// A challenge, SHA-256.
    ScramSha256,
    /// A challenge, SHA-512.
    ScramSha512,
}

/// `{ ca_file = "..." }` or `"disable"`, which is for loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Authorities that the system trusts. The default.
    #[default]
    System,
    /// This authority.
    CaFile(PathBuf),
    /// In clear.
    Disable,
}

/// The topic of the canaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanaryPlace {
    /// Its name at the site that writes. Reserved: nothing else may use it.
    pub topic: String,
}

/// Stands for the topic's own name in a mapping.
const TOPIC_WORD: &str = "{topic}";

impl Config {
    /// What the types alone cannot hold: addresses that are none, routes between unknown sites, a password or data in clear over a network.
    ///
    /// # Errors
    /// The reason, in words that name the site or the route.
    pub fn check(&self) -> Result<(), String> {
        for (site, cluster) in &self.sites {
            if cluster.bootstrap.is_empty() {
                return Err(format!(
                    "site {site} names no broker; bootstrap wants host:port of some"
                ));
            }
            for broker in &cluster.bootstrap {
                let host =
                    host(broker).ok_or_else(|| format!("site {site}: `{broker}` is not host:port of a broker"))?;
                if self.tls == Tls::Disable && !is_loopback(host) {
                    return Err(format!(
                        "tls = \"disable\" is for loopback hosts only, and site {site} is at {host}; \
                         use tls = {{ ca_file = \"...\" }} or leave tls out"
                    ));
                }
            }
        }
        check_mapping(&self.mapping, &self.sites)?;
        self.check_native()?;
        let topic = &self.canary.topic;
        if !is_topic_name(topic) {
            return Err(format!("canary.topic: `{topic}` is not a name that Kafka takes"));
        }
        Ok(())
    }

    /// Metrics of MSK bear the name of a replicator: without one nothing can be asked for, and without the key nothing is.
    fn check_native(&self) -> Result<(), String> {
        match (self.native, self.replicators.first_key_value()) {
            (Some(Native::Cloudwatch), None) => {
                return Err(
                    "native = \"cloudwatch\" needs the names of the MSK Replicators: replicators = { \"use1->usw2\" = \"NAME\" }; \
                     what else mirrors topics has no such metrics"
                        .to_owned(),
                );
            }
            (None, Some(_)) => return Err("replicators are of use with native = \"cloudwatch\" only".to_owned()),
            (Some(_), Some(_)) | (None, None) => {}
        }
        for (route, name) in &self.replicators {
            check_route("replicators", route, &self.sites)?;
            if name.is_empty() {
                return Err(format!("replicators \"{route}\": an empty name"));
            }
        }
        Ok(())
    }

    /// The MSK Replicator from `primary` to `secondary`.
    pub fn replicator(&self, primary: &str, secondary: &str) -> Option<&str> {
        self.replicators
            .get(&format!("{primary}->{secondary}"))
            .map(String::as_str)
    }

    /// The name at `secondary` of what is called `topic` at `primary`.
    pub fn mapped(&self, primary: &str, secondary: &str, topic: &str) -> String {
        match self.mapping.get(&format!("{primary}->{secondary}")) {
            Some(template) => template.replace(TOPIC_WORD, topic),
            None => topic.to_owned(),
        }
    }
}

/// Checks that each route of a mapping joins known sites and keeps the topic's name.
pub(super) fn check_mapping(mapping: &Mapping, sites: &BTreeMap<String, Cluster>) -> Result<(), String> {
    for (route, template) in mapping {
        check_route("mapping", route, sites)?;
        if template.matches(TOPIC_WORD).count() != 1 {
            return Err(format!("mapping \"{route}\": `{template}` must hold {TOPIC_WORD} once"));
        }
    }
    Ok(())
}

fn check_route(key: &str, route: &str, sites: &BTreeMap<String, Cluster>) -> Result<(), String> {
    let ends = route.split_once("->").map(|(from, to)| [from.trim(), to.trim()]);
    let known = ends.is_some_and(|ends| ends.iter().all(|site| sites.contains_key(*site)) && ends[0] != ends[1]);
    if !known || route.contains(' ') {
        return Err(format!(
            "{key}: `{route}` is not a route between two of the sites {}; write it as \"use1->usw2\"",
            sites.keys().cloned().collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(())
}

fn host(broker: &str) -> Option<&str> {
    let (host, port) = broker.rsplit_once(':')?;
    let is_host = !host.is_empty() && !host.contains(['/', ' ', ',', '@']);
    (is_host && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// <https://kafka.apache.org/documentation/>: letters, digits, `.`, `_` and `-`, at most 249.
fn is_topic_name(name: &str) -> bool {
    const BYTES_MAX: usize = 249;
    !matches!(name, "" | "." | "..")
        && name.len() <= BYTES_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

impl Default for CanaryPlace {
    fn default() -> Self {
        Self {
            topic: "driftline-canary".to_owned(),
        }
    }
}

/// `[dataset.NAME.kafka]`: topics of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topics {
    /// Name of the connection.
    pub connection: String,
    /// Patterns of topics at the writer.
    pub topics: Vec<String>,
    /// Patterns to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Where it differs from the connection's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mapping: Mapping,
    /// Labels for policies and queries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str, broker: &str) -> Config {
        let sites = ["use1", "usw2"].map(|site| format!("[sites.{site}]\nbootstrap = [\"{broker}\"]\n"));
        toml::from_str(&format!("{head}\n{}", sites.concat())).unwrap()
    }

    #[test]
    fn data_in_clear_stays_on_this_machine() {
        let disabled = "tls = \"disable\"";
        for broker in ["127.0.0.1:9092", "localhost:9092", "[::1]:9092"] {
            assert_eq!(parsed(disabled, broker).check(), Ok(()));
        }
        let refused = parsed(disabled, "b-1.example:9092").check().unwrap_err();
        assert!(refused.contains("site use1 is at b-1.example"), "{refused}");
        assert_eq!(parsed("", "b-1.example:9094").check(), Ok(()));
    }

    #[test]
    fn an_address_without_a_port_and_a_topic_that_kafka_refuses_are_named() {
        for broker in ["b-1.example", "b-1.example:", ":9092", "u@b:9092", "b:0"] {
            let refused = parsed("", broker).check().unwrap_err();
            assert!(refused.contains("host:port"), "{broker}: {refused}");
        }
        let refused = parsed("canary = { topic = \"a b\" }", "b:1").check().unwrap_err();
        assert!(refused.contains("canary.topic"), "{refused}");
    }

    #[test]
    fn a_mapping_joins_two_of_the_sites_and_keeps_the_name() {
        let mapped = parsed("mapping = { \"use1->usw2\" = \"use1.{topic}\" }", "b:1");
        assert_eq!(mapped.check(), Ok(()));
        assert_eq!(mapped.mapped("use1", "usw2", "orders"), "use1.orders");
        assert_eq!(
            mapped.mapped("usw2", "use1", "orders"),
            "orders",
            "absent: the same name"
        );
        for mapping in [
            "\"use1-usw2\" = \"{topic}\"",
            "\"use1->euw1\" = \"{topic}\"",
            "\"use1->use1\" = \"{topic}\"",
            "\"use1->usw2\" = \"copy\"",
        ] {
            let config = parsed(&format!("mapping = {{ {mapping} }}"), "b:1");
            assert!(config.check().is_err(), "{mapping}");
        }
    }
}
