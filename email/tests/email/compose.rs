//! Headers, escaping, and personal data that must not leak.

use domain::locale::Locale;
use domain::pricing::ItemKind;
use email::{ComposeError, Line};
use proptest::prelude::*;

use crate::fixture::{BOTH, BillFixture, Mail, decoded, files_with, line, of_days, templates, usage};

#[test]
fn has_the_headers_of_an_automatic_message() {
    let mail = BillFixture::example(Locale::KO).mail();
    assert_eq!(mail.header("From"), "Monthend <billing@example.com>");
    assert_eq!(decoded(mail.header("To")), "김민서 <member@example.org>");
    assert_eq!(decoded(mail.header("Subject")), "2026년 10월 요금 청구서");
    assert_eq!(mail.header("Date"), "Mon, 02 Nov 2026 01:23:45 +0000");
    assert_eq!(mail.header("Message-ID"), "<2026-10.9007199254740993.1@example.com>");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.header("MIME-Version"), "1.0");
    assert_eq!(mail.headers.len(), 8, "{:?}", mail.headers);
    assert_eq!(
        decoded(BillFixture::example(Locale::EN).mail().header("Subject")),
        "Your bill for October 2026"
    );
}

#[test]
fn a_correction_has_the_headers_of_its_own_revision() {
    let sent = BillFixture::example(Locale::EN);
    let bill = BillFixture::of(Locale::EN, vec![of_days(ItemKind::Base, "LTE-33", 22_355, 21)], 0);
    let mail = bill.correction_mail(&sent);
    assert_eq!(decoded(mail.header("Subject")), "Corrected bill for October 2026");
    assert_eq!(mail.header("Message-ID"), "<2026-10.9007199254740993.2@example.com>");
    assert_eq!(mail.headers.len(), 8, "{:?}", mail.headers);
    let korean = BillFixture::of(Locale::KO, bill.lines, 0).correction_mail(&sent);
    assert_eq!(decoded(korean.header("Subject")), "2026년 10월 요금 청구서 정정 안내");
}

#[test]
fn the_envelope_has_the_sender_and_the_member_only() {
    let email = BillFixture::example(Locale::KO).compose(templates()).unwrap();
    let recipients: Vec<String> = email.envelope().to().iter().map(ToString::to_string).collect();
    assert_eq!(recipients, ["member@example.org"]);
    assert_eq!(email.envelope().from().unwrap().to_string(), "billing@example.com");
    assert_eq!(email.message_id(), "<2026-10.9007199254740993.1@example.com>");
}

#[test]
fn composing_is_deterministic() {
    let compose = || BillFixture::example(Locale::EN).compose(templates()).unwrap();
    assert_eq!(compose().content().expose(), compose().content().expose());
}

#[test]
fn escapes_names_in_html_only() {
    let mut bill = BillFixture::example(Locale::EN);
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
fn a_name_cannot_inject_headers() {
    let attacks = [
        "Eve\r\nBcc: all@example.com",
        "Eve\nBcc: all@example.com\n\nbody",
        "Eve\r\n\r\n<html>",
        "Eve\u{2028}Bcc: x\u{85}y\0z\u{202e}",
        "\u{feff}Eve, Bob <eve@example.net>",
        "김\r\nBcc: all@example.com",
        "=?utf-8?q?Eve=0D=0ABcc:_all@example.com?=",
    ];
    let usual = BillFixture::example(Locale::KO).mail();
    let usual: Vec<&str> = usual.headers.iter().map(|(name, _)| name.as_str()).collect();
    for attack in attacks {
        for locale in BOTH {
            let mut bill = BillFixture::example(locale);
            bill.name = attack.into();
            // The template puts the name into the subject, which is a header.
            let subject = format!("{locale}.subject.hbs");
            let templates =
                email::Templates::parse(&files_with(&subject, "Bill of {{name}}"), Locale::KO).unwrap();
            let email = bill.compose(templates).unwrap();
            let mail = Mail::read(email.content().expose());
            let names: Vec<&str> = mail.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, usual, "{attack:?}");
            assert_eq!(email.envelope().to().len(), 1);
        }
    }
}

#[test]
fn a_member_without_a_name_is_addressed_by_the_address_alone() {
    for name in ["", "  ", "\r\n"] {
        let mut bill = BillFixture::example(Locale::KO);
        bill.name = name.into();
        assert_eq!(bill.mail().header("To"), "member@example.org");
    }
}

#[test]
fn an_invalid_address_is_reported_without_quoting_it() {
    for address in [
        "canary",
        "canary@",
        "@canary.example",
        "ca nary@example.com",
        "canary@example.com\r\nBcc: x@y.z",
        "",
    ] {
        let mut bill = BillFixture::example(Locale::KO);
        bill.email = address.into();
        let error = bill.compose(templates()).unwrap_err();
        assert_eq!(error, ComposeError::Address, "{address}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

#[test]
fn usage_without_a_plan_is_an_error() {
    let bill = BillFixture::of(Locale::KO, vec![usage("sms", 1, 22, 101, 100)], 0);
    assert_eq!(bill.compose(templates()).unwrap_err(), ComposeError::UsageWithoutPlan { line: 1 });
}

#[test]
fn usage_is_listed_below_its_plan() {
    let lines = vec![
        of_days(ItemKind::Base, "LTE-33", 10_000, 10),
        usage("sms", 1, 22, 34, 33),
        of_days(ItemKind::Base, "LTE-44", 30_000, 21),
        usage("roaming", 5, 500, 7, 2),
    ];
    let text = BillFixture::of(Locale::EN, lines, 0).mail().text;
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
fn the_code_stands_in_for_a_missing_name() {
    let lines = vec![of_days(ItemKind::Base, "GONE", 100, 31), of_days(ItemKind::Discount, "OLD", -50, 31)];
    let text = BillFixture::of(Locale::EN, lines, 0).mail().text;
    assert!(text.contains("GONE: ₩100") && text.contains("Discount OLD: −₩50"), "{text}");
}

#[test]
fn debug_output_contains_no_personal_data_and_no_amounts() {
    let mut bill = BillFixture::example(Locale::EN);
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
    fn any_name_and_reason_give_a_well_formed_message(name in any::<String>(), reason in any::<String>()) {
        let mut bill = BillFixture::example(Locale::KO);
        bill.name = name.into();
        let reason: &'static str = Box::leak(reason.into_boxed_str());
        bill.lines.push(Line { reason: Some(reason), ..line(ItemKind::Adjustment, "X", 0) });
        let mail = bill.mail();
        prop_assert_eq!(mail.headers.len(), 8);
        prop_assert_eq!(mail.html.matches('<').count(), mail.html.matches('>').count());
        // Name and reason add no further lines.
        prop_assert_eq!(mail.text.lines().count(), BillFixture::example(Locale::KO).mail().text.lines().count() + 1);
    }
}
