//! The replication rules of a bucket: what a canary has to look like to be taken along, and what it then represents.

use std::collections::BTreeMap;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{ReplicationRule, ReplicationRuleStatus};

use super::ends::name_at;
use super::fault::Fault;
use super::remote::Remote;
use super::ring::KeySet;
use super::{Bucket, Config};
use crate::Result;
use crate::aws::Site;

/// What the writer's bucket says about its replication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// One for each enabled rule that touches the dataset. Never empty: where no rule can be used, the dataset's prefix stands for itself.
    pub key_sets: Vec<KeySet>,
    /// Rules that touch the dataset and are switched off. What is written meanwhile is never replicated, also not after they are switched on.
    pub disabled: Vec<KeySet>,
    /// What a reader of the figures must know, in sentences.
    pub notes: Vec<String>,
}

/// One rule as the bucket states it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    keys: KeySet,
    priority: i32,
    is_enabled: bool,
}

/// Reads the rules at the writer's bucket.
///
/// # Errors
/// `Config` as for [`super::open`]; `NotFound`, `Unreachable` and `Retryable` from the store. That rules may not be read, or are not known there, is no error but
/// a note.
pub async fn rules(config: &Config, bucket: &Bucket, site_name: &str, site: &Site) -> Result<Rules> {
    const TRIED: &str = "read the replication rules";
    let remote = Remote::open(site_name, site, name_at(bucket, site_name)?).await?;
    let client = remote.client("GetBucketReplication");
    let prefix = bucket.prefix.as_deref().unwrap_or_default();
    match client.get_bucket_replication().bucket(&remote.bucket).send().await {
        Ok(answer) => {
            let found = answer
                .replication_configuration()
                .map(|found| found.rules().iter().map(rule));
            Ok(chosen(
                found.into_iter().flatten().collect(),
                prefix,
                &config.canary.prefix,
                &remote.bucket,
            ))
        }
        Err(error) => {
            let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
            let why = match (code, error.raw_response().map(|answer| answer.status().as_u16())) {
                (Some("ReplicationConfigurationNotFoundError"), _) => "it has no replication rules".to_owned(),
                (Some("AccessDenied"), _) | (_, Some(403)) => {
                    "its replication rules may not be read (s3:GetReplicationConfiguration)".to_owned()
                }
                (Some("NotImplemented"), _) | (_, Some(501)) => "this store tells no replication rules".to_owned(),
                _ => return Err(remote.error(TRIED, Fault::from(error))),
            };
            Ok(Rules {
                key_sets: vec![unruled(prefix)],
                disabled: Vec::new(),
                notes: vec![format!(
                    "bucket {}: {why}; the canaries represent the prefix {prefix:?} only",
                    remote.bucket
                )],
            })
        }
    }
}

fn unruled(prefix: &str) -> KeySet {
    KeySet {
        rule: None,
        prefix: prefix.to_owned(),
        tags: BTreeMap::new(),
        destination: None,
    }
}

fn rule(stated: &ReplicationRule) -> Rule {
    let filter = stated.filter();
    let and = filter.and_then(|filter| filter.and());
    // The prefix beside the filter is the old form.
    #[expect(deprecated, reason = "buckets that were set up long ago still say it so")]
    let old_prefix = stated.prefix();
    let prefix = and
        .and_then(|and| and.prefix())
        .or_else(|| filter.and_then(|filter| filter.prefix()))
        .or(old_prefix);
    let one_tag = filter.and_then(|filter| filter.tag());
    let tags = and.into_iter().flat_map(|and| and.tags()).chain(one_tag);
    let destination = stated.destination().map(|destination| destination.bucket());
    Rule {
        keys: KeySet {
            rule: Some(stated.id().unwrap_or_default().to_owned()),
            prefix: prefix.unwrap_or_default().to_owned(),
            tags: tags.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
            destination: destination.map(|arn| arn.rsplit(':').next().unwrap_or(arn).to_owned()),
        },
        priority: stated.priority().unwrap_or(0),
        is_enabled: *stated.status() == ReplicationRuleStatus::Enabled,
    }
}

fn touches(keys: &KeySet, prefix: &str) -> bool {
    keys.prefix.starts_with(prefix) || prefix.starts_with(&keys.prefix)
}

