//! What loads bring: versions that repeat, correct and take back; usage and adjustments that never
//! change.

use std::io::Write as _;

use domain::ids::MemberId;
use flate2::Compression;
use flate2::write::GzEncoder;
use secrecy::ExposeSecret as _;
use sqlx::Row as _;
use store::crypto::Column;

use crate::harness::Site;

const MEMBERS: &str =
    "member_id,name,email,phone,locale\n1,Kim,kim@example.com,010-1234-5678,ko\n2,Lee,lee@example.com,,\n";
const SUBSCRIPTIONS: &str =
    "member_id,plan_code,from,to\n1,LTE-33,2026-01-01,\n2,LTE-33,2026-01-01,2026-11-01\n";
const USAGE: &str = "usage_id,member_id,kind,quantity,started_at\n\
                     a,1,voice,60,2026-10-01T00:00:00+09:00\nb,9,data,4611686018427387904,2026-10-31T14:59:59.999999Z\n";

/// Every version of members, opened.
async fn members(site: &Site) -> Vec<String> {
    let keys = site.keys();
    let rows = sqlx::query("select member_id, load, locale, name, email, phone from member order by 1, 2")
        .fetch_all(&site.database.pool)
        .await
        .unwrap();
    let open = |member, column, sealed: Option<Vec<u8>>| {
        let opened =
            sealed.map(|sealed| keys.open(column, MemberId::try_from(member).unwrap(), &sealed).unwrap());
        opened.map_or("none".to_owned(), |text| text.expose_secret().to_owned())
    };
    rows.iter()
        .map(|row| {
            let member: i64 = row.get(0);
            let texts = [(Column::Name, 3), (Column::Email, 4), (Column::Phone, 5)];
            let texts = texts.map(|(column, at)| open(member, column, row.get(at))).join(" ");
            format!(
                "{member}@{} {} {texts}",
                row.get::<i64, _>(1),
                row.get::<Option<String>, _>(2).unwrap_or_default()
            )
        })
        .collect()
}

async fn jobs(site: &Site) -> Vec<String> {
    site.rows(
        "select concat_ws(' ', kind, status, total, succeeded, failed, skipped) from job_log where ended_at is not null
         order by id",
    )
    .await
}

#[tokio::test]
async fn loading_the_same_files_again_changes_nothing() {
    let site = Site::new().await;
    let adjustments = "adjustment_id,member_id,month,code,amount,reason\n7,1,2026-10,GOODWILL,-500,sorry\n";
    let grants = "member_id,discount_code,from,to\n1,FAMILY,2026-10-01,\n";
    let files = [
        ("members.csv", MEMBERS),
        ("subscriptions.csv", SUBSCRIPTIONS),
        ("usage.csv", USAGE),
        ("adjustments.csv", adjustments),
        ("grants.csv", grants),
    ];
    let folder = site.folder("in", &files);
    site.load(&folder).with(0);
    let contents = "select md5(string_agg(t, ',' order by t)) from (
        select t::text from member t union all select t::text from subscription t union all
        select t::text from discount_grant t union all select t::text from adjustment t union all
        select t::text from usage t) r(t)";
    let before = site.rows(contents).await;
    let again = site.load(&folder).with(0);
    assert!(again.out.contains("load 2 is finished"), "{}", again.out);
    assert_eq!(site.rows(contents).await, before);
    assert_eq!(jobs(&site).await, ["LOAD SUCCEEDED 8 8 0 0", "LOAD SUCCEEDED 8 0 0 8"]);
    assert_eq!(
        site.rows("select concat_ws(' ', usage_id, month, quantity, started_at at time zone 'UTC') from usage order by 1")
            .await,
        ["a 2026-10 60 2026-09-30 15:00:00", "b 2026-10 4611686018427387904 2026-10-31 14:59:59.999999"]
    );
    let indexes = "select indexname::text from pg_indexes where tablename = 'usage_2026_10' order by 1";
    assert_eq!(site.rows(indexes).await, ["usage_2026_10_by_member", "usage_2026_10_identity"]);
}

