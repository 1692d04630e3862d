//! Invalid price books, each with its exact message, and what a valid one may leave out.

use domain::money::Currency;
use domain::price_book::{DiscountKind, PlanKind, PriceBook, Proration};
use domain::zone::Zone;

use crate::example::BOOK;

fn problems(text: &str) -> Vec<String> {
    let error = PriceBook::parse(text).expect_err("the price book must be invalid");
    error.problems().iter().map(ToString::to_string).collect()
}

/// The example with one text replaced.
fn with(old: &str, new: &str) -> String {
    assert_eq!(BOOK.matches(old).count(), 1, "`{old}` must occur exactly once");
    BOOK.replace(old, new)
}

#[test]
fn each_problem_has_a_path_and_a_reason() {
    let voice = "{ allowance: 7200, per: 1, tiers: [ { upTo: 36000, rate: \"1.98\" }, { rate: \"1.10\" } ], cap: 50000 }";
    let cases: &[(&str, &str, &str)] = &[
        // Structure and types.
        (
            "baseFee: 89000",
            "baseFee: 89000\n    baseFees: 1",
            "plans[1].baseFees: unknown field `baseFees`, expected one of `code`, `name`, `type`, `baseFee`, `usage` at line 18 column 5",
        ),
        (
            "tax: {",
            "taxes: {",
            "taxes: unknown field `taxes`, expected one of `version`, `currency`, `timeZone`, `validFrom`, `validTo`, `usageKinds`, `plans`, `discounts`, `tax`, `billRounding` at line 23 column 1",
        ),
        ("version: 2026-07", "", "missing field `version` at line 2 column 1"),
        ("    baseFee: 89000\n", "", "plans[1]: missing field `baseFee` at line 15 column 5"),
        (
            "baseFee: 33000 ",
            "baseFee: \"33000\" ",
            "plans[0].baseFee: invalid type: string \"33000\", expected a whole number up to 9223372036854775807, without quotes at line 10 column 14",
        ),
        (
            "baseFee: 33000 ",
            "baseFee: 330.5 ",
            "plans[0].baseFee: invalid type: floating point `330.5`, expected a whole number up to 9223372036854775807, without quotes at line 10 column 14",
        ),
        (
            "baseFee: 33000 ",
            "baseFee: 9223372036854775808 ",
            "plans[0].baseFee: invalid type: integer `9223372036854775808`, expected a whole number up to 9223372036854775807, without quotes at line 10 column 14",
        ),
        (
            "type: addon",
            "type: extra",
            "plans[2].type: unknown variant `extra`, expected `base` or `addon` at line 19 column 53",
        ),
        (
            "mode: down",
            "mode: up",
            "billRounding.mode: unknown variant `up`, expected `down` or `half-up` at line 24 column 33",
        ),
        ("      sms:   {", "      data:  {", "plans[0].usage: `data` is listed twice at line 12 column 7"),
        (
            "[data, sms, voice]",
            "[data, sms",
            "usageKinds: did not find expected ',' or ']' at line 6 column 6, while parsing a flow sequence at line 5 column 13",
        ),
        // Names.
        (
            "name: Phone insurance,",
            "name: { ko_KR: a },",
            "plans[2].name: `ko_KR` is not a language tag, such as ko or pt-BR",
        ),
        ("name: Phone insurance,", "name: { en: ' ' },", "plans[2].name.en: is empty"),
        ("name: Phone insurance,", "name: {},", "plans[2].name: has no language: name one, such as ko"),
        // Numbers.
        (
            "\"1.98\"",
            "1.98",
            "plans[0].usage.voice.tiers[0].rate: must be a decimal in quotes, such as \"1.98\"",
        ),
        ("\"22\"", "22", "plans[0].usage.sms.tiers[0].rate: must be a decimal in quotes, such as \"1.98\""),
        (
            "\"22.53\"",
            "\"22.5300001\"",
            "plans[0].usage.data.tiers[0].rate: `22.5300001` is not a decimal in plain digits with at most 6 fraction digits, such as \"1.98\"",
        ),
        (
            "\"22.53\"",
            "\"2.2e1\"",
            "plans[0].usage.data.tiers[0].rate: `2.2e1` is not a decimal in plain digits with at most 6 fraction digits, such as \"1.98\"",
        ),
        ("\"22.53\"", "\"-22.53\"", "plans[0].usage.data.tiers[0].rate: must not be negative"),
        (
            "\"22.53\"",
            "\"9223372036854775808\"",
            "plans[0].usage.data.tiers[0].rate: `9223372036854775808` is too large: the whole part must be at most 9223372036854775807",
        ),
        (
            "value: \"5500\"",
            "value: 5500",
            "discounts[1].value: must be a decimal in quotes, such as \"1.98\"",
        ),
        ("{ rate: \"10\",", "{ rate: 10,", "tax.rate: must be a decimal in quotes, such as \"1.98\""),
        ("{ rate: \"10\",", "{ rate: \"100.000001\",", "tax.rate: must be at most 100 percent"),
        ("value: \"25\"", "value: \"100.5\"", "discounts[0].value: must be at most 100 percent"),
        ("baseFee: 33000 ", "baseFee: -1 ", "plans[0].baseFee: is -1, but must be at least 0"),
        (
            "allowance: 7200",
            "allowance: -7200",
            "plans[0].usage.voice.allowance: is -7200, but must be at least 0",
        ),
        ("cap: 50000", "cap: -1", "plans[0].usage.voice.cap: is -1, but must be at least 0"),
        ("cap: 5500 ", "cap: -1 ", "discounts[1].cap: is -1, but must be at least 0"),
        ("priority: 10", "priority: -1", "discounts[0].priority: is -1, but must be at least 0"),
        ("per: 1048576", "per: 0", "plans[0].usage.data.per: is 0, but must be at least 1"),
        ("unit: 10", "unit: 0", "billRounding.unit: is 0, but must be at least 1"),
        // Tiers.
        (
            "{ rate: \"1.10\" }",
            "{ upTo: 40000, rate: \"1.10\" }",
            "plans[0].usage.voice.tiers[1].upTo: the last tier must be open: leave upTo out",
        ),
        (
            "{ rate: \"1.10\" }",
            "{ upTo: 36000, rate: \"1\" }, { rate: \"0\" }",
            "plans[0].usage.voice.tiers[1].upTo: is 36000, but must be greater than 36000, the tier before",
        ),
        (
            "upTo: 36000, ",
            "",
            "plans[0].usage.voice.tiers[0].upTo: is missing: only the last tier may be open",
        ),
        ("upTo: 36000", "upTo: 0", "plans[0].usage.voice.tiers[0].upTo: is 0, but must be at least 1"),
        (
            "[ { rate: \"22.53\" } ]",
            "[]",
            "plans[0].usage.data.tiers: needs at least one tier, the last without upTo",
        ),
        // Names.
        ("code: UNLIMITED-89", "code: LTE-33", "plans[1].code: `LTE-33` is used twice"),
        ("code: FAMILY", "code: CONTRACT-25", "discounts[1].code: `CONTRACT-25` is used twice"),
        ("code: FAMILY", "code: \"\"", "discounts[1].code: must not be empty"),
        (
            "code: FAMILY",
            "code: \"FAMILY \"",
            "discounts[1].code: \"FAMILY \" has a blank at an end or a control character",
        ),
        ("[data, sms, voice]", "[data, sms]", "plans[0].usage.voice: the kind is not declared in usageKinds"),
        ("[data, sms, voice]", "[data, sms, voice, sms]", "usageKinds[3]: `sms` is declared twice"),
        (
            "[data, sms, voice]",
            "[data, sms, voice, MMS]",
            "usageKinds[3]: `MMS` does not match [a-z][a-z0-9_]{0,31}",
        ),
        (
            "type: addon, baseFee: 4900",
            "type: addon, baseFee: 4900, usage: {}",
            "plans[2].usage: an add-on has a fee and no usage: leave it out",
        ),
        // The installation and the months.
        (
            "currency: KRW",
            "currency: WON",
            "currency: `WON` is not a currency code of ISO 4217 with a minor unit, such as KRW or USD",
        ),
        (
            "timeZone: Asia/Seoul",
            "timeZone: Korea",
            "timeZone: `Korea` is not a time zone of the IANA database, such as Asia/Seoul",
        ),
        (
            "validFrom: 2026-07 ",
            "validFrom: 2026-7 ",
            "validFrom: `2026-7` is not a month from 2000-01 to 2099-12, written YYYY-MM",
        ),
        (
            "validFrom: 2026-07 ",
            "validTo: 2026-06\nvalidFrom: 2026-07 ",
            "validTo: is 2026-06, before validFrom, which is 2026-07",
        ),
    ];
    assert!(BOOK.contains(voice));
    for (old, new, message) in cases {
        assert_eq!(problems(&with(old, new)), [*message], "{new}");
    }
}

