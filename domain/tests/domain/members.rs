//! A member's month as a fixture. It is priced like in the worker: segments first, then usage
//! summed between the boundaries.

use std::collections::BTreeMap;

use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use domain::pricing::{Adjustment, AdjustmentIdentity, Grant, Outcome, Pricer, Subscription, UsageSum};
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
        check(&pricer.price(&eligibility, &grants, &adjustments, &sums))
    }
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
