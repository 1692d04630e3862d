//! Bills in words: the whole text of a few typical ones. That an explanation equals its bill is checked
//! wherever a test prices a member: see `members`.

use domain::price_book::PriceBook;

use crate::example::{self, BOOK};
use crate::members::{Member, month};

fn text(book: &str, member: &Member, of: &str) -> String {
    let book = PriceBook::parse(book).unwrap();
    member.explained(&book, &month(&book.time_zone, of)).to_string()
}

#[test]
fn the_worked_example_is_explained() {
    assert_eq!(text(BOOK, &example::member(), "2026-10"), include_str!("worked_example.txt"));
}

#[test]
fn a_change_of_plan_and_back_is_explained_part_by_part() {
    let member = Member::on("LTE-33", "2026-01-01", "2026-10-11")
        .and_on("UNLIMITED-89", "2026-10-11", "2026-10-21")
        .and_on("LTE-33", "2026-10-21", "")
        .and_on("INSURANCE", "2026-10-31", "")
        .granted("CONTRACT-25", "2026-10-05", "2026-10-25")
        .granted("FAMILY", "2026-01-01", "")
        .adjusted(7, "GOODWILL", -1000)
        .adjusted(8, "FEE", 500)
        .used("voice", 3_600, "2026-10-03T09:30:00+09:00")
        .used("voice", 60_000, "2026-10-25T18:00:00+09:00")
        .used("data", 1, "2026-10-15T12:00:00+09:00")
        .used("roaming", 5, "2026-10-15T12:00:00+09:00");
    assert_eq!(text(BOOK, &member, "2026-10"), include_str!("plan_and_back.txt"));
}

#[test]
fn a_usage_kind_has_the_english_name_of_the_price_book() {
    let named = "[{ kind: data, name: { ko: 데이터, en: Mobile data } }, sms, { kind: voice, name: Calls }]";
    let book = BOOK.replace("[data, sms, voice]", named);
    let explained = text(&book, &example::member(), "2026-10");
    let expected = include_str!("worked_example.txt");
    for (word, name) in
        [("Data with", "Mobile data with"), ("Voice with", "Calls with"), ("SMS with", "SMS with")]
    {
        assert!(
            expected.contains(&format!("  {word}")) && explained.contains(&format!("  {name}")),
            "{explained}"
        );
    }
}

#[test]
fn tiers_blocks_caps_and_amounts_with_cents_are_explained() {
    let book = r#"
version: us
currency: USD
timeZone: America/New_York
validFrom: 2026-01
usageKinds: [minutes, voice]
plans:
  - code: S1
    name: Small
    baseFee: 2999
    usage:
      minutes: { allowance: 0, per: 1, tiers: [ { rate: "100000000000000" } ], cap: 2500 }
      voice: { allowance: 3600, per: 60, tiers: [ { upTo: 10, rate: "10.5" }, { upTo: 20, rate: "5" }, { rate: "0.125" } ] }
discounts:
  - { code: HALF, name: Half, kind: percent, value: "50", appliesTo: usage, priority: 1, prorate: none, cap: 1000 }
  - { code: REST, name: REST, kind: amount, value: "99999", appliesTo: total, priority: 2 }
  - { code: LATE, name: Late, kind: percent, value: "12.5", appliesTo: base, priority: 3 }
tax: { rate: "8.875", mode: exclusive }
billRounding: { unit: 5, mode: half-up }
"#;
    let member = Member::on("S1", "2026-02-15", "")
        .granted("HALF", "2026-02-20", "")
        .granted("LATE", "2026-02-20", "")
        .used("voice", 1_801, "2026-02-20T09:30:00-05:00")
        .used("voice", 4_812, "2026-02-21T09:30:00-05:00")
        .used("minutes", 12, "2026-02-14T09:30:00-05:00")
        .used("minutes", 12, "2026-02-15T09:30:00-05:00");
    assert_eq!(text(book, &member, "2026-02"), include_str!("tiers_and_cents.txt"));
    let all_is_discounted = member.granted("REST", "2026-01-01", "");
    assert_eq!(text(book, &all_is_discounted, "2026-02"), include_str!("nothing_left.txt"));
}

#[test]
fn the_json_has_exact_numbers_as_text() {
    let book = PriceBook::parse(BOOK).unwrap();
    let explained = example::member().explained(&book, &month("Asia/Seoul", "2026-10"));
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(json["total"], "61110");
    let data = &json["lines"][1];
    assert_eq!(
        (&data["lineNo"], &data["kind"], &data["amount"]),
        (&2.into(), &"USAGE".into(), &"37963".into())
    );
    assert_eq!(
        data["usage"],
        serde_json::json!({
            "records": 1, "firstAt": "2026-10-20T21:00:00", "lastAt": "2026-10-20T21:00:00",
            "used": "3221225472", "free": "1454746987", "over": "1766478485", "blocks": "1685",
        })
    );
    assert_eq!(json["lines"][2]["lineNo"], serde_json::Value::Null);
}
