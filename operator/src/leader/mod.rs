//! Which of several operators acts: the holder of a Lease. What to do about the Lease is decided here, without a client;
//! [`lease`] does it.
//!
//! Another's clock is never compared with ours: a lease is over when its record has not changed for its whole duration
//! while we watched.

mod lease;

use std::time::Duration;

pub(crate) use lease::Election;

/// How long a leader that falls silent is waited for.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that couldn't renew for so long stops; well before the others may take over.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
const TRY_EVERY: Duration = Duration::from_secs(2);
/// Longer than any call should take, and short enough to try again before giving up.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// What a Lease says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    holder: Option<String>,
    duration: Duration,
    /// Changes with every renewal; only ever compared for equality.
    version: String,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Create,
    Renew,
    TakeOver,
    Wait,
}

fn decide(me: &str, found: Option<&Record>, unchanged_for: Duration) -> Move {
    match found {
        None => Move::Create,
        Some(record) => match record.holder.as_deref() {
            Some(holder) if holder == me => Move::Renew,
            // Released by a holder that stopped.
            None | Some("") => Move::TakeOver,
            Some(_) if unchanged_for >= record.duration => Move::TakeOver,
            Some(_) => Move::Wait,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: Option<&str>) -> Record {
        Record { holder: holder.map(str::to_owned), duration: DURATION, version: "7".to_owned() }
    }

    #[test]
    fn every_state_of_a_lease_has_its_move() {
        let second = Duration::from_secs(1);
        for (found, unchanged_for, expected) in [
            (None, Duration::ZERO, Move::Create),
            (Some(held_by(Some("me"))), Duration::ZERO, Move::Renew),
            (Some(held_by(Some("me"))), DURATION * 9, Move::Renew),
            (Some(held_by(Some("other"))), Duration::ZERO, Move::Wait),
            (Some(held_by(Some("other"))), DURATION - second, Move::Wait),
            (Some(held_by(Some("other"))), DURATION, Move::TakeOver),
            (Some(held_by(None)), Duration::ZERO, Move::TakeOver),
            (Some(held_by(Some(""))), Duration::ZERO, Move::TakeOver),
        ] {
            assert_eq!(
                decide("me", found.as_ref(), unchanged_for),
                expected,
                "{found:?} after {unchanged_for:?}"
            );
        }
    }

    #[test]
    fn a_leader_stops_before_another_may_start() {
        // One call may hang for its time-out and one pause may pass before the next look.
        assert!(GIVE_UP_AFTER + CALL_TIMEOUT < DURATION);
        assert!(TRY_EVERY + CALL_TIMEOUT < GIVE_UP_AFTER);
    }
}
