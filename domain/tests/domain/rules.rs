//! A case for every rule of the pricing contract. Quarantine is tested in [`crate::quarantine`].

use domain::price_book::PriceBook;

use crate::members::{Member, month};

pub(crate) const OCTOBER: &str = "2026-10-15T12:00:00+09:00";

/// October 2026 in Seoul (31 days), priced with a price book that ends with this text.
pub(crate) fn priced(plans_and_more: &str, member: &Member) -> Vec<String> {
    let head = "version: test\ncurrency: KRW\ntimeZone: Asia/Seoul\nvalidFrom: 2026-01\nusageKinds: [data, sms, voice]\n";
    let book = PriceBook::parse(&format!("{head}{plans_and_more}")).unwrap();
    member.priced(&book, &month("Asia/Seoul", "2026-10"))
}

/// Only the items.
fn items(plans_and_more: &str, member: &Member) -> Vec<String> {
    let mut lines = priced(plans_and_more, member);
    lines.truncate(lines.len().saturating_sub(2));
    lines
}

/// Only the amounts.
pub(crate) fn columns(plans_and_more: &str, member: &Member) -> String {
    let mut lines = priced(plans_and_more, member);
    lines.swap_remove(lines.len() - 2)
}

pub(crate) const PLANS: &str = r#"
plans:
  - { code: A, baseFee: 10000, usage: { voice: { allowance: 100, per: 60, tiers: [ { rate: "10" } ] }, data: { allowance: 0, per: 1, tiers: [ { rate: "0.4" } ] } } }
  - { code: B, baseFee: 20000, usage: {} }
  - { code: X, type: addon, baseFee: 1000 }
  - { code: Y, type: addon, baseFee: 0 }
"#;

#[test]
fn segments_are_charged_by_their_days() {
    let cases: &[(&str, Member, &[&str])] = &[
        ("the whole month", Member::on("B", "2020-01-01", ""), &["1 BASE B 31 20000 days 31"]),
        ("a day", Member::on("B", "2026-10-31", ""), &["1 BASE B 1 645 days 1"]),
        (
            "an empty one beside it",
            Member::on("B", "2020-01-01", "").and_on("A", "2026-10-05", "2026-10-05"),
            &["1 BASE B 31 20000 days 31"],
        ),
        (
            "touching ones of one plan",
            Member::on("B", "2026-10-11", "").and_on("B", "2020-01-01", "2026-10-11"),
            &["1 BASE B 31 20000 days 31"],
        ),
        (
            "a change of plan",
            Member::on("A", "2020-01-01", "2026-10-11").and_on("B", "2026-10-11", ""),
            &["1 BASE A 10 3226 days 10", "2 BASE B 21 13548 days 21"],
        ),
        (
            "there and back: the second part of A is 10000 × 21 / 31 less the first",
            Member::on("A", "2020-01-01", "2026-10-11").and_on("B", "2026-10-11", "2026-10-21").and_on(
                "A",
                "2026-10-21",
                "",
            ),
            &["1 BASE A 10 3226 days 10", "2 BASE B 10 6452 days 10", "3 BASE A 11 3548 days 11"],
        ),
        (
            "a gap",
            Member::on("A", "2020-01-01", "2026-10-02").and_on("A", "2026-10-31", ""),
            &["1 BASE A 1 323 days 1", "2 BASE A 1 322 days 1"],
        ),
        (
            "add-ons by code and from, after all base segments, outside them too",
            Member::on("Y", "2020-01-01", "")
                .and_on("X", "2026-10-20", "2026-10-22")
                .and_on("X", "2026-10-01", "2026-10-02")
                .and_on("B", "2026-10-30", ""),
            &[
                "1 BASE B 2 1290 days 2",
                "2 ADDON X 1 32 days 1",
                "3 ADDON X 2 65 days 2",
                "4 ADDON Y 31 0 days 31",
            ],
        ),
    ];
    for (what, member, expected) in cases {
        assert_eq!(items(PLANS, member), *expected, "{what}");
    }
}

