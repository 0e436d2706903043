//! What driftline needs at a table before it can work, and nothing more.

use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, IndexStatus, KeySchemaElement, KeyType, ScalarAttributeType,
    StreamSpecification, StreamViewType, TableDescription, TimeToLiveSpecification,
};
use tokio::time::Instant;

use super::config::Config;
use super::item::EXPIRES_AT;
use super::open::at;
use super::shape::{KeyKind, RESERVED_PREFIX, Shape};
use super::table::{Expiry, Table, takes_writes};
use super::{RING_SLOTS, fault};
use crate::aws::{self, Site};
use crate::{Meter, Result, SiteNames, StoreError, Trouble};

/// The key of a table of canaries that driftline makes.
const OWN_KEY: &str = "driftline_key";
/// How long a new table may take to become active.
const ACTIVE_PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at meanwhile.
const ACTIVE_LOOK_EVERY: Duration = Duration::from_millis(500);

/// What to set up for the canaries of table `names` at `site_name`: the least rights as an IAM policy and, where the canaries have a
/// table of their own, the commands that make it. Nothing is asked of the store. `arn_prefix` is what stands before the table's name in
/// its ARN, e.g. `arn:aws:dynamodb:us-east-1:123456789012:table/`; `None` leaves a place to fill in.
///
/// # Errors
/// `Config`: the table has no name at this site.
pub fn init_text(
    config: &Config,
    names: &SiteNames,
    site_name: &str,
    site: &Site,
    arn_prefix: Option<&str>,
) -> Result<String> {
    let region = site.region.as_deref().unwrap_or("REGION");
    let unknown = format!("arn:aws:dynamodb:{region}:ACCOUNT:table/");
    let prefix = arn_prefix.unwrap_or(&unknown);
    let table = at(names, site_name)?;
    let ring = config
        .canary
        .table
        .as_ref()
        .map_or(Ok(table), |own| at(own, site_name))?;
    let mut text = format!("# site {site_name}: canaries in table {ring}\n");
    if config.canary.table.is_some() {
        let _infallible = write!(
            text,
            "# Once, in the region of one site; then one copy for each other region. This table represents only itself.\n\
             aws dynamodb create-table --region {region} --table-name {ring} --billing-mode PAY_PER_REQUEST \\\n\
             \x20 --attribute-definitions AttributeName={OWN_KEY},AttributeType=S --key-schema AttributeName={OWN_KEY},KeyType=HASH \\\n\
             \x20 --stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES\n\
             aws dynamodb update-time-to-live --region {region} --table-name {ring} \\\n\
             \x20 --time-to-live-specification Enabled=true,AttributeName={EXPIRES_AT}\n\
             aws dynamodb update-table --region {region} --table-name {ring} --replica-updates Create={{RegionName=OTHER_REGION}}\n"
        );
    } else {
        let _infallible = writeln!(
            text,
            "# Nothing to make: at most {RING_SLOTS} items a stream appear under the reserved keys when the probe starts."
        );
    }
    text.push_str("# The rights that driftline needs here, as a policy:\n");
    text.push_str(&policy(&format!("{prefix}{table}"), &format!("{prefix}{ring}")));
    Ok(text)
}

/// Item access is limited to the reserved keys, as text, as the number that begins every reserved number, and as the base64 that binary
/// keys are shown in. That IAM compares numbers and binary keys in these forms was not tried against AWS.
fn policy(table: &str, ring: &str) -> String {
    let described: Vec<&str> = if table == ring { vec![ring] } else { vec![table, ring] };
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "DriftlineCanaries",
                "Effect": "Allow",
                "Action": ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem"],
                "Resource": ring,
                "Condition": { "ForAllValues:StringLike": { "dynamodb:LeadingKeys": [
                    format!("{RESERVED_PREFIX}*"), "-90000000000000*", "ZHJpZnRsaW5lLWNhbmFy*",
                ] } },
            },
            {
                "Sid": "DriftlineDescribe",
                "Effect": "Allow",
                "Action": ["dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"],
                "Resource": described,
            },
        ],
    });
    format!("{policy:#}\n")
}

