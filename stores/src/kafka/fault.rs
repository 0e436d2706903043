//! What Kafka's errors mean to the caller.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{StoreError, Trouble};

/// What a client last said of its connections, beside the error of a call: a call that runs out of time does not say why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) reason: String,
}

impl Note {
    /// From a line such as `[thrd:T]: BROKER: SASL authentication error: ...`.
    pub(crate) fn of_log(line: &str) -> Self {
        let code = if line.contains("SASL authentication error") {
            RDKafkaErrorCode::Authentication
        } else if line.contains("SSL handshake failed") {
            RDKafkaErrorCode::SSL
        } else {
            RDKafkaErrorCode::BrokerTransportFailure
        };
        let said = line.split_once("]: ").map_or(line, |(_, said)| said);
        Self {
            code,
            reason: said.to_owned(),
        }
    }

    /// Whether a certificate was refused: the library reports that as a lost connection at times.
    fn is_distrust(&self) -> bool {
        self.reason.contains("certificate verify failed")
    }

    /// Whether only a person can do something about it.
    pub(crate) fn is_refusal(&self) -> bool {
        self.is_distrust() || is_refusal(self.code)
    }

    /// No broker answered, and the library does not say why.
    pub(crate) fn nobody() -> Self {
        Self {
            code: RDKafkaErrorCode::AllBrokersDown,
            reason: "no broker answered".to_owned(),
        }
    }
}

/// An error of a call, as far as it can be explained by the last note.
pub(crate) fn of(site: &str, tried: &str, error: &KafkaError, note: Option<Note>) -> StoreError {
    let Some(code) = error.rdkafka_error_code() else {
        return StoreError::Config(
            Trouble::new(site, tried, error.to_string()).hint("check the settings of this connection"),
        );
    };
    if !is_silence(code) {
        return by_code(code, Trouble::new(site, tried, words(code)));
    }
    match note {
        Some(note) if note.is_distrust() => by_code(RDKafkaErrorCode::SSL, Trouble::new(site, tried, note.reason)),
        Some(note) if is_refusal(note.code) => by_code(note.code, Trouble::new(site, tried, note.reason)),
        Some(note) => StoreError::Unreachable(
            Trouble::new(site, tried, note.reason)
                .hint("check the brokers' addresses, ports, firewall and that they run"),
        ),
        None => StoreError::Retryable {
            after: None,
            trouble: Trouble::new(site, tried, words(code)).hint("the partition may have no leader just now"),
        },
    }
}

fn words(code: RDKafkaErrorCode) -> String {
    KafkaError::Global(code)
        .rdkafka_error_code()
        .map_or_else(String::new, |code| code.to_string())
}

/// Errors of a call that has no answer to tell.
pub(crate) fn is_silence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::OperationTimedOut
            | C::MessageTimedOut
            | C::TimedOutQueue
            | C::BrokerTransportFailure
            | C::AllBrokersDown
            | C::Resolve
            | C::WaitCache
    )
}

/// Notes that only a person can do something about.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::Authentication | C::SaslAuthenticationFailed | C::UnsupportedSASLMechanism | C::IllegalSASLState | C::SSL
    )
}

/// Whether a client's own report explains a call that later runs out of time.
pub(crate) fn is_worth_noting(code: RDKafkaErrorCode) -> bool {
    is_silence(code) || is_refusal(code)
}

/// Whether the topic or the partition is gone.
pub(crate) fn is_gone(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::UnknownTopicOrPartition | C::UnknownTopic | C::UnknownPartition | C::UnknownTopicId
    )
}

/// Whether a produced record was certainly not written: refused here, or by a rule of the broker's that comes before its log. A
/// record that is purged from the queue is none of these: it may have been sent once and wait for another try.
pub(crate) fn is_refused_write(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    is_gone(code)
        || matches!(
            code,
            C::QueueFull
                | C::MessageSizeTooLarge
                | C::InvalidMessageSize
                | C::MessageBatchTooLarge
                | C::InvalidRecord
                | C::InvalidTopic
                | C::InvalidRequiredAcks
                | C::PolicyViolation
                | C::TopicAuthorizationFailed
                | C::ClusterAuthorizationFailed
        )
}

