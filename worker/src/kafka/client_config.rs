//! The settings of the Kafka clients: one set for each kind of client. Opens no connection.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use worker_cli::KafkaArgs;

/// For a client that creates, checks and reads about topics and groups.
pub(crate) fn admin_config(kafka: &KafkaArgs) -> ClientConfig {
    common(&kafka.brokers)
}

fn common(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "monthend")
        // A client notices within seconds that a broker is available again, and a little later that a topic
        // is.
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("topic.metadata.refresh.fast.interval.ms", "250")
        // Brokers in pods change their addresses.
        .set("broker.address.ttl", "1000")
        .set("socket.keepalive.enable", "true")
        // Brokers close idle connections all the time.
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Info);
    config
}

/// For a producer.
pub(crate) fn producer_config(kafka: &KafkaArgs) -> ClientConfig {
    let mut config = common(&kafka.brokers);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "10")
        .set("batch.size", "262144")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536")
        // Successful deliveries are counted too.
        .set("delivery.report.only.error", "false")
        // The callers wait for unavailable brokers; this limits everything that they do not see.
        .set("message.timeout.ms", "60000")
        .set("topic.metadata.propagation.max.ms", "5000");
    config
}

/// For a consumer of the group.
pub(crate) fn consumer_config(kafka: &KafkaArgs) -> ClientConfig {
    let mut config = common(&kafka.brokers);
    config
        .set("group.id", &kafka.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("allow.auto.create.topics", "false")
        // After this long, other consumers get the partitions of one that was killed.
        .set("session.timeout.ms", "15000")
        .set("heartbeat.interval.ms", "3000")
        .set("max.poll.interval.ms", "300000")
        .set("fetch.wait.max.ms", "100")
        // Keeps memory constant however long the topic is, and repeated fetches after a pause small: a
        // message takes several times its size in memory, and a compressed fetch unpacks to many
        // messages.
        .set("queued.max.messages.kbytes", "1024")
        .set("queued.min.messages", "1000")
        .set("fetch.message.max.bytes", "32768")
        // By default the library waits a second after its queue was full; a queue this short is empty much
        // earlier.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.error.backoff.ms", "250");
    config
}
