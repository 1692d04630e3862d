//! The arguments and options that several commands have, and how their values are read.

use std::time::Duration;

use api::billing_run::{AfterSent, ScopeSelect};
use api::notification_run::Select;
use api::{Limit, MemberRange};
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use domain::month::BillingMonth;

use crate::completion;

/// A month.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OneMonth {
    /// Month, as YYYY-MM
    #[arg(value_name = "MONTH", add = ArgValueCandidates::new(completion::months))]
    pub(crate) month: BillingMonth,
}

/// A month, or all of them.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct AnyMonth {
    /// Month, as YYYY-MM
    #[arg(value_name = "MONTH", add = ArgValueCandidates::new(completion::months))]
    pub(crate) month: Option<BillingMonth>,
}

/// How a billing run is made.
#[derive(Debug, Default, Args)]
pub(crate) struct BillingOptions {
    /// ConfigMap with the price book [default: that of the last run]
    #[arg(long, value_name = "CONFIGMAP")]
    pub(crate) price_book: Option<String>,
    /// Entry of the ConfigMap
    #[arg(long, value_name = "KEY", default_value = "pricebook.yaml", requires = "price_book")]
    pub(crate) price_book_key: String,
    /// The draft waits for approval, also within the limits
    #[arg(long)]
    pub(crate) manual: bool,
    /// Number of the last load to bill [default: the last finished one]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) data_cutoff: Option<i64>,
    /// The most quarantined members without approval, such as 100 or 0.1%
    #[arg(long, value_name = "LIMIT", value_parser = limit)]
    pub(crate) max_quarantined: Option<Limit>,
    /// The most changed bills of a re-billing without approval, such as 100 or 1%
    #[arg(long, value_name = "LIMIT", value_parser = limit)]
    pub(crate) max_changed_bills: Option<Limit>,
    /// The most change of the total by a re-billing without approval, such as 100000 or 1%
    #[arg(long, value_name = "LIMIT", value_parser = limit)]
    pub(crate) max_total_delta: Option<Limit>,
    /// Worker pods at the same time
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(crate) parallelism: Option<i32>,
    /// Shards that the members are divided into
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(crate) shards: Option<i32>,
}

/// Which members.
#[derive(Debug, Default, Args)]
pub(crate) struct ScopeOptions {
    /// Only these members, up to 1000 ids
    #[arg(long, value_name = "ID,…", value_delimiter = ',', conflicts_with = "range",
          value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) members: Vec<i64>,
    /// Only the members from one id to another, both inclusive
    #[arg(long, value_name = "FROM-TO", value_parser = range)]
    pub(crate) range: Option<MemberRange>,
}

/// How a run is created.
#[derive(Debug, Default, Args)]
pub(crate) struct Apply {
    /// Name of the run [default: made of the month]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print what would be created, and create nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Whether to wait, and for how long.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Wait {
    /// Wait until the run has ended, or until its draft waits for approval
    #[arg(long)]
    pub(crate) wait: bool,
    /// Give up after this time, such as 30s, 10m or 2h; the run goes on [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// How long a pod may take.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PodTime {
    /// End the pod after this time, such as 30s, 10m or 2h [default: 12h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum ScopeSelectArg {
    /// Members that are in quarantine
    Quarantined,
    /// Members whose data came after the cut-off of the live revision
    Late,
}

impl From<ScopeSelectArg> for ScopeSelect {
    fn from(select: ScopeSelectArg) -> Self {
        match select {
            ScopeSelectArg::Quarantined => Self::Quarantined,
            ScopeSelectArg::Late => Self::Late,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum AfterSentArg {
    Revise,
    Adjust,
}

impl From<AfterSentArg> for AfterSent {
    fn from(after: AfterSentArg) -> Self {
        match after {
            AfterSentArg::Revise => Self::Revise,
            AfterSentArg::Adjust => Self::Adjust,
        }
    }
}

/// What `notify` selects; `retry` selects the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum SelectArg {
    /// Bills that were not attempted yet
    Ready,
    /// Bills of members who were sent another amount: they get a correction
    Corrected,
    /// Bills of members who had no address and have one now
    Skipped,
}

impl From<SelectArg> for Select {
    fn from(select: SelectArg) -> Self {
        match select {
            SelectArg::Ready => Self::Ready,
            SelectArg::Corrected => Self::Corrected,
            SelectArg::Skipped => Self::Skipped,
        }
    }
}

/// `30s`, `10m`, `2h`, or a number of seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is not a time such as 30s, 10m or 2h");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().map_err(|_| invalid())?;
    match number.checked_mul(seconds) {
        Some(0) => Err(format!("`{text}` leaves no time: give at least 1s")),
        Some(seconds) if seconds <= 7 * 24 * 3600 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is longer than a week (168h)")),
    }
}

/// `100` or `0.1%`. Its range is the API server's business.
fn limit(text: &str) -> Result<Limit, String> {
    if let Ok(count) = text.parse::<u32>() {
        return Ok(Limit::Count(count.into()));
    }
    let percent = Limit::Percent(text.to_owned());
    percent.is_exceeded(0_i64, 1_i64).map_err(|error| error.to_string())?;
    Ok(percent)
}

/// `FROM-TO`.
fn range(text: &str) -> Result<MemberRange, String> {
    let ends = text.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match ends {
        Some((from, to)) if 1 <= from && from <= to => Ok(MemberRange { from, to }),
        _ => Err(format!("`{text}` is not a range of ids such as 1-1000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("30s", 30), ("10m", 600), ("2h", 7200), ("45", 45)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, problem) in [
            ("ten", "`ten` is not a time such as 30s, 10m or 2h"),
            ("10 m", "`10 m` is not a time such as 30s, 10m or 2h"),
            ("0s", "`0s` leaves no time: give at least 1s"),
            ("200h", "`200h` is longer than a week (168h)"),
            ("99999999999999999h", "`99999999999999999h` is longer than a week (168h)"),
        ] {
            assert_eq!(duration(text), Err(problem.to_owned()));
        }
    }

    #[test]
    fn ranges_have_two_ends_in_order() {
        assert_eq!(range("1-100"), Ok(MemberRange { from: 1, to: 100 }));
        for text in ["100", "100-1", "0-5", "a-b", "1-2-3", ""] {
            assert_eq!(range(text), Err(format!("`{text}` is not a range of ids such as 1-1000")));
        }
    }

    #[test]
    fn limits_are_counts_or_percentages() {
        assert_eq!(limit("100"), Ok(Limit::Count(100)));
        assert_eq!(limit("0.1%"), Ok(Limit::Percent("0.1%".to_owned())));
        assert_eq!(
            limit("many"),
            Err("\"many\" is neither a count such as 100 nor a percentage such as \"0.1%\"".to_owned())
        );
    }
}
