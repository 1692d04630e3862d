//! What clients of the brokers are configured with, and what becomes of what they say: logs go the way of all logs, and
//! the last trouble is kept for whoever has to tell why nothing moves.

use std::sync::{Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub(super) fn common(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "monthend")
        // A broker that comes back is noticed within seconds, a topic that does within a few more.
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("topic.metadata.refresh.fast.interval.ms", "250")
        // Brokers in pods change their addresses.
        .set("broker.address.ttl", "1000")
        .set("socket.keepalive.enable", "true")
        // Connections that nobody uses are closed by the brokers all the time.
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    config
}

pub(super) fn producer(brokers: &str) -> ClientConfig {
    let mut config = common(brokers);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "10")
        .set("batch.size", "262144")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536")
        // Each message's report is needed, but not at once.
        .set("delivery.report.only.error", "false")
        // Brokers that are away are waited for above; this gives up on what nothing else gives up on.
        .set("message.timeout.ms", "60000")
        .set("topic.metadata.propagation.max.ms", "5000");
    config
}

pub(super) fn consumer(brokers: &str, group: &str) -> ClientConfig {
    let mut config = common(brokers);
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("allow.auto.create.topics", "false")
        // The partitions of one that was killed are others' after this long.
        .set("session.timeout.ms", "15000")
        .set("heartbeat.interval.ms", "3000")
        .set("max.poll.interval.ms", "300000")
        .set("fetch.wait.max.ms", "100")
        // Memory stays flat, whatever waits on the topic; and what is fetched again after a pause stays small. A message
        // takes several times its size here, and a partition's share of a fetch unpacks to many: both are kept short.
        .set("queued.max.messages.kbytes", "1024")
        .set("queued.min.messages", "1000")
        .set("fetch.message.max.bytes", "32768")
        // So short a queue is empty long before the second that the library would wait once it was full.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "250");
    config
}

/// Whether the topic, or one of its partitions, is not there.
pub(crate) fn is_topic_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
    )
}

/// A line of the client library, in the program's log. What it calls news is detail here.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    use RDKafkaLogLevel as Level;
    match level {
        Level::Emerg | Level::Alert | Level::Critical => {
            tracing::error!(target: "librdkafka", facility, "{line}");
        }
        // A broker that can't be reached is an error to the library, and told by those who wait for it.
        Level::Error | Level::Warning | Level::Notice | Level::Info => {
            tracing::debug!(target: "librdkafka", facility, "{line}");
        }
        Level::Debug => tracing::trace!(target: "librdkafka", facility, "{line}"),
    }
}

/// An error's text and what the library adds to it, without the times that would make each one look new.
pub(crate) fn reason(error: &KafkaError, said: &str) -> String {
    let said = said.split(" (after ").next().unwrap_or_default().trim();
    if said.is_empty() { error.to_string() } else { said.to_owned() }
}

/// The last trouble that a client told of. The context of clients that have nothing else to listen to.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<Option<String>>);

impl Trouble {
    pub(crate) fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(crate) fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Trouble {
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
    fn the_same_trouble_has_the_same_text() {
        let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        let said = "kafka:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 3ms in state CONNECT)";
        assert_eq!(
            reason(&error, said),
            "kafka:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused"
        );
        assert!(reason(&error, "").contains("broker transport failure") || !reason(&error, "").is_empty());
    }

    #[test]
    fn a_topic_that_is_away_is_known_by_its_codes() {
        use RDKafkaErrorCode as Code;
        for (code, away) in [
            (Code::UnknownTopicOrPartition, true),
            (Code::UnknownTopic, true),
            (Code::UnknownPartition, true),
            (Code::AllBrokersDown, false),
            (Code::OffsetOutOfRange, false),
        ] {
            assert_eq!(is_topic_away(&KafkaError::MessageConsumption(code)), away, "{code}");
        }
    }
}
