//! Every quarantine code, the order in which they are checked, and the limit of 64 bits.

use domain::price_book::PriceBook;
use domain::pricing::Outcome;

use crate::members::{Member, month};
use crate::rules::{OCTOBER, PLANS, columns, priced};

#[test]
fn quarantine_codes_are_checked_in_order() {
    let overlap = Member::on("A", "2026-10-01", "2026-10-11").and_on("B", "2026-10-10", "");
    let unknown_plan = "UNKNOWN_PLAN, 1 rows";
    let overlapping = "OVERLAPPING_SUBSCRIPTIONS, 1 rows";
    let unknown_discount = "UNKNOWN_DISCOUNT, 1 rows";
    let overflow = "AMOUNT_OVERFLOW, 1 rows";
    let huge = |member: Member| member.adjusted(1, "H", i64::MAX).adjusted(2, "H", i64::MAX);
    let cases = [
        ("only an unknown plan", Member::on("NOPE", "2026-10-31", ""), unknown_plan),
        (
            "an unknown plan is checked before everything else",
            huge(overlap.clone().and_on("NOPE", "2026-10-05", "2026-10-06")).granted(
                "NOPE",
                "2026-10-01",
                "",
            ),
            unknown_plan,
        ),
        ("two base plans on one day", overlap.clone(), overlapping),
        ("the same plan twice", Member::on("A", "2026-10-01", "").and_on("A", "2026-10-31", ""), overlapping),
        (
            "the same add-on twice",
            Member::on("A", "2026-10-01", "").and_on("X", "2026-10-01", "").and_on("X", "2026-10-31", ""),
            overlapping,
        ),
        (
            "an overlap is checked before discounts and amounts",
            huge(overlap).granted("NOPE", "2026-10-01", ""),
            overlapping,
        ),
        (
            "an unknown discount",
            huge(Member::on("A", "2026-10-01", "").granted("NOPE", "2026-10-31", "")),
            unknown_discount,
        ),
        (
            "an unknown discount on a day without a segment",
            Member::on("A", "2026-10-31", "").granted("NOPE", "2026-09-01", "2026-10-02"),
            unknown_discount,
        ),
        ("a sum that is too large", huge(Member::on("A", "2026-10-01", "")), overflow),
    ];
    for (what, member, expected) in cases {
        assert_eq!(priced(PLANS, &member.used("sms", 1, OCTOBER)), [expected], "{what}");
    }
    let fine = [
        Member::on("A", "2026-10-01", "").and_on("X", "2026-10-01", "").and_on("Y", "2026-10-01", ""),
        Member::on("A", "2026-10-01", "").granted("NOPE", "2026-09-01", "2026-10-01").granted(
            "NOPE",
            "2026-10-05",
            "2026-10-05",
        ),
        Member::on("A", "2026-10-01", "").and_on("NOPE", "2026-11-01", ""),
    ];
    for member in fine {
        assert!(columns(PLANS, &member).starts_with("base "), "{member:?}");
    }
}

#[test]
fn details_do_not_depend_on_the_order_of_the_input() {
    let book = PriceBook::parse(&format!("version: v7\ncurrency: KRW\ntimeZone: Asia/Seoul\nvalidFrom: 2026-01\nusageKinds: [data, sms, voice]\n{PLANS}")).unwrap();
    let october = month("Asia/Seoul", "2026-10");
    let max = i64::MAX;
    let on_a = || Member::on("A", "2026-10-01", "");
    let cases = [
        (Member::on("Q", "2026-10-01", "").and_on("P", "2026-10-01", ""), "plan `P` is not in price book v7"),
        (
            Member::on("B", "2026-10-10", "").and_on("A", "2026-10-01", "2026-10-12"),
            "plans `A` and `B` both cover 2026-10-10",
        ),
        (
            on_a().granted("Q", "2026-10-01", "").granted("P", "2026-10-01", ""),
            "discount `P` is not in price book v7",
        ),
        (
            on_a().used("data", max, OCTOBER).used("data", 1, OCTOBER),
            "the sum of data used under plan `A` leaves 64 bits",
        ),
        (on_a().adjusted(1, "X", max).adjusted(2, "X", 1), "adjustment_amount leaves 64 bits"),
        (on_a().adjusted(1, "X", max), "total_amount leaves 64 bits"),
    ];
    for (member, expected) in cases {
        let mut turned = member.clone();
        turned.subscriptions.reverse();
        turned.grants.reverse();
        for member in [member, turned] {
            let detail = member.with_outcome(&book, &october, |outcome| match outcome {
                Outcome::Quarantined { quarantine, .. } => quarantine.detail.clone(),
                other => format!("{other:?}"),
            });
            assert_eq!(detail, expected);
        }
    }
}

