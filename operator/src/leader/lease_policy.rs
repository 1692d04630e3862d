//! What to do about the Lease. Pure. The clocks of two machines are never compared: a Lease has
//! expired when its record has not changed for its whole duration while this process watched.

use std::time::Duration;

/// A Lease that has not been renewed for this long can be taken over.
pub(super) const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops, well before another can take over.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// Between attempts to take or renew the Lease.
pub(super) const TRY_EVERY: Duration = Duration::from_secs(2);
/// For one call: longer than it should take, and short enough for another attempt before giving up.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// The fields of a Lease that decisions need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaseRecord {
    pub(super) holder: Option<String>,
    pub(super) duration: Duration,
    /// Changes with every renewal; only compared for equality.
    pub(super) version: String,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseAction {
    Create,
    Renew,
    TakeOver,
    Wait,
}

pub(super) fn decide(me: &str, found: Option<&LeaseRecord>, unchanged_for: Duration) -> LeaseAction {
    match found {
        None => LeaseAction::Create,
        Some(record) => match record.holder.as_deref() {
            Some(holder) if holder == me => LeaseAction::Renew,
            // Released by a holder that stopped.
            None | Some("") => LeaseAction::TakeOver,
            Some(_) if unchanged_for >= record.duration => LeaseAction::TakeOver,
            Some(_) => LeaseAction::Wait,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: Option<&str>) -> LeaseRecord {
        LeaseRecord { holder: holder.map(str::to_owned), duration: DURATION, version: "7".to_owned() }
    }

    #[test]
    fn every_state_of_a_lease_has_its_action() {
        let second = Duration::from_secs(1);
        for (found, unchanged_for, expected) in [
            (None, Duration::ZERO, LeaseAction::Create),
            (Some(held_by(Some("me"))), Duration::ZERO, LeaseAction::Renew),
            (Some(held_by(Some("me"))), DURATION * 9, LeaseAction::Renew),
            (Some(held_by(Some("other"))), Duration::ZERO, LeaseAction::Wait),
            (Some(held_by(Some("other"))), DURATION - second, LeaseAction::Wait),
            (Some(held_by(Some("other"))), DURATION, LeaseAction::TakeOver),
            (Some(held_by(None)), Duration::ZERO, LeaseAction::TakeOver),
            (Some(held_by(Some(""))), Duration::ZERO, LeaseAction::TakeOver),
        ] {
            assert_eq!(
                decide("me", found.as_ref(), unchanged_for),
                expected,
                "{found:?} after {unchanged_for:?}"
            );
        }
    }

    #[test]
    fn a_leader_stops_before_another_can_start() {
        // One call may time out, and one interval may pass before the next attempt.
        assert!(GIVE_UP_AFTER + CALL_TIMEOUT < DURATION);
        assert!(TRY_EVERY + CALL_TIMEOUT < GIVE_UP_AFTER);
    }
}
