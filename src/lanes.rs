//! Lanes: the series of canaries that run over a unit from one site to another. PostgreSQL and DynamoDB have one, Kafka one for each
//! partition of its canary topic, S3 one for each replication rule.

use stores::cloudwatch::beside;
use stores::{End, StoreError, Trouble, aurora, dynamodb, kafka, s3};

use crate::native;
use crate::topology::{Source, Unit};

/// A stream's name holds at most this many bytes: some stores keep it in a key.
const STREAM_BYTES_MAX: usize = 100;

/// One series of canaries.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What its canaries represent; `None`: the whole unit.
    pub(crate) collection: Option<String>,
    /// What its streams are called, less the observer: see [`stream`].
    pub(crate) name: String,
    /// Writes.
    pub(crate) primary: End,
    /// Is watched.
    pub(crate) secondary: End,
}

/// All series of canaries over a unit from one site to another.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) lanes: Vec<Lane>,
    /// What a reader of the figures must know.
    pub(crate) notes: Vec<String>,
}

/// The stream of one observer on a lane: two observers never share one. A name that is too long is cut, and told apart by its digest.
pub(crate) fn stream(lane: &str, host: &str) -> String {
    let whole: String = format!("{lane}@{host}").chars().filter(char::is_ascii).collect();
    if whole.len() <= STREAM_BYTES_MAX {
        return whole;
    }
    let digest = &crate::config::sha256(&whole)[..16];
    format!("{}~{digest}", &whole[..STREAM_BYTES_MAX - 17])
}

/// The lanes of `unit` from `primary` to `secondary`, to be probed.
///
/// # Errors
/// A store that has to be asked what there is (Kafka's partitions, S3's rules) does not answer.
pub(crate) async fn lanes(unit: &Unit<'_>, primary: &str, secondary: &str) -> Result<Lanes, StoreError> {
    let route = format!("{primary}>{secondary}");
    let mut notes = Vec::new();
    let lanes = match unit.source {
        Source::Aurora(config) => vec![Lane {
            collection: None,
            name: route,
            primary: aurora::open(config, primary, aurora::Endpoint::Writer)?,
            secondary: aurora::open(config, secondary, aurora::Endpoint::Reader)?,
        }],
        Source::Dynamodb(config, names) => {
            let mut lane = table(unit, primary, secondary).await?;
            let meter = lane.primary.meter.clone().unwrap_or_default();
            if let Some(watch) = native::of_table(unit, config, names, (primary, secondary), meter).await? {
                lane.primary = beside(lane.primary, watch);
            }
            vec![lane]
        }
        Source::Kafka(config) => {
            // One watch for all partitions: each question is paid for, and counted at the first of them.
            let watch = native::of_mirror(unit, config, (primary, secondary)).await?;
            let mut meter = watch.as_ref().map(|watch| watch.meter());
            let mut lanes = Vec::new();
            for number in kafka::partitions(config, primary).await? {
                let mut lane = partition(unit, config, primary, secondary, number)?;
                if let Some(watch) = &watch {
                    lane.secondary = beside(lane.secondary, watch.clone());
                    lane.secondary.meter = meter.take();
                }
                lanes.push(lane);
            }
            lanes
        }
        Source::S3(config, bucket) => {
            let rules = s3::rules(config, bucket, primary, unit.aws(primary)?).await?;
            notes = rules.notes;
            let destination = bucket.names.get(secondary).map(String::as_str).unwrap_or_default();
            let mut lanes = Vec::new();
            for keys in rules.key_sets.iter().filter(|keys| keys.reaches(destination)) {
                let mut lane = key_set(unit, keys, primary, secondary).await?;
                let meter = lane.secondary.meter.clone().unwrap_or_default();
                if let Some(watch) = native::of_rule(unit, config, bucket, keys, (primary, secondary), meter).await? {
                    lane.secondary = beside(lane.secondary, watch);
                }
                lanes.push(lane);
            }
            lanes
        }
    };
    Ok(Lanes { lanes, notes })
}

