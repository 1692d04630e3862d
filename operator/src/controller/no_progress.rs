//! Whether a run that should work stands still. Pure.

use api::conditions::{self, PROGRESSING};
use api::reasons;
use api::run::Run;
use jiff::{SignedDuration, Timestamp};

/// Since when the run stands still, by the database's clock; none while it is shorter than the limit.
///
/// `last_done` and `now_there` are by the database's clock, `now` by this machine's, which dates the
/// conditions. Time in which the run could not work does not count: it was suspended, or the database
/// was unavailable.
pub(crate) fn since(
    run: &impl Run,
    now: Timestamp,
    now_there: Timestamp,
    last_done: Timestamp,
    limit: SignedDuration,
) -> Option<Timestamp> {
    let idle = now_there.duration_since(last_done);
    let working = match conditions::find(run.conditions(), PROGRESSING) {
        // It stood still already when it was looked at last.
        Some(condition) if condition.reason == reasons::NO_PROGRESS => idle,
        Some(condition) if condition.status == "True" => now.duration_since(condition.last_transition_time.0),
        _ => SignedDuration::ZERO,
    };
    let idle = idle.min(working);
    if idle < limit {
        return None;
    }
    now_there.checked_sub(idle).ok()
}

#[cfg(test)]
mod tests {
    use api::BillingRun;
    use api::conditions::ConditionUpdate;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    const MINUTE: SignedDuration = SignedDuration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn run(condition: Option<(bool, &str, i64)>) -> BillingRun {
        let spec = serde_json::json!({"month": "2026-10"});
        let mut run = BillingRun::new("october", serde_json::from_value(spec).unwrap());
        let status = run.status.get_or_insert_default();
        if let Some((state, reason, second)) = condition {
            let update = ConditionUpdate::new(PROGRESSING, state, reason, "");
            status.conditions = conditions::replace(&[], &[update], None, &Time(at(second)));
        }
        run
    }

    /// The database's clock is 1000 s ahead.
    fn since_when(condition: Option<(bool, &str, i64)>, now: i64, last_done: i64) -> Option<i64> {
        let there = |second: i64| at(second + 1000);
        let since = since(&run(condition), at(now), there(now), there(last_done), MINUTE)?;
        Some(since.as_second() - there(0).as_second())
    }

    #[test]
    fn a_run_that_works_stands_still_once_the_limit_is_over() {
        let billing = Some((true, "Billing", 0));
        assert_eq!(since_when(billing, 59, 0), None);
        assert_eq!(since_when(billing, 60, 0), Some(0));
        assert_eq!(since_when(billing, 70, 30), None);
        assert_eq!(since_when(billing, 200, 30), Some(30));
    }

    #[test]
    fn time_in_which_the_run_could_not_work_does_not_count() {
        // It was resumed at 500.
        let resumed = Some((true, "Billing", 500));
        assert_eq!(since_when(resumed, 559, 0), None);
        assert_eq!(since_when(resumed, 560, 0), Some(500));
        assert_eq!(since_when(Some((false, "DatabaseUnavailable", 0)), 500, 0), None);
        assert_eq!(since_when(None, 500, 0), None);
    }

    #[test]
    fn a_run_that_stands_still_does_so_until_something_is_done() {
        let still = Some((false, "NoProgress", 100));
        assert_eq!(since_when(still, 101, 30), Some(30));
        assert_eq!(since_when(still, 140, 139), None);
    }
}
