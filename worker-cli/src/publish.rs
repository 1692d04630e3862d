//! `monthend publish`.

use clap::Args;
use uuid::Uuid;

use crate::kafka::KafkaArgs;

/// Which publication of which notification run to do, and where.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PublishArgs {
    /// Notification run, as NAMESPACE/NAME
    #[arg(long, value_name = "RUN")]
    pub run: String,
    /// Notification run's metadata.uid
    #[arg(long, value_name = "UUID")]
    pub run_uid: Uuid,
    /// Number of the run's publication round, from 1
    #[arg(long, value_name = "NUMBER")]
    pub round: i32,
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

impl PublishArgs {
    pub const COMMAND: &str = "publish";

    /// The sub-command and its options, as the worker parses them.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let Self { run, run_uid, round, kafka } = self;
        let mut args = vec![
            Self::COMMAND.to_owned(),
            format!("--run={run}"),
            format!("--run-uid={run_uid}"),
            format!("--round={round}"),
        ];
        args.extend(kafka.to_args());
        args
    }
}
