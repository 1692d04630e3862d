//! `monthend explain`: every bill of a month back to the unit, and why a member has none.

use std::sync::Arc;

use serde_json::Value;
use store::billing::{AfterSent, RevisionKey};
use store::testing::BillingFixture;
use store::testing::sample_month::EVERYTHING;
use worker_cli::BillArgs;

use crate::harness::{Ended, Site};

/// A database, the operator's part in billing, and the binary.
pub(crate) struct Month {
    pub(crate) site: Site,
    pub(crate) billing: BillingFixture,
}

impl Month {
    pub(crate) async fn new() -> Self {
        let billing = BillingFixture::new().await;
        Self { site: Site::around(Arc::clone(&billing.database)).await, billing }
    }

    /// A month that [`EVERYTHING`] was loaded for and that was billed.
    pub(crate) async fn billed() -> Self {
        let month = Self::new().await;
        month.billing.load(1, EVERYTHING).await;
        let key = month.billing.begin(1).await.key;
        month.finish(&key, "test/run").await;
        month
    }

    pub(crate) fn work(&self, key: &RevisionKey, run: &str, shard: i32) {
        let RevisionKey { month, revision, run_uid, fence } = *key;
        let mut order = BillArgs { month, revision, fence, run: run.to_owned(), run_uid }.to_args();
        order.push(format!("--shard={shard}"));
        self.site.run(&order.iter().map(String::as_str).collect::<Vec<_>>()).with(0);
    }

    /// Bills the chunks of a run, verifies and issues it.
    pub(crate) async fn finish(&self, key: &RevisionKey, run: &str) {
        self.work(key, run, 0);
        self.work(key, run, 1);
        self.billing.issue(key).await;
    }

    pub(crate) async fn rebill(&self, uid: u128, of: i32, from: &str, to: &str) {
        let book = self.billing.price_book.replace(from, to);
        let key = self.billing.rebill(uid, of, &book).await.key;
        self.finish(&key, "test/rebill").await;
    }

    fn explain(&self, member: &str, more: &[&str]) -> Ended {
        self.site.run(&[&["explain", member, self.billing.month][..], more].concat())
    }
}

pub(crate) fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap()
}

/// The lines of the explanation, and the columns of the bill, as the database has them.
fn explained(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (member, bill) = (&report["memberId"], &report["bill"]);
    let mut lines = vec![
        [
            member,
            &bill["base"],
            &bill["usage"],
            &bill["discount"],
            &bill["adjustment"],
            &bill["tax"],
            &bill["rounding"],
            &bill["total"],
        ]
        .map(text)
        .join(" "),
    ];
    for line in report["explanation"]["lines"].as_array().unwrap() {
        if line["lineNo"].is_null() {
            continue;
        }
        let (blocks, used, free) = match &line["usage"] {
            Value::Null => (String::new(), String::new(), String::new()),
            usage => (text(&usage["blocks"]), text(&usage["used"]), text(&usage["free"])),
        };
        lines.push(format!(
            "{} {} {} {} {blocks} {used} {free}",
            line["lineNo"],
            text(&line["kind"]),
            text(&line["code"]),
            text(&line["amount"])
        ));
    }
    assert_eq!(report["explanation"]["total"], bill["total"]);
    lines
}

async fn stored(month: &Month, member: &str) -> Vec<String> {
    let query = format!(
        "select line from (
             select 0 as line_no, concat_ws(' ', member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount,
                                            rounding_amount, total_amount) as line
             from live_bill where month = '2026-10' and member_id = {member}
             union all
             select line_no, format('%s %s %s %s %s %s %s', line_no, kind, code, amount, case kind when 'USAGE' then quantity end,
                                    used_quantity, free_allowance)
             from live_bill_item where month = '2026-10' and member_id = {member}) l order by line_no"
    );
    month.site.rows(&query).await
}

