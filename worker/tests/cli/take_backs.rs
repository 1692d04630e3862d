//! `monthend load --take-back`: what no longer counts, what can come again, and what is refused.

use crate::harness::Site;

const MEMBERS: &str = "member_id,name,email,phone\n1,Kim,kim@example.com,\n";
const USAGE: &str = "usage_id,member_id,kind,quantity,started_at\na,1,voice,60,2026-10-01T00:00:00+09:00\nb,1,voice,5,2026-10-02T00:00:00Z\n";
const CORRECTED: &str = "usage_id,member_id,kind,quantity,started_at\na,1,voice,61,2026-10-01T00:00:00+09:00\nb,1,voice,5,2026-10-02T00:00:00Z\n";
const ADJUSTMENTS: &str =
    "adjustment_id,member_id,month,code,amount,reason\n7,1,2026-10,GOODWILL,-500,sorry\n";
const GRANTS: &str = "member_id,discount_code,from,to\n1,FAMILY,2026-10-01,\n";
const SUBSCRIPTIONS: &str = "member_id,plan_code,from,to\n1,LTE-33,2026-01-01,\n";

const LOADS: &str =
    "select concat_ws(' ', number, kind, source, state, members, subscriptions, grants, adjustments, usage,
                         unchanged, rejected, taken_back_by, taken_back_reason) from loads order by number";

fn everything() -> [(&'static str, &'static str); 5] {
    [
        ("members.csv", MEMBERS),
        ("subscriptions.csv", SUBSCRIPTIONS),
        ("grants.csv", GRANTS),
        ("adjustments.csv", ADJUSTMENTS),
        ("usage.csv", USAGE),
    ]
}

#[tokio::test]
async fn what_was_taken_back_can_be_loaded_again_or_corrected() {
    let site = Site::new().await;
    let folder = site.folder("in", &everything());
    site.load(&folder).with(0);
    let taken_back = site.run(&["load", "--take-back", "1", "--reason", "another month's file"]).with(0);
    for line in [
        "load 2 takes load 1 of source default back: these rows no longer count\n",
        "  members                     1\n",
        "  usage                       2\n",
        "no live month was billed with it\n",
    ] {
        assert!(taken_back.out.contains(line), "{line} is not in {}", taken_back.out);
    }

    // The same identity with other content is no conflict now, and the same files are new.
    let files = everything().map(|(file, text)| (file, if file == "usage.csv" { CORRECTED } else { text }));
    site.load(&site.folder("in", &files)).with(0);
    let again = site.load(&site.folder("in", &everything())).with(3);
    let rejects = std::fs::read_to_string(folder.join("usage.csv.rejects.csv")).unwrap();
    assert!(rejects.contains("2,the same usage has other content in load 3,a,"), "{}\n{rejects}", again.out);
    assert_eq!(
        site.rows(LOADS).await,
        [
            "1 LOAD default TAKEN_BACK 1 1 1 1 2 0 0 2 another month's file",
            "2 TAKE_BACK default FINISHED 0 0 0 0 0 0 0",
            "3 LOAD default FINISHED 1 1 1 1 2 0 0",
            "4 LOAD default FINISHED 0 0 0 0 0 5 1",
        ]
    );
    assert_eq!(
        site.rows("select concat_ws(' ', kind, status, total, succeeded, detail->>'takesBack') from job_log where id = 2").await,
        ["LOAD SUCCEEDED 6 6 1"]
    );

    // What load 4 skipped was load 3's, and goes with it.
    let taken_back = site.run(&["load", "--take-back", "3"]).with(0);
    assert!(taken_back.out.contains("load the folders of these loads again: 4\n"), "{}", taken_back.out);
    site.load(&site.folder("in", &everything())).with(0);
    assert_eq!(site.rows(LOADS).await[5], "6 LOAD default FINISHED 1 1 1 1 2 0 0");
}