#[test]
fn a_text_that_is_no_price_book_is_rejected() {
    let two = format!("{BOOK}---\n{BOOK}");
    let cases = [
        ("", "missing field `version`"),
        ("- version", "invalid type: sequence, expected a price book: a mapping"),
        ("version", "invalid type: string \"version\", expected a price book: a mapping"),
        ("version: 1\nversion: 2\n", "duplicate field `version`"),
        ("\t", "found character that cannot start any token, while scanning for the next token"),
        (&two, "deserializing from YAML containing more than one document is not supported"),
    ];
    for (text, message) in cases {
        assert_eq!(problems(text), [message]);
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = with("\"1.98\"", "1.98").replace("per: 1048576", "per: 0").replace("KRW", "WON");
    let error = PriceBook::parse(&text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the price book is invalid: currency: `WON` is not a currency code of ISO 4217 with a minor unit, such as KRW \
         or USD; plans[0].usage.voice.tiers[0].rate: must be a decimal in quotes, such as \"1.98\"; \
         plans[0].usage.data.per: is 0, but must be at least 1"
    );
}

#[test]
fn a_decimal_must_be_quoted() {
    for unquoted in [
        "22",
        "22.0",
        "0",
        "-1",
        "+1",
        "1e3",
        "022",
        "0x16",
        "0o26",
        ".5",
        "5.",
        ".inf",
        ".nan",
        "1_000",
        "99999999999999999999999999999999999999999",
        "true",
        "~",
    ] {
        let found = problems(&with("\"22\"", unquoted));
        assert!(found[0].starts_with("plans[0].usage.sms.tiers[0].rate: "), "{unquoted}: {found:?}");
    }
}

#[test]
fn another_installation_or_month_is_rejected() {
    let book =
        PriceBook::parse(&with("validFrom: 2026-07 ", "validTo: 2026-12\nvalidFrom: 2026-07 ")).unwrap();
    let seoul = Zone::named("Asia/Seoul").unwrap();
    let krw: Currency = "KRW".parse().unwrap();
    book.check_installation(&seoul, krw).unwrap();
    let error = book.check_installation(&Zone::named("ROK").unwrap(), "USD".parse().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the price book is invalid: currency: is KRW, but the installation's currency is USD; \
         timeZone: is Asia/Seoul, but the installation's time zone is ROK"
    );
    for month in ["2026-07", "2026-12"] {
        book.check_month(month.parse().unwrap()).unwrap();
    }
    let cases = [
        ("2026-06", "validFrom: is 2026-07, but the month to bill is 2026-06"),
        ("2027-01", "validTo: is 2026-12, but the month to bill is 2027-01"),
    ];
    for (month, message) in cases {
        let error = book.check_month(month.parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), format!("the price book is invalid: {message}"));
    }
    PriceBook::parse(BOOK).unwrap().check_month("2099-12".parse().unwrap()).unwrap();
}

