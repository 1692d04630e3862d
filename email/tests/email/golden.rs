//! Whole mails against files. `MONTHEND_UPDATE_GOLDEN=1 cargo test -p bill` writes them anew: look at the difference.

use std::path::Path;

use domain::locale::Locale;
use domain::pricing::ItemKind;

use crate::fixture::{Bill, line, of_days};

fn check(name: &str, found: &str) {
    // In the files lines end as everywhere else.
    let found = found.replace("\r\n", "\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("MONTHEND_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} is not what it was:\n{found}");
}

#[test]
fn an_ordinary_bill() {
    for locale in Locale::ALL {
        let mail = Bill::example(locale).mail();
        check(&format!("{locale}.html"), &mail.html);
        check(&format!("{locale}.txt"), &mail.text);
    }
}

#[test]
fn a_credit_with_a_tax_of_its_own_in_dollars() {
    for locale in Locale::ALL {
        let lines = vec![
            of_days(ItemKind::Base, "LTE-33", 1_999, 31),
            line(ItemKind::Adjustment, "REFUND", -123_456),
            line(ItemKind::Tax, "tax", -12_146),
        ];
        let mut bill = Bill::of(locale, lines, -12_146);
        bill.book.currency = "USD".parse().unwrap();
        check(&format!("{locale}-credit.txt"), &bill.mail().text);
    }
}

#[test]
fn a_bill_of_nothing() {
    for locale in Locale::ALL {
        let bill = Bill::of(locale, vec![of_days(ItemKind::Base, "UNLIMITED-89", 0, 31)], 0);
        check(&format!("{locale}-nothing.txt"), &bill.mail().text);
    }
}
