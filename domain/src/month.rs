//! Billing months and their days on the calendar. The instants of a month are in [`crate::zone`].

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// `YYYY-MM`, from 2000-01 to 2099-12.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BillingMonth {
    year: i16,
    month: i8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a month from 2000-01 to 2099-12, written YYYY-MM")]
pub struct InvalidMonth(String);

impl BillingMonth {
    pub const FIRST: Self = Self { year: 2000, month: 1 };
    pub const LAST: Self = Self { year: 2099, month: 12 };

    /// The month of a date, or none outside of 2000–2099.
    pub fn of(date: Date) -> Option<Self> {
        (2000..=2099).contains(&date.year()).then(|| Self { year: date.year(), month: date.month() })
    }

    pub fn first_day(self) -> Date {
        Date::constant(self.year, self.month, 1)
    }

    pub fn days(self) -> u32 {
        // A month has 28 to 31 days.
        u32::from(self.first_day().days_in_month().unsigned_abs())
    }

    /// The first day of the month after this one.
    pub fn next_first_day(self) -> Date {
        self.first_day().saturating_add(1.month())
    }

    pub fn next(self) -> Option<Self> {
        Self::of(self.next_first_day())
    }

    pub fn previous(self) -> Option<Self> {
        Self::of(self.first_day().saturating_sub(1.month()))
    }

    /// The days of this month from `from` (inclusive) to `to` (exclusive, none means no end). Empty
    /// if `to` is not later.
    pub fn days_between(self, from: Date, to: Option<Date>) -> DaySet {
        let position = |date: Date| {
            if date <= self.first_day() {
                0
            } else if date >= self.next_first_day() {
                self.days()
            } else {
                u32::from(date.day().unsigned_abs()) - 1
            }
        };
        DaySet::span(position(from), to.map_or(self.days(), position))
    }

    /// The date of a day of this month, counted from 0.
    pub(crate) fn date_of(self, day: u32) -> Date {
        self.first_day().saturating_add(i64::from(day).days())
    }
}

impl FromStr for BillingMonth {
    type Err = InvalidMonth;

    fn from_str(text: &str) -> Result<Self, InvalidMonth> {
        let parse = || {
            let (year, month) = text.split_once('-')?;
            let plain = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_digit());
            if !plain(year, 4) || !plain(month, 2) {
                return None;
            }
            Self::of(Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()?)
        };
        parse().ok_or_else(|| InvalidMonth(text.to_owned()))
    }
}

impl TryFrom<String> for BillingMonth {
    type Error = InvalidMonth;

    fn try_from(text: String) -> Result<Self, InvalidMonth> {
        text.parse()
    }
}

impl From<BillingMonth> for String {
    fn from(month: BillingMonth) -> String {
        month.to_string()
    }
}

impl fmt::Display for BillingMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl fmt::Debug for BillingMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of days of one month, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DaySet(u32);

impl DaySet {
    pub const EMPTY: Self = Self(0);

    /// The days from `from` (inclusive) to `to` (exclusive), both at most 31.
    pub(crate) fn span(from: u32, to: u32) -> Self {
        debug_assert!(to <= 31);
        let below = |day: u32| (1_u32 << day) - 1;
        if from < to { Self(below(to) & !below(from)) } else { Self::EMPTY }
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    pub fn contains(self, day: u32) -> bool {
        self.0 >> day & 1 == 1
    }

    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The first day of the set, or none when it is empty.
    pub fn first(self) -> Option<u32> {
        (!self.is_empty()).then(|| self.0.trailing_zeros())
    }

    /// The day after the last one of the set; 0 when it is empty.
    pub fn end(self) -> u32 {
        u32::BITS - self.0.leading_zeros()
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn month(text: &str) -> BillingMonth {
        text.parse().unwrap()
    }

    #[test]
    fn parses_and_formats_months() {
        for text in ["2000-01", "2024-02", "2099-12"] {
            assert_eq!(month(text).to_string(), text);
        }
        for text in [
            "",
            "2026",
            "2026-13",
            "2026-00",
            "1999-12",
            "2100-01",
            "26-10",
            "2026-1",
            "2026-10-01",
            "+026-10",
        ] {
            assert_eq!(text.parse::<BillingMonth>(), Err(InvalidMonth(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn months_have_a_length_and_neighbours() {
        for (text, days) in
            [("2024-02", 29), ("2023-02", 28), ("2000-02", 29), ("2026-04", 30), ("2026-12", 31)]
        {
            assert_eq!(month(text).days(), days);
        }
        assert_eq!(month("2026-12").next(), Some(month("2027-01")));
        assert_eq!(month("2026-01").previous(), Some(month("2025-12")));
        assert_eq!((BillingMonth::FIRST.previous(), BillingMonth::LAST.next()), (None, None));
        assert_eq!(BillingMonth::LAST.next_first_day(), date(2100, 1, 1));
    }

    #[test]
    fn periods_are_limited_to_the_days_of_the_month() {
        let october = month("2026-10");
        let cases = [
            (date(2026, 10, 11), None, 21, Some(10)),
            (date(2026, 1, 1), None, 31, Some(0)),
            (date(2026, 10, 31), None, 1, Some(30)),
            (date(2026, 11, 1), None, 0, None),
            (date(2026, 9, 1), Some(date(2026, 10, 1)), 0, None),
            (date(2026, 9, 1), Some(date(2026, 10, 2)), 1, Some(0)),
            (date(2026, 10, 5), Some(date(2026, 10, 5)), 0, None),
            (date(2026, 10, 5), Some(date(2026, 10, 4)), 0, None),
            (date(2026, 10, 30), Some(date(2027, 1, 1)), 2, Some(29)),
        ];
        for (from, to, count, first) in cases {
            let days = october.days_between(from, to);
            assert_eq!((days.count(), days.first()), (count, first), "{from} to {to:?}");
        }
        assert_eq!(month("2026-02").days_between(date(2026, 2, 1), None).end(), 28);
    }
}