#[test]
fn eligibility() {
    let cases = [
        ("nothing at all", Member::default()),
        (
            "an add-on only",
            Member::on("X", "2020-01-01", "").adjusted(1, "FEE", 100).granted("NOPE", "2020-01-01", ""),
        ),
        ("ended before", Member::on("B", "2020-01-01", "2026-10-01")),
        ("begins after", Member::on("B", "2026-11-01", "")),
        ("taken back", Member::on("B", "2026-10-05", "2026-10-05")),
        ("an unknown plan of another month", Member::on("OLD", "2020-01-01", "2026-10-01")),
        ("add-ons that overlap", Member::on("X", "2026-10-01", "").and_on("X", "2026-10-05", "")),
    ];
    for (what, member) in cases {
        assert_eq!(priced(PLANS, &member.used("voice", 1, OCTOBER)), ["not eligible, 1 rows"], "{what}");
    }
    let free = Member::on("B", "2026-10-01", "").used("voice", 1_000_000, OCTOBER);
    let book = "plans: [ { code: B, baseFee: 0 } ]";
    assert_eq!(
        priced(book, &free),
        [
            "1 BASE B 31 0 days 31",
            "base 0 usage 0 discount 0 adjustment 0 tax 0 rounding 0 total 0",
            "rated 1 unbillable 0"
        ]
    );
}

#[test]
fn usage_belongs_to_the_segment_of_its_date() {
    let member = Member::on("A", "2026-10-01", "2026-10-11")
        .and_on("B", "2026-10-16", "")
        .used("voice", 1000, "2026-09-30T23:59:59.999999+09:00")
        .used("voice", 60, "2026-10-01T00:00:00+09:00")
        .used("voice", 60, "2026-10-10T23:59:59.999999+09:00")
        .used("sms", 5, "2026-10-10T23:59:59.999999+09:00")
        .used("roaming", 5, "2026-10-10T23:59:59.999999+09:00")
        .used("voice", 1000, "2026-10-11T00:00:00+09:00")
        .used("voice", 1000, "2026-10-15T23:59:59.999999+09:00")
        .used("voice", 1000, "2026-10-16T00:00:00+09:00")
        .used("data", 0, "2026-10-31T23:59:59.999999+09:00")
        .used("voice", 1000, "2026-11-01T00:00:00+09:00");
    assert_eq!(
        priced(PLANS, &member),
        [
            "1 BASE A 10 3226 days 10",
            // free = floor(100 × 10 / 31) = 32; over 88; 2 blocks of 60
            "2 USAGE voice 2 20 days 10 used 120 free 32",
            "3 BASE B 16 10323 days 16",
            "base 13549 usage 20 discount 0 adjustment 0 tax 0 rounding 0 total 13569",
            "rated 5 unbillable 3",
        ]
    );
}

