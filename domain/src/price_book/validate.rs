//! Validates a parsed document and builds the price book, or lists all of its problems.

use std::collections::HashSet;

use super::book::{
    BillRounding, Discount, DiscountKind, DiscountTarget, Plan, PlanKind, PriceBook, Proration, RoundingMode,
    Tax, TaxMode, Tier, UsageKind, UsageRate,
};
use super::document;
use super::names::Names;
use super::problem::{PriceBookError, Problems};
use crate::digest::Sha256Digest;
use crate::locale::is_language_tag;
use crate::money::{Currency, Decimal, MinorUnits};
use crate::month::BillingMonth;
use crate::zone::Zone;

const MAX_KIND_LEN: usize = 32;

/// An invalid field gives `None` and adds a problem. A plan or discount with an invalid field is
/// left out, so a price book is built only if there is no problem at all.
pub(super) fn validate(raw: document::Book, sha256: Sha256Digest) -> Result<PriceBook, PriceBookError> {
    let mut problems = Problems::default();
    let p = &mut problems;
    check_text(p, "version", &raw.version);
    let currency = read_field::<Currency>(p, "currency", &raw.currency);
    if let Err(unknown) = Zone::named(&raw.time_zone) {
        p.add("timeZone", unknown.to_string());
    }
    let valid_from = read_field::<BillingMonth>(p, "validFrom", &raw.valid_from);
    let valid_to = raw.valid_to.as_ref().and_then(|text| read_field::<BillingMonth>(p, "validTo", text));
    if let (Some(from), Some(to)) = (valid_from, valid_to)
        && to < from
    {
        p.add("validTo", format!("is {to}, before validFrom, which is {from}"));
    }
    let mut usage_kinds = usage_kinds(p, raw.usage_kinds);
    let mut plans = plans(p, raw.plans, &usage_kinds);
    let mut discounts = discounts(p, raw.discounts);
    let tax = raw.tax.and_then(|tax| {
        let mode = match tax.mode {
            document::TaxMode::Inclusive => TaxMode::Inclusive,
            document::TaxMode::Exclusive => TaxMode::Exclusive,
        };
        Some(Tax { rate: percent(p, "tax.rate", &tax.rate)?, mode })
    });
    let bill_rounding = raw.bill_rounding.and_then(|rounding| {
        let mode = match rounding.mode {
            document::RoundingMode::Down => RoundingMode::Down,
            document::RoundingMode::HalfUp => RoundingMode::HalfUp,
        };
        Some(BillRounding { unit: MinorUnits::new(whole(p, "billRounding.unit", rounding.unit, 1)?), mode })
    });

    let (Some(currency), Some(valid_from)) = (currency, valid_from) else {
        return Err(problems.into_error());
    };
    problems.none_or_err()?;
    usage_kinds.sort_unstable_by(|a, b| a.code.cmp(&b.code));
    plans.sort_unstable_by(|a, b| a.code.cmp(&b.code));
    discounts.sort_unstable_by(|a, b| (a.priority, &a.code).cmp(&(b.priority, &b.code)));
    let mut discounts_by_code: Vec<usize> = (0..discounts.len()).collect();
    discounts_by_code.sort_unstable_by_key(|i| &discounts[*i].code);
    Ok(PriceBook {
        version: raw.version,
        sha256,
        currency,
        time_zone: raw.time_zone,
        valid_from,
        valid_to,
        tax,
        bill_rounding,
        usage_kinds,
        plans,
        discounts,
        discounts_by_code,
    })
}

fn plans(p: &mut Problems, raw: Vec<document::Plan>, declared: &[UsageKind]) -> Vec<Plan> {
    check_unique(p, "plans", raw.iter().map(|plan| plan.code.as_str()));
    let plan = |p: &mut Problems, at: String, raw: document::Plan| {
        check_text(p, &format!("{at}.code"), &raw.code);
        let base_fee = whole(p, &format!("{at}.baseFee"), raw.base_fee, 0);
        let (kind, usage) = match (raw.kind, raw.usage) {
            (document::PlanType::Base, usage) => {
                (PlanKind::Base, usage_rates(p, &format!("{at}.usage"), usage, declared))
            }
            (document::PlanType::Addon, None) => (PlanKind::Addon, Vec::new()),
            (document::PlanType::Addon, Some(_)) => {
                p.add(format!("{at}.usage"), "an add-on has a fee and no usage: leave it out");
                (PlanKind::Addon, Vec::new())
            }
        };
        let names = names(p, &format!("{at}.name"), raw.name, &raw.code);
        Some(Plan { names, code: raw.code, kind, base_fee: MinorUnits::new(base_fee?), usage })
    };
    raw.into_iter().enumerate().filter_map(|(i, raw)| plan(p, format!("plans[{i}]"), raw)).collect()
}

