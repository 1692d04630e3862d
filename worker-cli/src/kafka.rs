//! The Kafka options: the same for every command of the worker and for the operator.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

/// Where the brokers are, what the topics and the consumer group are called, and how the topics are
/// created.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KafkaArgs {
    /// Kafka brokers to connect to first, as HOST:PORT[,HOST:PORT…]
    #[arg(long, env = "KAFKA_BROKERS", value_name = "ADDRESSES", value_parser = NonEmptyStringValueParser::new())]
    pub brokers: String,
    /// Topic of the messages that ask for one bill to be e-mailed
    #[arg(long, env = "KAFKA_TOPIC", default_value = "monthend.notices", value_name = "NAME")]
    pub topic: String,
    /// Dead-letter topic: messages that no consumer can process
    #[arg(long, env = "KAFKA_DLQ_TOPIC", default_value = "monthend.notices.dlq", value_name = "NAME")]
    pub dlq_topic: String,
    /// Consumer group that shares the messages
    #[arg(long, env = "KAFKA_GROUP", default_value = "monthend-notify", value_name = "NAME")]
    pub group: String,
    /// Partitions of each topic: the most consumers that can work at the same time
    #[arg(long, env = "KAFKA_PARTITIONS", default_value_t = 12, value_name = "NUMBER",
          value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub partitions: i32,
    /// Replicas of each partition when a topic is created
    #[arg(long, env = "KAFKA_REPLICATION", default_value_t = 1, value_name = "NUMBER",
          value_parser = clap::value_parser!(i32).range(1..=100))]
    pub replication: i32,
    /// Hours that a new topic keeps a message: more than a run takes, outages included
    #[arg(long, env = "KAFKA_RETENTION_HOURS", default_value_t = 168, value_name = "HOURS",
          value_parser = clap::value_parser!(i64).range(24..=87_600))]
    pub retention_hours: i64,
}

impl KafkaArgs {
    /// The options, as every command that has them parses them.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let Self { brokers, topic, dlq_topic, group, partitions, replication, retention_hours } = self;
        vec![
            format!("--brokers={brokers}"),
            format!("--topic={topic}"),
            format!("--dlq-topic={dlq_topic}"),
            format!("--group={group}"),
            format!("--partitions={partitions}"),
            format!("--replication={replication}"),
            format!("--retention-hours={retention_hours}"),
        ]
    }
}
