//! Publishing, sending and rehearsing as processes: what they end with, and what is left when they
//! are told to stop.

use std::collections::BTreeMap;

use domain::locale::Locale;
use store::notification::{self, BeginRequest, BeginResult, Scope, Selection, TemplateSet, Uuid};
use store::testing::MONTH;

use crate::harness::{Site, ended, signal};

const MEMBERS: i64 = 300;
const RUN: &str = "test/notices";
const RUN_UID: &str = "00000000-0000-0000-0000-000000000001";
const FROM: &str = "Billing <billing@example.com>";

/// A month with a live bill for each member, and a run that begins to tell them.
async fn begun(rehearsal: bool) -> Site {
    let site = Site::new().await;
    site.run(&["seed", "--month", MONTH, "--members", &MEMBERS.to_string()]).with(0);
    site.database.issue_bills(1, "select member_id from member").await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/monthend/files/templates");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let files: BTreeMap<String, String> = files
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap()))
        .collect();
    let sha256 = email::Templates::parse(&files, Locale::KO).unwrap().sha256().to_owned();
    let operator = site.database.pool_as("monthend_operator", 1).await;
    let asked = BeginRequest {
        run: RUN,
        run_uid: RUN_UID.parse::<Uuid>().unwrap(),
        month: MONTH.parse().unwrap(),
        selection: Selection::Ready,
        scope: &Scope::Everyone,
        rehearsal,
        skip_zero: false,
        templates: &TemplateSet { sha256, files },
        max_per_second: None,
    };
    let BeginResult::Started(id) = notification::begin_run(&operator, &asked).await.unwrap() else {
        panic!("refused")
    };
    notification::open_round(&operator, id, 0).await.unwrap();
    site
}

/// The shared broker, with topics and a group of the site's own.
fn kafka(site: &Site) -> Vec<String> {
    let brokers = std::env::var("MONTHEND_TEST_KAFKA")
        .expect("MONTHEND_TEST_KAFKA must name a Kafka broker for tests, such as 127.0.0.1:9092");
    let own = site.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    let flags = [
        ("--brokers", brokers),
        ("--topic", format!("cli.{own}")),
        ("--dlq-topic", format!("cli.{own}.dlq")),
        ("--group", format!("cli.{own}")),
        ("--partitions", "2".to_owned()),
    ];
    flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

fn with<'a>(command: &[&'a str], kafka: &'a [String]) -> Vec<&'a str> {
    command.iter().copied().chain(kafka.iter().map(String::as_str)).collect()
}

#[tokio::test]
async fn bills_are_published_and_sent_and_a_consumer_ends_when_it_is_stopped() {
    let site = begun(false).await;
    let kafka = kafka(&site);
    let publish = with(&["publish", "--run", RUN, "--run-uid", RUN_UID, "--round", "1"], &kafka);
    // Repeated, it finds everything done.
    for _ in 0..2 {
        site.run(&publish).with(0);
        assert_eq!(site.rows("select messages::text from publication").await, [MEMBERS.to_string()]);
    }

    let notify = ["notify", "--transport", "mock://", "--from", FROM, "--listen", "127.0.0.1:0"];
    let consumer = site.command(&with(&notify, &kafka)).spawn().unwrap();
    site.until("select count(*)::text from notice_target where outcome is null", "0").await;
    assert_eq!(site.rows("select count(*)::text from consumer").await, ["1"]);
    signal(&consumer, "-TERM");
    let log = ended(consumer).with(0).log;
    assert_eq!(site.rows("select count(*)::text from consumer").await, ["0"], "it took its leave\n{log}");
    let outcomes =
        "select outcome::text || ' ' || coalesce(reason, '') from notice_target group by 1 order by 1";
    assert_eq!(site.rows(outcomes).await, ["SENT ", "SKIPPED NO_ADDRESS"]);
}

#[tokio::test]
async fn a_rehearsal_renders_everything_and_sends_nothing() {
    let site = begun(true).await;
    let rehearse = ["rehearse", "--run", RUN, "--run-uid", RUN_UID, "--from", FROM];
    for _ in 0..2 {
        site.run(&rehearse).with(0);
        let rendered = "select count(*)::text from notice_target where outcome in ('RENDERED', 'SKIPPED')";
        assert_eq!(site.rows(rendered).await, [MEMBERS.to_string()]);
    }
    assert_eq!(site.rows("select count(*)::text from delivery").await, ["0"]);
}

#[tokio::test]
async fn wrong_options_are_reported_before_anything_is_done() {
    let site = begun(false).await;
    let unknown = ["publish", "--run", RUN, "--run-uid", &RUN_UID.replace('1', "2"), "--round", "1"];
    let lost = site.run(&with(&unknown, &kafka(&site)));
    assert!(lost.message().contains("is not in the database"), "{}", lost.log);
    let no_brokers = site.run(&unknown).with(2);
    assert!(no_brokers.log.contains("--brokers <ADDRESSES>"), "{}", no_brokers.log);
    let kafka = kafka(&site);
    let elsewhere = ["notify", "--transport", "ftp://example.com", "--from", FROM];
    let refused = site.run(&with(&elsewhere, &kafka)).with(2);
    assert!(refused.message().contains("smtp://"), "{}", refused.log);
    let nobody = site.run(&with(&["notify", "--transport", "mock://", "--from", "nobody"], &kafka)).with(2);
    assert!(nobody.log.contains("--from"), "{}", nobody.log);
    assert_eq!(site.rows("select count(*)::text from delivery").await, ["0"]);
}
