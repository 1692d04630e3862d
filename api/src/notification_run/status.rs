//! What a `NotificationRun` reports, as the database has it. Counts are 64-bit integers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::RunPhase;

/// What the run has done so far.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NotificationRunStatus {
    /// Where the run stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How often its open bills were put on the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<i32>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<NotificationProgress>,
    /// Bills by what became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<NotificationCounts>,
    /// Who sends, for all runs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Consumers>,
    /// When the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Started, Suspended, Progressing, TransportAvailable, Complete, Failed, Finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where a run stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Waits for what it needs to start; the condition Started says for what.
    Pending,
    /// Chooses its bills and puts them on the topic.
    Publishing,
    /// Consumers send; a rehearsal renders.
    Sending,
    /// Every bill that it chose was sent, or needed no sending.
    Succeeded,
    /// Ended with bills that failed or whose outcome is unknown; other runs can select those.
    CompletedWithFailures,
    /// Ended before its bills had an outcome; the condition Failed says why.
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

    fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::CompletedWithFailures | Self::Failed)
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

/// How far the run is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NotificationProgress {
    /// Bills that have an outcome.
    pub done: i64,
    /// Bills that it chose.
    pub targets: i64,
    /// Bills done, in whole percent; 100 only when all are.
    pub percent: i64,
    /// Bills a second: over the last seconds, and over the whole run once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<i64>,
    /// When the last bill is expected to be done, at that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<Time>,
}

/// Bills by what became of them. `sent`, `failed`, `skipped`, `unknown`, `open` and, in a rehearsal, `rendered` are
/// together `targets`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NotificationCounts {
    /// Bills that it chose.
    pub targets: i64,
    /// Bills that were put on the topic at least once.
    pub published: i64,
    /// Bills that a mail server took.
    pub sent: i64,
    /// Bills that could not be sent, or in a rehearsal not rendered.
    pub failed: i64,
    /// Bills that needed no sending: no address, sent by another run, superseded.
    pub skipped: i64,
    /// Bills that may have been sent: the answer was lost.
    pub unknown: i64,
    /// Bills without an outcome.
    pub open: i64,
    /// Bills that a rehearsal rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendered: Option<i64>,
}

/// Who sends, for all runs together.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Consumers {
    /// Messages on the topic that no consumer is done with; absent while it can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Consumers that are running.
    pub replicas: i32,
    /// Of them, those that are ready; absent where something else scales them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<i32>,
    /// Consumers that the lag asks for; absent where something else scales them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<i32>,
}
