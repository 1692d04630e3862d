//! `mock://`: waits, sends nothing, and fails a configured share of the emails, always the same
//! ones.

use std::time::Duration;

use store::notification::ClaimedDelivery;
use url::Url;

use super::smtp::outcome::ContentOutcome;
use super::smtp::reply::ServerReply;
use super::transport_error::TransportError;

/// A transport for load tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MockTransport {
    latency: Duration,
    fail_per_million: u32,
}

impl MockTransport {
    /// # Errors
    /// A parameter is unknown, or no whole number from 0 to 1,000,000.
    pub(super) fn parse(url: &Url) -> Result<Self, TransportError> {
        let mut mock = Self::default();
        for (name, value) in url.query_pairs() {
            let number = value.parse::<u32>().ok().filter(|number| *number <= 1_000_000);
            let number = number.ok_or_else(|| {
                TransportError::Url(format!("{name} must be a whole number from 0 to 1000000"))
            })?;
            match &*name {
                "latencyMs" => mock.latency = Duration::from_millis(number.into()),
                "failPerMillion" => mock.fail_per_million = number,
                other => return Err(TransportError::Url(format!("{other} is unknown"))),
            }
        }
        Ok(mock)
    }

    pub(super) async fn send(&self, delivery: &ClaimedDelivery) -> ContentOutcome {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let ClaimedDelivery { month, key, attempt, .. } = *delivery;
        if email::mock::fails(self.fail_per_million, month, key.member, key.revision, attempt) {
            ContentOutcome::Rejected(ServerReply::new("550 rejected by mock://, as configured"))
        } else {
            ContentOutcome::Sent
        }
    }
}