/// Whether the canaries of `rule` would be taken along by `other` instead: of rules for one destination that match one object, the one of the highest
/// priority counts.
fn is_overridden(rule: &Rule, other: &Rule, canary_prefix: &str) -> bool {
    let reserved = rule.keys.reserved(canary_prefix);
    other.is_enabled
        && other.priority > rule.priority
        && other.keys.destination == rule.keys.destination
        && reserved.starts_with(&other.keys.prefix)
        && other
            .keys
            .tags
            .iter()
            .all(|(name, value)| rule.keys.tags.get(name) == Some(value))
}

fn chosen(found: Vec<Rule>, prefix: &str, canary_prefix: &str, bucket: &str) -> Rules {
    let mut rules = Rules::default();
    for rule in &found {
        let keys = &rule.keys;
        if !touches(keys, prefix) {
            continue;
        }
        let name = keys.rule.as_deref().unwrap_or_default();
        if !rule.is_enabled {
            rules.notes.push(format!(
                "bucket {bucket}: rule {name:?} is disabled; what is written meanwhile is not replicated, also not after it is enabled again"
            ));
            rules.disabled.push(keys.clone());
        } else if let Some(other) = found.iter().find(|other| is_overridden(rule, other, canary_prefix)) {
            rules.notes.push(format!(
                "bucket {bucket}: rule {name:?} is overridden by rule {:?} of higher priority and has no canaries of its own",
                other.keys.rule.as_deref().unwrap_or_default()
            ));
        } else {
            rules.key_sets.push(keys.clone());
        }
    }
    if rules.key_sets.is_empty() {
        rules.notes.push(format!(
            "bucket {bucket}: no enabled replication rule touches the prefix {prefix:?}; canaries arrive only if something else copies them"
        ));
        rules.key_sets.push(unruled(prefix));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, prefix: &str, tags: &[(&str, &str)], priority: i32, is_enabled: bool) -> Rule {
        Rule {
            keys: KeySet {
                rule: Some(id.to_owned()),
                prefix: prefix.to_owned(),
                tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                destination: Some("copy".to_owned()),
            },
            priority,
            is_enabled,
        }
    }

    fn ids(rules: &Rules) -> Vec<&str> {
        rules
            .key_sets
            .iter()
            .map(|keys| keys.rule.as_deref().unwrap_or("-"))
            .collect()
    }

    #[test]
    fn each_enabled_rule_that_touches_the_dataset_has_its_key_set() {
        let found = vec![
            rule("all", "", &[], 1, true),
            rule("images", "img/", &[], 2, true),
            rule("tagged", "", &[("tier", "hot")], 3, true),
            rule("logs", "log/", &[], 4, true),
        ];
        assert_eq!(
            ids(&chosen(found.clone(), "img/cats/", "canary/", "b")),
            ["all", "images", "tagged"]
        );
        assert_eq!(
            ids(&chosen(found, "", "canary/", "b")),
            ["all", "images", "tagged", "logs"]
        );
    }

    #[test]
    fn a_disabled_rule_is_said_and_has_no_canaries() {
        let rules = chosen(vec![rule("off", "img/", &[], 1, false)], "img/", "canary/", "b");
        assert_eq!(ids(&rules), ["-"], "the prefix stands for itself");
        assert_eq!(rules.disabled.len(), 1);
        assert!(rules.notes[0].contains("\"off\" is disabled"), "{:?}", rules.notes);
        assert!(
            rules.notes[1].contains("no enabled replication rule"),
            "{:?}",
            rules.notes
        );
    }

    #[test]
    fn a_rule_whose_objects_another_one_takes_has_no_canaries() {
        let found = vec![rule("low", "img/", &[], 1, true), rule("high", "", &[], 9, true)];
        let rules = chosen(found.clone(), "", "canary/", "b");
        assert_eq!(ids(&rules), ["high"]);
        assert!(rules.notes[0].contains("\"low\" is overridden"), "{:?}", rules.notes);
        // A switched-off rule overrides nothing, nor does one for another place.
        let mut off = found.clone();
        off[1].is_enabled = false;
        assert_eq!(ids(&chosen(off, "", "canary/", "b")), ["low"]);
        let mut elsewhere = found;
        elsewhere[1].keys.destination = Some("third".to_owned());
        assert_eq!(ids(&chosen(elsewhere, "", "canary/", "b")), ["low", "high"]);
    }
}
