//! `monthend status`, `late` and `log`: what they show of a month, as text and as JSON.

use serde_json::{Value, json};
use store::testing::sample_month::EVERYTHING;

use crate::explanations::{Month, json as parsed};

const LATE: &str = "
    insert into subscription (member_id, plan_code, from_date, load) values (2, 'INSURANCE', '2026-10-05', 2);
    insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
        (1, '2026-10-20T00:00:00+09:00', 60, 2, 'voice', '2026-10', 'default', 'late 1'),
        (1, '2026-10-20T00:00:00+09:00', 60, 2, 'voice', '2026-10', 'default', 'late 2')";

#[tokio::test]
async fn the_status_of_a_month_follows_it_from_the_draft_to_deliveries_and_late_data() {
    let month = Month::new().await;
    month.billing.load(1, EVERYTHING).await;
    let status = |more: &[&str]| month.site.run(&[&["status", "2026-10"][..], more].concat()).with(0);
    assert_eq!(status(&[]).out, "2026-10: not billed, and no run is billing it\n");

    let key = month.billing.begin(1).await.key;
    month.work(&key, "test/run", 0);
    let draft = parsed(&status(&["-o", "json"]));
    assert_eq!(draft["live"], Value::Null);
    assert_eq!(draft["revisions"][0]["state"], "DRAFT");
    let (done, chunks) = (draft["draft"]["chunksDone"].as_i64(), draft["draft"]["chunks"].as_i64());
    assert!(done > Some(0) && done < chunks, "{draft}");
    assert_eq!(draft["draft"]["shards"][0]["chunksDone"], draft["draft"]["shards"][0]["chunks"]);
    assert_eq!(draft["draft"]["shards"][1]["chunksDone"], 0);
    month.work(&key, "test/run", 1);
    month.billing.issue(&key).await;

    // Member 1 is billed again; the delivery of the old bill does not count any more.
    month.billing.deliver(1, "SENT", "1, 2, 3").await;
    month.billing.deliver(1, "FAILED", "5").await;
    month.rebill(2, 1, "baseFee: 33000", "baseFee: 30000").await;
    month.billing.load(2, LATE).await;
    let live = parsed(&status(&["-o", "json"]));
    assert_eq!(live["draft"], Value::Null);
    assert_eq!(
        (&live["live"]["revision"], &live["live"]["billed"], &live["live"]["quarantined"]),
        (&json!(2), &json!(12), &json!(4))
    );
    let total =
        month.site.rows("select sum(total_amount)::text from live_bill where month = '2026-10'").await;
    assert_eq!(live["live"]["total"], total[0].as_str());
    let base = month.site.rows("select sum(base_amount)::text from live_bill where month = '2026-10'").await;
    assert_eq!(live["live"]["amounts"]["base"], base[0].as_str());
    assert_eq!(
        live["live"]["notCharged"],
        json!({ "addOns": 1, "adjustments": 0, "adjustmentAmount": "0", "usageRows": 3 })
    );
    let statuses = "select string_agg(format('%s %s', status, n), ', ' order by status)
                    from (select status, count(*) as n from live_bill where month = '2026-10' group by status) s";
    assert_eq!(month.site.rows(statuses).await, ["FAILED 1, READY 9, SENT 2"]);
    assert_eq!(
        live["deliveries"],
        json!({ "ready": 9, "sending": 0, "sent": 2, "failed": 1, "unknown": 0, "skipped": 0 })
    );
    assert_eq!(
        live["late"],
        json!([{ "kind": "subscriptions", "takenBack": false, "rows": 1 }, { "kind": "usage", "takenBack": false, "rows": 2 }])
    );
    let text = status(&[]).out;
    for part in [
        "Late, after the cut-off of revision 2: 1 subscriptions, 2 usage\n",
        "Deliveries: 9 ready, 0 sending, 2 sent, 1 failed, 0 unknown, 0 skipped\n",
        "Live: 12 billed, 4 in quarantine, total ",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[tokio::test]
async fn late_data_is_shown_with_the_run_that_bills_it() {
    let month = Month::billed().await;
    let late = |more: &[&str]| month.site.run(&[&["late", "2026-10"][..], more].concat());
    let none = late(&[]).with(0).out;
    assert!(none.ends_with("Nothing that concerns the month was loaded or taken back since.\n"), "{none}");
    month.billing.load(2, LATE).await;
    let report = parsed(&late(&["-o", "json"]).with(0));
    assert_eq!(
        (&report["revision"], &report["dataCutoff"], &report["members"]),
        (&json!(1), &json!(1), &json!(2))
    );
    let rows: Vec<_> = report["loads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|late| format!("{} {} {} {}", late["load"], late["kind"], late["usageKind"], late["rows"]))
        .collect();
    assert_eq!(rows, ["2 \"subscriptions\" null 1", "2 \"usage\" \"voice\" 2"]);
    let text = late(&[]).with(0).out;
    assert!(text.contains("2 members have late data.\n"), "{text}");
    assert!(
        text.contains("  rebill: { ofRevision: 1, reason: \"late data\" }\n  scope: { select: Late }\n"),
        "{text}"
    );

    month.billing.take_back(1).await;
    let taken_back = parsed(&late(&["-o", "json"]).with(0));
    let taken_back =
        taken_back["loads"].as_array().unwrap().iter().filter(|late| late["takenBack"] == true).count();
    assert!(taken_back > 0, "{text}");
    let not_live = month.site.run(&["late", "2026-09"]).with(4);
    assert!(not_live.message().starts_with("month 2026-09 is not live"), "{}", not_live.log);
}

#[tokio::test]
async fn the_log_has_the_newest_batches_first() {
    let month = Month::billed().await;
    let all = parsed(&month.site.run(&["log", "-o", "json"]).with(0));
    let kinds: Vec<_> = all.as_array().unwrap().iter().map(|batch| batch["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["BILLING", "LOAD"]);
    assert_eq!(
        (&all[0]["run"], &all[0]["status"], &all[0]["succeeded"]),
        (&json!("test/run"), &json!("COMPLETED_WITH_FAILURES"), &json!(12))
    );
    let of_month = parsed(&month.site.run(&["log", "2026-10", "-o", "json"]).with(0));
    assert_eq!(of_month.as_array().unwrap().len(), 1);
    let one = month.site.run(&["log", "--limit", "1"]).with(0).out;
    assert_eq!(one.lines().count(), 2, "{one}");
    assert!(one.starts_with("ID  KIND"), "{one}");
    month.site.run(&["log", "--limit", "0"]).with(2);
    month.site.run(&["log", "2026-13"]).with(2);
}