#[tokio::test]
async fn every_bill_of_a_seeded_month_is_explained_to_the_unit() {
    let mut month = Month::new().await;
    month.billing.price_book = include_str!("../../../examples/pricebook.yaml").to_owned();
    month.billing.chunk_size = 60;
    month.site.run(&["seed", "--month", "2026-10", "--members", "200", "--seed", "20261130"]).with(0);
    let key = month.billing.begin(1).await.key;
    month.finish(&key, "test/run").await;
    let members = month.site.rows("select member_id::text from live_bill order by member_id").await;
    assert_eq!(members.len(), 200);
    let (mut lines, mut with_usage) = (0, 0);
    for member in members {
        let report = json(&month.explain(&member, &["-o", "json"]).with(0));
        assert_eq!(report["difference"], Value::Null, "{report}");
        let found = explained(&report);
        assert_eq!(found, stored(&month, &member).await);
        lines += found.len() - 1;
        with_usage += found.iter().filter(|line| line.contains(" USAGE ")).count();
    }
    assert!(lines > 300 && with_usage > 5, "{lines} lines, {with_usage} of usage");
}

#[tokio::test]
async fn a_bill_is_explained_in_words() {
    let month = Month::billed().await;
    let explained = month.explain("1", &["--usage"]).with(0).out;
    let expected = "\
Member 1, October 2026, revision 1
Made by revision 1 (test/run): price book test, loads up to 1, times in Asia/Seoul

  1  LTE 33 (LTE-33), 11 to 31 October                                         22,355
       33,000 × 21 of 31 days = 22,354.8387…, rounded to 22,355.
";
    assert!(explained.starts_with(expected), "{explained}");
    for part in [
        "  3  Voice with LTE 33 (LTE-33), 11 to 31 October                               8,164\n       \
         Used: 9,000 seconds in 2 records, from 12 October 00:00:00 to 13 October 00:00:00.\n",
        "     roaming: 1 record of 1: price book test does not declare this kind\n",
        "     voice: 1 record of 99,999 seconds: no base plan covers its dates\n",
        "Usage records: 6\n     2026-10-01 00:00:00  voice  99,999  default/before the first segment  load 1\n",
        "\nThis is what is stored, to the unit.\n",
    ] {
        assert!(explained.contains(part), "{part}\n{explained}");
    }
    let adjusted = month.explain("3", &[]).with(0).out;
    assert!(adjusted.contains("Adjustment GOODWILL"), "{adjusted}");
    assert!(adjusted.contains("Adjustment 1: sorry\n"), "{adjusted}");
}

#[tokio::test]
async fn it_says_why_a_member_has_no_bill() {
    let month = Month::billed().await;
    for (member, code, words) in [
        ("31", "UNKNOWN_PLAN", "plan `NO-SUCH-PLAN` is not in price book test"),
        ("32", "OVERLAPPING_SUBSCRIPTIONS", "plans `LTE-33` and `UNLIMITED-89` both cover 2026-10-31"),
        ("33", "UNKNOWN_DISCOUNT", "discount `NO-SUCH-DISCOUNT` is not in price book test"),
        ("34", "AMOUNT_OVERFLOW", "the sum of data used under plan `LTE-33` leaves 64 bits"),
    ] {
        let text = month.explain(member, &[]).with(0).out;
        assert!(
            text.contains("In quarantine, no bill: ") && text.contains(&format!("({code}).\n")),
            "{text}"
        );
        assert!(text.contains(words), "{text}");
        let report = json(&month.explain(member, &["-o", "json"]).with(0));
        assert_eq!(
            (&report["outcome"], &report["quarantine"]["code"]),
            (&"QUARANTINED".into(), &code.into())
        );
    }
    let only_add_on = month.explain("40", &[]).with(0).out;
    let expected = "No bill: no base plan covers a day of the month.\n     add-ons that are not charged: INSURANCE\n     \
                    usage records that are not charged: 1\n";
    assert!(only_add_on.contains(expected), "{only_add_on}");
    let unknown = month.explain("77", &[]).with(0).out;
    assert!(unknown.contains("No bill: no load up to 1 has the member.\n"), "{unknown}");

    let nothing = month.explain("88", &[]).with(4);
    assert_eq!(nothing.message(), "nothing is known of member 88 for month 2026-10, as of load 1");
    assert_eq!(nothing.out, "");
    let no_revision = month.explain("1", &["--revision", "9"]).with(4);
    assert_eq!(no_revision.message(), "month 2026-10 has no revision 9");
    let not_live = month.site.run(&["explain", "1", "2026-09"]).with(4);
    assert!(not_live.message().starts_with("month 2026-09 is not live: "), "{}", not_live.log);
    month.explain("0", &[]).with(2);
    month.site.run(&["explain", "1"]).with(2);
}

