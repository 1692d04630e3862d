//! When a schedule fires, and which month each time bills.

use jiff::Timestamp;

use super::*;
use crate::schedule::cron::Firings;

/// The times after `from`, as local times with their offset, and the month that each bills.
fn firings(schedule: &str, zone: &str, from: &str, count: usize) -> Vec<(String, String)> {
    let zone = Zone::named(zone).unwrap();
    let firings = Firings::new(schedule, &zone, time(from)).unwrap();
    std::iter::successors(firings.after(time(from)), |at| firings.after(*at))
        .take(count)
        .map(|at| {
            let local = zone.at(at);
            (format!("{} {}", local.datetime(), local.offset()), firings.billed_at(at).unwrap().to_string())
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(at, month)| ((*at).to_owned(), (*month).to_owned())).collect()
}

#[test]
fn each_time_bills_the_month_before_its_own_local_date() {
    // At 02:00 on the 1st in Seoul, UTC is still in the month before.
    assert_eq!(
        firings("0 2 1 * *", "Asia/Seoul", "2026-11-15T00:00:00Z", 3),
        pairs(&[
            ("2026-12-01T02:00:00 +09", "2026-11"),
            ("2027-01-01T02:00:00 +09", "2026-12"),
            ("2027-02-01T02:00:00 +09", "2027-01"),
        ])
    );
    // At 22:00 on the last day in New York, UTC is already in the next month.
    assert_eq!(
        firings("0 22 31 * *", "America/New_York", "2026-11-15T00:00:00Z", 2),
        pairs(&[("2026-12-31T22:00:00 -05", "2026-11"), ("2027-01-31T22:00:00 -05", "2026-12")])
    );
}

#[test]
fn a_time_that_the_clock_skips_fires_after_the_gap_and_one_that_it_repeats_fires_once() {
    assert_eq!(
        firings("30 2 8 * *", "America/New_York", "2026-02-20T00:00:00Z", 2),
        pairs(&[("2026-03-08T03:00:00 -04", "2026-02"), ("2026-04-08T02:30:00 -04", "2026-03")])
    );
    assert_eq!(
        firings("30 1 1 * *", "America/New_York", "2026-10-20T00:00:00Z", 2),
        pairs(&[("2026-11-01T01:30:00 -04", "2026-10"), ("2026-12-01T01:30:00 -05", "2026-11")])
    );
}

#[test]
fn a_schedule_that_never_fires_or_is_no_expression_is_refused() {
    let zone = Zone::named("Asia/Seoul").unwrap();
    let problem = |schedule: &str| Firings::new(schedule, &zone, Timestamp::UNIX_EPOCH).err().unwrap();
    for never in ["0 2 30 2 *", "0 2 31 4,6 *", "0 2 30-31 2 *"] {
        assert_eq!(problem(never), format!("spec.schedule `{never}` never fires: name a day that exists"));
    }
    for wrong in ["", "0 2 1 *", "0 0 2 1 * *", "0 25 1 * *", "0 2 5-1 * *", "daily"] {
        assert!(problem(wrong).contains("is no cron expression with five fields"), "{wrong}");
    }
    assert!(Firings::new("0 2 29 2 *", &zone, Timestamp::UNIX_EPOCH).is_ok());
}

#[test]
fn the_first_time_that_bills_a_month_is_found_among_many() {
    let zone = Zone::named("America/New_York").unwrap();
    let firings = Firings::new("*/5 * * * *", &zone, time("2026-11-15T00:00:00Z")).unwrap();
    let of = |since: &str| firings.of_month(month("2026-10"), time(since)).map(|at| at.to_string());
    assert_eq!(of("2026-01-01T00:00:00Z").as_deref(), Some("2026-11-01T04:00:00Z"));
    assert_eq!(of("2026-11-15T00:01:00Z").as_deref(), Some("2026-11-15T00:05:00Z"));
    assert_eq!(of("2026-12-01T05:00:00Z"), None);
}