#[test]
fn parses_the_example() {
    let book = PriceBook::parse(BOOK).unwrap();
    assert_eq!(
        (book.version.as_str(), book.currency.code(), book.time_zone.as_str()),
        ("2026-07", "KRW", "Asia/Seoul")
    );
    assert_eq!(book.sha256.to_string(), "8f4adc07ab4831f9d818fa30fbd6dad94fe59bc3d0abe03d3f39ec36efc348ad");
    let codes: Vec<_> = book.plans().iter().map(|plan| (plan.code.as_str(), plan.kind)).collect();
    assert_eq!(
        codes,
        [("INSURANCE", PlanKind::Addon), ("LTE-33", PlanKind::Base), ("UNLIMITED-89", PlanKind::Base)]
    );
    let kinds: Vec<_> = book.plan("LTE-33").unwrap().usage.iter().map(|rate| rate.kind.as_str()).collect();
    assert_eq!(kinds, ["data", "sms", "voice"]);
    assert_eq!(book.plan("LTE-34"), None);
    assert!(book.declares("sms") && !book.declares("mms"));
    let contract = &book.discounts()[0];
    assert_eq!(
        (contract.code.as_str(), contract.kind, contract.prorate),
        ("CONTRACT-25", DiscountKind::Percent, Proration::Days)
    );
}

