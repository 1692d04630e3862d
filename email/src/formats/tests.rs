use super::*;

fn korean() -> String {
    built_in(Locale::KO).unwrap().to_owned()
}

/// The English formats with a part replaced.
fn with(from: &str, to: &str) -> Result<Formats, String> {
    let text = built_in(Locale::EN).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    Formats::parse(&text.replace(from, to)).map_err(|error| error.to_string())
}

#[test]
fn invalid_formats_are_refused_with_the_field() {
    let cases = [
        ("month: \"", "months: \"", "months: unknown field `months`"),
        ("decimalSeparator: \".\"\n", "", "missing field `decimalSeparator`"),
        ("decimalSeparator: \".\"", "decimalSeparator: \"\"", "decimalSeparator: is empty"),
        ("decimalSeparator: \".\"", "decimalSeparator: \"1\"", "decimalSeparator: must not have digits"),
        ("decimalSeparator: \".\"", "decimalSeparator: \"\\n\"", "decimalSeparator: must be one line"),
        (
            "groupSeparator: \",\"",
            "groupSeparator: \".\"",
            "groupSeparator: must differ from decimalSeparator",
        ),
        ("groupSeparator: \",\"", "groupSeparator: \"-\"", "groupSeparator: must not have digits"),
        ("groupSeparator: \",\"", "groupSeparator: [a]", "groupSeparator: invalid type: sequence"),
        ("₩{amount}", "₩", "money.KRW: has no {amount}"),
        ("₩{amount}", "", "money.KRW: is empty"),
        ("₩{amount}", "₩{sum}", "money.KRW: has the unknown `{sum}`: there are {amount}, {code}"),
        ("₩{amount}", "₩{amount", "money.KRW: has a `{` without a `}`"),
        ("₩{amount}", "₩amount}", "money.KRW: has a `}` without a `{`"),
        ("₩{amount}", "₩{amount}}", "money.KRW: has a `}` without a `{`"),
        ("₩{amount}", "₩\\r\\nBcc: x{amount}", "money.KRW: must be one line"),
        ("  KRW:", "  WON:", "money.WON: `WON` is not a currency code of ISO 4217"),
        ("  USD:", "  KRW:", "money: `KRW` is listed twice"),
        ("{code}\\u00a0{amount}", "{amount}", "money.default: has no {code}"),
        ("  default:", "  CHF:", "money: has no `default`"),
        ("\"{monthName} {year}\"", "\"{monthName}\"", "month: has no {year}"),
        ("\"{monthName} {year}\"", "\"{year}\"", "month: has no {month}, {month2} or {monthName}"),
        ("\"{monthName} {year}\"", "\"{day} {monthName} {year}\"", "month: must not have a day"),
        ("{monthName} {day}, {year}", "{monthName} {year}", "date: has no {day}"),
        (", December]", "]", "monthNames: has 11 names instead of 12"),
        (", December]", ", \" \"]", "monthNames[11]: is empty"),
        ("monthNames:", "monthNamesInDates:", "month: has {monthName}, but the file has no monthNames"),
        ("{number} h", "hours", "duration.hours: has no {number}"),
        ("seconds: \"{number} s\", ", "", "duration: missing field `seconds`"),
        ("{number} KB", "KB", "data.kilobytes: has no {number}"),
        ("data: { bytes", "data: { octets", "data.octets: unknown field `octets`"),
        ("name: Voice", "name: \"\"", "usageKinds.voice.name: is empty"),
        ("name: Voice", "title: Voice", "usageKinds.voice.title: unknown field `title`"),
        ("name: Voice", "name: Voice, quantity: \"{number}\"", "usageKinds.voice.quantity: is not used"),
        ("  data: { name", "  voice: { name", "usageKinds: `voice` is listed twice"),
        (
            "\"1\": \"{number} message\", other",
            "few",
            "usageKinds.sms.quantity.few: `few` is not a number such as 1, an ending such as \"*2\"",
        ),
        (", other: \"{number} messages\"", "", "usageKinds.sms.quantity: has no `other`"),
        ("{number} messages\"", "messages\"", "usageKinds.sms.quantity.other: has no {number}"),
        ("\"1\":", "\"1, 2, 1\":", "usageKinds.sms.quantity.1, 2, 1: `1` has a form already"),
        ("\"1\":", "\"*2, *2\":", "usageKinds.sms.quantity.*2, *2: `*2` has a form already"),
        ("\"1\":", "\"*\":", "usageKinds.sms.quantity.*: `*` is not a number"),
        ("\"1\":", "\"-1\":", "usageKinds.sms.quantity.-1: `-1` is not a number"),
        (
            "{ \"1\": \"{number} message\", other: \"{number} messages\" }",
            "[]",
            "usageKinds.sms.quantity: invalid type",
        ),
    ];
    for (from, to, problem) in cases {
        let error = with(from, to).unwrap_err();
        assert!(error.starts_with(problem), "{from} → {to}:\n{error}\n{problem}");
    }
    let error = Formats::parse("month: \"{year}").unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    assert!(Formats::parse("").is_err());
}