/// Makes the canaries' own table at this site where one is configured and absent, and says what was done, line by line. Copies in other
/// regions are not made here: they cost money and belong to whoever owns the table; [`init_text`] has the command.
///
/// # Errors
/// As the service answers; `Retryable` when the table does not become active in time.
pub async fn init(config: &Config, names: &SiteNames, site_name: &str, site: &Site) -> Result<Vec<String>> {
    let Some(own) = &config.canary.table else {
        let table = at(names, site_name)?;
        return Ok(vec![format!(
            "table {table} at {site_name} carries its own canaries: nothing to make"
        )]);
    };
    let sdk = aws::load(site_name, site).await?;
    let table = Table::new(&sdk, site_name, site, at(own, site_name)?, Meter::default().into());
    match table.describe().await {
        Ok(_) => return Ok(vec![format!("table {} at {site_name} is there", table.name)]),
        Err(StoreError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    create(&table).await?;
    until_active(&table).await?;
    let mut done = vec![format!("made table {} at {site_name}", table.name)];
    done.push(match expire(&table).await {
        Ok(()) => format!("canaries in {} expire by {EXPIRES_AT}", table.name),
        Err(error) => format!("expiry was not switched on: {error}"),
    });
    Ok(done)
}

async fn create(table: &Table) -> Result<()> {
    let tried = format!("make table {}", table.name);
    let invalid = |error: aws_sdk_dynamodb::error::BuildError| {
        StoreError::Corrupt(Trouble::new(&table.site, &tried, error.to_string()))
    };
    let attribute = AttributeDefinition::builder()
        .attribute_name(OWN_KEY)
        .attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder()
        .attribute_name(OWN_KEY)
        .key_type(KeyType::Hash);
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages);
    let asked = table
        .client
        .create_table()
        .table_name(&table.name)
        .attribute_definitions(attribute.build().map_err(invalid)?)
        .key_schema(key.build().map_err(invalid)?)
        .stream_specification(stream.build().map_err(invalid)?)
        .billing_mode(BillingMode::PayPerRequest);
    asked
        .send()
        .await
        .map(drop)
        .map_err(|error| fault::of(&table.site, &tried, &error))
}

async fn until_active(table: &Table) -> Result<()> {
    let deadline = Instant::now() + ACTIVE_PATIENCE;
    while !takes_writes(&table.describe().await?) {
        if Instant::now() >= deadline {
            return Err(StoreError::Retryable {
                after: None,
                trouble: Trouble::new(
                    &table.site,
                    format!("wait for table {}", table.name),
                    format!("not active within {} s", ACTIVE_PATIENCE.as_secs()),
                ),
            });
        }
        tokio::time::sleep(ACTIVE_LOOK_EVERY).await;
    }
    Ok(())
}

async fn expire(table: &Table) -> Result<()> {
    let tried = format!("switch on the expiry of table {}", table.name);
    let by = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name(EXPIRES_AT)
        .build()
        .map_err(|error| StoreError::Corrupt(Trouble::new(&table.site, &tried, error.to_string())))?;
    let asked = table.client.update_time_to_live().table_name(&table.name);
    let answer = asked.time_to_live_specification(by).send().await;
    answer.map(drop).map_err(|error| fault::of(&table.site, &tried, &error))
}

/// What stands in the way of canaries at this site, and what they would do that somebody may not expect; empty: nothing. Changes nothing:
/// the right to write is tried with a condition that no item meets. `writes`: whether this site is stated to be a writer.
///
/// # Errors
/// When nothing can be told: unreachable, no credentials.
pub async fn check_canary(
    config: &Config,
    names: &SiteNames,
    site_name: &str,
    site: &Site,
    writes: bool,
) -> Result<Vec<String>> {
    let sdk = aws::load(site_name, site).await?;
    let own = config.canary.table.as_ref().unwrap_or(names);
    let table = Table::new(&sdk, site_name, site, at(own, site_name)?, Meter::default().into());
    let described = match table.describe().await {
        Ok(described) => described,
        Err(error @ (StoreError::NotFound(_) | StoreError::Denied(_))) => return Ok(vec![error.to_string()]),
        Err(error) => return Err(error),
    };
    let mut problems = Vec::new();
    if !takes_writes(&described) {
        let state = described.table_status().map_or("unknown", |state| state.as_str());
        problems.push(format!("table {} is {state}, and takes no writes", table.name));
    }
    let shape = Shape::of(site_name, &described)?;
    problems.extend(indexes_entered(&described, &shape));
    if table.expiry().await? == Expiry::Hidden {
        problems.push(format!(
            "whether items of table {} expire cannot be read (dynamodb:DescribeTimeToLive); without expiry the ring stays when the probe is gone",
            table.name
        ));
    }
    problems.extend(refusal(may_read(&table, &shape).await)?);
    if writes {
        problems.extend(refusal(may_write(&table, &shape).await)?);
    }
    Ok(problems)
}

/// A refusal is a problem to print; anything else leaves the question open.
fn refusal(tried: Result<()>) -> Result<Option<String>> {
    match tried {
        Ok(()) => Ok(None),
        Err(error) if error.is_passing() || matches!(error, StoreError::Config(_)) => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    }
}

/// A stream's name that no probe has.
const TRIAL_STREAM: &str = "check";

async fn may_read(table: &Table, shape: &Shape) -> Result<()> {
    let asked = table.client.get_item().table_name(&table.name).consistent_read(true);
    let key = shape.slot_key(TRIAL_STREAM, 0).into_iter().collect();
    let answer = asked.set_key(Some(key)).send().await;
    let tried = format!("read a canary of table {}", table.name);
    answer.map(drop).map_err(|error| fault::of(&table.site, &tried, &error))
}

async fn may_write(table: &Table, shape: &Shape) -> Result<()> {
    let mut item: super::item::Item = shape.slot_key(TRIAL_STREAM, 0).into_iter().collect();
    item.insert("driftline_trial".to_owned(), AttributeValue::Bool(true));
    let answer = table
        .client
        .put_item()
        .table_name(&table.name)
        .set_item(Some(item))
        .condition_expression("attribute_exists(#key) AND attribute_not_exists(#key)")
        .expression_attribute_names("#key", &shape.partition.name)
        .send()
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
        {
            Ok(())
        }
        Err(error) => {
            let tried = format!("try the right to write canaries into table {}", table.name);
            Err(fault::of(&table.site, &tried, &error))
        }
    }
}

/// Indexes whose keys are all keys of the table: canaries enter them.
fn indexes_entered(described: &TableDescription, shape: &Shape) -> Vec<String> {
    let own: Vec<&str> = std::iter::once(&shape.partition)
        .chain(&shape.sort)
        .map(|key| key.name.as_str())
        .collect();
    let enters = |keys: &[KeySchemaElement]| keys.iter().all(|key| own.contains(&key.attribute_name()));
    let indexes = described.global_secondary_indexes().iter();
    indexes
        .filter(|index| index.index_status() != Some(&IndexStatus::Deleting) && enters(index.key_schema()))
        .map(|index| {
            let kind = match shape.partition.kind {
                KeyKind::Number => "by the attribute driftline_stream",
                KeyKind::String | KeyKind::Binary => "by the key's prefix driftline-canary/",
            };
            format!(
                "canaries enter the index {}, whose keys are the table's own; leave them out {kind}, or give the canaries a table of their own",
                index.index_name().unwrap_or("without a name")
            )
        })
        .collect()
}
