//! The instants at which months and local dates begin. The only module that reads the time-zone
//! database.
//!
//! It uses the bundled database and ignores the one of the machine. A local date can begin after
//! midnight (the clock jumps forward over midnight), begin twice (the clock is set back over
//! midnight), or be skipped entirely.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, Zoned};

use crate::month::BillingMonth;

/// The installation's time zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time zone of the IANA database, such as Asia/Seoul")]
pub struct UnknownZone(String);

impl Zone {
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        let unknown = || UnknownZone(name.to_owned());
        let rules = TimeZoneDatabase::bundled().get(name).map_err(|_| unknown())?;
        // Look-ups ignore case. The name is compared with price books, so only the exact spelling is
        // accepted.
        if rules.is_unknown() || rules.iana_name() != Some(name) {
            return Err(unknown());
        }
        Ok(Self { name: name.to_owned(), rules })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The instant with the local date and time of this zone.
    pub fn at(&self, at: Timestamp) -> Zoned {
        at.to_zoned(self.rules.clone())
    }

    pub fn local_date(&self, at: Timestamp) -> Date {
        self.local_time(at).date()
    }

    pub fn local_time(&self, at: Timestamp) -> DateTime {
        self.rules.to_datetime(at)
    }

    /// The month's first instant, its end, and every change of the local date within it.
    pub fn month(&self, month: BillingMonth) -> ZonedMonth {
        let start = self.first_instant(month.first_day());
        let end = self.first_instant(month.next_first_day());
        let mut date_changes = self.date_changes(month.first_day(), month.next_first_day());
        date_changes.retain(|change| (start..end).contains(&change.at));
        let mut day_changes: Vec<DayChange> = Vec::with_capacity(date_changes.len());
        for DateChange { at, date } in date_changes {
            let day =
                (BillingMonth::of(date) == Some(month)).then(|| u32::from(date.day().unsigned_abs()) - 1);
            if day_changes.last().is_none_or(|last| last.day != day) {
                day_changes.push(DayChange { at, day });
            }
        }
        ZonedMonth { month, start, end, day_changes }
    }

    /// The first instant whose local date is `date`, or a later one where the zone skipped that
    /// date.
    fn first_instant(&self, date: Date) -> Timestamp {
        let changes = self.date_changes(date, date);
        changes.iter().find(|change| change.date >= date).expect("the span ends after the date").at
    }

    /// Every instant at which the local date changes, in order: from before the first instant of
    /// `first` until after the first instant of the day after `last`.
    fn date_changes(&self, first: Date, last: Date) -> Vec<DateChange> {
        // No zone changes its clock by more than a day, so two more days at both ends include every change.
        let days = first.saturating_sub(2.days()).series(1.day()).take_while(|day| *day <= last + 2.days());
        // Between two transitions of the zone the local date changes at midnight. A midnight that occurs
        // twice or never has two candidates. The date is looked up at each candidate, so a wrong
        // candidate has no effect.
        let mut candidates: Vec<Timestamp> = days
            .flat_map(|day| {
                let midnight = day.at(0, 0, 0, 0);
                let (before, after) = match self.rules.to_ambiguous_timestamp(midnight).offset() {
                    AmbiguousOffset::Unambiguous { offset } => (offset, offset),
                    AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => {
                        (before, after)
                    }
                };
                [before, after].map(|offset| {
                    offset.to_timestamp(midnight).expect("a date near 2000 to 2099 is an instant")
                })
            })
            .collect();
        candidates.sort_unstable();
        if let (Some(&from), Some(&to)) = (candidates.first(), candidates.last()) {
            candidates.extend(self.rules.following(from).map(|t| t.timestamp()).take_while(|at| *at < to));
            candidates.sort_unstable();
        }
        let mut changes: Vec<DateChange> = Vec::with_capacity(candidates.len());
        for at in candidates {
            let date = self.local_date(at);
            if changes.last().is_none_or(|last| last.date != date) {
                changes.push(DateChange { at, date });
            }
        }
        changes
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// An instant at which the local date becomes `date`.
struct DateChange {
    at: Timestamp,
    date: Date,
}

/// A billing month in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonedMonth {
    month: BillingMonth,
    start: Timestamp,
    end: Timestamp,
    day_changes: Vec<DayChange>,
}

/// An instant from which the local date is `day` of the month, counted from 0, or a date outside of
/// the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DayChange {
    pub(crate) at: Timestamp,
    pub(crate) day: Option<u32>,
}

impl ZonedMonth {
    pub fn month(&self) -> BillingMonth {
        self.month
    }

    /// The first instant of the month.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The first instant after the month.
    pub fn end(&self) -> Timestamp {
        self.end
    }

    /// The changes within the month. The first is its start.
    pub(crate) fn day_changes(&self) -> &[DayChange] {
        &self.day_changes
    }

    /// Whether the local date of every instant of the month lies in the month. It does not if the
    /// clock is set back into the day before the 1st.
    pub(crate) fn has_only_own_dates(&self) -> bool {
        self.day_changes.iter().all(|change| change.day.is_some())
    }
}

/// All billing months of a zone, to look up the month of an instant.
#[derive(Clone, Debug)]
pub struct MonthTable {
    /// The start of each month from 2000-01 to 2100-01; the last start has no month.
    starts: Vec<(Timestamp, Option<BillingMonth>)>,
}

impl MonthTable {
    pub fn new(zone: &Zone) -> Self {
        let months = std::iter::successors(Some(BillingMonth::FIRST), |month| month.next());
        let mut starts: Vec<_> =
            months.map(|month| (zone.first_instant(month.first_day()), Some(month))).collect();
        starts.push((zone.first_instant(BillingMonth::LAST.next_first_day()), None));
        Self { starts }
    }

    /// The month that contains the instant. None outside of 2000–2099.
    pub fn month_of(&self, at: Timestamp) -> Option<BillingMonth> {
        let begun = self.starts.partition_point(|(start, _)| *start <= at);
        begun.checked_sub(1).and_then(|last| self.starts[last].1)
    }
}
