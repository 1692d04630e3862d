//! How far a run is, how fast it goes and when it may be done. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::report::whole_second;

/// The span that "recently" means wherever the database counts what was done recently.
pub(crate) const RECENTLY: SignedDuration = SignedDuration::from_secs(10);

/// Whole percent; 100 only when everything is `complete`, whatever was counted.
pub(crate) fn percent(done: i64, of: i64, complete: bool) -> i64 {
    if complete {
        return 100;
    }
    i64::try_from(i128::from(done) * 100 / i128::from(of.max(1))).unwrap_or(99).min(99)
}

pub(crate) fn per_second(count: i64, span: SignedDuration) -> Option<i64> {
    i64::try_from(i128::from(count) * 1_000_000 / span.as_micros().max(1)).ok()
}

/// When `left` are done at this rate; never for what stands still.
pub(crate) fn estimate(now: Timestamp, left: i64, per_second: i64) -> Option<Time> {
    if left <= 0 || per_second <= 0 {
        return None;
    }
    let seconds = SignedDuration::from_secs(left / per_second + i64::from(left % per_second > 0));
    now.checked_add(seconds).ok().map(whole_second)
}
