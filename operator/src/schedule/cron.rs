//! When a schedule fires: its cron expression in the installation's time zone. Pure.
//!
//! A time that the zone skips, as its clock goes forward, fires at the first instant after it. A
//! time that occurs twice, as the clock goes back, fires once.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use domain::month::BillingMonth;
use domain::zone::Zone;
use jiff::{SignedDuration, Timestamp};

pub(super) struct Firings<'a> {
    cron: Cron,
    zone: &'a Zone,
}

impl<'a> Firings<'a> {
    /// The error says, for a condition, why the expression cannot be used.
    pub(super) fn new(schedule: &str, zone: &'a Zone, now: Timestamp) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(schedule).map_err(|error| {
            format!("spec.schedule `{schedule}` is no cron expression with five fields: {error}; correct it")
        })?;
        let firings = Self { cron, zone };
        if firings.after(now).is_none() {
            return Err(format!("spec.schedule `{schedule}` never fires: name a day that exists"));
        }
        Ok(firings)
    }

    /// The first time after this one.
    pub(super) fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&self.zone.at(at), false).ok()?;
        Some(found.timestamp())
    }

    /// The month that a time bills: the one before its own date.
    pub(super) fn billed_at(&self, at: Timestamp) -> Option<BillingMonth> {
        BillingMonth::of(self.zone.local_date(at))?.previous()
    }

    /// The first time after `since` that bills the month.
    pub(super) fn of_month(&self, month: BillingMonth, since: Timestamp) -> Option<Timestamp> {
        let next = self.zone.month(month.next()?);
        let just_before = next.start().checked_sub(SignedDuration::from_secs(1)).ok()?;
        let at = self.after(since.max(just_before))?;
        (at < next.end() && self.billed_at(at) == Some(month)).then_some(at)
    }
}
