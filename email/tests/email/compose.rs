//! Headers, escaping, and what must never get out.

use domain::locale::Locale;
use domain::pricing::ItemKind;
use email::{ComposeError, Line};
use proptest::prelude::*;

use crate::fixture::{Bill, Mail, decoded, files_with, line, of_days, templates, usage};

#[test]
fn has_the_headers_of_a_mail_that_nobody_answers() {
    let mail = Bill::example(Locale::Ko).mail();
    assert_eq!(mail.header("From"), "Monthend <billing@example.com>");
    assert_eq!(decoded(mail.header("To")), "김민서 <member@example.org>");
    assert_eq!(decoded(mail.header("Subject")), "2026년 10월 요금 청구서");
    assert_eq!(mail.header("Date"), "Mon, 02 Nov 2026 01:23:45 +0000");
    assert_eq!(mail.header("Message-ID"), "<2026-10.9007199254740993.1@example.com>");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.header("MIME-Version"), "1.0");
    assert_eq!(mail.headers.len(), 8, "{:?}", mail.headers);
    assert_eq!(decoded(Bill::example(Locale::En).mail().header("Subject")), "Your bill for October 2026");
}

#[test]
fn goes_to_the_member_from_the_sender_alone() {
    let email = Bill::example(Locale::Ko).compose(templates()).unwrap();
    let recipients: Vec<String> = email.envelope().to().iter().map(ToString::to_string).collect();
    assert_eq!(recipients, ["member@example.org"]);
    assert_eq!(email.envelope().from().unwrap().to_string(), "billing@example.com");
    assert_eq!(email.message_id(), "<2026-10.9007199254740993.1@example.com>");
}

#[test]
fn is_the_same_every_time() {
    let compose = || Bill::example(Locale::En).compose(templates()).unwrap();
    assert_eq!(compose().content().expose(), compose().content().expose());
}

#[test]
fn escapes_names_in_html_and_nowhere_else() {
    let mut bill = Bill::example(Locale::En);
    let reason = "<script>alert('x')</script>";
    bill.lines.push(Line { reason: Some(reason), ..line(ItemKind::Adjustment, "X", 0) });
    bill.name = r#"<b>&"Bob" O'Neil"#.into();
    let mail = bill.mail();
    assert!(mail.html.contains("&lt;b&gt;&amp;&quot;Bob&quot; O&#x27;Neil"), "{}", mail.html);
    assert!(!mail.html.contains("<b>&") && !mail.html.contains("<script"));
    assert!(mail.html.contains("&lt;script&gt;"));
    assert!(mail.text.contains(r#"Hello <b>&"Bob" O'Neil,"#) && mail.text.contains(reason));
    assert_eq!(decoded(mail.header("To")), r#"<b>&"Bob" O'Neil <member@example.org>"#);
}

#[test]
fn a_name_brings_no_headers() {
    let attacks = [
        "Eve\r\nBcc: all@example.com",
        "Eve\nBcc: all@example.com\n\nbody",
        "Eve\r\n\r\n<html>",
        "Eve\u{2028}Bcc: x\u{85}y\0z\u{202e}",
        "\u{feff}Eve, Bob <eve@example.net>",
        "김\r\nBcc: all@example.com",
        "=?utf-8?q?Eve=0D=0ABcc:_all@example.com?=",
    ];
    let usual = Bill::example(Locale::Ko).mail();
    let usual: Vec<&str> = usual.headers.iter().map(|(name, _)| name.as_str()).collect();
    for attack in attacks {
        for locale in Locale::ALL {
            let mut bill = Bill::example(locale);
            bill.name = attack.into();
            // With the name where it could do most.
            let subject = format!("{locale}.subject.hbs");
            let templates = email::Templates::parse(&files_with(&subject, "Bill of {{name}}")).unwrap();
            let email = bill.compose(templates).unwrap();
            let mail = Mail::read(email.content().expose());
            let names: Vec<&str> = mail.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, usual, "{attack:?}");
            assert_eq!(email.envelope().to().len(), 1);
        }
    }
}

#[test]
fn a_member_without_a_name_is_an_address() {
    for name in ["", "  ", "\r\n"] {
        let mut bill = Bill::example(Locale::Ko);
        bill.name = name.into();
        assert_eq!(bill.mail().header("To"), "member@example.org");
    }
}

#[test]
fn an_address_that_is_none_is_said_without_it() {
    for address in [
        "canary",
        "canary@",
        "@canary.example",
        "ca nary@example.com",
        "canary@example.com\r\nBcc: x@y.z",
        "",
    ] {
        let mut bill = Bill::example(Locale::Ko);
        bill.email = address.into();
        let error = bill.compose(templates()).unwrap_err();
        assert_eq!(error, ComposeError::Address, "{address}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

#[test]
fn usage_before_any_plan_is_no_bill() {
    let bill = Bill::of(Locale::Ko, vec![usage("sms", 1, 22, 101, 100)], 0);
    assert_eq!(bill.compose(templates()).unwrap_err(), ComposeError::Orphan { line: 1 });
}

#[test]
fn usage_stands_below_its_plan() {
    let lines = vec![
        of_days(ItemKind::Base, "LTE-33", 10_000, 10),
        usage("sms", 1, 22, 34, 33),
        of_days(ItemKind::Base, "LTE-44", 30_000, 21),
        usage("roaming", 5, 500, 7, 2),
    ];
    let text = Bill::of(Locale::En, lines, 0).mail().text;
    let order = [
        "LTE 33 (10 of 31 days): ₩10,000",
        "Messages: ₩22",
        "LTE 44 (21 of 31 days): ₩30,000",
        "roaming: ₩500",
    ];
    let places: Vec<usize> = order.iter().map(|part| text.find(part).expect(part)).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn what_the_price_book_does_not_name_has_its_code() {
    let lines = vec![of_days(ItemKind::Base, "GONE", 100, 31), of_days(ItemKind::Discount, "OLD", -50, 31)];
    let text = Bill::of(Locale::En, lines, 0).mail().text;
    assert!(text.contains("GONE: ₩100") && text.contains("Discount OLD: −₩50"), "{text}");
}

#[test]
fn nothing_private_can_be_printed() {
    let mut bill = Bill::example(Locale::En);
    bill.name = "CANARY".into();
    bill.email = "canary@example.org".into();
    let email = bill.compose(templates()).unwrap();
    let composer = email::Composer::new(templates(), "Monthend <billing@example.com>".parse().unwrap());
    let printed = format!("{email:?} {:?} {:?} {composer:?} {:?}", email.content(), bill.amounts, bill.lines);
    for private in ["CANARY", "canary", "22355", "22,355", "Delayed"] {
        assert!(!printed.contains(private), "{printed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_name_and_reason_make_a_mail_that_reads_well(name in any::<String>(), reason in any::<String>()) {
        let mut bill = Bill::example(Locale::Ko);
        bill.name = name.into();
        let reason: &'static str = Box::leak(reason.into_boxed_str());
        bill.lines.push(Line { reason: Some(reason), ..line(ItemKind::Adjustment, "X", 0) });
        let mail = bill.mail();
        prop_assert_eq!(mail.headers.len(), 8);
        prop_assert_eq!(mail.html.matches('<').count(), mail.html.matches('>').count());
        // What is said stays within its line.
        prop_assert_eq!(mail.text.lines().count(), Bill::example(Locale::Ko).mail().text.lines().count() + 1);
    }
}
