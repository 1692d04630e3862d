//! A database that another version has migrated: every command ends at once, and says what to do.

use secrecy::ExposeSecret as _;
use store::migrate::embedded_version;
use store::testing::TestDatabase;

use crate::harness::{Site, ended};

const RUN_UID: &str = "00000000-0000-0000-0000-000000000001";
const FROM: &str = "Billing <billing@example.com>";
/// No broker answers here.
const BROKERS: &str = "127.0.0.1:1";

/// Every command but `migrate`.
fn commands(folder: &str) -> [Vec<&str>; 9] {
    let run = ["--run", "test/run", "--run-uid", RUN_UID];
    let bill = ["bill", "--month", "2026-10", "--revision", "1", "--fence", "1", "--shard", "0"];
    let notify = ["notify", "--transport", "mock://", "--from", FROM, "--listen", "127.0.0.1:0"];
    [
        vec!["check"],
        vec!["verify", "--month", "2026-10"],
        vec!["seed", "--month", "2026-10", "--members", "5"],
        vec!["load", folder],
        vec!["load", "--take-back", "1"],
        [&bill[..], &run].concat(),
        [&["publish", "--round", "1", "--brokers", BROKERS], &run[..]].concat(),
        [&["rehearse", "--from", FROM], &run[..]].concat(),
        [&notify[..], &["--brokers", BROKERS]].concat(),
    ]
}

fn assert_refused(site: &Site, reason: &str) {
    let folder = site.folder("in", &[("members.csv", "member_id,name,email,phone\n1,A,,\n")]);
    for command in commands(folder.to_str().unwrap()) {
        let ended = site.run(&command).with(5);
        assert!(ended.log.contains(reason), "{command:?}: {}", ended.log);
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let site = Site::new().await;
    site.database.shift_schema_version(1).await;
    let (own, newer) = (embedded_version(), embedded_version() + 1);
    assert_refused(
        &site,
        &format!(
            "the database has schema version {newer}, this program needs version {own}: use the image of the monthend version \
             that migrated the database"
        ),
    );
    assert_eq!(site.rows("select count(*)::text from job_log").await, ["0"]);
}

#[tokio::test]
async fn an_older_schema_is_refused() {
    let site = Site::new().await;
    site.database.shift_schema_version(-1).await;
    let (own, older) = (embedded_version(), embedded_version() - 1);
    assert_refused(
        &site,
        &format!(
            "the database has schema version {older}, this program needs version {own}: run `monthend migrate`"
        ),
    );
    assert_eq!(site.rows("select count(*)::text from job_log").await, ["0"]);
}

#[tokio::test]
async fn a_database_without_a_schema_is_refused() {
    let site = Site::around(TestDatabase::empty().await).await;
    let own = embedded_version();
    assert_refused(
        &site,
        &format!(
            "the database has no installation yet, this program needs schema version {own}: run `monthend migrate`"
        ),
    );
}

#[tokio::test]
async fn a_newer_schema_is_not_migrated() {
    let site = Site::new().await;
    site.database.shift_schema_version(1).await;
    let granted = "select coalesce(relacl::text, '') from pg_class where relname = 'bill'";
    site.database.execute("revoke all on bill from monthend_worker").await;
    let before = site.rows(granted).await;
    let mut command = site.command(&["migrate", "--time-zone", "Asia/Seoul", "--currency", "KRW"]);
    command.env("DATABASE_URL", site.database.url.expose_secret());
    let ended = ended(command.spawn().unwrap()).with(5);
    let versions = format!(
        "the database has schema version {}, this program needs version {}: use the image",
        embedded_version() + 1,
        embedded_version()
    );
    assert!(ended.message().starts_with(&versions), "{}", ended.message());
    assert_eq!(site.rows(granted).await, before, "the grants are those of the newer version");
}
