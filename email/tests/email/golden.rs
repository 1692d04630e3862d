//! Compares whole messages with golden files. `MONTHEND_UPDATE_GOLDEN=1 cargo test -p email`
//! rewrites the files: review the difference.

use std::path::Path;

use domain::pricing::ItemKind;

use crate::fixture::{BOTH, BillFixture, line, of_days, usage};

pub(crate) fn check(name: &str, found: &str) {
    // The golden files have LF line endings.
    let found = found.replace("\r\n", "\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("MONTHEND_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "the message differs from golden file {name}:\n{found}");
}

#[test]
fn a_bill_with_every_kind_of_line() {
    for locale in BOTH {
        let mail = BillFixture::example(locale).mail();
        check(&format!("{locale}.html"), &mail.html);
        check(&format!("{locale}.txt"), &mail.text);
    }
}

/// A higher fee, less usage, a discount of more days, an adjustment that is gone, and a new add-on.
#[test]
fn a_correction_with_every_kind_of_change() {
    for locale in BOTH {
        let sent = BillFixture::example(locale);
        let lines = vec![
            of_days(ItemKind::Base, "LTE-33", 24_000, 21),
            usage("data", 1_685, 37_963, 3_221_225_472, 1_454_746_987),
            usage("voice", 2_123, 4_203, 7_000, 4_877),
            of_days(ItemKind::Addon, "MUSIC", 8_690, 31),
            of_days(ItemKind::Addon, "INSURANCE", 4_900, 31),
            of_days(ItemKind::Discount, "CONTRACT-25", -7_761, 31),
            of_days(ItemKind::Discount, "FAMILY", -2_300, 13),
            line(ItemKind::Rounding, "rounding", -5),
        ];
        let mail = BillFixture::of(locale, lines, 6_335).correction_mail(&sent);
        check(&format!("{locale}-correction.html"), &mail.html);
        check(&format!("{locale}-correction.txt"), &mail.text);
    }
}

#[test]
fn a_correction_to_a_credit_with_an_exclusive_tax() {
    for locale in BOTH {
        let tax = |amount| line(ItemKind::Tax, "tax", amount);
        let base = of_days(ItemKind::Base, "LTE-33", 1_999, 31);
        let sent = BillFixture::of(locale, vec![base, tax(200)], 200);
        let refund = line(ItemKind::Adjustment, "REFUND", -123_456);
        let mut bill = BillFixture::of(locale, vec![base, refund, tax(-12_146)], -12_146);
        bill.book.currency = "USD".parse().unwrap();
        check(&format!("{locale}-correction-credit.txt"), &bill.correction_mail(&sent).text);
    }
}

#[test]
fn a_credit_in_dollars_with_an_exclusive_tax() {
    for locale in BOTH {
        let lines = vec![
            of_days(ItemKind::Base, "LTE-33", 1_999, 31),
            line(ItemKind::Adjustment, "REFUND", -123_456),
            line(ItemKind::Tax, "tax", -12_146),
        ];
        let mut bill = BillFixture::of(locale, lines, -12_146);
        bill.book.currency = "USD".parse().unwrap();
        check(&format!("{locale}-credit.txt"), &bill.mail().text);
    }
}

#[test]
fn a_bill_of_zero() {
    for locale in BOTH {
        let bill = BillFixture::of(locale, vec![of_days(ItemKind::Base, "UNLIMITED-89", 0, 31)], 0);
        check(&format!("{locale}-nothing.txt"), &bill.mail().text);
    }
}