fn by_code(code: RDKafkaErrorCode, trouble: Trouble) -> StoreError {
    use RDKafkaErrorCode as C;
    match code {
        code if is_gone(code) => StoreError::NotFound(
            trouble.hint("`driftline init` makes the canary topic; at the other site it arrives by mirroring"),
        ),
        C::TopicAuthorizationFailed | C::ClusterAuthorizationFailed | C::GroupAuthorizationFailed => {
            StoreError::Denied(trouble.hint("`driftline init --print` shows the rights that are needed"))
        }
        C::Authentication | C::SaslAuthenticationFailed | C::UnsupportedSASLMechanism | C::IllegalSASLState => {
            StoreError::Config(trouble.hint("check mechanism, user and password of this connection's auth"))
        }
        C::SSL => StoreError::Config(trouble.hint(
            "the broker's certificate is not trusted for this host; set tls = { ca_file = \"...\" } to the authority that signed it",
        )),
        C::InvalidTopic | C::PolicyViolation | C::InvalidConfig | C::InvalidReplicationFactor | C::InvalidPartitions => {
            StoreError::Config(trouble)
        }
        C::UnsupportedVersion | C::UnsupportedFeature | C::NotImplemented | C::UnsupportedForMessageFormat => {
            StoreError::Unsupported(trouble)
        }
        C::BadMessage | C::InvalidMessage | C::BadCompression => StoreError::Corrupt(trouble),
        _ => StoreError::Retryable { after: None, trouble },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: RDKafkaErrorCode, note: Option<RDKafkaErrorCode>) -> &'static str {
        let note = note.map(|code| Note {
            code,
            reason: "reason".to_owned(),
        });
        of("use1", "poll", &KafkaError::MetadataFetch(code), note).kind()
    }

    #[test]
    fn a_line_of_the_log_tells_a_refusal_from_a_cut() {
        let at = "[thrd:sasl_ssl://b:1/bootstrap]: sasl_ssl://b:1/bootstrap";
        for (said, code) in [
            (
                "SASL authentication error: Authentication failed",
                RDKafkaErrorCode::Authentication,
            ),
            ("SSL handshake failed: certificate verify failed", RDKafkaErrorCode::SSL),
            (
                "Connect to ipv4#127.0.0.1:1 failed: Connection refused",
                RDKafkaErrorCode::BrokerTransportFailure,
            ),
        ] {
            let note = Note::of_log(&format!("{at}: {said}"));
            assert_eq!(
                (note.code, note.reason),
                (code, format!("sasl_ssl://b:1/bootstrap: {said}"))
            );
        }
    }

    #[test]
    fn the_kind_says_what_to_do_next() {
        use RDKafkaErrorCode as C;
        for (code, note, expected) in [
            (C::UnknownTopicOrPartition, None, "not_found"),
            (C::TopicAuthorizationFailed, None, "denied"),
            (C::LeaderNotAvailable, None, "retryable"),
            (C::OperationTimedOut, None, "retryable"),
            (C::OperationTimedOut, Some(C::AllBrokersDown), "unreachable"),
            (C::BrokerTransportFailure, Some(C::Authentication), "config"),
            (C::BrokerTransportFailure, Some(C::SSL), "config"),
            (C::UnknownTopicOrPartition, Some(C::SSL), "not_found"),
            (C::InvalidMessage, None, "corrupt"),
            (C::UnsupportedVersion, None, "unsupported"),
        ] {
            assert_eq!(kind(code, note), expected, "{code:?} after {note:?}");
        }
    }

    #[test]
    fn a_certificate_that_is_refused_is_for_a_person_whatever_the_library_calls_it() {
        let note = Note {
            code: RDKafkaErrorCode::BrokerTransportFailure,
            reason: "error:0A000086:SSL routines::certificate verify failed (after 5ms in state SSL_HANDSHAKE)"
                .to_owned(),
        };
        let silence = KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut);
        let error = of("use1", "poll", &silence, Some(note));
        assert!(
            matches!(&error, StoreError::Config(trouble) if trouble.hint.contains("ca_file")),
            "{error:?}"
        );
    }
}
