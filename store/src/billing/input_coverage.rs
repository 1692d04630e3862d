//! Whether the loads of the sources that a run requires cover every day of its month.

use std::collections::BTreeSet;

use domain::month::BillingMonth;
use jiff::civil::Date;
use sqlx::PgConnection;

use super::billing_error::BillingError;
use crate::error::During as _;
use crate::load::DataVersion;

/// A longer description is cut off: it becomes the message of a condition.
const MAX_LENGTH: usize = 2000;

/// A finished load, and the days that it covers if its manifest says so; the second is exclusive.
pub(super) struct CoveringLoad {
    source: String,
    days: Option<(Date, Date)>,
}

/// What the sources have not loaded of the month, in words; none if nothing is missing.
pub(super) async fn find_missing_input(
    tx: &mut PgConnection,
    month: BillingMonth,
    sources: &[String],
    data: &DataVersion,
) -> Result<Option<String>, BillingError> {
    if sources.is_empty() {
        return Ok(None);
    }
    let rows = sqlx::query!(
        r#"select source, days_from as "from: jiff_sqlx::Date", days_to as "to: jiff_sqlx::Date" from load
           where source = any($1) and state = 'FINISHED' and kind <> 'TAKE_BACK' and number <= $2 and number <> all($3)"#,
        sources,
        data.cutoff.get(),
        &data.taken_back
    )
    .fetch_all(tx)
    .await
    .during("cannot read which days are loaded")?;
    let loads: Vec<CoveringLoad> = rows
        .into_iter()
        .map(|row| CoveringLoad {
            source: row.source,
            days: row.from.zip(row.to).map(|(from, to)| (from.to_jiff(), to.to_jiff())),
        })
        .collect();
    Ok(describe_missing(month, sources, &loads))
}

/// The same, of these loads.
pub(super) fn describe_missing(
    month: BillingMonth,
    sources: &[String],
    loads: &[CoveringLoad],
) -> Option<String> {
    let sources: BTreeSet<&String> = sources.iter().collect();
    let missing: Vec<String> =
        sources.into_iter().filter_map(|source| describe_source(month, source, loads)).collect();
    if missing.is_empty() {
        return None;
    }
    let mut text = missing.join("; ");
    if let Some((end, _)) = text.char_indices().nth(MAX_LENGTH) {
        text.truncate(end);
        text.push('…');
    }
    Some(text)
}

fn describe_source(month: BillingMonth, source: &str, loads: &[CoveringLoad]) -> Option<String> {
    let own: Vec<&CoveringLoad> = loads.iter().filter(|load| load.source == source).collect();
    if own.is_empty() {
        return Some(format!("source {source}: nothing is loaded"));
    }
    let covered: Vec<(Date, Date)> = own.iter().filter_map(|load| load.days).collect();
    if covered.is_empty() {
        return Some(format!(
            "source {source}: no load says which days it covers (manifest.yaml: files.usage.csv.days)"
        ));
    }
    let mut gaps: Vec<(Date, Date)> = Vec::new();
    let days = month.first_day().series(jiff::Span::new().days(1));
    for day in days.take_while(|day| *day < month.next_first_day()) {
        if covered.iter().any(|(from, to)| *from <= day && day < *to) {
            continue;
        }
        match gaps.last_mut() {
            Some((_, last)) if last.tomorrow().ok() == Some(day) => *last = day,
            _ => gaps.push((day, day)),
        }
    }
    if gaps.is_empty() {
        return None;
    }
    let gaps: Vec<String> = gaps
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first} to {last}") })
        .collect();
    Some(format!("source {source}: no load covers {}", gaps.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(source: &str, days: Option<(&str, &str)>) -> CoveringLoad {
        let date = |text: &str| text.parse().unwrap();
        CoveringLoad { source: source.to_owned(), days: days.map(|(from, to)| (date(from), date(to))) }
    }

    #[test]
    fn missing_days_are_named_by_source() {
        let whole = [load("a", Some(("2026-09-30", "2026-11-02")))];
        let halves = [
            load("a", Some(("2026-10-15", "2026-11-01"))),
            load("b", Some(("2026-10-01", "2026-10-15"))),
            load("a", Some(("2026-10-01", "2026-10-16"))),
        ];
        let gaps = [
            load("a", Some(("2026-10-02", "2026-10-03"))),
            load("a", Some(("2026-10-04", "2026-10-17"))),
            load("a", Some(("2026-10-20", "2026-10-31"))),
            load("a", None),
        ];
        let month_before = [load("a", Some(("2026-09-01", "2026-10-01")))];
        let cases: [(&[&str], &[CoveringLoad], Option<&str>); 7] = [
            (&["a"], &whole, None),
            (&["a", "a"], &halves, None),
            (
                &["a"],
                &gaps,
                Some("source a: no load covers 2026-10-01, 2026-10-03, 2026-10-17 to 2026-10-19, 2026-10-31"),
            ),
            (&["a"], &month_before, Some("source a: no load covers 2026-10-01 to 2026-10-31")),
            (&["a"], &[], Some("source a: nothing is loaded")),
            (
                &["a"],
                &[load("a", None)],
                Some("source a: no load says which days it covers (manifest.yaml: files.usage.csv.days)"),
            ),
            (
                &["c", "b", "a"],
                &halves,
                Some("source b: no load covers 2026-10-15 to 2026-10-31; source c: nothing is loaded"),
            ),
        ];
        for (sources, loads, missing) in cases {
            let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
            let found = describe_missing("2026-10".parse().unwrap(), &sources, loads);
            assert_eq!(found.as_deref(), missing);
        }
    }

    #[test]
    fn a_long_description_is_cut_off() {
        let sources: Vec<String> = (0..100).map(|number| format!("{number:064}")).collect();
        let missing = describe_missing("2026-10".parse().unwrap(), &sources, &[]).unwrap();
        assert_eq!(missing.chars().count(), MAX_LENGTH + 1);
    }
}
