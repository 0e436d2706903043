//! What driftline needs at a bucket, and whether it is there.

use std::fmt::Write as _;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{BucketVersioningStatus, ExpirationStatus, LifecycleRule};

use super::ends::name_at;
use super::fault::Fault;
use super::remote::{Condition, Put, Remote};
use super::ring::KeySet;
use super::writer::RING_KEYS_MAX;
use super::{Bucket, Config};
use crate::aws::Site;
use crate::{Result, StoreError};

/// A canary overwrites another every ten seconds; what it replaced is of no use.
const NONCURRENT_DAYS: i32 = 1;
/// Keys under one reserved prefix that are looked through.
const KEYS_MAX: usize = 64 * RING_KEYS_MAX;

/// The permissions of the probe at one bucket, and a lifecycle rule for its canaries: two JSON documents with a sentence each.
pub fn init_text(config: &Config, bucket: &Bucket, key_sets: &[KeySet], site_name: &str) -> Result<String> {
    let name = name_at(bucket, site_name)?;
    let reserved: Vec<String> = key_sets
        .iter()
        .map(|keys| keys.reserved(&config.canary.prefix))
        .collect();
    let objects: Vec<String> = reserved
        .iter()
        .map(|prefix| format!("arn:aws:s3:::{name}/{prefix}*"))
        .collect();
    let is_tagged = key_sets.iter().any(|keys| !keys.tags.is_empty());
    let mut actions = vec!["s3:GetObject", "s3:PutObject"];
    if is_tagged {
        actions.push("s3:PutObjectTagging");
    }
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Sid": "DriftlineCanaries", "Effect": "Allow", "Action": actions, "Resource": objects },
            {
                "Sid": "DriftlineBucket",
                "Effect": "Allow",
                "Action": [
                    "s3:ListBucket",
                    "s3:GetReplicationConfiguration",
                    "s3:GetBucketVersioning",
                    "s3:GetLifecycleConfiguration",
                ],
                "Resource": [format!("arn:aws:s3:::{name}")],
            },
        ],
    });
    let lifecycle = serde_json::json!({
        "Rules": reserved.iter().map(|prefix| serde_json::json!({
            "ID": format!("driftline canaries under {prefix}"),
            "Status": "Enabled",
            "Filter": { "Prefix": prefix },
            "NoncurrentVersionExpiration": { "NoncurrentDays": NONCURRENT_DAYS },
        })).collect::<Vec<_>>(),
    });
    let mut text = String::new();
    let mut part = |why: &str, document: &serde_json::Value| {
        let _infallible = writeln!(text, "{why}\n{document:#}\n");
    };
    part(
        &format!(
            "Policy for the role of the probe at {site_name} (bucket {name}). Without s3:ListBucket a key that has not arrived yet answers 403 and cannot be \
             told from a refusal. s3:PutObject is needed only where the site takes writes, or will after a failover."
        ),
        &policy,
    );
    part(
        &format!(
            "Lifecycle rule to add to bucket {name}: canaries overwrite a bounded set of keys, and on a bucket with versions each one leaves a noncurrent \
             version behind."
        ),
        &lifecycle,
    );
    Ok(text)
}

/// What `check` looks at: the bucket at two sites.
#[derive(Debug, Clone, Copy)]
pub struct CheckedPair<'a> {
    /// The site that takes writes, and how it is reached.
    pub writer: (&'a str, &'a Site),
    /// The site that is watched.
    pub watched: (&'a str, &'a Site),
}

/// What was found of the canaries of one bucket between two sites, in sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What keeps canaries from telling the truth.
    pub problems: Vec<String>,
    /// What would be better: lag is told all the same.
    pub suggestions: Vec<String>,
}

/// Looks for problems of the canaries of one bucket between two sites. Changes nothing, but that whether a store honours
/// conditions can only be tried: one that does not will write one small object for each key set, `check`, beside the rings.
///
/// # Errors
/// When a bucket cannot be reached at all.
pub async fn check_canary(
    config: &Config,
    bucket: &Bucket,
    key_sets: &[KeySet],
    pair: CheckedPair<'_>,
) -> Result<Found> {
    let writer = Remote::open(pair.writer.0, pair.writer.1, name_at(bucket, pair.writer.0)?).await?;
    let watched = Remote::open(pair.watched.0, pair.watched.1, name_at(bucket, pair.watched.0)?).await?;
    let mut found = Found::default();
    for remote in [&writer, &watched] {
        remote
            .greet()
            .await
            .map_err(|fault| remote.error("look at the bucket", fault))?;
        found.problems.extend(versioning(remote).await);
        found.suggestions.extend(lifecycle(remote, config, key_sets).await);
    }
    for keys in key_sets {
        let reserved = keys.reserved(&config.canary.prefix);
        if !keys.reaches(&watched.bucket) {
            found.problems.push(format!(
                "rule {:?} copies to bucket {} and not to {}: its canaries do not arrive at {}",
                keys.rule.as_deref().unwrap_or_default(),
                keys.destination.as_deref().unwrap_or_default(),
                watched.bucket,
                watched.site,
            ));
        }
        found.problems.extend(conditions(&writer, keys, &reserved).await);
        found.problems.extend(proxying(&writer, &watched, &reserved).await);
    }
    Ok(found)
}

