//! The variables that templates can use, built from a bill. Those that only corrections have are in
//! `correction`.

use std::borrow::Cow;

use domain::money::MinorUnits;
use domain::pricing::ItemKind;
use handlebars::Context;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};

use crate::bill::{Bill, Line};
use crate::compose_error::ComposeError;
use crate::correction;
use crate::line_name::{Wording, line_name, reason};

/// The variables of a bill outside of any block.
pub(crate) const TOP: [&str; 20] = [
    "name",
    "memberId",
    "month",
    "firstDay",
    "lastDay",
    "monthDays",
    "revision",
    "currency",
    "plans",
    "addons",
    "discounts",
    "adjustments",
    "tax",
    "taxIncluded",
    "rounding",
    "baseAmount",
    "usageAmount",
    "discountAmount",
    "total",
    "credit",
];
/// The lists, each with the variables inside its `{{#each}}` block.
pub(crate) const IN_LISTS: [(&str, &[&str]); 5] = [
    ("plans", &["name", "code", "days", "partial", "amount", "usage"]),
    ("usage", &["name", "kind", "used", "free", "over", "blocks", "per", "inBlocks", "amount"]),
    ("addons", &["name", "code", "days", "partial", "amount"]),
    ("discounts", &["name", "code", "days", "partial", "amount"]),
    ("adjustments", &["name", "code", "reason", "amount"]),
];

/// The variables of one bill. Every variable is always present, so a misspelt one fails with every
/// bill.
pub(crate) fn context(bill: &Bill<'_>, wording: &Wording<'_>) -> Result<Context, ComposeError> {
    let month = bill.month;
    let month_days = month.days();
    let mut lists = Lists::default();
    for line in bill.lines {
        lists.add(bill, wording, line)?;
    }
    let amounts = &bill.amounts;
    // An exclusive tax is a line of the bill. An inclusive tax is not, but is shown below the total.
    let included = lists.tax.is_null() && amounts.tax != MinorUnits::ZERO;
    let last_day = month.next_first_day().yesterday().unwrap_or(month.first_day());
    let mut top = Map::new();
    let mut put = |key: &str, value: Value| top.insert(key.to_owned(), value);
    put("name", cleaned(bill.name.expose_secret()).into());
    put("memberId", bill.member.to_string().into());
    put("month", month.to_string().into());
    put("firstDay", month.first_day().to_string().into());
    put("lastDay", last_day.to_string().into());
    put("monthDays", month_days.into());
    put("revision", bill.revision.get().into());
    put("currency", bill.book.currency.code().into());
    put("plans", lists.plans.into());
    put("addons", lists.addons.into());
    put("discounts", lists.discounts.into());
    put("adjustments", lists.adjustments.into());
    put("tax", lists.tax);
    put("taxIncluded", if included { amounts.tax.get().into() } else { Value::Null });
    put("rounding", lists.rounding);
    put("baseAmount", amounts.base.get().into());
    put("usageAmount", amounts.usage.get().into());
    put("discountAmount", amounts.discount.get().into());
    put("total", amounts.total.get().into());
    put("credit", (amounts.total < MinorUnits::ZERO).into());
    if let Some(sent) = &bill.corrects {
        correction::add_variables(&mut top, bill, sent, wording);
    }
    Ok(Context::from(Value::Object(top)))
}

/// The text as one line: control characters, line breaks of any kind and marks that change the
/// direction of text become blanks.
pub(crate) fn cleaned(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if !text.chars().any(is_forbidden_in_line) {
        return Cow::Borrowed(text);
    }
    let blanked: String = text.chars().map(|c| if is_forbidden_in_line(c) { ' ' } else { c }).collect();
    Cow::Owned(blanked.trim().to_owned())
}

pub(crate) fn is_forbidden_in_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

struct Lists {
    plans: Vec<Value>,
    addons: Vec<Value>,
    discounts: Vec<Value>,
    adjustments: Vec<Value>,
    tax: Value,
    rounding: Value,
}

