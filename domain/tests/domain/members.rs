//! A member's month as a fixture. It is priced like in the worker: segments first, then usage
//! summed between the boundaries.

use std::collections::BTreeMap;

use domain::explanation::{Evidence, Explanation, UsageSpan};
use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use domain::pricing::{Adjustment, AdjustmentIdentity, Bill, Grant, Outcome, Pricer, Subscription, UsageSum};
use domain::zone::{Zone, ZonedMonth};
use jiff::Timestamp;
use jiff::civil::Date;

#[derive(Clone, Debug)]
pub(crate) struct Dated {
    pub(crate) code: String,
    pub(crate) from: Date,
    pub(crate) to: Option<Date>,
}

#[derive(Clone, Debug)]
pub(crate) struct OneOff {
    pub(crate) id: i64,
    pub(crate) code: String,
    pub(crate) amount: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct UsageRow {
    pub(crate) kind: String,
    pub(crate) quantity: i64,
    pub(crate) started_at: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) subscriptions: Vec<Dated>,
    pub(crate) grants: Vec<Dated>,
    pub(crate) adjustments: Vec<OneOff>,
    pub(crate) usage: Vec<UsageRow>,
}

fn dated(code: &str, from: &str, to: &str) -> Dated {
    let to = (!to.is_empty()).then(|| to.parse().unwrap());
    Dated { code: code.to_owned(), from: from.parse().unwrap(), to }
}

/// Dates are written as in the input files: an empty `to` means no end.
impl Member {
    pub(crate) fn on(plan: &str, from: &str, to: &str) -> Self {
        Self::default().and_on(plan, from, to)
    }

    pub(crate) fn and_on(mut self, plan: &str, from: &str, to: &str) -> Self {
        self.subscriptions.push(dated(plan, from, to));
        self
    }

    pub(crate) fn granted(mut self, discount: &str, from: &str, to: &str) -> Self {
        self.grants.push(dated(discount, from, to));
        self
    }

    pub(crate) fn adjusted(mut self, id: i64, code: &str, amount: i64) -> Self {
        self.adjustments.push(OneOff { id, code: code.to_owned(), amount });
        self
    }

    pub(crate) fn used(mut self, kind: &str, quantity: i64, started_at: &str) -> Self {
        self.usage.push(UsageRow {
            kind: kind.to_owned(),
            quantity,
            started_at: started_at.parse().unwrap(),
        });
        self
    }

    /// The outcome as lines of text, in a format that the reference implementation shares.
    pub(crate) fn priced(&self, book: &PriceBook, month: &ZonedMonth) -> Vec<String> {
        self.with_outcome(book, month, describe)
    }

    pub(crate) fn with_outcome<T>(
        &self,
        book: &PriceBook,
        month: &ZonedMonth,
        check: impl FnOnce(&Outcome<'_>) -> T,
    ) -> T {
        let subscriptions: Vec<_> = self
            .subscriptions
            .iter()
            .map(|s| Subscription { plan: &s.code, from: s.from, to: s.to })
            .collect();
        let grants: Vec<_> =
            self.grants.iter().map(|g| Grant { discount: &g.code, from: g.from, to: g.to }).collect();
        let adjustments: Vec<_> = self
            .adjustments
            .iter()
            .map(|a| Adjustment {
                id: AdjustmentIdentity::Loaded(a.id.try_into().unwrap()),
                code: &a.code,
                amount: MinorUnits::new(a.amount),
            })
            .collect();
        let pricer = Pricer::new(book, month);
        let eligibility = pricer.eligibility(&subscriptions);
        let boundaries = eligibility.usage_boundaries();
        assert!(
            boundaries.is_sorted() && boundaries.iter().all(|at| month.start() < *at && *at < month.end())
        );
        let mut sums: BTreeMap<(&str, usize), (i128, u64)> = BTreeMap::new();
        for row in &self.usage {
            if row.started_at < month.start() || row.started_at >= month.end() {
                continue;
            }
            let interval = boundaries.iter().filter(|at| **at <= row.started_at).count();
            let (quantity, rows) = sums.entry((&row.kind, interval)).or_default();
            *quantity += i128::from(row.quantity);
            *rows += 1;
        }
        let sums: Vec<_> = sums
            .into_iter()
            .map(|((kind, interval), (quantity, rows))| UsageSum { kind, interval, quantity, rows })
            .collect();
        let outcome = pricer.price(&eligibility, &grants, &adjustments, &sums);
        // Whatever a test is about, its bill can be explained.
        let (again, steps) = pricer.price_with_steps(&eligibility, &grants, &adjustments, &sums);
        assert_eq!(outcome, again);
        if let Outcome::Billed(bill) = &outcome {
            let zone = Zone::named(&book.time_zone).unwrap();
            let usage = self.spans(month, boundaries);
            let evidence = Evidence { pricer, zone: &zone, usage: &usage, reasons: &[] };
            check_explanation(&Explanation::new(&evidence, &eligibility, bill, &steps), bill);
        }
        check(&outcome)
    }

    /// The explanation of the bill.
    pub(crate) fn explained(&self, book: &PriceBook, month: &ZonedMonth) -> Explanation {
        let subscriptions: Vec<_> = self
            .subscriptions
            .iter()
            .map(|s| Subscription { plan: &s.code, from: s.from, to: s.to })
            .collect();
        let grants: Vec<_> =
            self.grants.iter().map(|g| Grant { discount: &g.code, from: g.from, to: g.to }).collect();
        let adjustments: Vec<_> = self
            .adjustments
            .iter()
            .map(|a| Adjustment {
                id: AdjustmentIdentity::Loaded(a.id.try_into().unwrap()),
                code: &a.code,
                amount: MinorUnits::new(a.amount),
            })
            .collect();
        let pricer = Pricer::new(book, month);
        let eligibility = pricer.eligibility(&subscriptions);
        let usage = self.spans(month, eligibility.usage_boundaries());
        let sums: Vec<_> = usage
            .iter()
            .map(|span| UsageSum {
                kind: span.kind,
                interval: span.interval,
                quantity: span.quantity,
                rows: span.records,
            })
            .collect();
        let (outcome, steps) = pricer.price_with_steps(&eligibility, &grants, &adjustments, &sums);
        let Outcome::Billed(bill) = outcome else { panic!("{outcome:?}") };
        let zone = Zone::named(&book.time_zone).unwrap();
        let reasons = [(AdjustmentIdentity::Loaded(7.try_into().unwrap()), "sorry,\n for the outage")];
        Explanation::new(
            &Evidence { pricer, zone: &zone, usage: &usage, reasons: &reasons },
            &eligibility,
            &bill,
            &steps,
        )
    }

    fn spans(&self, month: &ZonedMonth, boundaries: &[Timestamp]) -> Vec<UsageSpan<'_>> {
        let mut spans: Vec<UsageSpan<'_>> = Vec::new();
        for row in self.usage.iter().filter(|row| (month.start()..month.end()).contains(&row.started_at)) {
            let interval = boundaries.iter().filter(|at| **at <= row.started_at).count();
            let (quantity, at) = (i128::from(row.quantity), row.started_at);
            match spans.iter_mut().find(|span| span.kind == row.kind && span.interval == interval) {
                Some(span) => {
                    span.records += 1;
                    span.quantity += quantity;
                    span.first = span.first.min(at);
                    span.last = span.last.max(at);
                }
                None => {
                    spans.push(UsageSpan {
                        kind: &row.kind,
                        interval,
                        records: 1,
                        quantity,
                        first: at,
                        last: at,
                    });
                }
            }
        }
        spans
    }
}

