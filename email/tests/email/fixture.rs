//! The worked example of the pricing contract and other bills, the chart's templates, and a MIME
//! parser.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::ids::{MemberId, Revision};
use domain::locale::Locale;
use domain::money::MinorUnits;
use domain::price_book::PriceBook;
use domain::pricing::{Amounts, Item, ItemKind};
use email::{ComposeError, Composer, Email, Line, SentBill, Templates};
use secrecy::SecretString;

pub(crate) const FROM: &str = "Monthend <billing@example.com>";
pub(crate) const BOOK: &str = include_str!("../../../examples/pricebook.yaml");

/// The locales of the chart's templates.
pub(crate) const BOTH: [Locale; 2] = [Locale::KO, Locale::EN];

/// The chart's templates.
pub(crate) fn files() -> BTreeMap<String, String> {
    let files = read_folder("../charts/monthend/files/templates");
    assert_eq!(files.len(), 14);
    files
}

/// The texts of a folder, by file name.
pub(crate) fn read_folder(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The chart's templates with one of them replaced.
pub(crate) fn files_with(file: &str, text: &str) -> BTreeMap<String, String> {
    let mut files = files();
    files.insert(file.to_owned(), text.to_owned());
    files
}

pub(crate) fn templates() -> Templates {
    Templates::parse(&files(), Locale::KO).unwrap()
}

/// A bill that owns its parts.
pub(crate) struct BillFixture {
    pub(crate) name: SecretString,
    pub(crate) email: SecretString,
    pub(crate) locale: Locale,
    /// The installation's.
    pub(crate) default_locale: Locale,
    pub(crate) lines: Vec<Line<'static>>,
    pub(crate) amounts: Amounts,
    pub(crate) book: PriceBook,
}

impl BillFixture {
    /// October 2026 on plan LTE-33, with every kind of line.
    pub(crate) fn example(locale: Locale) -> Self {
        let name = if locale == Locale::KO { "김민서" } else { "Grace Hopper" };
        let lines = vec![
            of_days(ItemKind::Base, "LTE-33", 22_355, 21),
            usage("data", 1_685, 37_963, 3_221_225_472, 1_454_746_987),
            usage("voice", 4_123, 8_164, 9_000, 4_877),
            of_days(ItemKind::Addon, "MUSIC", 8_690, 31),
            of_days(ItemKind::Discount, "CONTRACT-25", -7_761, 31),
            of_days(ItemKind::Discount, "FAMILY", -1_774, 10),
            Line { reason: Some("Delayed repair"), ..line(ItemKind::Adjustment, "GOODWILL", -3_000) },
            line(ItemKind::Rounding, "rounding", -7),
        ];
        Self {
            name: name.into(),
            email: "member@example.org".into(),
            locale,
            default_locale: Locale::KO,
            amounts: amounts(&lines, 5_876),
            lines,
            book: PriceBook::parse(BOOK).unwrap(),
        }
    }

    /// The same bill with other lines.
    pub(crate) fn of(locale: Locale, lines: Vec<Line<'static>>, tax: i64) -> Self {
        Self { amounts: amounts(&lines, tax), lines, ..Self::example(locale) }
    }

    pub(crate) fn compose(&self, templates: Templates) -> Result<Email, ComposeError> {
        self.compose_with(templates, None)
    }

    /// Composes the correction of `sent`, which is revision 1, to this bill, as revision 2.
    pub(crate) fn compose_correction(
        &self,
        templates: Templates,
        sent: &Self,
    ) -> Result<Email, ComposeError> {
        let sent = SentBill {
            revision: Revision::FIRST,
            amounts: sent.amounts,
            lines: &sent.lines,
            book: &sent.book,
        };
        self.compose_with(templates, Some(sent))
    }

    fn compose_with(
        &self,
        templates: Templates,
        corrects: Option<SentBill<'_>>,
    ) -> Result<Email, ComposeError> {
        let bill = email::Bill {
            month: "2026-10".parse().unwrap(),
            member: MemberId::try_from(9_007_199_254_740_993).unwrap(),
            revision: if corrects.is_some() { 2.try_into().unwrap() } else { Revision::FIRST },
            locale: self.locale,
            default_locale: self.default_locale,
            name: &self.name,
            amounts: self.amounts,
            lines: &self.lines,
            book: &self.book,
            corrects,
        };
        let composer = Composer::new(templates, FROM.parse().unwrap());
        composer.compose(&bill, &self.email, "2026-11-02T01:23:45Z".parse().unwrap())
    }

    pub(crate) fn mail(&self) -> Mail {
        self.mail_with(templates())
    }

    pub(crate) fn mail_with(&self, templates: Templates) -> Mail {
        Mail::read(self.compose(templates).unwrap().content().expose())
    }

    pub(crate) fn correction_mail(&self, sent: &Self) -> Mail {
        self.correction_mail_with(templates(), sent)
    }

    pub(crate) fn correction_mail_with(&self, templates: Templates, sent: &Self) -> Mail {
        Mail::read(self.compose_correction(templates, sent).unwrap().content().expose())
    }
}

fn amounts(lines: &[Line<'_>], tax: i64) -> Amounts {
    let sum = |kinds: &[ItemKind]| {
        let of_kind = lines.iter().filter(|line| kinds.contains(&line.item.kind));
        MinorUnits::new(of_kind.map(|line| line.item.amount.get()).sum())
    };
    Amounts {
        base: sum(&[ItemKind::Base, ItemKind::Addon]),
        usage: sum(&[ItemKind::Usage]),
        discount: MinorUnits::new(-sum(&[ItemKind::Discount]).get()),
        adjustment: sum(&[ItemKind::Adjustment]),
        tax: MinorUnits::new(tax),
        rounding: sum(&[ItemKind::Rounding]),
        total: MinorUnits::new(lines.iter().map(|line| line.item.amount.get()).sum()),
    }
}

pub(crate) fn line(kind: ItemKind, code: &'static str, amount: i64) -> Line<'static> {
    let amount = MinorUnits::new(amount);
    let item = Item { line_no: 1, kind, code, quantity: 1, amount, days: None, used: None, free: None };
    Line { item, reason: None }
}

pub(crate) fn of_days(kind: ItemKind, code: &'static str, amount: i64, days: i32) -> Line<'static> {
    let line = line(kind, code, amount);
    Line { item: Item { days: Some(days), ..line.item }, ..line }
}

pub(crate) fn usage(kind: &'static str, blocks: i64, amount: i64, used: i64, free: i64) -> Line<'static> {
    let line = of_days(ItemKind::Usage, kind, amount, 21);
    Line { item: Item { quantity: blocks, used: Some(used), free: Some(free), ..line.item }, ..line }
}

/// A parsed message.
pub(crate) struct Mail {
    /// Unfolded, with encoded words.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) html: String,
}

impl Mail {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let raw = std::str::from_utf8(bytes).unwrap();
        assert!(raw.is_ascii() && raw.lines().all(|line| line.len() <= 998));
        assert_eq!(raw.matches('\n').count(), raw.matches("\r\n").count(), "a bare line feed");
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        let headers = headers(head);
        let kind = header(&headers, "Content-Type");
        assert!(kind.starts_with("multipart/alternative;"), "{kind}");
        let boundary = kind.split_once("boundary=\"").unwrap().1.trim_end_matches('"');
        let opening = format!("--{boundary}");
        assert!(body.ends_with(&format!("{opening}--\r\n")));
        let parts: Vec<&str> = body.split(&opening).collect();
        assert_eq!(parts.len(), 4, "a preamble, two parts, the end");
        Self { headers, text: part(parts[1], "text/plain"), html: part(parts[2], "text/html") }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }
}

fn headers(head: &str) -> Vec<(String, String)> {
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let split = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    unfolded.trim_start().split("\r\n").map(split).collect()
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let mut found = headers.iter().filter(|(found, _)| found == name);
    let (Some((_, value)), None) = (found.next(), found.next()) else { panic!("not one {name}") };
    value
}

fn part(part: &str, kind: &str) -> String {
    let (head, body) = part.split_once("\r\n\r\n").unwrap();
    let headers = headers(head);
    assert_eq!(header(&headers, "Content-Type"), format!("{kind}; charset=utf-8"));
    assert_eq!(header(&headers, "Content-Transfer-Encoding"), "base64");
    String::from_utf8(STANDARD.decode(body.replace("\r\n", "")).unwrap()).unwrap()
}

/// A header's value with its encoded words (RFC 2047) decoded.
pub(crate) fn decoded(value: &str) -> String {
    let mut text = String::new();
    let mut after_word = false;
    for word in value.split(' ') {
        let encoded = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
        if !(text.is_empty() || after_word && encoded.is_some()) {
            text.push(' ');
        }
        after_word = encoded.is_some();
        match encoded {
            Some(word) => text.push_str(std::str::from_utf8(&STANDARD.decode(word).unwrap()).unwrap()),
            None => text.push_str(word),
        }
    }
    text
}
