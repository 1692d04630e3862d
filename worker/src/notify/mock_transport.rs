//! `mock://`: takes its time, sends nothing, and fails as often as it is told to, always with the same mails.

use std::time::Duration;

use store::notification::ClaimedDelivery;
use url::Url;

use super::transport::{Delivery, TransportError, Words};

/// A transport that only pretends, for load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mock {
    latency: Duration,
    fail_per_million: u32,
}

impl Mock {
    pub(crate) fn parse(url: &Url) -> Result<Self, TransportError> {
        let mut mock = Self::default();
        for (name, value) in url.query_pairs() {
            let number = value.parse::<u32>().ok().filter(|number| *number <= 1_000_000);
            let number = number.ok_or_else(|| {
                TransportError::Address(format!("{name} must be a whole number from 0 to 1000000"))
            })?;
            match &*name {
                "latencyMs" => mock.latency = Duration::from_millis(number.into()),
                "failPerMillion" => mock.fail_per_million = number,
                other => return Err(TransportError::Address(format!("{other} is unknown"))),
            }
        }
        Ok(mock)
    }

    pub(crate) async fn send(&self, hand: &ClaimedDelivery) -> Delivery {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let ClaimedDelivery { month, key, attempt, .. } = *hand;
        if email::mock::fails(self.fail_per_million, month, key.member, key.revision, attempt) {
            Delivery::Refused(Words::new("550 refused by mock://, as it was told to"))
        } else {
            Delivery::Sent
        }
    }
}