/// Its lines are those of the bill to the unit, each ends with the amount that its words lead to, and it
/// accounts for every usage row.
fn check_explanation(explanation: &Explanation, bill: &Bill<'_>) {
    let lines: Vec<_> = explanation
        .billed_lines()
        .map(|line| (line.line_no.unwrap(), line.kind, line.code.as_str(), line.amount))
        .collect();
    let items: Vec<_> = bill
        .items
        .iter()
        .map(|item| (item.line_no, item.kind.as_str(), item.code, item.amount.exact()))
        .collect();
    assert_eq!(lines, items);
    assert_eq!(explanation.total, bill.total_amount.exact());
    assert_eq!(
        explanation
            .lines
            .iter()
            .filter(|line| line.line_no.is_none() && line.kind != "TAX")
            .map(|line| line.amount)
            .sum::<i128>(),
        0
    );
    let tax: i128 = explanation.lines.iter().filter(|line| line.kind == "TAX").map(|line| line.amount).sum();
    assert_eq!(tax, bill.tax_amount.exact());
    for line in explanation.lines.iter().filter(|line| !["ADJUSTMENT", "ROUNDING"].contains(&line.kind)) {
        let last = line.steps.last().unwrap();
        let expected = line.amount.unsigned_abs();
        if line.line_no.is_some() {
            assert_eq!(last_number(last), Some(expected), "{line:?}");
        }
    }
    let (rated, unbillable): (Vec<_>, Vec<_>) =
        explanation.free_usage.iter().partition(|usage| !usage.unbillable);
    let charged: u64 =
        explanation.lines.iter().filter_map(|line| line.usage.as_ref()).map(|usage| usage.records).sum();
    assert_eq!(charged + rated.iter().map(|usage| usage.records).sum::<u64>(), bill.rated_rows);
    assert_eq!(unbillable.iter().map(|usage| usage.records).sum::<u64>(), bill.unbillable_rows);
}

/// The digits of the last number of a sentence, which is an amount in the main unit.
fn last_number(sentence: &str) -> Option<u128> {
    let end = sentence.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = sentence[..end].rfind(|c: char| !c.is_ascii_digit() && c != ',' && c != '.');
    let number = &sentence[start.map_or(0, |at| at)..end];
    number.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// `LINE KIND CODE QUANTITY AMOUNT [DETAILS]` for each item, then the columns and the usage counts.
pub(crate) fn describe(outcome: &Outcome<'_>) -> Vec<String> {
    let bill = match outcome {
        Outcome::Billed(bill) => bill,
        Outcome::Quarantined { quarantine, usage_rows } => {
            return vec![format!("{}, {usage_rows} rows", quarantine.code)];
        }
        Outcome::NotEligible { usage_rows } => return vec![format!("not eligible, {usage_rows} rows")],
    };
    let mut lines: Vec<String> = bill
        .items
        .iter()
        .map(|item| {
            let days = item.days.map_or_else(String::new, |days| format!(" days {days}"));
            let used = item.used.map_or_else(String::new, |used| format!(" used {used}"));
            let free = item.free.map_or_else(String::new, |free| format!(" free {free}"));
            format!(
                "{} {} {} {} {}{days}{used}{free}",
                item.line_no, item.kind, item.code, item.quantity, item.amount
            )
        })
        .collect();
    lines.push(format!(
        "base {} usage {} discount {} adjustment {} tax {} rounding {} total {}",
        bill.base_amount,
        bill.usage_amount,
        bill.discount_amount,
        bill.adjustment_amount,
        bill.tax_amount,
        bill.rounding_amount,
        bill.total_amount
    ));
    lines.push(format!("rated {} unbillable {}", bill.rated_rows, bill.unbillable_rows));
    lines
}

pub(crate) fn month(zone: &str, month: &str) -> ZonedMonth {
    Zone::named(zone).unwrap().month(month.parse::<BillingMonth>().unwrap())
}