#[test]
fn stored_values_must_fit_into_64_bits() {
    let max = i64::MAX;
    let rated = r#"plans: [ { code: A, baseFee: 0, usage: { voice: { allowance: 9223372036854775807, per: 1, tiers: [ { rate: "2" } ] }, data: { allowance: 0, per: 1, tiers: [ { rate: "2" } ] } } } ]"#;
    let on_a = || Member::on("A", "2026-10-01", "");
    // A sum of 2^63 quarantines the member only for a kind that the plan rates, also if all of it is
    // free.
    let free = on_a().used("sms", max, OCTOBER).used("sms", 1, OCTOBER);
    assert_eq!(priced(rated, &free)[2], "rated 2 unbillable 0");
    let undeclared = on_a().used("mms", max, OCTOBER).used("mms", max, OCTOBER);
    assert_eq!(priced(rated, &undeclared)[2], "rated 0 unbillable 2");
    let outside = Member::on("A", "2026-10-16", "").used("voice", max, OCTOBER).used("voice", 1, OCTOBER);
    assert_eq!(priced(rated, &outside)[2], "rated 0 unbillable 2");
    assert_eq!(priced(rated, &on_a().used("voice", max, OCTOBER))[2], "rated 1 unbillable 0");
    assert_eq!(
        priced(rated, &on_a().used("voice", max, OCTOBER).used("voice", 1, OCTOBER)),
        ["AMOUNT_OVERFLOW, 2 rows"]
    );
    // 2^62 × 2 is one more than fits into 64 bits.
    let half = 1_i64 << 62;
    assert_eq!(priced(rated, &on_a().used("data", half, OCTOBER)), ["AMOUNT_OVERFLOW, 1 rows"]);
    assert_eq!(
        columns(rated, &on_a().used("data", half - 1, OCTOBER)),
        format!("base 0 usage {0} discount 0 adjustment 0 tax 0 rounding 0 total {0}", max - 1)
    );
    // A discount that brings the total back into range must not hide that another amount is out of
    // range.
    let two = format!(
        "plans: [ {{ code: A, baseFee: {max} }}, {{ code: X, type: addon, baseFee: 1 }} ]\ndiscounts: [ {{ code: D, kind: percent, value: \"100\", appliesTo: total, priority: 1 }} ]"
    );
    assert_eq!(
        priced(&two, &on_a().and_on("X", "2026-10-01", "").granted("D", "2026-10-01", "")),
        ["AMOUNT_OVERFLOW, 0 rows"]
    );
    assert_eq!(
        columns(&two, &on_a().granted("D", "2026-10-01", "")),
        format!("base {max} usage 0 discount {max} adjustment 0 tax 0 rounding 0 total 0")
    );
    // The net amount is out of range and rounding brings it back: only stored values have to fit.
    let rounded =
        format!("plans: [ {{ code: A, baseFee: {max} }} ]\nbillRounding: {{ unit: 10, mode: down }}");
    let member = on_a().adjusted(1, "ONE", 1);
    assert_eq!(
        columns(&rounded, &member),
        format!("base {max} usage 0 discount 0 adjustment 1 tax 0 rounding -8 total {}", max - 7)
    );
    assert_eq!(priced(&rounded.replace("down", "half-up"), &member), ["AMOUNT_OVERFLOW, 0 rows"]);
    let lowest = "plans: [ { code: A, baseFee: 0 } ]";
    assert_eq!(
        columns(lowest, &on_a().adjusted(1, "L", i64::MIN)),
        format!("base 0 usage 0 discount 0 adjustment {0} tax 0 rounding 0 total {0}", i64::MIN)
    );
}