#[tokio::test]
async fn a_draft_is_explained_once_it_has_priced_the_member() {
    let month = Month::new().await;
    month.billing.load(1, EVERYTHING).await;
    let key = month.billing.begin(1).await.key;
    let unpriced = month.explain("1", &["--revision", "1"]).with(4);
    assert_eq!(unpriced.message(), "the draft 1 of month 2026-10 has not priced member 1 yet");
    month.work(&key, "test/run", 0);
    month.work(&key, "test/run", 1);
    let priced = month.explain("1", &["--revision", "1"]).with(0).out;
    assert!(priced.starts_with("Member 1, October 2026, revision 1, which is DRAFT\n"), "{priced}");
    month.explain("1", &[]).with(4);
}

#[tokio::test]
async fn each_bill_is_explained_from_what_its_own_revision_pinned() {
    let month = Month::billed().await;
    month.rebill(2, 1, "baseFee: 33000", "baseFee: 30000").await;
    // What comes later makes no difference.
    let late =
        "insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                    (1, '2026-10-20T00:00:00+09:00', 99999, 2, 'voice', '2026-10', 'default', 'late')";
    month.billing.load(2, late).await;
    for (member, more, revision, fee) in
        [("1", &[][..], 2, "20323"), ("1", &["--revision", "1"], 1, "22355"), ("2", &[], 1, "89000")]
    {
        let report = json(&month.explain(member, &[&["-o", "json"][..], more].concat()).with(0));
        assert_eq!(report["billedBy"]["revision"], revision, "{report}");
        assert_eq!(report["explanation"]["lines"][0]["amount"], fee);
        assert_eq!(report["difference"], Value::Null);
    }
    let kept = month.explain("2", &[]).with(0).out;
    assert!(kept.contains("Made by revision 1 (test/run), whose outcome has not changed since: "), "{kept}");

    month
        .billing
        .database
        .execute("update bill_item set amount = amount + 1 where member_id = 2 and line_no = 1")
        .await;
    let other = month.explain("2", &[]).with(4);
    assert!(
        other.out.contains(
            "THIS DIFFERS from what is stored: line 1 BASE UNLIMITED-89: amount 89001, priced 89000"
        ),
        "{}",
        other.out
    );
    assert!(
        other.message().starts_with("the explanation differs from what revision 1 has stored: line 1 "),
        "{}",
        other.log
    );
}

#[tokio::test]
async fn a_difference_is_named_where_it_was_left_out_and_where_it_is_billed() {
    let mut month = Month::billed().await;
    month.billing.deliver(1, "SENT", "3").await;
    month.billing.after_sent = AfterSent::Adjust;
    month.rebill(2, 1, "baseFee: 89000", "baseFee: 90000").await;
    let stays = month.explain("3", &[]).with(0).out;
    let expected = "Revision 2 computed another amount after the bill was sent. The bill stays, and the difference of \
                    1,000 KRW is billed in November 2026.\n";
    assert!(stays.contains(expected), "{stays}");

    month.billing.month = "2026-11";
    let key = month.billing.begin(11).await.key;
    month.finish(&key, "test/run").await;
    let corrected = month.explain("3", &[]).with(0).out;
    assert!(corrected.contains("Correction of October 2026"), "{corrected}");
    assert!(corrected.contains("computed again by its revision 2, after it had been sent."), "{corrected}");
}