#[test]
fn overage_is_charged_in_blocks_and_tiers() {
    let usage = |rate: &str, quantity: i64| {
        let book = format!("plans: [ {{ code: A, baseFee: 0, usage: {{ voice: {{ {rate} }} }} }} ]");
        let member = Member::on("A", "2026-10-01", "").used("voice", quantity, OCTOBER);
        items(&book, &member).get(1).cloned().unwrap_or_default()
    };
    let tiers = r#"tiers: [ { upTo: 10, rate: "1.5" }, { upTo: 20, rate: "0.000001" }, { rate: "3" } ]"#;
    let free = format!("allowance: 100, per: 1, {tiers}");
    let blocks = format!("allowance: 100, per: 7, {tiers}");
    let capped = format!("allowance: 0, per: 1, {tiers}, cap: 20");
    let rate = |rate: &str| format!(r#"allowance: 0, per: 1, tiers: [ {{ rate: "{rate}" }} ]"#);
    let max = i64::MAX;
    let cases = [
        (&free, 0, ""),
        (&free, 100, ""),
        (&free, 101, "2 USAGE voice 1 2 days 31 used 101 free 100"),
        (&free, 110, "2 USAGE voice 10 15 days 31 used 110 free 100"),
        (&free, 120, "2 USAGE voice 20 15 days 31 used 120 free 100"),
        (&free, 122, "2 USAGE voice 22 21 days 31 used 122 free 100"),
        (&blocks, 107, "2 USAGE voice 1 2 days 31 used 107 free 100"),
        (&blocks, 108, "2 USAGE voice 2 3 days 31 used 108 free 100"),
        (&capped, 13, "2 USAGE voice 13 15 days 31 used 13 free 0"),
        (&capped, 22, "2 USAGE voice 22 20 days 31 used 22 free 0"),
        (&rate("0"), 5, "2 USAGE voice 5 0 days 31 used 5 free 0"),
        (&rate("0.5"), 1, "2 USAGE voice 1 1 days 31 used 1 free 0"),
        (&rate("0.499999"), 1, "2 USAGE voice 1 0 days 31 used 1 free 0"),
        // The rates of tiers are summed before rounding: 0.4 + 0.4 is 1.
        (
            &r#"allowance: 0, per: 1, tiers: [ { upTo: 1, rate: "0.4" }, { rate: "0.4" } ]"#.to_owned(),
            2,
            "2 USAGE voice 2 1 days 31 used 2 free 0",
        ),
        (&rate("1"), max, &format!("2 USAGE voice {max} {max} days 31 used {max} free 0")),
        (
            &format!("{}, cap: 7", rate("9223372036854775807")),
            max,
            &format!("2 USAGE voice {max} 7 days 31 used {max} free 0"),
        ),
        (&format!("allowance: {max}, per: 1, tiers: [ {{ rate: \"1\" }} ]"), max, ""),
        (
            &format!("allowance: 0, per: {max}, tiers: [ {{ rate: \"2.5\" }} ]"),
            max,
            &format!("2 USAGE voice 1 3 days 31 used {max} free 0"),
        ),
    ];
    for (rate, quantity, expected) in cases {
        assert_eq!(usage(rate, quantity), expected, "{rate} × {quantity}");
    }
}

#[test]
fn allowances_of_segments_never_exceed_the_allowance_of_the_month() {
    let book = r#"plans: [ { code: A, baseFee: 0, usage: { voice: { allowance: 100, per: 1, tiers: [ { rate: "1" } ] } } } ]"#;
    let member = Member::on("A", "2026-10-01", "2026-10-11")
        .and_on("A", "2026-10-12", "2026-10-22")
        .and_on("A", "2026-10-23", "")
        .used("voice", 100, "2026-10-05T00:00:00+09:00")
        .used("voice", 100, "2026-10-15T00:00:00+09:00")
        .used("voice", 100, "2026-10-25T00:00:00+09:00");
    // floor(1000 / 31) = 32, floor(2000 / 31) = 64, floor(2900 / 31) = 93
    let free: Vec<_> = items(book, &member).into_iter().filter(|line| line.contains("USAGE")).collect();
    assert_eq!(
        free,
        [
            "2 USAGE voice 68 68 days 10 used 100 free 32",
            "4 USAGE voice 68 68 days 10 used 100 free 32",
            "6 USAGE voice 71 71 days 9 used 100 free 29",
        ]
    );
}

#[test]
fn discounts_apply_in_order_and_within_limits() {
    // On A for 21 days: base 6774, usage 10000 blocks × 0.4 = 4000.
    let on_a = || Member::on("A", "2026-10-11", "").used("data", 10_000, OCTOBER);
    let discounted = |discounts: &[&str], member: Member| {
        let book = format!("{PLANS}discounts:\n  - {{ {} }}\n", discounts.join(" }\n  - { "));
        let lines = items(&book, &member).into_iter().skip(2);
        lines
            .map(|line| line.split_once(" DISCOUNT ").map_or(line.clone(), |(_, rest)| rest.to_owned()))
            .collect::<Vec<_>>()
    };
    let d = |code: &str, rest: &str| format!("code: {code}, {rest}");
    let half_base = d("HALF", r#"kind: percent, value: "50", appliesTo: base, priority: 10"#);
    let all = r#"kind: percent, value: "100", appliesTo"#;
    let cases: Vec<(&str, Vec<String>, Member, Vec<&str>)> = vec![
        (
            "of the base fee",
            vec![half_base.clone()],
            on_a().granted("HALF", "2026-01-01", ""),
            vec!["HALF 1 -3387 days 21"],
        ),
        (
            "granted for a part: 6774 × 50 % × 11 / 21",
            vec![half_base.clone()],
            on_a().granted("HALF", "2026-10-21", ""),
            vec!["HALF 1 -1774 days 11"],
        ),
        (
            "two grants of one code that overlap count once",
            vec![half_base.clone()],
            on_a().granted("HALF", "2026-10-21", "").granted("HALF", "2026-01-01", "2026-10-25"),
            vec!["HALF 1 -3387 days 21"],
        ),
        (
            "granted outside the segments",
            vec![half_base.clone()],
            on_a().granted("HALF", "2026-10-01", "2026-10-11"),
            vec![],
        ),
        ("taken back", vec![half_base.clone()], on_a().granted("HALF", "2026-10-15", "2026-10-15"), vec![]),
        (
            "not prorated",
            vec![d("HALF", r#"kind: percent, value: "50", appliesTo: base, priority: 10, prorate: none"#)],
            on_a().granted("HALF", "2026-10-31", ""),
            vec!["HALF 1 -3387 days 1"],
        ),
        (
            "an amount is prorated by the month: 3100.5 × 11 / 31",
            vec![d("OFF", r#"kind: amount, value: "3100.5", appliesTo: total, priority: 10"#)],
            on_a().granted("OFF", "2026-10-21", ""),
            vec!["OFF 1 -1100 days 11"],
        ),
        (
            "an amount that isn't prorated is rounded",
            vec![d("OFF", r#"kind: amount, value: "3100.5", appliesTo: total, priority: 10, prorate: none"#)],
            on_a().granted("OFF", "2026-10-31", ""),
            vec!["OFF 1 -3101 days 1"],
        ),
        (
            "a cap is not prorated",
            vec![d("OFF", r#"kind: amount, value: "31000", appliesTo: total, priority: 10, cap: 900"#)],
            on_a().granted("OFF", "2026-10-31", ""),
            vec!["OFF 1 -900 days 1"],
        ),
        (
            "a cap of 0 leaves no item",
            vec![d("OFF", r#"kind: amount, value: "31000", appliesTo: total, priority: 10, cap: 0"#)],
            on_a().granted("OFF", "2026-10-01", ""),
            vec![],
        ),
        (
            "limited to the amount of its target",
            vec![d("OFF", r#"kind: amount, value: "99999", appliesTo: usage, priority: 10"#)],
            on_a().granted("OFF", "2026-10-01", ""),
            vec!["OFF 1 -4000 days 21"],
        ),
        (
            "by priority, then code; the target stays the undiscounted amount, the remaining amount shrinks",
            vec![
                d("Z", &format!("{all}: base, priority: 1")),
                d("C", r#"kind: percent, value: "50", appliesTo: total, priority: 2"#),
                d("B", r#"kind: percent, value: "25", appliesTo: usage, priority: 2"#),
                d("A", r#"kind: percent, value: "10", appliesTo: base, priority: 3"#),
                d("E", &format!("{all}: total, priority: 9")),
            ],
            on_a()
                .granted("E", "2026-10-01", "")
                .granted("A", "2026-10-01", "")
                .granted("B", "2026-10-01", "")
                .granted("C", "2026-10-01", "")
                .granted("Z", "2026-10-01", ""),
            // B0 6774, U0 4000. Z takes all of the base; B 1000 of usage; C wants 5387 and finds 3000; A and
            // E nothing.
            vec!["Z 1 -6774 days 21", "B 1 -1000 days 21", "C 1 -3000 days 21"],
        ),
        (
            "a total is taken from the base first",
            vec![
                d("FIRST", r#"kind: amount, value: "6000", appliesTo: total, priority: 1, prorate: none"#),
                d("SECOND", &format!("{all}: base, priority: 2")),
                d("THIRD", &format!("{all}: usage, priority: 3")),
            ],
            on_a().granted("FIRST", "2026-10-01", "").granted("SECOND", "2026-10-01", "").granted(
                "THIRD",
                "2026-10-01",
                "",
            ),
            vec!["FIRST 1 -6000 days 21", "SECOND 1 -774 days 21", "THIRD 1 -4000 days 21"],
        ),
    ];
    for (what, discounts, member, expected) in cases {
        let discounts: Vec<&str> = discounts.iter().map(String::as_str).collect();
        assert_eq!(discounted(&discounts, member), expected, "{what}");
    }
}

#[test]
fn add_ons_count_as_base_amount() {
    let book = format!(
        "{PLANS}discounts: [ {{ code: D, kind: percent, value: \"10\", appliesTo: base, priority: 1 }} ]"
    );
    let member =
        Member::on("B", "2026-10-01", "").and_on("X", "2026-10-01", "").granted("D", "2026-10-01", "");
    assert_eq!(
        columns(&book, &member),
        "base 21000 usage 0 discount 2100 adjustment 0 tax 0 rounding 0 total 18900"
    );
}

#[test]
fn adjustments_are_added_by_id() {
    let member = Member::on("B", "2026-10-01", "")
        .adjusted(20, "LATE", 500)
        .adjusted(3, "CREDIT", -30_000)
        .adjusted(100, "ZERO", 0);
    assert_eq!(
        priced(PLANS, &member),
        [
            "1 BASE B 31 20000 days 31",
            "2 ADJUSTMENT CREDIT 1 -30000",
            "3 ADJUSTMENT LATE 1 500",
            "4 ADJUSTMENT ZERO 1 0",
            "base 20000 usage 0 discount 0 adjustment -29500 tax 0 rounding 0 total -9500",
            "rated 0 unbillable 0",
        ]
    );
}

#[test]
fn tax_and_rounding_are_computed_on_the_net_amount() {
    // (net by an adjustment, tax, rounding, what comes after the adjustment, columns from tax on)
    let cases: &[(i64, &str, &str, &[&str], &str)] = &[
        (105, "{ rate: \"10\", mode: exclusive }", "", &["TAX tax 1 11"], "tax 11 rounding 0 total 116"),
        (-105, "{ rate: \"10\", mode: exclusive }", "", &["TAX tax 1 -11"], "tax -11 rounding 0 total -116"),
        (4, "{ rate: \"10\", mode: exclusive }", "", &[], "tax 0 rounding 0 total 4"),
        (105, "{ rate: \"0\", mode: exclusive }", "", &[], "tax 0 rounding 0 total 105"),
        (110, "{ rate: \"10\", mode: inclusive }", "", &[], "tax 10 rounding 0 total 110"),
        (-115, "{ rate: \"10\", mode: inclusive }", "", &[], "tax -10 rounding 0 total -115"),
        (117, "{ rate: \"8.25\", mode: inclusive }", "", &[], "tax 9 rounding 0 total 117"),
        (
            117,
            "{ rate: \"8.25\", mode: exclusive }",
            "{ unit: 10, mode: down }",
            &["TAX tax 1 10", "ROUNDING rounding 1 -7"],
            "tax 10 rounding -7 total 120",
        ),
        (119, "", "{ unit: 10, mode: down }", &["ROUNDING rounding 1 -9"], "tax 0 rounding -9 total 110"),
        (-111, "", "{ unit: 10, mode: down }", &["ROUNDING rounding 1 -9"], "tax 0 rounding -9 total -120"),
        (120, "", "{ unit: 10, mode: down }", &[], "tax 0 rounding 0 total 120"),
        (115, "", "{ unit: 10, mode: half-up }", &["ROUNDING rounding 1 5"], "tax 0 rounding 5 total 120"),
        (114, "", "{ unit: 10, mode: half-up }", &["ROUNDING rounding 1 -4"], "tax 0 rounding -4 total 110"),
        (
            -115,
            "",
            "{ unit: 10, mode: half-up }",
            &["ROUNDING rounding 1 -5"],
            "tax 0 rounding -5 total -120",
        ),
        (-114, "", "{ unit: 10, mode: half-up }", &["ROUNDING rounding 1 4"], "tax 0 rounding 4 total -110"),
        (7, "", "{ unit: 1, mode: down }", &[], "tax 0 rounding 0 total 7"),
    ];
    for (net, tax, rounding, expected, total) in cases {
        let line = |key: &str, value: &str| {
            if value.is_empty() { String::new() } else { format!("{key}: {value}\n") }
        };
        let book = format!(
            "plans: [ {{ code: F, baseFee: 0 }} ]\n{}{}",
            line("tax", tax),
            line("billRounding", rounding)
        );
        let member = Member::on("F", "2026-10-01", "").adjusted(1, "N", *net);
        let items: Vec<_> =
            items(&book, &member).into_iter().skip(2).map(|line| line[2..].to_owned()).collect();
        assert_eq!(items, *expected, "{net} {tax} {rounding}");
        assert_eq!(
            columns(&book, &member),
            format!("base 0 usage 0 discount 0 adjustment {net} {total}"),
            "{net} {tax} {rounding}"
        );
    }
}

#[test]
fn fees_depend_on_the_length_of_the_month() {
    let book = "version: f\ncurrency: KRW\ntimeZone: Asia/Seoul\nvalidFrom: 2020-01\nusageKinds: []\nplans: [ { code: A, baseFee: 1000 } ]";
    let book = PriceBook::parse(book).unwrap();
    for (name, last, amount) in [("2023-02", "2023-02-28", 36), ("2024-02", "2024-02-29", 34)] {
        let priced = Member::on("A", last, "").priced(&book, &month("Asia/Seoul", name));
        assert_eq!(priced[0], format!("1 BASE A 1 {amount} days 1"));
    }
}