#[tokio::test]
async fn other_values_are_a_new_version_and_the_last_line_wins() {
    let site = Site::new().await;
    site.load(&site.folder("in", &[("members.csv", MEMBERS), ("subscriptions.csv", SUBSCRIPTIONS)])).with(0);
    let members_now = "member_id,email,name,phone\n2,other@example.com,Lee,\n1,kim@example.com,Kim,010-1234-5678\n\
                       2,not an address,Lee,\n3,x@y,New,\n";
    let subscriptions = "plan_code,to,member_id,from\nLTE-33,2026-01-01,1,2026-01-01\nLTE-33,,2,2026-01-01\n\
                         LTE-33,2026-11-01,2,2026-01-01\n5G-55,,2,2026-11-01\n";
    let folder = site.folder("in", &[("members.csv", members_now), ("subscriptions.csv", subscriptions)]);
    site.load(&folder).with(0);
    assert_eq!(
        members(&site).await,
        [
            "1@1 ko Kim kim@example.com 010-1234-5678",
            // The locale was left out and nothing else changed: no new version.
            "2@1  Lee lee@example.com none",
            "2@2  Lee none none",
            "3@2  New x@y none",
        ]
    );
    let versions =
        "select concat_ws(' ', member_id, plan_code, from_date, coalesce(to_date::text, 'open'), load)
                    from subscription order by 1";
    assert_eq!(
        site.rows(versions).await,
        [
            "1 LTE-33 2026-01-01 2026-01-01 2",
            "1 LTE-33 2026-01-01 open 1",
            "2 5G-55 2026-11-01 open 2",
            "2 LTE-33 2026-01-01 2026-11-01 1",
        ]
    );
    assert_eq!(jobs(&site).await[1], "LOAD SUCCEEDED 8 4 0 4");
    // Back to what it was first: a version again.
    site.load(&site.folder("in", &[("subscriptions.csv", SUBSCRIPTIONS)])).with(0);
    assert_eq!(site.rows(versions).await.len(), 5);
}

#[tokio::test]
async fn usage_and_adjustments_never_change() {
    let site = Site::new().await;
    let usage = "usage_id,member_id,kind,quantity,started_at\n\
                 a,1,voice,60,2026-10-01T00:00:00+09:00\na,1,voice,60,2026-09-30T15:00:00Z\n\
                 a,1,voice,61,2026-10-01T00:00:00+09:00\na,1,voice,61,2026-09-30T14:59:59.999999Z\n";
    let adjustments =
        "adjustment_id,member_id,month,code,amount,reason\n7,1,2026-10,G,-5,x\n7,1,2026-10,G,-5,y\n";
    let folder = site.folder("in", &[("usage.csv", usage), ("adjustments.csv", adjustments)]);
    site.load(&folder).with(3);
    let rejects = |file: &str| std::fs::read_to_string(folder.join(format!("{file}.rejects.csv"))).unwrap();
    assert_eq!(
        rejects("usage.csv"),
        "line,reason,usage_id,member_id,kind,quantity,started_at\n\
         4,the same usage has other content on line 2,a,1,voice,61,2026-10-01T00:00:00+09:00\n"
    );
    assert_eq!(
        rejects("adjustments.csv"),
        "line,reason,adjustment_id,member_id,month,code,amount,file_reason\n\
         3,the same adjustment has other content on line 2,7,1,2026-10,G,-5,y\n"
    );
    assert_eq!(jobs(&site).await, ["LOAD COMPLETED_WITH_FAILURES 6 3 2 1"]);
    assert_eq!(site.rows("select usage_id || month from usage order by 1").await, ["a2026-09", "a2026-10"]);

    // Against an earlier load; the same id of another source is another row. What can't be read is told
    // by its line, too.
    let usage = "usage_id,member_id,kind,quantity,started_at\nbad,0,voice,1,2026-10-01T00:00:00Z\n\
                 a,2,voice,60,2026-10-01T00:00:00+09:00\na,1,voice,60,2026-10-01T00:00:00+09:00\nb,1,voice,-1,x\n";
    site.folder("in", &[("usage.csv", usage)]);
    site.load(&folder).with(3);
    assert_eq!(
        rejects("usage.csv")
            .lines()
            .map(|line| line.split(',').take(2).collect::<Vec<_>>().join(","))
            .collect::<Vec<_>>(),
        [
            "line,reason",
            "2,member_id `0` is not 1 to 9223372036854775807 in plain digits",
            "3,the same usage has other content in load 1",
            "5,quantity `-1` is not 0 to 9223372036854775807 in plain digits",
        ]
    );
    let other = [
        ("usage.csv", "usage_id,member_id,kind,quantity,started_at\na,2,sms,1,2026-10-01T00:00:00+09:00\n"),
        ("manifest.yaml", "source: other\nfiles: {usage.csv: {rows: 1}}"),
    ];
    site.folder("in", &other);
    site.load(&folder).with(0);
    assert_eq!(
        site.rows("select source || member_id from usage where month = '2026-10' order by 1").await,
        ["default1", "other2"]
    );
    assert!(!folder.join("usage.csv.rejects.csv").exists(), "rejects of an earlier load are left");
}