#[test]
fn optional_fields_may_be_left_out() {
    let book = "version: 1.10\ncurrency: USD\ntimeZone: UTC\nvalidFrom: 2026-01\nusageKinds: []\nplans: [ { code: 42, baseFee: 1 } ]\n";
    let book = PriceBook::parse(book).unwrap();
    // Unquoted text stays text, even if YAML would read it as a number.
    assert_eq!(book.version, "1.10");
    let plan = book.plan("42").unwrap();
    assert_eq!((plan.names.in_first_of(&[]), plan.kind, plan.usage.len()), ("42", PlanKind::Base, 0));
    assert_eq!((book.discounts().len(), book.tax, book.bill_rounding, book.valid_to), (0, None, None, None));
}

#[test]
fn names_are_one_for_every_language_or_one_for_each() {
    use domain::locale::Locale;
    const KO: Locale = Locale::KO;
    const EN: Locale = Locale::EN;
    for (name, in_korean, in_english) in [
        ("Music", "Music", "Music"),
        ("89", "89", "89"),
        ("'1.10'", "1.10", "1.10"),
        ("{ ko: 음악, en: Music }", "음악", "Music"),
        ("{ en-GB: Music, ko: 89 }", "89", "Music"),
        ("{ de: Musik }", "Musik", "Musik"),
    ] {
        let book = format!(
            "\u{feff}version: a\ncurrency: USD\ntimeZone: UTC\nvalidFrom: 2026-01\nusageKinds: []\n\
             plans: [ {{ code: M, name: {name}, baseFee: 1 }} ]\n"
        );
        let book = PriceBook::parse(&book).unwrap();
        let names = &book.plan("M").unwrap().names;
        assert_eq!((names.in_first_of(&[KO]), names.in_first_of(&[EN])), (in_korean, in_english), "{name}");
    }
}

#[test]
fn usage_kinds_may_have_names() {
    use domain::locale::Locale;
    let book = |kinds: &str| {
        let rest = "plans: [ { code: M, baseFee: 1, usage: { roaming: { allowance: 0, per: 1, tiers: [ { rate: \"1\" } ] } } } ]";
        let book = format!(
            "version: a\ncurrency: USD\ntimeZone: UTC\nvalidFrom: 2026-01\nusageKinds: {kinds}\n{rest}\n"
        );
        PriceBook::parse(&book)
    };
    let named = "[ sms, { kind: roaming, name: { en: Roaming, ko: 로밍 } }, data, { kind: voice, name: Calls }, { kind: mms } ]";
    let named = book(named).unwrap();
    assert_eq!(named.usage_kinds().collect::<Vec<_>>(), ["data", "mms", "roaming", "sms", "voice"]);
    assert!(named.declares("roaming") && !named.declares("fax"));
    for (kind, locale, name) in [
        ("roaming", Locale::KO, Some("로밍")),
        ("roaming", Locale::EN, Some("Roaming")),
        ("voice", Locale::KO, Some("Calls")),
        ("sms", Locale::KO, None),
        ("mms", Locale::KO, None),
        ("fax", Locale::KO, None),
    ] {
        let found = named.names_of_usage_kind(kind).map(|names| names.in_first_of(&[locale]));
        assert_eq!(found, name, "{kind} {locale}");
    }
    // A name changes nothing else.
    let plain = book("[ sms, roaming, data, voice, mms ]").unwrap();
    assert_eq!((plain.plans(), plain.discounts()), (named.plans(), named.discounts()));
    for (kinds, problem) in [
        (
            "[ { kind: roaming, names: a } ]",
            "usageKinds[0].names: unknown field `names`, expected `kind` or `name`",
        ),
        ("[ { name: a } ]", "usageKinds[0]: missing field `kind`"),
        ("[ { kind: roaming, name: { ko_KR: a } } ]", "usageKinds[0].name: `ko_KR` is not a language tag"),
        ("[ { kind: roaming, name: { ko: ' ' } } ]", "usageKinds[0].name.ko: is empty"),
        ("[ roaming, { kind: roaming } ]", "usageKinds[1]: `roaming` is declared twice"),
        ("[ roaming, { kind: MMS } ]", "usageKinds[1]: `MMS` does not match"),
        ("[ roaming, 5 ]", "usageKinds[1]: invalid type: integer `5`, expected a usage kind, or a mapping"),
    ] {
        let error = book(kinds).unwrap_err().to_string();
        assert!(error.contains(problem), "{kinds}: {error}");
    }
}