/// The lane that `stream` of a ledger ran on, with the *promoted* end as its secondary. Nothing is asked of the old primary, which may be
/// gone.
///
/// # Errors
/// No lane of this unit has that name.
pub(crate) async fn lane_of(unit: &Unit<'_>, stream: &str, primary: &str, secondary: &str) -> Result<Lane, StoreError> {
    let route = format!("{primary}>{secondary}");
    let unknown = || {
        StoreError::Unsupported(
            Trouble::new(
                secondary,
                format!("look for the canaries of stream {stream}"),
                format!("{} has no such canaries", unit.name),
            )
            .hint("use the configuration that the probe ran with"),
        )
    };
    match unit.source {
        Source::Aurora(config) => Ok(Lane {
            collection: None,
            name: route,
            primary: aurora::open(config, primary, aurora::Endpoint::Writer)?,
            secondary: aurora::open(config, secondary, aurora::Endpoint::Writer)?,
        }),
        Source::Dynamodb(..) => {
            let lane = table(unit, primary, secondary).await?;
            let is_meant = is_stream_of(stream, &lane.name);
            is_meant.then_some(lane).ok_or_else(unknown)
        }
        Source::Kafka(config) => {
            let before = format!("{}/{}/", unit.name, config.canary.topic);
            let number = stream.strip_prefix(&before).and_then(|rest| rest.split(':').next());
            let number = number.and_then(|number| number.parse().ok()).ok_or_else(unknown)?;
            partition(unit, config, primary, secondary, number)
        }
        Source::S3(config, bucket) => {
            // A rule's keys follow from its prefix, which the stream is named after. A name that was cut is found among the rules.
            let shown = bucket.names.get(primary).map(String::as_str).unwrap_or_default();
            let before = format!("{}/{shown}/", unit.name);
            if stream.contains('~') {
                let rules = s3::rules(config, bucket, primary, unit.aws(primary)?).await?;
                for keys in &rules.key_sets {
                    let lane = key_set(unit, keys, primary, secondary).await?;
                    if is_stream_of(stream, &lane.name) {
                        return Ok(lane);
                    }
                }
                return Err(unknown());
            }
            let rest = stream.strip_prefix(&before).ok_or_else(unknown)?;
            let (prefix, rule) = rest
                .rsplit_once(':')
                .and_then(|(rule, _)| rule.rsplit_once('#'))
                .ok_or_else(unknown)?;
            let keys = s3::KeySet {
                rule: Some(rule.to_owned()).filter(|rule| !rule.is_empty()),
                prefix: prefix.to_owned(),
                tags: std::collections::BTreeMap::new(),
                destination: None,
            };
            key_set(unit, &keys, primary, secondary).await
        }
    }
}

/// Whether `stream` is that of some observer on the lane called `name`.
fn is_stream_of(stream: &str, name: &str) -> bool {
    match stream.strip_prefix(name) {
        Some(observer) => observer.starts_with('@'),
        None => stream.contains('~') && name.starts_with(&stream[..stream.len() - 17]),
    }
}

async fn table(unit: &Unit<'_>, primary: &str, secondary: &str) -> Result<Lane, StoreError> {
    let Source::Dynamodb(config, names) = unit.source else {
        return Err(wrong_store(unit, secondary));
    };
    let shown = config.canary.table.as_ref().unwrap_or(names).shown(primary);
    Ok(Lane {
        collection: Some(shown.to_owned()),
        name: format!("{}/{shown}:{primary}>{secondary}", unit.name),
        primary: dynamodb::open(config, names, primary, unit.aws(primary)?).await?,
        secondary: dynamodb::open(config, names, secondary, unit.aws(secondary)?).await?,
    })
}

fn partition(
    unit: &Unit<'_>,
    config: &kafka::Config,
    primary: &str,
    secondary: &str,
    number: i32,
) -> Result<Lane, StoreError> {
    let [above, below] = kafka::open(config, primary, secondary, number)?;
    let topic = &config.canary.topic;
    Ok(Lane {
        collection: Some(topic.clone()),
        name: format!("{}/{topic}/{number}:{primary}>{secondary}", unit.name),
        primary: above,
        secondary: below,
    })
}

async fn key_set(unit: &Unit<'_>, keys: &s3::KeySet, primary: &str, secondary: &str) -> Result<Lane, StoreError> {
    let Source::S3(config, bucket) = unit.source else {
        return Err(wrong_store(unit, secondary));
    };
    let shown = bucket.names.get(primary).map(String::as_str).unwrap_or_default();
    let rule = keys.rule.as_deref().unwrap_or_default();
    Ok(Lane {
        collection: Some(format!("{shown}/{}", keys.prefix)),
        name: format!("{}/{shown}/{}#{rule}:{primary}>{secondary}", unit.name, keys.prefix),
        primary: s3::open(config, bucket, keys, primary, unit.aws(primary)?).await?,
        secondary: s3::open(config, bucket, keys, secondary, unit.aws(secondary)?).await?,
    })
}

fn wrong_store(unit: &Unit<'_>, site: &str) -> StoreError {
    StoreError::Unsupported(Trouble::new(
        site,
        format!("open {}", unit.name),
        "it is of another store",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_names_its_lane_and_its_observer() {
        let name = "media/media-use1/img/#rule-1:use1>usw2";
        let short = stream(name, "host");
        assert_eq!(short, "media/media-use1/img/#rule-1:use1>usw2@host");
        assert!(is_stream_of(&short, name));
        assert!(!is_stream_of(&short, "media/media-use1/img/#rule-1:use1>usw"));
    }

    #[test]
    fn a_long_name_is_cut_and_still_told_apart() {
        let long = |letter: &str| format!("media/{}:use1>usw2", letter.repeat(120));
        let (a, b) = (stream(&long("a"), "host"), stream(&long("a"), "other"));
        assert_eq!((a.len(), b.len()), (STREAM_BYTES_MAX, STREAM_BYTES_MAX));
        assert_ne!(a, b, "two observers never share a stream");
        assert!(is_stream_of(&a, &long("a")) && !is_stream_of(&a, &long("b")));
    }

    #[test]
    fn letters_that_are_not_ascii_are_left_out() {
        assert_eq!(stream("café:use1>usw2", "höst"), "caf:use1>usw2@hst");
    }
}
