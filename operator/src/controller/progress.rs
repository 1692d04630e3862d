//! The progress of a run: percentage, rate and estimated completion. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::status_builder::whole_second;

/// The time span of every figure that is named `recently` in the database's snapshots.
pub(crate) const RECENTLY: SignedDuration = SignedDuration::from_secs(10);

/// In whole percent; 100 only if the work is `complete`, whatever the counts.
pub(crate) fn percent(done: i64, of: i64, complete: bool) -> i64 {
    if complete {
        return 100;
    }
    i64::try_from(i128::from(done) * 100 / i128::from(of.max(1))).unwrap_or(99).min(99)
}

pub(crate) fn per_second(count: i64, span: SignedDuration) -> Option<i64> {
    i64::try_from(i128::from(count) * 1_000_000 / span.as_micros().max(1)).ok()
}

/// When the `left` ones are done at this rate; None at a rate of 0.
pub(crate) fn estimate(now: Timestamp, left: i64, per_second: i64) -> Option<Time> {
    if left <= 0 || per_second <= 0 {
        return None;
    }
    let seconds = SignedDuration::from_secs(left / per_second + i64::from(left % per_second > 0));
    now.checked_add(seconds).ok().map(whole_second)
}