impl Default for Lists {
    fn default() -> Self {
        Self {
            plans: Vec::new(),
            addons: Vec::new(),
            discounts: Vec::new(),
            adjustments: Vec::new(),
            tax: Value::Null,
            rounding: Value::Null,
        }
    }
}

impl Lists {
    fn add(&mut self, bill: &Bill<'_>, wording: &Wording<'_>, line: &Line<'_>) -> Result<(), ComposeError> {
        let item = &line.item;
        let amount = Value::from(item.amount.get());
        let days = item.days.unwrap_or_default();
        let partial = item.days.is_some_and(|days| i64::from(days) < i64::from(bill.month.days()));
        let name = || line_name(line, bill.book, wording);
        let of_days = || {
            let mut entry = Map::new();
            entry.insert("name".to_owned(), name().into());
            entry.insert("code".to_owned(), item.code.into());
            entry.insert("days".to_owned(), days.into());
            entry.insert("partial".to_owned(), partial.into());
            entry
        };
        let mut entry = match item.kind {
            ItemKind::Base => {
                let mut entry = of_days();
                entry.insert("usage".to_owned(), Value::Array(Vec::new()));
                entry
            }
            ItemKind::Addon | ItemKind::Discount => of_days(),
            ItemKind::Usage => return self.add_usage(bill, wording, line),
            ItemKind::Adjustment => {
                let mut entry = Map::new();
                entry.insert("name".to_owned(), name().into());
                entry.insert("code".to_owned(), item.code.into());
                entry.insert("reason".to_owned(), reason(line).map_or(Value::Null, Value::from));
                entry
            }
            ItemKind::Tax => {
                self.tax = amount;
                return Ok(());
            }
            ItemKind::Rounding => {
                self.rounding = amount;
                return Ok(());
            }
        };
        entry.insert("amount".to_owned(), amount);
        let list = match item.kind {
            ItemKind::Base => &mut self.plans,
            ItemKind::Addon => &mut self.addons,
            ItemKind::Discount => &mut self.discounts,
            _ => &mut self.adjustments,
        };
        list.push(Value::Object(entry));
        Ok(())
    }

    /// Usage belongs to the plan whose base fee precedes it.
    fn add_usage(
        &mut self,
        bill: &Bill<'_>,
        wording: &Wording<'_>,
        line: &Line<'_>,
    ) -> Result<(), ComposeError> {
        let item = &line.item;
        let without_plan = || ComposeError::UsageWithoutPlan { line: item.line_no };
        let plan = self.plans.last_mut().and_then(Value::as_object_mut).ok_or_else(without_plan)?;
        let rates = plan.get("code").and_then(Value::as_str).and_then(|code| bill.book.plan(code));
        let rate = rates.and_then(|plan| plan.usage.iter().find(|rate| rate.kind == item.code));
        let (used, free) = (item.used.unwrap_or_default(), item.free.unwrap_or_default());
        let mut entry = Map::new();
        entry.insert("name".to_owned(), line_name(line, bill.book, wording).into());
        entry.insert("kind".to_owned(), item.code.into());
        entry.insert("used".to_owned(), used.into());
        entry.insert("free".to_owned(), free.into());
        entry.insert("over".to_owned(), used.saturating_sub(free).max(0).into());
        entry.insert("blocks".to_owned(), item.quantity.into());
        let per = rate.map_or(1, |rate| rate.per);
        entry.insert("per".to_owned(), per.into());
        entry.insert("inBlocks".to_owned(), (per > 1).into());
        entry.insert("amount".to_owned(), item.amount.get().into());
        plan.get_mut("usage")
            .and_then(Value::as_array_mut)
            .ok_or_else(without_plan)?
            .push(Value::Object(entry));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_to_one_line() {
        for (text, cleaned_text) in [
            (" 김민서 ", "김민서"),
            ("a\r\nb", "a  b"),
            ("\0", ""),
            ("a\u{2028}b\u{202e}", "a b"),
            ("a\tb", "a b"),
        ] {
            assert_eq!(cleaned(text), cleaned_text);
        }
    }
}
