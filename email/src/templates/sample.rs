//! The sample bills that validate a set of templates: every kind of line, a credit, and a bill of
//! 0. Each is tried as a bill and as a correction of others: with more, fewer and other lines, and
//! with a higher and a lower total.

use domain::ids::{MemberId, Revision};
use domain::locale::Locale;
use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use domain::pricing::{Amounts, Item, ItemKind};
use secrecy::SecretString;

use crate::bill::{Bill, Line, SentBill};

/// Calls `check` with each sample in each of the locales until it returns an error.
pub(crate) fn try_each<E>(
    locales: impl IntoIterator<Item = Locale>,
    mut check: impl FnMut(&Bill<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let won = PriceBook::parse(include_str!("sample.yaml")).expect("the samples' own price book");
    let mut dollars = won.clone();
    dollars.currency = "USD".parse().expect("a currency of ISO 4217");
    let name = SecretString::from("Sample");
    let full = full();
    let month: BillingMonth = "2026-10".parse().expect("a month");
    let bills: [(&PriceBook, &[Line<'_>], Amounts); 4] = [
        (&won, &full, amounts(5_556, 61_110)),
        // A credit with an exclusive tax.
        (&dollars, &credit(), amounts(-120, -2_420)),
        (&won, &[line(ItemKind::Base, "LTE-33", 0, 31)], amounts(0, 0)),
        (&won, &[line(ItemKind::Base, "NO-LONGER-KNOWN", 33_000, 31)], amounts(3_000, 33_000)),
    ];
    for locale in locales {
        for (book, lines, amounts) in bills {
            let corrects = bills.iter().map(|(book, lines, amounts)| {
                Some(SentBill { revision: Revision::FIRST, amounts: *amounts, lines, book })
            });
            for corrects in std::iter::once(None).chain(corrects) {
                check(&Bill {
                    month,
                    member: MemberId::LAST,
                    revision: Revision::FIRST,
                    locale,
                    default_locale: locale,
                    name: &name,
                    amounts,
                    lines,
                    book,
                    corrects,
                })?;
            }
        }
    }
    Ok(())
}

fn full() -> Vec<Line<'static>> {
    vec![
        line(ItemKind::Base, "LTE-33", 22_355, 21),
        usage("data", 1685, 37_963, 3_221_225_472, 1_454_746_987),
        usage("roaming", 3, 300, 3, 0),
        usage("sms", 1, 22, 101, 100),
        usage("voice", 4_123, 8_164, 9_000, 4_877),
        line(ItemKind::Addon, "MUSIC", 8_690, 31),
        line(ItemKind::Discount, "CONTRACT-25", -5_589, 21),
        line(ItemKind::Discount, "FAMILY", -1_774, 10),
        Line { reason: Some("Sample"), ..line(ItemKind::Adjustment, "GOODWILL", -1_000, 0) },
        line(ItemKind::Adjustment, "FEE", 500, 0),
        line(ItemKind::Rounding, "rounding", -9, 0),
    ]
}

fn credit() -> Vec<Line<'static>> {
    vec![
        line(ItemKind::Base, "LTE-33", 0, 31),
        line(ItemKind::Adjustment, "GOODWILL", -2_300, 0),
        line(ItemKind::Tax, "tax", -120, 0),
    ]
}

fn line(kind: ItemKind, code: &'static str, amount: i64, days: i32) -> Line<'static> {
    let of_days = matches!(kind, ItemKind::Base | ItemKind::Addon | ItemKind::Discount);
    let item = Item {
        line_no: 1,
        kind,
        code,
        quantity: 1,
        amount: MinorUnits::new(amount),
        days: of_days.then_some(days),
        used: None,
        free: None,
    };
    Line { item, reason: None }
}

fn usage(kind: &'static str, blocks: i64, amount: i64, used: i64, free: i64) -> Line<'static> {
    let line = line(ItemKind::Usage, kind, amount, 0);
    Line { item: Item { quantity: blocks, used: Some(used), free: Some(free), ..line.item }, ..line }
}

fn amounts(tax: i64, total: i64) -> Amounts {
    Amounts { tax: MinorUnits::new(tax), total: MinorUnits::new(total), ..Amounts::default() }
}
