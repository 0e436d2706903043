//! Clients of one cluster, and what they are asked without reading a log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::config::{Auth, Config, Mechanism, Tls};
use super::fault::{self, Note};
use crate::{Result, StoreError, Trouble};

/// A call that is not answered sooner is given up. Below the engine's own patience, so that the error says why.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// Whether nobody answers, or only one partition has no leader, is found out within this.
const DOUBT_PATIENCE: Duration = Duration::from_millis(500);
/// Events that are looked through for the reason of an error.
const NOTES_READ_MAX: usize = 64;

/// How to reach the cluster of one site. Clients are made when they are needed, with the password as it is then.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    site: String,
    bootstrap: String,
    auth: Option<Auth>,
    tls: Tls,
}

/// Keeps what librdkafka reports beside the answers to calls.
#[derive(Debug, Default, Clone)]
pub(crate) struct Notes {
    last: Arc<Mutex<Option<Note>>>,
}

impl ClientContext for Notes {
    /// A client that joins no group is told by its log alone why a connection failed.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(facility, line, "librdkafka");
        if facility == "FAIL" {
            self.note(Note::of_log(line));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code().filter(|code| fault::is_worth_noting(*code)) else {
            return;
        };
        self.note(Note {
            code,
            reason: reason.to_owned(),
        });
    }
}

impl ConsumerContext for Notes {}

impl Notes {
    /// The last report since [`Self::forget`]. Reports come when something changes, not as often as it is felt.
    pub(crate) fn last(&self) -> Option<Note> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A refusal stays until an answer comes: that no broker is left is how it goes on.
    fn note(&self, note: Note) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if note.is_refusal() || !last.as_ref().is_some_and(Note::is_refusal) {
            *last = Some(note);
        }
    }

    /// An answer came, or another client is made: what was reported before explains nothing any more.
    pub(crate) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Reach {
    /// # Errors
    /// `Config` when the site is unknown or the configuration does not hold together.
    pub(crate) fn new(config: &Config, site: &str) -> Result<Self> {
        let refused = |reason: String| StoreError::Config(Trouble::new(site, "read the configuration", reason));
        config.check().map_err(refused)?;
        let cluster = config.sites.get(site).ok_or_else(|| {
            let known: Vec<&str> = config.sites.keys().map(String::as_str).collect();
            refused(format!("unknown site; this connection has {}", known.join(", ")))
        })?;
        Ok(Self {
            site: site.to_owned(),
            bootstrap: cluster.bootstrap.join(","),
            auth: config.auth.clone(),
            tls: config.tls.clone(),
        })
    }

    pub(crate) fn site(&self) -> &str {
        &self.site
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A client with `own` settings beside those of the connection; what goes wrong with its connections is told to `notes`.
    pub(crate) fn client<C: FromClientConfigAndContext<Notes>>(
        &self,
        tried: &str,
        own: &[(&str, &str)],
        notes: &Notes,
    ) -> Result<C> {
        let mut settings = ClientConfig::new();
        for (name, value) in [
            ("bootstrap.servers", self.bootstrap.as_str()),
            ("client.id", "driftline"),
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "1000"),
            ("retry.backoff.ms", "50"),
            ("security.protocol", self.protocol()),
        ]
        .iter()
        .chain(own)
        {
            settings.set(*name, *value);
        }
        // Whatever level this process logs at: see [`Notes`].
        settings.set_log_level(RDKafkaLogLevel::Info);
        if let Tls::CaFile(file) = &self.tls {
            settings.set("ssl.ca.location", file.to_string_lossy());
        }
        if let Some(auth) = &self.auth {
            let password = auth.password.reveal().map_err(|error| {
                StoreError::Config(Trouble::new(&self.site, tried, error.to_string()).hint("auth refers to it"))
            })?;
            let mechanism = match auth.mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            settings.set("sasl.mechanism", mechanism);
            settings.set("sasl.username", &auth.user);
            settings.set("sasl.password", password.expose());
        }
        C::from_config_and_context(&settings, notes.clone()).map_err(|error| fault::of(&self.site, tried, &error, None))
    }

    fn protocol(&self) -> &'static str {
        match (&self.tls, &self.auth) {
            (Tls::Disable, None) => "plaintext",
            (Tls::Disable, Some(_)) => "sasl_plaintext",
            (_, None) => "ssl",
            (_, Some(_)) => "sasl_ssl",
        }
    }
}

/// Runs `work`, which blocks, off the runtime.
pub(crate) async fn off_runtime<T: Send + 'static>(
    site: &str,
    tried: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Retryable {
            after: None,
            trouble: Trouble::new(site, tried, error.to_string()),
        }),
    }
}

/// A client that reads no log, so that its questions never wait behind a fetch: a broker answers one request of a connection at a time.
/// All its methods block, for `patience` at most and [`DOUBT_PATIENCE`].
pub(crate) struct Asks {
    reach: Reach,
    /// Asked for when it is to be found out whether anybody answers.
    topic: String,
    held: Mutex<Option<Arc<BaseConsumer<Notes>>>>,
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asks")
            .field("reach", &self.reach)
            .finish_non_exhaustive()
    }
}

impl Asks {
    pub(crate) fn new(reach: Reach, topic: &str) -> Self {
        Self {
            reach,
            topic: topic.to_owned(),
            held: Mutex::new(None),
        }
    }

    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(crate) fn site(&self) -> &str {
        &self.reach.site
    }

