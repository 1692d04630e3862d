//! Where months and local dates begin on the clock: the only module that asks the time-zone database.
//!
//! The database is the bundled one, whatever the machine has installed. A local date may begin after midnight (the
//! clock jumps over it), begin twice (the clock falls back over it), or never come at all.

use std::fmt;

use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

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
        // Look-ups ignore case; the name is compared with price books, so only its own spelling is taken.
        if rules.is_unknown() || rules.iana_name() != Some(name) {
            return Err(unknown());
        }
        Ok(Self { name: name.to_owned(), rules })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn local_date(&self, at: Timestamp) -> Date {
        self.rules.to_datetime(at).date()
    }

    /// The month's first instant, its end, and every change of the local date within.
    pub fn month(&self, month: BillingMonth) -> MonthOnClock {
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
        MonthOnClock { month, start, end, day_changes }
    }

    /// The first instant whose local date is `date`, or a later one where the zone skipped that date.
    fn first_instant(&self, date: Date) -> Timestamp {
        let changes = self.date_changes(date, date);
        changes.iter().find(|change| change.date >= date).expect("the span ends after the date").at
    }

    /// Every instant at which the local date changes, in order, from before the first instant of `first` to after the
    /// first one of the day after `last`.
    fn date_changes(&self, first: Date, last: Date) -> Vec<DateChange> {
        // No zone moves its clock by more than a day, so two days more at either end see every change.
        let days = first.saturating_sub(2.days()).series(1.day()).take_while(|day| *day <= last + 2.days());
        // Between two transitions the local date changes at midnight. A midnight that comes twice, or never, has two
        // candidates; the date at each candidate is looked up, so that a wrong one does no harm.
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

/// From this instant on the local date is this one.
struct DateChange {
    at: Timestamp,
    date: Date,
}

/// A billing month in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonthOnClock {
    month: BillingMonth,
    start: Timestamp,
    end: Timestamp,
    day_changes: Vec<DayChange>,
}

/// From this instant on the local date is this day of the month, counted from 0, or none of its days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DayChange {
    pub(crate) at: Timestamp,
    pub(crate) day: Option<u32>,
}

impl MonthOnClock {
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

    /// The changes within the month; the first is its start.
    pub(crate) fn day_changes(&self) -> &[DayChange] {
        &self.day_changes
    }

    /// Whether every instant of the month has a local date in it. The clock can fall back into the day before.
    pub(crate) fn stays_within(&self) -> bool {
        self.day_changes.iter().all(|change| change.day.is_some())
    }
}

/// All billing months of a zone, for looking up the one that holds an instant.
#[derive(Clone, Debug)]
pub struct MonthTable {
    /// The start of each month from 2000-01 to 2100-01, with its name.
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

    /// The month that holds the instant: the one whose first instant has come and whose end has not. None outside
    /// 2000–2099.
    pub fn month_of(&self, at: Timestamp) -> Option<BillingMonth> {
        let begun = self.starts.partition_point(|(start, _)| *start <= at);
        begun.checked_sub(1).and_then(|last| self.starts[last].1)
    }
}
