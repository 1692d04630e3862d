//! The deliveries that this process holds a lease for: what the heartbeat renews, and what a sender
//! may still send.

use std::collections::HashMap;
use std::sync::Mutex;

use store::notification::ClaimedDelivery;

use super::lock::lock;

/// Every delivery under this process's lease, and whether it is handed over: the lease of such a
/// one is not renewed.
#[derive(Default)]
pub(super) struct InFlight(Mutex<HashMap<ClaimedDelivery, bool>>);

impl InFlight {
    pub(super) fn add(&self, deliveries: impl IntoIterator<Item = ClaimedDelivery>) {
        lock(&self.0).extend(deliveries.into_iter().map(|delivery| (delivery, false)));
    }

    /// False: the lease is lost, and another consumer may have the delivery.
    pub(super) fn contains(&self, delivery: &ClaimedDelivery) -> bool {
        lock(&self.0).contains_key(delivery)
    }

    pub(super) fn set_handed_over<'a>(
        &self,
        deliveries: impl IntoIterator<Item = &'a ClaimedDelivery>,
        handed_over: bool,
    ) {
        let mut held = lock(&self.0);
        for delivery in deliveries {
            if let Some(state) = held.get_mut(delivery) {
                *state = handed_over;
            }
        }
    }

    pub(super) fn remove<'a>(&self, deliveries: impl IntoIterator<Item = &'a ClaimedDelivery>) {
        let mut held = lock(&self.0);
        for delivery in deliveries {
            held.remove(delivery);
        }
    }

    /// The deliveries that are not handed over.
    pub(super) fn claimed(&self) -> Vec<ClaimedDelivery> {
        let held = lock(&self.0);
        held.iter().filter(|(_, handed_over)| !**handed_over).map(|(delivery, _)| *delivery).collect()
    }

    pub(super) fn is_claimed(&self, delivery: &ClaimedDelivery) -> bool {
        lock(&self.0).get(delivery) == Some(&false)
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}
