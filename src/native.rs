//! `native = "cloudwatch"`: which of AWS's metrics tells the lag of which route.

use std::sync::Arc;

use stores::cloudwatch::Watch;
use stores::{Meter, StoreError, dynamodb, kafka, s3};

use crate::topology::{Source, Unit};

/// The figure of a table: of the one that carries the canaries, so that both speak of the same thing. `None`: nobody asked for it.
pub(crate) async fn of_table(
    unit: &Unit<'_>,
    config: &dynamodb::Config,
    names: &stores::SiteNames,
    (primary, secondary): (&str, &str),
    meter: Arc<Meter>,
) -> Result<Option<Arc<Watch>>, StoreError> {
    if config.native.is_none() {
        return Ok(None);
    }
    let names = config.canary.table.as_ref().unwrap_or(names);
    let (Some(table), Some(copy)) = (names.at(primary), names.at(secondary)) else {
        return Ok(Some(Watch::nowhere("the table has no name at one of the sites")));
    };
    if table != copy {
        // Copies of a global table bear one name; CloudWatch knows no others.
        return Ok(Some(Watch::nowhere(format!(
            "{table} and {copy} are no copies of one global table, and AWS publishes no lag between others"
        ))));
    }
    let (from, to) = (unit.aws(primary)?, unit.aws(secondary)?);
    Watch::table(table, (primary, from), (secondary, to), meter)
        .await
        .map(Some)
}

/// The figures of a replication rule.
pub(crate) async fn of_rule(
    unit: &Unit<'_>,
    config: &s3::Config,
    bucket: &s3::Bucket,
    keys: &s3::KeySet,
    (primary, secondary): (&str, &str),
    meter: Arc<Meter>,
) -> Result<Option<Arc<Watch>>, StoreError> {
    if config.native.is_none() {
        return Ok(None);
    }
    let rule = keys.rule.as_deref().filter(|rule| !rule.is_empty());
    let (Some(rule), Some(source), Some(destination)) = (rule, bucket.names.get(primary), bucket.names.get(secondary))
    else {
        return Ok(Some(Watch::nowhere(
            "no replication rule with a name is known here, and AWS publishes figures by rule",
        )));
    };
    Watch::rule(source, destination, rule, (secondary, unit.aws(secondary)?), meter)
        .await
        .map(Some)
}

/// The figures of a mirror.
pub(crate) async fn of_mirror(
    unit: &Unit<'_>,
    config: &kafka::Config,
    (primary, secondary): (&str, &str),
) -> Result<Option<Arc<Watch>>, StoreError> {
    if config.native.is_none() {
        return Ok(None);
    }
    let Some(replicator) = config.replicator(primary, secondary) else {
        return Ok(Some(Watch::nowhere(format!(
            "`replicators` names no MSK Replicator for {primary}->{secondary}"
        ))));
    };
    let to = (secondary, unit.aws(secondary)?);
    Watch::replicator(replicator, to, Arc::new(Meter::partial()))
        .await
        .map(Some)
}

/// All figures of a route, to look at them once.
pub(crate) async fn of_route(unit: &Unit<'_>, primary: &str, secondary: &str) -> Result<Vec<Arc<Watch>>, StoreError> {
    let (route, meter) = ((primary, secondary), Arc::<Meter>::default());
    let watches = match unit.source {
        Source::Aurora(_) => Vec::new(),
        Source::Dynamodb(config, names) => vec![of_table(unit, config, names, route, meter).await?],
        Source::Kafka(config) => vec![of_mirror(unit, config, route).await?],
        Source::S3(config, _) if config.native.is_none() => Vec::new(),
        Source::S3(config, bucket) => {
            let rules = s3::rules(config, bucket, primary, unit.aws(primary)?).await?;
            let destination = bucket.names.get(secondary).map(String::as_str).unwrap_or_default();
            let mut watches = Vec::new();
            for keys in rules.key_sets.iter().filter(|keys| keys.reaches(destination)) {
                watches.push(of_rule(unit, config, bucket, keys, route, Arc::clone(&meter)).await?);
            }
            watches
        }
    };
    Ok(watches.into_iter().flatten().collect())
}
