//! A language that there are files of and no code for.

use std::collections::BTreeMap;

use domain::locale::Locale;
use domain::price_book::PriceBook;
use domain::pricing::ItemKind;
use email::{TemplateError, Templates};

use crate::fixture::{BOOK, BillFixture, decoded, files, line, of_days, read_folder, usage};
use crate::golden::check;

/// The chart's set with German.
fn with_german() -> BTreeMap<String, String> {
    let mut files = files();
    files.extend(read_folder("tests/de"));
    files
}

fn locale(tag: &str) -> Locale {
    tag.parse().unwrap()
}

fn templates() -> Templates {
    Templates::parse(&with_german(), Locale::KO).unwrap()
}

/// A bill in euros with every kind of usage.
fn bill(tag: &str) -> BillFixture {
    let lines = vec![
        of_days(ItemKind::Base, "LTE-33", 123_456, 21),
        usage("data", 1_685, 37_963, 3_221_225_472, 1_454_746_987),
        usage("roaming", 2, 600, 1_002, 1),
        usage("sms", 1, 22, 1_101, 1_100),
        usage("voice", 4_123, 8_164, 3_661, 60),
        of_days(ItemKind::Addon, "MUSIC", 8_690, 31),
        of_days(ItemKind::Discount, "FAMILY", -1_774, 10),
        line(ItemKind::Adjustment, "GOODWILL", -5),
    ];
    let mut bill = BillFixture::of(locale(tag), lines, 2_376);
    bill.book.currency = "EUR".parse().unwrap();
    bill
}

#[test]
fn a_bill_and_a_correction_are_composed_from_files_alone() {
    let sent = bill("de");
    let mail = sent.mail_with(templates());
    assert_eq!(decoded(mail.header("Subject")), "Ihre Rechnung für Oktober 2026");
    assert!(mail.text.contains("1.234,56\u{a0}€") && mail.text.contains("31. Oktober 2026"), "{}", mail.text);
    assert!(mail.text.contains("genutzt 1 Stunde 1 Minute 1 Sekunde, frei 1 Minute"), "{}", mail.text);
    assert!(mail.text.contains("Roaming: 6,00\u{a0}€") && mail.text.contains("frei 1 Tag,"), "{}", mail.text);
    // The texts of formats are escaped in HTML as all values.
    assert!(mail.text.contains("Daten & Internet:") && mail.html.contains("Daten &amp; Internet,"));
    check("de.txt", &mail.text);
    check("de.html", &mail.html);

    let mut lines = bill("de").lines;
    lines[0] = of_days(ItemKind::Base, "LTE-33", 100_000, 21);
    let mut corrected = BillFixture::of(locale("de"), lines, 2_376);
    corrected.book.currency = sent.book.currency;
    let mail = corrected.correction_mail_with(templates(), &sent);
    assert_eq!(decoded(mail.header("Subject")), "Korrigierte Rechnung für Oktober 2026");
    check("de-correction.txt", &mail.text);
    check("de-correction.html", &mail.html);
}

#[test]
fn formats_are_escaped_in_html() {
    let mut files = with_german();
    let formats = files["de.formats.yaml"].replace("{amount}\\u00a0€", "<{amount}> & €");
    files.insert("de.formats.yaml".to_owned(), formats);
    let mail = bill("de").mail_with(Templates::parse(&files, Locale::KO).unwrap());
    assert!(mail.html.contains("&lt;1.234,56&gt; &amp; €") && !mail.html.contains("<1"), "{}", mail.html);
    assert!(mail.text.contains("<1.234,56> & €"), "{}", mail.text);
}

#[test]
fn a_member_whose_locale_has_no_templates_gets_another_language() {
    let german = "Ihre Rechnung für Oktober 2026";
    let english = "Your bill for October 2026";
    let korean = "2026년 10월 요금 청구서";
    let mut of_regions = with_german();
    for (file, text) in read_folder("tests/de") {
        of_regions.insert(file.replace("de.", "de-AT."), text.replace("Oktober", "Weinmond"));
    }
    let in_austria = "Ihre Rechnung für Weinmond 2026";
    let mut only_austria = of_regions.clone();
    only_austria.retain(|file, _| !file.starts_with("de."));
    for (files, installation, tag, subject) in [
        (with_german(), "ko", "de", german),
        (with_german(), "ko", "de-CH", german),
        (with_german(), "ko", "fr", korean),
        (with_german(), "en", "fr", english),
        (with_german(), "de", "fr", german),
        (of_regions.clone(), "ko", "de", german),
        (of_regions.clone(), "ko", "de-AT", in_austria),
        (of_regions.clone(), "ko", "de-CH", german),
        (of_regions, "de-AT", "de-CH", in_austria),
        (only_austria, "ko", "de", in_austria),
    ] {
        let templates = Templates::parse(&files, locale(installation)).unwrap();
        let mut bill = bill(tag);
        bill.default_locale = locale(installation);
        let mail = bill.mail_with(templates);
        assert_eq!(
            decoded(mail.header("Subject")),
            subject,
            "{tag} where the installation is {installation}"
        );
    }
}