fn usage_rates(
    p: &mut Problems,
    at: &str,
    raw: Option<document::UsageRates>,
    declared: &[UsageKind],
) -> Vec<UsageRate> {
    let rate = |p: &mut Problems, kind: String, raw: document::UsageRate| {
        let at = format!("{at}.{kind}");
        if !declared.iter().any(|declared| declared.code == kind) {
            p.add(&at, "the kind is not declared in usageKinds");
        }
        let allowance = whole(p, &format!("{at}.allowance"), raw.allowance, 0);
        let per = whole(p, &format!("{at}.per"), raw.per, 1);
        let tiers = tiers(p, &format!("{at}.tiers"), &raw.tiers);
        let cap = amount(p, &format!("{at}.cap"), raw.cap);
        Some(UsageRate { kind, allowance: allowance?, per: per?, tiers, cap })
    };
    let raw = raw.map_or_else(Vec::new, |rates| rates.0);
    let mut rates: Vec<_> = raw.into_iter().filter_map(|(kind, raw)| rate(p, kind, raw)).collect();
    rates.sort_unstable_by(|a, b| a.kind.cmp(&b.kind));
    rates
}

fn tiers(p: &mut Problems, at: &str, raw: &[document::Tier]) -> Vec<Tier> {
    let Some(last) = raw.len().checked_sub(1) else {
        p.add(at, "needs at least one tier, the last without upTo");
        return Vec::new();
    };
    let mut tiers = Vec::with_capacity(raw.len());
    let mut reached = 0;
    for (i, tier) in raw.iter().enumerate() {
        let up_to_path = format!("{at}[{i}].upTo");
        let up_to = tier.up_to.and_then(|up_to| whole(p, &up_to_path, up_to, 1));
        match (tier.up_to, up_to) {
            (Some(_), _) if i == last => p.add(up_to_path, "the last tier must be open: leave upTo out"),
            (None, _) if i < last => p.add(up_to_path, "is missing: only the last tier may be open"),
            (_, Some(up_to)) if up_to <= reached => {
                p.add(up_to_path, format!("is {up_to}, but must be greater than {reached}, the tier before"));
            }
            (_, up_to) => reached = up_to.unwrap_or(reached),
        }
        if let Some(rate) = decimal(p, &format!("{at}[{i}].rate"), &tier.rate) {
            tiers.push(Tier { up_to, rate });
        }
    }
    tiers
}

fn discounts(p: &mut Problems, raw: Vec<document::Discount>) -> Vec<Discount> {
    check_unique(p, "discounts", raw.iter().map(|discount| discount.code.as_str()));
    let discount = |p: &mut Problems, at: String, raw: document::Discount| {
        check_text(p, &format!("{at}.code"), &raw.code);
        let at_value = format!("{at}.value");
        let (kind, value) = match raw.kind {
            document::DiscountKind::Percent => (DiscountKind::Percent, percent(p, &at_value, &raw.value)),
            document::DiscountKind::Amount => (DiscountKind::Amount, decimal(p, &at_value, &raw.value)),
        };
        let applies_to = match raw.applies_to {
            document::AppliesTo::Base => DiscountTarget::Base,
            document::AppliesTo::Usage => DiscountTarget::Usage,
            document::AppliesTo::Total => DiscountTarget::Total,
        };
        let prorate = match raw.prorate {
            document::Prorate::Days => Proration::Days,
            document::Prorate::None => Proration::None,
        };
        let priority = whole(p, &format!("{at}.priority"), raw.priority, 0);
        let cap = amount(p, &format!("{at}.cap"), raw.cap);
        let names = names(p, &format!("{at}.name"), raw.name, &raw.code);
        Some(Discount {
            names,
            code: raw.code,
            kind,
            value: value?,
            applies_to,
            priority: priority?,
            prorate,
            cap,
        })
    };
    raw.into_iter().enumerate().filter_map(|(i, raw)| discount(p, format!("discounts[{i}]"), raw)).collect()
}

