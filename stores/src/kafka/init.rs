//! What driftline needs at the clusters before it can work, and nothing more.

use std::fmt::Write as _;
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::client::{Asks, Notes, PATIENCE, Reach, off_runtime};
use super::config::Config;
use super::fault;
use crate::{Result, StoreError, Trouble};

/// How long canaries are kept: longer than a reader looks back, and next to nothing in bytes.
const RETENTION_MS: &str = "3600000";
/// Segments are what retention removes.
const SEGMENT_MS: &str = "600000";

/// The canary topic of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitSpec {
    /// Partitions; each is a stream of canaries of its own. As many as there are brokers, so that every one is heard of.
    pub partitions: i32,
    /// Replicas of each; `None`: the cluster's default.
    pub replication: Option<i32>,
}

impl Default for InitSpec {
    fn default() -> Self {
        Self {
            partitions: 3,
            replication: None,
        }
    }
}

fn settings() -> [(&'static str, &'static str); 4] {
    [
        ("cleanup.policy", "delete"),
        ("retention.ms", RETENTION_MS),
        ("segment.ms", SEGMENT_MS),
        ("message.timestamp.type", "CreateTime"),
    ]
}

/// Makes the canary topic at `site`, with the rights of this connection's user. One that is there is left as it is.
///
/// # Errors
/// What the cluster refused.
pub async fn init(config: &Config, site: &str, spec: &InitSpec) -> Result<()> {
    let topic = &config.canary.topic;
    let tried = format!("init: create topic {topic}");
    let reach = Reach::new(config, site)?;
    let notes = Notes::default();
    let (making, told, what) = (reach.clone(), notes.clone(), tried.clone());
    let admin: AdminClient<Notes> = off_runtime(site, &tried, move || making.client(&what, &[], &told)).await?;
    let replication = TopicReplication::Fixed(spec.replication.unwrap_or(-1));
    let mut new = NewTopic::new(topic, spec.partitions, replication);
    for (name, value) in settings() {
        new = new.set(name, value);
    }
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    let answers = admin.create_topics([&new], &options).await;
    // Its end waits for its thread.
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    let code = match answers {
        Err(error) => return Err(fault::of(site, &tried, &error, notes.last())),
        Ok(answers) => answers
            .into_iter()
            .find_map(std::result::Result::err)
            .map(|(_, code)| code),
    };
    match code {
        None | Some(RDKafkaErrorCode::TopicAlreadyExists) => Ok(()),
        Some(code) => {
            let error = rdkafka::error::KafkaError::Global(code);
            Err(fault::of(site, &tried, &error, notes.last()))
        }
    }
}

/// The commands that make the topic and give the rights, for who does it by hand. They change nothing when they run again.
pub fn init_text(config: &Config, primary: &str, secondary: &str, spec: &InitSpec) -> String {
    let topic = &config.canary.topic;
    let mirrored = config.mapped(primary, secondary, topic);
    let user = config.auth.as_ref().map_or("USER", |auth| auth.user.as_str());
    let replication = spec
        .replication
        .map_or_else(String::new, |replicas| format!(" --replication-factor {replicas}"));
    let configs: String = settings().iter().fold(String::new(), |mut text, (name, value)| {
        let _ = write!(text, " --config {name}={value}");
        text
    });
    let acl = "kafka-acls.sh --bootstrap-server BROKER --command-config ADMIN --add";
    format!(
        "# At {primary}, where canaries are written: the topic, and the rights to write and to read it.\n\
         kafka-topics.sh --bootstrap-server BROKER --command-config ADMIN --create --if-not-exists --topic {topic} \
         --partitions {partitions}{replication}{configs}\n\
         {acl} --allow-principal User:{user} --operation Write --operation Read --operation Describe --topic {topic}\n\
         {acl} --allow-principal User:{user} --operation IdempotentWrite --cluster\n\
         # Lag in records: ends of the topics, and the mirror's own record of offsets.\n\
         {acl} --allow-principal User:{user} --operation Describe --topic '*'\n\
         {acl} --allow-principal User:{user} --operation Read --topic mm2-offset-syncs. --resource-pattern-type prefixed\n\
         # At {secondary}, where they are watched for as {mirrored}. The mirror must copy {topic}.\n\
         {acl} --allow-principal User:{user} --operation Read --operation Describe --topic {mirrored}\n\
         {acl} --allow-principal User:{user} --operation Describe --topic '*'\n",
        partitions = spec.partitions,
    )
}

/// What is not as the canaries of a route need it, in words; empty when all is. Changes nothing.
///
/// # Errors
/// What connecting to either cluster met.
pub async fn check_canary(config: &Config, primary: &str, secondary: &str) -> Result<Vec<String>> {
    let mirrored = config.mapped(primary, secondary, &config.canary.topic);
    let above = partitions_at(config, primary, config.canary.topic.clone()).await?;
    let below = partitions_at(config, secondary, mirrored.clone()).await?;
    let topic = &config.canary.topic;
    let problem = match (above, below) {
        (None, _) => format!("the topic {topic} is not at {primary}, or may not be seen; run `driftline init`"),
        (Some(_), None) => format!(
            "the topic {mirrored} is not at {secondary}, or may not be seen: the mirror does not copy {topic}, or calls it otherwise; \
             mapping = {{ \"{primary}->{secondary}\" = \"...\" }} says how"
        ),
        (Some(above), Some(below)) => {
            let missing: Vec<String> = above
                .iter()
                .filter(|partition| !below.contains(partition))
                .map(i32::to_string)
                .collect();
            if missing.is_empty() {
                return Ok(Vec::new());
            }
            format!(
                "{mirrored} at {secondary} lacks the partitions {} of {topic}",
                missing.join(", ")
            )
        }
    };
    Ok(vec![problem])
}

/// `None`: the topic is not there.
async fn partitions_at(config: &Config, site: &str, topic: String) -> Result<Option<Vec<i32>>> {
    let asks = Arc::new(Asks::new(Reach::new(config, site)?, &topic));
    match off_runtime(site, "look at the canary topic", move || asks.partitions(&topic)).await {
        Ok(partitions) => Ok(Some(partitions)),
        Err(StoreError::NotFound(_) | StoreError::Denied(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The partitions of the canary topic at `site`, which writes it: each is a stream, with an end of its own.
///
/// # Errors
/// `NotFound` before `init`; what connecting met.
pub async fn partitions(config: &Config, site: &str) -> Result<Vec<i32>> {
    let topic = config.canary.topic.clone();
    partitions_at(config, site, topic).await?.ok_or_else(|| {
        StoreError::NotFound(
            Trouble::new(
                site,
                "list the partitions of the canary topic",
                format!("{} is not there", config.canary.topic),
            )
            .hint("run `driftline init`"),
        )
    })
}
