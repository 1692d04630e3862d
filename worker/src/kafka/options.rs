//! Where the brokers are and what the topics and the group are called: the same flags for every command.

use clap::Args;
use rdkafka::ClientConfig;

use super::client;

/// The flags of the commands that talk to Kafka.
#[derive(Debug, Clone, Args)]
pub(crate) struct KafkaOptions {
    /// The brokers to ask first, as HOST:PORT,HOST:PORT
    #[arg(long, env = "KAFKA_BROKERS", value_name = "BROKERS")]
    pub(crate) brokers: String,
    /// The topic of the notices
    #[arg(long, env = "KAFKA_TOPIC", default_value = "monthend.notices")]
    pub(crate) topic: String,
    /// Where messages go that can't be used
    #[arg(long, env = "KAFKA_DLQ_TOPIC", default_value = "monthend.notices.dlq")]
    pub(crate) dlq_topic: String,
    /// The group that consumers share the work in
    #[arg(long, env = "KAFKA_GROUP", default_value = "monthend-notify")]
    pub(crate) group: String,
    /// Partitions of a topic: as many consumers can work at once
    #[arg(long, env = "KAFKA_PARTITIONS", default_value_t = 12,
          value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(crate) partitions: i32,
    /// Copies of each partition
    #[arg(long, env = "KAFKA_REPLICATION", default_value_t = 1,
          value_parser = clap::value_parser!(i32).range(1..=100))]
    pub(crate) replication: i32,
    /// How long a topic keeps a message: longer than a run takes, whatever is away meanwhile
    #[arg(long, env = "KAFKA_RETENTION_HOURS", default_value_t = 168,
          value_parser = clap::value_parser!(i64).range(24..=87_600))]
    pub(crate) retention_hours: i64,
}

impl KafkaOptions {
    /// What a client that makes and checks topics is configured with.
    pub(super) fn admin(&self) -> ClientConfig {
        client::common(&self.brokers)
    }

    /// What a producer is configured with.
    pub(crate) fn producer(&self) -> ClientConfig {
        client::producer(&self.brokers)
    }

    /// What a consumer of the group is configured with.
    pub(crate) fn consumer(&self) -> ClientConfig {
        client::consumer(&self.brokers, &self.group)
    }
}