#[test]
fn names_are_in_the_language_of_the_email() {
    // Without French templates, the e-mail is in English, and so are the names.
    let mut bill = bill("fr");
    let book = BOOK.replace("en: Music streaming", "en: Music streaming, fr: Musique");
    bill.book = PriceBook::parse(&book).unwrap();
    bill.default_locale = Locale::EN;
    let text = bill.mail_with(Templates::parse(&files(), Locale::EN).unwrap()).text;
    assert!(text.contains("Music streaming: ₩8,690"), "{text}");
}

#[test]
fn a_usage_kind_has_its_name_from_the_price_book_then_from_the_formats() {
    let mut bill = bill("de");
    let book = BOOK.replace(
        "usageKinds: [data, sms, voice]",
        "usageKinds: [{ kind: data, name: { de: Mobiles Netz, en: Mobile } }, sms, { kind: voice, name: Calls }]",
    );
    bill.book = PriceBook::parse(&book).unwrap();
    let text = bill.mail_with(templates()).text;
    for line in ["Mobiles Netz: ", "Calls: ", "SMS: ", "Roaming: "] {
        assert!(text.contains(&format!("\n  {line}")), "{line} in {text}");
    }
    (bill.locale, bill.default_locale) = (Locale::KO, Locale::EN);
    let text = bill.mail_with(templates()).text;
    for line in ["Mobile: ", "Calls: ", "문자: ", "roaming: "] {
        assert!(text.contains(&format!("\n  {line}")), "{line} in {text}");
    }
    let mail = bill.correction_mail_with(templates(), &bill);
    assert!(mail.text.contains("Mobile") && mail.text.contains("문자"), "{}", mail.text);
}

#[test]
fn the_locales_of_a_set_are_those_of_its_files() {
    // Of a new language, every file must be there.
    for file in read_folder("tests/de").into_keys() {
        let mut without = with_german();
        without.remove(&file);
        let error = Templates::parse(&without, Locale::KO).unwrap_err();
        assert_eq!(error, TemplateError::Missing { file });
    }
    // The installation's must be among them.
    let error = Templates::parse(&files(), locale("de")).unwrap_err();
    assert_eq!(error, TemplateError::NoInstallationLocale { locale: locale("de") });
    assert!(
        error.to_string().starts_with("there are no templates of de, the installation's locale"),
        "{error}"
    );
    // A set can have no Korean and no English.
    let german = Templates::parse(&read_folder("tests/de"), locale("de")).unwrap();
    let mut bill = bill("ko");
    bill.default_locale = locale("de");
    assert_eq!(decoded(bill.mail_with(german).header("Subject")), "Ihre Rechnung für Oktober 2026");
    for file in
        ["DE.subject.hbs", "de_AT.subject.hbs", "de.subject.txt", "de.correction.formats.yaml", "readme"]
    {
        let mut files = with_german();
        files.insert(file.to_owned(), "x".to_owned());
        let error = Templates::parse(&files, Locale::KO).unwrap_err();
        assert_eq!(error, TemplateError::Unknown { file: file.to_owned() });
    }
}

#[test]
fn korean_and_english_have_formats_without_a_file() {
    let mut old = files();
    old.retain(|file, _| !file.ends_with(".formats.yaml"));
    assert_eq!(old.len(), 12);
    let templates = Templates::parse(&old, Locale::KO).unwrap();
    // The run keeps them, so that a later version of the program writes the same.
    assert_eq!(templates.files(), &files());
    assert_eq!(templates.sha256(), Templates::parse(&files(), Locale::KO).unwrap().sha256());
    let text = BillFixture::example(Locale::EN).mail_with(templates).text;
    assert_eq!(text, BillFixture::example(Locale::EN).mail().text);
    // Their own come first.
    let mut own = files();
    let formats = own["en.formats.yaml"].replace("₩{amount}", "KRW {amount}");
    own.insert("en.formats.yaml".to_owned(), formats);
    let text = BillFixture::example(Locale::EN).mail_with(Templates::parse(&own, Locale::KO).unwrap()).text;
    assert!(text.contains("Total: KRW "), "{text}");
}

#[test]
fn invalid_formats_are_refused_with_file_and_field() {
    let mut files = with_german();
    let formats = files["de.formats.yaml"].replace("{amount}\\u00a0€", "€");
    files.insert("de.formats.yaml".to_owned(), formats);
    let error = Templates::parse(&files, Locale::KO).unwrap_err();
    assert_eq!(error.to_string(), "de.formats.yaml: money.EUR: has no {amount}");
}