    /// What the cluster calls itself, told by a broker that answers now, and the brokers that there are.
    pub(crate) fn cluster(&self, topic: &str, patience: Duration) -> Result<(String, usize)> {
        const TRIED: &str = "ask for the cluster's identity";
        let brokers = self.metadata(TRIED, Some(topic), patience)?.brokers().len();
        let id = self.ask(TRIED, |client| Ok(client.client().fetch_cluster_id(patience)))?;
        let id = id.ok_or_else(|| {
            StoreError::Unsupported(Trouble::new(self.site(), TRIED, "the brokers tell no cluster ID"))
        })?;
        Ok((id, brokers))
    }

    /// Topics and their partitions: of one topic, or of all.
    pub(crate) fn metadata(&self, tried: &str, topic: Option<&str>, patience: Duration) -> Result<Metadata> {
        self.ask(tried, |client| client.fetch_metadata(topic, patience))
    }

    /// The partitions of a topic that is there.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Vec<i32>> {
        let tried = format!("list the partitions of topic {topic}");
        let metadata = self.metadata(&tried, Some(topic), PATIENCE)?;
        let gone = || {
            self.fault(
                &tried,
                &KafkaError::MetadataFetch(rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition),
                None,
            )
        };
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic)
            .ok_or_else(gone)?;
        if let Some(error) = found.error() {
            return Err(self.fault(&tried, &KafkaError::MetadataFetch(error.into()), None));
        }
        let mut partitions: Vec<i32> = found
            .partitions()
            .iter()
            .map(rdkafka::metadata::MetadataPartition::id)
            .collect();
        partitions.sort_unstable();
        if partitions.is_empty() {
            Err(gone())
        } else {
            Ok(partitions)
        }
    }

    /// The first offset of a partition and the one behind its last committed record, asked of the leader now.
    pub(crate) fn watermarks(&self, topic: &str, partition: i32, patience: Duration) -> Result<(i64, i64)> {
        let tried = format!("ask for the end of {topic}-{partition}");
        self.ask(&tried, |client| client.fetch_watermarks(topic, partition, patience))
    }

    /// The offsets at `place` of many partitions. What has no answer (no leader, no rights) is not in it.
    pub(crate) fn offsets(
        &self,
        tried: &str,
        partitions: &[(String, i32)],
        place: Offset,
        patience: Duration,
    ) -> Result<BTreeMap<(String, i32), i64>> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            asked
                .add_partition_offset(topic, *partition, place)
                .map_err(|error| self.fault(tried, &error, None))?;
        }
        // In this request a time before all times stands for an end of the log.
        let told = self.ask(tried, |client| client.offsets_for_times(asked, patience))?;
        let told = told.elements().into_iter().filter(|one| one.error().is_ok());
        Ok(told
            .filter_map(|one| match one.offset() {
                Offset::Offset(offset) => Some(((one.topic().to_owned(), one.partition()), offset)),
                _ => None,
            })
            .collect())
    }

    fn ask<T>(&self, tried: &str, ask: impl FnOnce(&BaseConsumer<Notes>) -> KafkaResult<T>) -> Result<T> {
        let client = self.client(tried)?;
        let answer = ask(&client);
        let mut note = why(&client);
        if let Err(error) = &answer
            && note.is_none()
            && error.rdkafka_error_code().is_some_and(fault::is_silence)
            && client.fetch_metadata(Some(&self.topic), DOUBT_PATIENCE).is_err()
        {
            note = why(&client).or_else(|| Some(Note::nobody()));
        }
        answer.inspect(|_| client.context().forget()).map_err(|error| {
            let error = self.fault(tried, &error, note);
            if !error.is_passing() {
                // A password that has been changed is read by the next client.
                *self.held() = None;
            }
            error
        })
    }

    fn client(&self, tried: &str) -> Result<Arc<BaseConsumer<Notes>>> {
        let mut held = self.held();
        if let Some(client) = held.as_ref() {
            return Ok(Arc::clone(client));
        }
        let own = [
            ("isolation.level", "read_committed"),
            ("allow.auto.create.topics", "false"),
        ];
        let client: BaseConsumer<Notes> = self.reach.client(tried, &own, &Notes::default())?;
        let client = Arc::new(client);
        *held = Some(Arc::clone(&client));
        Ok(client)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Arc<BaseConsumer<Notes>>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, tried: &str, error: &KafkaError, note: Option<Note>) -> StoreError {
        fault::of(&self.reach.site, tried, error, note)
    }
}

/// What a client has reported since it had an answer. Reports wait in its queue until somebody polls.
pub(crate) fn why(client: &BaseConsumer<Notes>) -> Option<Note> {
    for _ in 0..NOTES_READ_MAX {
        if client.poll(Duration::ZERO).is_none() {
            break;
        }
    }
    client.context().last()
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaErrorCode as Code;

    use super::*;

    #[test]
    fn a_refusal_is_what_was_wrong_until_an_answer_comes() {
        let notes = Notes::default();
        let told = |code| {
            notes.note(Note {
                code,
                reason: "reason".to_owned(),
            });
            notes.last().map(|note| note.code)
        };
        assert_eq!(told(Code::BrokerTransportFailure), Some(Code::BrokerTransportFailure));
        assert_eq!(told(Code::Authentication), Some(Code::Authentication));
        assert_eq!(
            told(Code::AllBrokersDown),
            Some(Code::Authentication),
            "which is how it goes on"
        );
        assert_eq!(told(Code::SSL), Some(Code::SSL), "another refusal is news");
        notes.forget();
        assert_eq!(notes.last(), None);
        assert_eq!(told(Code::AllBrokersDown), Some(Code::AllBrokersDown));
    }
}
