//! What the tasks of a pipeline share.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::in_flight::InFlight;
use super::rate_limiter::RateLimiter;
use super::send_queue::SendQueue;
use crate::notify::metrics::Metrics;
use crate::notify::smtp::circuit_breaker::CircuitBreaker;
use crate::notify::smtp::retry_policy::RetryPolicy;

pub(super) struct SharedState {
    pub(super) queue: Arc<SendQueue>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) circuit_breaker: CircuitBreaker,
    pub(super) rate_limiter: RateLimiter,
    pub(super) metrics: Metrics,
    pub(super) retry_policy: RetryPolicy,
    /// From asking for a hand-over until the content is sent or given up. Well within the lease.
    pub(super) hand_over_timeout: Duration,
    pub(super) connections: u32,
    pub(super) stop: CancellationToken,
}
