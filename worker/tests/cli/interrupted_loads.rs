//! Loads and seeds that are interrupted, are killed, or wait for another: nothing stays half done.

use std::process::Child;

use sqlx::{Connection as _, PgConnection};
use store::job_log::JobKind;
use store::load::{self, NewLoad};

use crate::harness::{Site, ended, signal};

const FILES: [(&str, &str); 2] = [
    ("members.csv", "member_id,name,email,phone\n1,Kim,kim@example.com,\n"),
    ("usage.csv", "usage_id,member_id,kind,quantity,started_at\na,1,voice,60,2026-10-01T00:00:00Z\n"),
];

/// Starts a load and waits until its merge waits for a lock that `holder` has.
async fn load_held_up(site: &Site, holder: &mut PgConnection) -> Child {
    sqlx::raw_sql("begin; lock table member in exclusive mode").execute(&mut *holder).await.unwrap();
    let folder = site.folder("in", &FILES);
    let child = site.command(&["load", folder.to_str().unwrap()]).spawn().unwrap();
    site.until("select count(*)::text from pg_stat_activity where datname = current_database() and wait_event = 'relation'", "1").await;
    child
}

const LEFT: &str = "select concat_ws(' ', (select count(*) from member), (select count(*) from subscription),
                                          (select count(*) from usage), (select count(*) from staged_usage))";
const LOADS: &str = "select concat_ws(' ', l.number, l.kind, l.state, j.status, j.detail->>'error')
                     from load l join job_log j on j.id = l.job order by 1";

#[tokio::test]
async fn an_interrupted_load_leaves_nothing_and_can_be_repeated() {
    let site = Site::new().await;
    let mut holder = site.database.connect().await;
    let child = load_held_up(&site, &mut holder).await;
    signal(&child, "-TERM");
    ended(child).with(75);
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    assert_eq!(site.rows(LOADS).await, ["1 LOAD DEAD CANCELLED interrupted"]);
    assert_eq!(site.rows(LEFT).await, ["0 0 0 0"]);
    site.load(&site.folder("in", &FILES)).with(0);
    assert_eq!(site.rows(LEFT).await, ["1 0 1 0"]);
}

#[tokio::test]
async fn the_next_load_removes_the_rows_of_a_killed_one() {
    let site = Site::new().await;
    let mut holder = site.database.connect().await;
    let child = load_held_up(&site, &mut holder).await;
    signal(&child, "-KILL");
    assert_eq!(ended(child).status, None);
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    let next = site.load(&site.folder("in", &FILES)).with(0);
    assert!(
        next.log.contains("the process of an earlier load died: removed what it had written"),
        "{}",
        next.log
    );
    assert_eq!(
        site.rows(LOADS).await,
        ["1 LOAD DEAD FAILED the process died before the end", "2 LOAD FINISHED SUCCEEDED"]
    );
    assert_eq!(site.rows(LEFT).await, ["1 0 1 0"]);
}

#[tokio::test]
async fn a_load_removes_the_rows_of_a_dead_seed() {
    let site = Site::new().await;
    let mut dead = site.database.connect_as("monthend_worker").await;
    assert!(load::try_lock(&mut dead).await.unwrap());
    let detail = serde_json::json!({});
    let seed = NewLoad {
        kind: JobKind::Seed,
        source: "seed",
        fingerprint: None,
        month: Some("2026-10"),
        days: None,
        detail: &detail,
    };
    load::begin_load(&mut dead, &seed).await.unwrap();
    sqlx::raw_sql(
        "select open_usage_month('2026-10');
         insert into member (member_id, load, name) values (5, 1, '');
         insert into subscription values (5, 'P', '2026-10-01', null, 1);
         insert into usage values (5, '2026-10-02', 1, 1, 'voice', '2026-10', 'seed', 'x')",
    )
    .execute(&mut dead)
    .await
    .unwrap();
    dead.close().await.unwrap();
    site.load(&site.folder("in", &FILES)).with(0);
    assert_eq!(site.rows("select member_id || ' ' || load from member").await, ["1 2"]);
    assert_eq!(site.rows(LEFT).await, ["1 0 1 0"]);
    assert_eq!(
        site.rows(LOADS).await,
        ["1 SEED DEAD FAILED the process died before the end", "2 LOAD FINISHED SUCCEEDED"]
    );
}

#[tokio::test]
async fn a_second_load_waits_and_logs_what_it_waits_for() {
    let site = Site::new().await;
    let mut first = site.database.connect().await;
    assert!(load::try_lock(&mut first).await.unwrap());
    let detail = serde_json::json!({"folder": "/data/first", "host": "pod-1", "progress": {"step": "merging", "rows": 7}});
    let new_load = NewLoad {
        kind: JobKind::Load,
        source: "default",
        fingerprint: None,
        month: None,
        days: None,
        detail: &detail,
    };
    load::begin_load(&mut first, &new_load).await.unwrap();
    let folder = site.folder("in", &FILES);
    let child = site.command(&["load", folder.to_str().unwrap()]).spawn().unwrap();
    // It has looked for whom it waits: its session has asked for the lock and got no for an answer.
    site.until("select least(count(*), 1)::text from pg_stat_activity where datname = current_database() and application_name = 'monthend load' and state = 'idle' and query like '%pg_try_advisory_lock%'", "1").await;
    first.close().await.unwrap();
    let second = ended(child).with(0);
    assert!(
        second.log.contains("waiting for load 1 (/data/first, host pod-1, since ")
            && second.log.contains(", merging, 7 rows): loads run one at a time"),
        "{}",
        second.log
    );
    assert_eq!(site.rows("select max(number)::text from load where state = 'FINISHED'").await, ["2"]);
}

#[tokio::test]
async fn two_loads_at_once_run_one_after_the_other() {
    let site = Site::new().await;
    let folder = site.folder("in", &FILES);
    let start = || site.command(&["load", folder.to_str().unwrap()]).spawn().unwrap();
    let both = [start(), start()];
    for child in both {
        ended(child).with(0);
    }
    assert_eq!(site.rows(LEFT).await, ["1 0 1 0"]);
    assert_eq!(site.rows("select count(*)::text from load where state = 'FINISHED'").await, ["2"]);
}