/// The names; without any, the code stands in.
fn names(p: &mut Problems, at: &str, raw: Option<document::Name>, code: &str) -> Names {
    let each = match raw {
        None => return Names::of_every_language(code),
        Some(document::Name::OfEveryLanguage(name)) => return Names::of_every_language(name),
        Some(document::Name::OfEach(each)) => each,
    };
    for (language, name) in &each {
        if !is_language_tag(language) {
            p.add(at, format!("`{language}` is not a language tag, such as ko or pt-BR"));
        }
        if name.trim().is_empty() {
            p.add(format!("{at}.{language}"), "is empty");
        }
    }
    Names::of_each(each).unwrap_or_else(|| {
        p.add(at, "has no language: name one, such as ko");
        Names::of_every_language(code)
    })
}

/// All kinds, also invalid ones, so that a rate of such a kind is no further problem.
fn usage_kinds(p: &mut Problems, raw: Vec<document::UsageKind>) -> Vec<UsageKind> {
    let mut kinds: Vec<UsageKind> = Vec::with_capacity(raw.len());
    for (i, document::UsageKind { kind: code, name }) in raw.into_iter().enumerate() {
        let at = format!("usageKinds[{i}]");
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let well_formed = code.starts_with(|c: char| c.is_ascii_lowercase())
            && code.len() <= MAX_KIND_LEN
            && code.bytes().all(rest);
        if !well_formed {
            p.add(&at, format!("`{code}` does not match [a-z][a-z0-9_]{{0,31}}"));
        }
        if kinds.iter().any(|other| other.code == code) {
            p.add(&at, format!("`{code}` is declared twice"));
        }
        let names = name.map(|name| names(p, &format!("{at}.name"), Some(name), &code));
        kinds.push(UsageKind { code, names });
    }
    kinds
}

fn check_unique<'a>(p: &mut Problems, list: &str, codes: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    for (i, code) in codes.enumerate() {
        if !seen.insert(code) {
            p.add(format!("{list}[{i}].code"), format!("`{code}` is used twice"));
        }
    }
}

fn check_text(p: &mut Problems, path: &str, text: &str) {
    if text.trim().is_empty() {
        p.add(path, "must not be empty");
    } else if text.trim() != text || text.contains(char::is_control) {
        p.add(path, format!("{text:?} has a blank at an end or a control character"));
    }
}

fn read_field<T: std::str::FromStr<Err: std::fmt::Display>>(
    p: &mut Problems,
    path: &str,
    text: &str,
) -> Option<T> {
    text.parse().map_err(|error: T::Err| p.add(path, error.to_string())).ok()
}

fn whole(p: &mut Problems, path: &str, number: document::Whole, at_least: i64) -> Option<i64> {
    let document::Whole(number) = number;
    if number < at_least {
        p.add(path, format!("is {number}, but must be at least {at_least}"));
        return None;
    }
    Some(number)
}

fn amount(p: &mut Problems, path: &str, number: Option<document::Whole>) -> Option<MinorUnits> {
    whole(p, path, number?, 0).map(MinorUnits::new)
}

fn decimal(p: &mut Problems, path: &str, quoted: &document::Quoted) -> Option<Decimal> {
    match quoted {
        document::Quoted::Text(text) => read_field(p, path, text),
        document::Quoted::Unquoted => {
            p.add(path, "must be a decimal in quotes, such as \"1.98\"");
            None
        }
    }
}

fn percent(p: &mut Problems, path: &str, quoted: &document::Quoted) -> Option<Decimal> {
    let percent = decimal(p, path, quoted)?;
    if percent > Decimal::from_whole(100) {
        p.add(path, "must be at most 100 percent");
        return None;
    }
    Some(percent)
}
