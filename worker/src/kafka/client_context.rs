//! What a Kafka client reports while it runs: its log lines go to the program's log, and its last
//! error is kept, so that a caller can say why nothing moves.

use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Whether the error says that the topic, or one of its partitions, does not exist.
pub(crate) fn is_topic_missing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
    )
}

/// Writes a line of the client library to the program's log, at a lower level than the library's:
/// routine for it is detail here.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    use RDKafkaLogLevel as Level;
    match level {
        Level::Emerg | Level::Alert | Level::Critical => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        // An unreachable broker is an error to the library; the callers that wait for it report it
        // themselves.
        Level::Error | Level::Warning | Level::Notice | Level::Info => {
            tracing::debug!(target: "librdkafka", facility, "{line}");
        }
        Level::Debug => tracing::trace!(target: "librdkafka", facility, "{line}"),
    }
}

/// The library's explanation of an error, or else the error's own text. Without durations, so that
/// the same problem always has the same text.
pub(crate) fn reason(error: &KafkaError, said: &str) -> String {
    let said = said.split(" (after ").next().unwrap_or_default().trim();
    if said.is_empty() { error.to_string() } else { said.to_owned() }
}

/// The last error that a client reported: the context of clients that need no other callback.
#[derive(Debug, Default)]
pub(crate) struct LastError(Mutex<Option<String>>);

impl LastError {
    pub(crate) fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(crate) fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for LastError {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, said: &str) {
        self.set(reason(&error, said));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_has_the_same_text() {
        let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        let said = "kafka:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 3ms in state CONNECT)";
        assert_eq!(
            reason(&error, said),
            "kafka:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused"
        );
        assert!(reason(&error, "").contains("broker transport failure") || !reason(&error, "").is_empty());
    }

    #[test]
    fn a_missing_topic_is_recognised_by_its_error_codes() {
        use RDKafkaErrorCode as Code;
        for (code, missing) in [
            (Code::UnknownTopicOrPartition, true),
            (Code::UnknownTopic, true),
            (Code::UnknownPartition, true),
            (Code::AllBrokersDown, false),
            (Code::OffsetOutOfRange, false),
        ] {
            assert_eq!(is_topic_missing(&KafkaError::MessageConsumption(code)), missing, "{code}");
        }
    }
}