#[tokio::test]
async fn files_can_be_compressed() {
    let site = Site::new().await;
    let folder = site.folder("in", &[]);
    for (name, content) in
        [("members.csv.gz", format!("\u{feff}{MEMBERS}")), ("usage.csv", USAGE.replace('\n', "\r\n"))]
    {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(content.as_bytes()).unwrap();
        std::fs::write(folder.join(name), packed.finish().unwrap()).unwrap();
    }
    site.load(&folder).with(0);
    assert_eq!(members(&site).await.len(), 2);
    assert_eq!(site.rows("select count(*)::text from usage").await, ["2"]);
}

#[tokio::test]
async fn months_start_in_the_installations_time_zone() {
    let database = store::testing::TestDatabase::with("America/Sao_Paulo", "BRL").await;
    let site = Site::around(database).await;
    let usage = "usage_id,member_id,kind,quantity,started_at\na,1,v,1,2026-11-01T02:59:59.999999Z\nb,1,v,1,2026-11-01T03:00:00Z\n";
    site.load(&site.folder("in", &[("usage.csv", usage)])).with(0);
    assert_eq!(
        site.rows("select usage_id || ' ' || month from usage order by 1").await,
        ["a 2026-10", "b 2026-11"]
    );
}

#[tokio::test]
async fn nothing_is_loaded_when_the_manifest_does_not_match() {
    let site = Site::new().await;
    let manifest = "files:\n  members.csv: {rows: 3}\n  usage.csv: {rows: 2, quantity: {voice: 61, data: \"4611686018427387904\"}}\n";
    let folder =
        site.folder("in", &[("members.csv", MEMBERS), ("usage.csv", USAGE), ("manifest.yaml", manifest)]);
    let ended = site.load(&folder).with(4);
    assert_eq!(
        ended.message(),
        "the manifest does not match the folder, nothing was loaded: members.csv has 2 rows, the manifest says 3; \
         usage.csv has 60 of voice, the manifest says 61"
    );
    assert_eq!(
        site.rows(
            "select (count(*) = 0)::text from (select load from member union all select load from usage) r"
        )
        .await,
        ["true"]
    );
    assert_eq!(site.rows("select kind || ' ' || status from job_log").await, ["LOAD FAILED"]);
    assert_eq!(site.rows("select state from load").await, ["DEAD"]);
    let right = "files:\n  members.csv: {rows: 2}\n  usage.csv: {rows: 2, quantity: {voice: 60, data: \"4611686018427387904\"}, days: {from: 2026-10-01, to: 2026-11-01}}\n";
    std::fs::write(folder.join("manifest.yaml"), right).unwrap();
    site.load(&folder).with(0);
}
