//! The status of a `NotificationRun`. Counts are 64-bit integers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::RunPhase;

/// The state of the run, as the operator last observed it.
// The default is what kstatus needs: a run that the operator has not looked at yet is not finished.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct NotificationRunStatus {
    /// The phase of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How many times the open bills have been published to Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<i32>,
    /// The progress of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<NotificationProgress>,
    /// Bills by outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<NotificationCounts>,
    /// The consumers that send the e-mails of all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Consumers>,
    /// When the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The generation of the spec that this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions Started, Suspended, Progressing, TransportAvailable, Complete, Failed and
    /// Finished, and those of kstatus: Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The phase of a run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The run waits to start; the condition Started says for what.
    Pending,
    /// The bills are being selected and published to Kafka.
    Publishing,
    /// The consumers are sending; in a rehearsal, the e-mails are being rendered.
    Sending,
    /// Every selected bill was sent or skipped.
    Succeeded,
    /// The run ended with bills that failed or whose outcome is unknown; other runs can select
    /// those.
    CompletedWithFailures,
    /// The run ended before every bill had an outcome; the condition Failed says why.
    Failed,
}

impl RunPhase for Phase {
    const ALL: &[Self] = &[
        Self::Pending,
        Self::Publishing,
        Self::Sending,
        Self::Succeeded,
        Self::CompletedWithFailures,
        Self::Failed,
    ];
    const PENDING: Self = Self::Pending;
    const FAILED: Self = Self::Failed;

    fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::CompletedWithFailures | Self::Failed)
    }

    fn is_success(self) -> bool {
        self == Self::Succeeded
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Publishing => "Publishing",
            Self::Sending => "Sending",
            Self::Succeeded => "Succeeded",
            Self::CompletedWithFailures => "CompletedWithFailures",
            Self::Failed => "Failed",
        }
    }
}

/// The progress of a run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NotificationProgress {
    /// Bills that have an outcome.
    pub done: i64,
    /// Bills that the run selected.
    pub targets: i64,
    /// Percentage of the bills that have an outcome, rounded down; 100 only once all have.
    pub percent: i64,
    /// Bills per second: over the last 10 seconds, or over the whole run once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<i64>,
    /// When the last bill will have an outcome, at that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<Time>,
}

/// Bills by outcome. `sent`, `failed`, `skipped`, `unknown`, `open` and, in a rehearsal, `rendered`
/// add up to `targets`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NotificationCounts {
    /// Bills that the run selected.
    pub targets: i64,
    /// Bills that were published to Kafka at least once.
    pub published: i64,
    /// Bills that the mail server accepted.
    pub sent: i64,
    /// Bills that could not be sent or, in a rehearsal, not rendered.
    pub failed: i64,
    /// Bills that were not sent on purpose: without an address, sent by another run, or superseded.
    pub skipped: i64,
    /// Bills that may have been sent: the mail server's answer was lost.
    pub unknown: i64,
    /// Bills that have no outcome yet.
    pub open: i64,
    /// Bills that a rehearsal rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendered: Option<i64>,
}

/// The consumers that send the e-mails of all runs.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Consumers {
    /// Messages on the topic that no consumer has processed; absent while the lag cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Running consumers.
    pub replicas: i32,
    /// Consumers that are ready; absent if the operator does not scale them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<i32>,
    /// Consumers that the lag asks for; absent if the operator does not scale them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<i32>,
}