/// The words of an error that is itself the finding.
fn said(error: &StoreError) -> String {
    error.to_string()
}

async fn versioning(remote: &Remote) -> Option<String> {
    let client = remote.client("GetBucketVersioning");
    match client.get_bucket_versioning().bucket(&remote.bucket).send().await {
        Ok(answer) if answer.status() == Some(&BucketVersioningStatus::Enabled) => None,
        Ok(_) => Some(format!(
            "site {}: bucket {} keeps no versions, and replication needs them",
            remote.site, remote.bucket
        )),
        Err(error) => Some(said(&remote.error("read the versioning", error))),
    }
}

async fn lifecycle(remote: &Remote, config: &Config, key_sets: &[KeySet]) -> Vec<String> {
    let client = remote.client("GetBucketLifecycleConfiguration");
    let answer = client
        .get_bucket_lifecycle_configuration()
        .bucket(&remote.bucket)
        .send()
        .await;
    let rules = match answer {
        Ok(answer) => answer.rules.unwrap_or_default(),
        Err(error) => match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("NoSuchLifecycleConfiguration") => Vec::new(),
            _ => return vec![said(&remote.error("read the lifecycle rules", error))],
        },
    };
    let reserved = key_sets.iter().map(|keys| keys.reserved(&config.canary.prefix));
    let uncovered = reserved.filter(|reserved| !rules.iter().any(|rule| clears(rule, reserved)));
    uncovered
        .map(|reserved| {
            format!(
                "site {}: no lifecycle rule of bucket {} removes noncurrent versions under {reserved}; each canary leaves one (init prints a rule)",
                remote.site, remote.bucket
            )
        })
        .collect()
}

fn clears(rule: &LifecycleRule, reserved: &str) -> bool {
    let filter = rule.filter();
    // A rule that also asks for tags or sizes may not fit a canary.
    let asks_more = filter.is_some_and(|filter| {
        filter.and().is_some()
            || filter.tag().is_some()
            || filter.object_size_greater_than().is_some()
            || filter.object_size_less_than().is_some()
    });
    #[expect(deprecated, reason = "buckets that were set up long ago still say it so")]
    let prefix = filter.and_then(|filter| filter.prefix()).or(rule.prefix());
    *rule.status() == ExpirationStatus::Enabled
        && rule.noncurrent_version_expiration().is_some()
        && !asks_more
        && reserved.starts_with(prefix.unwrap_or_default())
}

/// Tries what guards the slots: a write that a store that honours its condition refuses.
async fn conditions(writer: &Remote, keys: &KeySet, reserved: &str) -> Option<String> {
    let key = format!("{reserved}check");
    let tagging = keys.tagging();
    let put = |condition| Put {
        key: &key,
        body: serde_json::json!({ "check": format!("{:016x}", rand::random::<u64>()) }).to_string(),
        metadata: &[],
        tagging: &tagging,
        condition,
    };
    // Nothing has this ETag: only a store that ignores the condition writes anything.
    match writer
        .put(put(Some(Condition::Etag("\"00000000000000000000000000000000\""))))
        .await
    {
        Err(Fault {
            status: Some(404 | 412),
            ..
        }) => None,
        Ok(_) => Some(format!(
            "site {}: this store ignores If-Match: two probes on one stream would overwrite each other unseen (it wrote {key} all the same)",
            writer.site
        )),
        Err(fault) => Some(said(&writer.error(&format!("write {key} on a condition"), fault))),
    }
}

/// Looks for a key that the watched bucket does not list and yet answers for. Only what has not arrived yet can show it, so silence proves nothing; the
/// reader trusts a listing in any case.
async fn proxying(writer: &Remote, watched: &Remote, reserved: &str) -> Option<String> {
    let there = match writer.list(reserved, KEYS_MAX).await {
        Ok(there) => there,
        Err(error) => return Some(said(&error)),
    };
    let listed = match watched.list(reserved, KEYS_MAX).await {
        Ok(listed) => listed,
        Err(error) => return Some(said(&error)),
    };
    let absent = there
        .iter()
        .find(|object| !listed.iter().any(|copy| copy.key == object.key))?;
    match watched.head(&absent.key).await {
        Ok(None) => return None,
        Ok(Some(_)) => {}
        Err(fault) => return Some(said(&watched.error(&format!("look at {}", absent.key), fault))),
    }
    // It may have arrived in between.
    match watched.list(&absent.key, KEYS_MAX).await {
        Ok(again) if again.is_empty() => Some(format!(
            "site {}: bucket {} answers HEAD for a key that it does not list: reads are proxied to another site; only listed keys are counted, at the price \
             of more LIST requests (MinIO: replicate with --disable-proxy)",
            watched.site, watched.bucket
        )),
        Ok(_) => None,
        Err(error) => Some(said(&error)),
    }
}
