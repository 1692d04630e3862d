//! Prometheus metrics of lag and consumers. The series of a Deployment are removed when the
//! Deployment is gone.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::lag_cache::TopicGroup;
use crate::metrics::{Made, Registrar};

/// The outcome of one pass over a Deployment. A closed set, as metrics are labelled with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Out,
    In,
    Stay,
    /// The lag cannot be read.
    Unreadable,
    /// Its annotations are invalid.
    Invalid,
    /// The API server refused the change.
    Failed,
}

impl Direction {
    const ALL: [Self; 6] = [Self::Out, Self::In, Self::Stay, Self::Unreadable, Self::Invalid, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
            Self::Stay => "stay",
            Self::Unreadable => "unreadable",
            Self::Invalid => "invalid",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone)]
pub(crate) struct ScalingMetrics {
    lag: IntGaugeVec,
    readable: IntGaugeVec,
    replicas: IntGaugeVec,
    desired: IntGaugeVec,
    max: IntGaugeVec,
    decisions: IntCounterVec,
}

impl ScalingMetrics {
    pub(crate) fn new(make: &Registrar<'_>) -> Made<Self> {
        Ok(Self {
            lag: make.gauges(
                "monthend_kafka_lag",
                "Messages on the topic that the group has not committed, when it was last readable.",
                &["topic", "group"],
            )?,
            readable: make.gauges(
                "monthend_kafka_lag_readable",
                "1 when the lag could be read at the last attempt.",
                &["topic", "group"],
            )?,
            replicas: make.gauges(
                "monthend_consumer_replicas",
                "Ready replicas of a Deployment that is scaled on lag.",
                &["deployment"],
            )?,
            desired: make.gauges(
                "monthend_consumer_replicas_desired",
                "Replicas that a Deployment is scaled to.",
                &["deployment"],
            )?,
            max: make.gauges(
                "monthend_consumer_replicas_max",
                "The most replicas that a Deployment is scaled to, by its annotation; none of one that something else scales.",
                &["deployment"],
            )?,
            decisions: make.counters(
                "monthend_scale_decisions_total",
                "Scaling decisions for a Deployment, by direction.",
                &["deployment", "direction"],
            )?,
        })
    }

    pub(super) fn lag(&self, topic_group: &TopicGroup, lag: Option<u64>) {
        let labels = [topic_group.topic.as_str(), topic_group.group.as_str()];
        self.readable.with_label_values(&labels).set(i64::from(lag.is_some()));
        if let Some(lag) = lag {
            self.lag.with_label_values(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn consumers(&self, deployment: &str, ready: u32, desired: u32, max: u32) {
        self.max.with_label_values(&[deployment]).set(max.into());
        self.replicas.with_label_values(&[deployment]).set(ready.into());
        self.desired.with_label_values(&[deployment]).set(desired.into());
    }

    pub(super) fn decided(&self, deployment: &str, direction: Direction) {
        // For Prometheus, a series that appears at 1 has not increased.
        for any in Direction::ALL {
            self.decisions.with_label_values(&[deployment, any.as_str()]);
        }
        self.decisions.with_label_values(&[deployment, direction.as_str()]).inc();
    }

    /// A series that is no longer updated would show its last value until the operator restarts.
    pub(super) fn forget_deployments<'a>(&self, gone: impl Iterator<Item = &'a String>) {
        for name in gone {
            // Fails for a series that does not exist, which is fine.
            let _ = self.replicas.remove_label_values(&[name]);
            let _ = self.desired.remove_label_values(&[name]);
            let _ = self.max.remove_label_values(&[name]);
            for direction in Direction::ALL {
                let _ = self.decisions.remove_label_values(&[name, direction.as_str()]);
            }
        }
    }

    pub(super) fn forget_topic_groups<'a>(&self, gone: impl Iterator<Item = &'a TopicGroup>) {
        for TopicGroup { topic, group } in gone {
            let _ = self.lag.remove_label_values(&[topic, group]);
            let _ = self.readable.remove_label_values(&[topic, group]);
        }
    }

    /// Gives every family a series.
    #[cfg(test)]
    pub(crate) fn fill(&self, topic_group: &TopicGroup, deployment: &str) {
        self.lag(topic_group, Some(1));
        self.consumers(deployment, 1, 1, 6);
        self.decided(deployment, Direction::Stay);
    }
}
