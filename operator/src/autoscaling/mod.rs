//! Scales the Deployments that ask for it on the lag of their Kafka consumer group. [`policy`]
//! decides how many replicas a lag asks for, without a client; [`lag_reader`] reads the lag,
//! [`target`] the Deployments' annotations, and [`scaler`] runs the loop. [`lag_cache`] hands the
//! last lag to the notification runs. Knows nothing of a run.

mod lag_cache;
mod lag_reader;
mod policy;
mod scaler;
mod scaling_metrics;
mod target;

#[cfg(test)]
pub(crate) use self::lag_cache::Consumers;
pub(crate) use self::lag_cache::{LagCache, LagView, TopicGroup};
pub(crate) use self::scaler::Scaler;
pub(crate) use self::scaling_metrics::ScalingMetrics;
