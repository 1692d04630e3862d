//! `monthend verify`: its report, and its exit status.

use domain::price_book::PriceBook;
use store::billing::{self, BeginRequest, BeginResult, RevisionKey, Uuid};
use store::testing::sample_month;
use worker_cli::BillArgs;

use crate::harness::Site;

const VERIFY: [&str; 3] = ["verify", "--month", "2026-10"];

#[tokio::test]
async fn a_violation_is_reported_and_the_exit_status_is_4() {
    let site = Site::new().await;
    site.run(&["seed", "--month", "2026-10", "--members", "5"]).with(0);
    let holds = site.run(&VERIFY).with(0);
    assert!(
        holds.out.contains(
            "envelopes-are-valid: holds (encrypted columns use known keys, and no nonce is used twice)"
        ),
        "{}",
        holds.out
    );
    assert!(holds.out.ends_with("2026-10: 22 of 22 hold\n"), "{}", holds.out);
    assert!(holds.out.contains("replay-equals-bills was not checked: give --replay\n"), "{}", holds.out);

    sqlx::query("insert into job_log (kind, month) values ('BILLING', '2026-10')")
        .execute(&site.database.pool)
        .await
        .unwrap();
    let violated = site.run(&VERIFY).with(4);
    assert!(violated.out.contains("ended-runs-are-closed: VIOLATED, 1 times ("), "{}", violated.out);
    assert!(violated.out.contains("is RUNNING, its revision none"), "{}", violated.out);
    // Another month has nothing to do with it.
    site.run(&["verify", "--month", "2026-09"]).with(0);
}

#[tokio::test]
async fn arrived_messages_are_read_from_a_file() {
    let site = Site::new().await;
    let folder = site.folder("arrived", &[("ids", "<2026-10.7.1@example.com>\n\n2026-09.7.1@example.com\n")]);
    let file = folder.join("ids");
    let sink = ["--sink", file.to_str().unwrap()];
    let violated = site.run(&[&VERIFY[..], &sink[..]].concat()).with(4);
    let expected = "member 7 revision 1 is READY after 0 ambiguous attempts, and 1 emails arrived";
    assert_eq!(violated.out.matches("emails arrived\n").count(), 1, "{}", violated.out);
    assert!(violated.out.contains(expected), "{}", violated.out);
    let nowhere = site.run(&[&VERIFY[..], &["--sink", "/nowhere/ids"][..]].concat()).with(2);
    assert!(nowhere.message().contains("cannot read /nowhere/ids"), "{}", nowhere.log);
}

/// A live month with one bill.
async fn billed() -> Site {
    let site = Site::new().await;
    let members = "member_id,name,email,phone\n1,Kim,kim@example.com,\n";
    let subscriptions = "member_id,plan_code,from,to\n1,LTE-33,2026-01-01,\n";
    site.load(&site.folder("in", &[("members.csv", members), ("subscriptions.csv", subscriptions)])).with(0);
    let operator = site.database.pool_as("monthend_operator", 2).await;
    let text = sample_month::price_book("Asia/Seoul");
    let request = BeginRequest {
        run: "test/run",
        run_uid: Uuid::from_u128(1),
        month: VERIFY[2].parse().unwrap(),
        price_book: &PriceBook::parse(&text).unwrap(),
        price_book_text: &text,
        data_cutoff: None,
        chunk_size: 1000,
        shards: 1,
        rebill: None,
        require_sources: &[],
    };
    let BeginResult::Started(started) = billing::begin_run(&operator, &request).await.unwrap() else {
        panic!("nothing is in its way");
    };
    let RevisionKey { month, revision, run_uid, fence } = started.key;
    let order = BillArgs { month, revision, fence, run: "test/run".to_owned(), run_uid }.to_args();
    site.run(&order.iter().map(String::as_str).chain(["--shard=0"]).collect::<Vec<_>>()).with(0);
    billing::verify_revision(&operator, &started.key).await.unwrap();
    billing::issue_revision(&operator, &started.key, None).await.unwrap();
    site
}

#[tokio::test]
async fn a_month_is_priced_again_and_what_differs_is_reported() {
    let site = billed().await;
    let replay = [&VERIFY[..], &["--replay"][..]].concat();
    let holds = site.run(&replay).with(0);
    let expected = "replay-equals-bills: holds (pricing each live revision again from its own inputs gives the bills, items and \
                    quarantine that are stored)\n    \
                    revision 1, data cut-off 1: 1 billed and 0 in quarantine, of which 0 differ\n";
    assert!(holds.out.contains(expected), "{}", holds.out);
    assert!(holds.out.ends_with("2026-10: 23 of 23 hold\n"), "{}", holds.out);

    // Everything else is as it should be for the other amount.
    site.database
        .execute(
            "update bill set base_amount = 32000, total_amount = 32000;
             update bill_item set amount = 32000 where kind = 'BASE';
             update bill b set digest = (select computed from bill_digest d where d.member_id = b.member_id);
             update chunk set base_amount = 32000, total_amount = 32000;
             update revision set month_total = 32000",
        )
        .await;
    let differs = site.run(&replay).with(4);
    let expected = "    member 1 revision 1: base amount 32000, priced 33000; total amount 32000, priced 33000; \
                    line 1 BASE LTE-33: amount 32000, priced 33000\n    \
                    revision 1, data cut-off 1: 1 billed and 0 in quarantine, of which 1 differ\n";
    assert!(differs.out.contains("replay-equals-bills: VIOLATED, 1 times ("), "{}", differs.out);
    assert!(differs.out.contains(expected), "{}", differs.out);
    assert!(differs.out.ends_with("2026-10: 22 of 23 hold\n"), "{}", differs.out);

    site.database.execute("update chunk set pricing_version = 77").await;
    let other = site.run(&replay).with(4);
    assert!(
        other.out.contains("replay-equals-bills: VIOLATED, 1 times, with other pricing rules ("),
        "{}",
        other.out
    );
    assert!(other.out.contains("version 77; this program has version"), "{}", other.out);
}