#[test]
fn optional_fields_may_be_left_out() {
    let without_names = korean();
    assert!(!without_names.contains("monthNames"));
    Formats::parse(&without_names).unwrap();
    let (fields, _) = without_names.split_once("usageKinds:").unwrap();
    let formats = Formats::parse(fields).unwrap();
    assert_eq!((formats.usage_kind("voice"), formats.quantity("sms")), (None, None));
    assert!(with("groupSeparator: \",\"", "groupSeparator: \"\"").is_ok());
    // Names in dates can differ, as the genitive does in Slavic languages.
    let names = "monthNamesInDates: [a, b, c, d, e, f, g, h, i, j, k, l]\nmonthNames:";
    let formats = with("monthNames:", names).unwrap();
    assert_eq!((formats.month_name(10), formats.month_name_in_date(10)), ("October", "j"));
    let formats = with("name: Voice", "name: Calls").unwrap();
    assert_eq!((formats.month_name(10), formats.month_name_in_date(10)), ("October", "October"));
    assert_eq!(formats.usage_kind("voice"), Some("Calls"));
}

#[test]
fn the_forms_of_a_number_are_those_of_the_number_then_of_its_longest_ending() {
    // A number alone, and as other languages have them.
    let russian = "{ \"*1\": \"{number} сообщение\", \"*2, *3, *4\": \"{number} сообщения\", \
                   \"*11, *12, *13, *14\": \"{number} сообщений\", other: \"{number} сообщений\" }";
    let polish = "{ 1: \"{number} wiadomość\", \"*2, *3, *4\": \"{number} wiadomości\", \
                  \"*12, *13, *14\": \"{number} wiadomości2\", 0: brak, other: \"{number} wiadomości2\" }";
    let cases = [
        (russian, 1, "{} сообщение"),
        (russian, 2, "{} сообщения"),
        (russian, 5, "{} сообщений"),
        (russian, 11, "{} сообщений"),
        (russian, 12, "{} сообщений"),
        (russian, 21, "{} сообщение"),
        (russian, 104, "{} сообщения"),
        (russian, 111, "{} сообщений"),
        (russian, 112, "{} сообщений"),
        (polish, 0, "brak"),
        (polish, 1, "{} wiadomość"),
        (polish, 21, "{} wiadomości2"),
        (polish, 22, "{} wiadomości"),
        (polish, 112, "{} wiadomości2"),
        ("\"{number}x\"", 7, "{}x"),
    ];
    for (forms, number, expected) in cases {
        let formats = with("{ \"1\": \"{number} message\", other: \"{number} messages\" }", forms).unwrap();
        let mut out = String::new();
        formats.quantity("sms").unwrap().of(number).write(&mut out, |out, _| out.push_str("{}"));
        assert_eq!(out, expected, "{number} of {forms}");
    }
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let (_, example) = include_str!("../../../docs/templates.md").split_once("```yaml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let formats = Formats::parse(example).unwrap();
    assert_eq!((&*formats.decimal, formats.month_name(3)), (",", "März"));
    assert_eq!(formats.usage_kind("roaming_days"), Some("Roaming"));
}
