//! Compares whole messages with golden files. `MONTHEND_UPDATE_GOLDEN=1 cargo test -p email`
//! rewrites the files: review the difference.

use std::path::Path;

use domain::locale::Locale;
use domain::pricing::ItemKind;

use crate::fixture::{BillFixture, line, of_days};

fn check(name: &str, found: &str) {
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
    for locale in Locale::ALL {
        let mail = BillFixture::example(locale).mail();
        check(&format!("{locale}.html"), &mail.html);
        check(&format!("{locale}.txt"), &mail.text);
    }
}

#[test]
fn a_credit_in_dollars_with_an_exclusive_tax() {
    for locale in Locale::ALL {
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
    for locale in Locale::ALL {
        let bill = BillFixture::of(locale, vec![of_days(ItemKind::Base, "UNLIMITED-89", 0, 31)], 0);
        check(&format!("{locale}-nothing.txt"), &bill.mail().text);
    }
}