#[tokio::test]
async fn a_version_before_the_one_that_was_taken_back_counts_again() {
    let site = Site::new().await;
    let load = |to: &str| {
        let text = format!("member_id,plan_code,from,to\n1,LTE-33,2026-01-01,{to}\n");
        site.load(&site.folder("in", &[("subscriptions.csv", &text)])).with(0);
    };
    load("");
    load("2026-10-11");
    site.run(&["load", "--take-back", "2"]).with(0);
    // Unchanged against load 1, and another value than load 2 had.
    load("");
    load("2026-10-11");
    assert_eq!(
        site.rows(
            "select concat_ws(' ', load, coalesce(to_date::text, 'open')) from subscription order by 1"
        )
        .await,
        ["1 open", "2 2026-10-11", "5 2026-10-11"]
    );
    // What changes is the time from the earlier end on.
    let totals = "select concat_ws(' ', load, from_month, to_month, rows) from load_total order by load";
    assert_eq!(
        site.rows(totals).await,
        ["1 2026-01 2099-12 1", "2 2026-10 2099-12 1", "5 2026-10 2099-12 1"]
    );
}

#[tokio::test]
async fn a_seed_can_be_taken_back_and_made_again() {
    let site = Site::new().await;
    let seed = ["seed", "--month", "2026-10", "--members", "5"];
    site.run(&seed).with(0);
    let taken_back = site.run(&["load", "--take-back", "1"]).with(0);
    assert!(taken_back.out.contains("load 2 takes seed 1 of source seed back"), "{}", taken_back.out);
    site.run(&seed).with(0);
    let again = site.run(&seed).with(0);
    assert!(again.out.contains("already seeded with these parameters, by load 3"), "{}", again.out);
    let seeds = "select (select members || ' ' || usage from loads where number = 1)
                      = (select members || ' ' || usage from loads where number = 3) and members = 5 and usage > 0
                 from loads where number = 1";
    assert_eq!(site.rows(&format!("select ({seeds})::text")).await, ["true"]);
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_refused_with_the_reason() {
    let site = Site::new().await;
    let folder = site.folder("in", &[("members.csv", MEMBERS), ("manifest.yaml", "members: {rows: 2}")]);
    site.load(&folder).with(4);
    site.load(&site.folder("in", &[("members.csv", MEMBERS)])).with(0);
    site.run(&["load", "--take-back", "2"]).with(0);
    for (number, reason) in [
        ("1", "load 1 did not finish, so nothing of it counts and there is nothing to take back"),
        (
            "3",
            "load 3 is a take-back of load 2, which cannot be taken back itself: load the folder of load 2 again",
        ),
        ("9", "there is no load 9; the view loads lists them"),
    ] {
        assert_eq!(site.run(&["load", "--take-back", number]).with(2).message(), reason);
    }
    let again = site.run(&["load", "--take-back", "2"]).with(0);
    assert_eq!(again.out, "load 2 was taken back before, by load 3: nothing was changed\n");
    assert_eq!(site.rows("select count(*)::text from load").await, ["3"]);

    let folder = folder.to_str().unwrap();
    for arguments in [
        &["load", folder, "--take-back", "2"][..],
        &["load"],
        &["load", folder, "--reason", "x"],
        &["load", "--take-back", "0"],
        &["load", "--take-back", "2", "--reason", ""],
    ] {
        site.run(arguments).with(2);
    }
}

#[tokio::test]
async fn the_days_that_the_manifest_says_are_stored() {
    let site = Site::new().await;
    let manifest = "source: cdr-a\nusage: {rows: 2, days: {from: 2026-10-01, to: 2026-10-03}}\n";
    site.load(&site.folder("in", &[("usage.csv", USAGE), ("manifest.yaml", manifest)])).with(0);
    assert_eq!(
        site.rows("select concat_ws(' ', source, days_from, days_to) from loads").await,
        ["cdr-a 2026-10-01 2026-10-03"]
    );
}
