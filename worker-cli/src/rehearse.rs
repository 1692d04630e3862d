//! `monthend rehearse`.

use clap::Args;
use uuid::Uuid;

/// Which notification run to rehearse.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RehearseArgs {
    /// Notification run, as NAMESPACE/NAME
    #[arg(long, value_name = "RUN")]
    pub run: String,
    /// Notification run's metadata.uid
    #[arg(long, value_name = "UUID")]
    pub run_uid: Uuid,
    /// Sender of the e-mails, as "NAME <ADDRESS>"
    #[arg(long, env = "NOTIFY_FROM", value_name = "MAILBOX")]
    pub from: String,
}

impl RehearseArgs {
    pub const COMMAND: &str = "rehearse";

    /// The sub-command and its options, as the worker parses them.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let Self { run, run_uid, from } = self;
        vec![
            Self::COMMAND.to_owned(),
            format!("--run={run}"),
            format!("--run-uid={run_uid}"),
            format!("--from={from}"),
        ]
    }
}
