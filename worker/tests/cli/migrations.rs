//! `monthend migrate`: what it sets once and for all, repeating it, and what each role may do
//! afterwards.

use secrecy::ExposeSecret as _;
use sqlx::AssertSqlSafe;
use store::testing::TestDatabase;

use crate::harness::{Ended, Site, ended};

fn migrate(site: &Site, arguments: &[&str]) -> Ended {
    let mut command = site.command(&[&["migrate"], arguments].concat());
    command.env("DATABASE_URL", site.database.url.expose_secret());
    ended(command.spawn().unwrap())
}

const SEOUL: [&str; 4] = ["--time-zone", "Asia/Seoul", "--currency", "KRW"];

#[tokio::test]
async fn an_installation_is_fixed_by_its_first_migration() {
    let site = Site::around(TestDatabase::empty().await).await;
    let first = migrate(&site, &[&SEOUL[..], &["--locale", "en"]].concat()).with(0);
    assert!(first.out.starts_with("created schema version "), "{}", first.out);
    let again = migrate(&site, &SEOUL).with(0);
    assert!(
        again.out.contains("is up to date; time zone Asia/Seoul, currency KRW, locale en"),
        "{}",
        again.out
    );
    let refused = [
        (
            ["Asia/Tokyo", "KRW"],
            "time zone Asia/Seoul, not Asia/Tokyo: the time zone never changes; use Asia/Seoul",
        ),
        (["Asia/Seoul", "USD"], "currency KRW, not USD: the currency never changes; use KRW"),
    ];
    for ([zone, currency], reason) in refused {
        let ended = migrate(&site, &["--time-zone", zone, "--currency", currency]).with(2);
        let form = format!("this database is an installation with {reason}, or another database");
        assert_eq!(ended.message(), form);
    }
    let other_locale = migrate(&site, &[&SEOUL[..], &["--locale", "ko"]].concat()).with(2);
    assert!(other_locale.message().contains("locale en, not ko"), "{}", other_locale.message());
    assert_eq!(
        site.rows("select time_zone || currency || locale from installation").await,
        ["Asia/SeoulKRWen"]
    );
}

#[tokio::test]
async fn wrong_arguments_are_refused() {
    let site = Site::around(TestDatabase::empty().await).await;
    let cases: [(&[&str], &str); 6] = [
        (
            &["--time-zone", "Asia/Soul", "--currency", "KRW"],
            "`Asia/Soul` is not a time zone of the IANA database",
        ),
        (&["--time-zone", "KST", "--currency", "KRW"], "`KST` is not a time zone of the IANA database"),
        (&["--time-zone", "Asia/Seoul", "--currency", "WON"], "`WON` is not a currency code of ISO 4217"),
        (&["--time-zone", "Asia/Seoul", "--currency", "XAU"], "`XAU` is not a currency code of ISO 4217"),
        (
            &["--time-zone", "Asia/Seoul", "--currency", "KRW", "--locale", "x!"],
            "`x!` is not a locale, which is a language tag such as ko, en or pt-BR",
        ),
        (&["--time-zone", "Asia/Seoul", "--currency", "KRW", "--worker-role", "a\"b"], "is not a role name"),
    ];
    for (arguments, reason) in cases {
        let ended = migrate(&site, arguments).with(2);
        assert!(
            ended.log.contains(&reason.replace('"', "\\\"")) || ended.log.contains(reason),
            "{}",
            ended.log
        );
    }
    assert_eq!(site.rows("select count(*)::text from pg_class where relname = 'installation'").await, ["0"]);
}

#[tokio::test]
async fn roles_can_do_what_they_need_and_no_more() {
    let site = Site::new().await;
    let cases: [(&str, &[&str]); 2] = [
        (
            "monthend_operator",
            &[
                "select name from member",
                "select email from member",
                "select phone from member",
                "select * from member",
                "select name from staged_member",
                "insert into load (number, kind, source, job) values (1, 'LOAD', 's', 1)",
                "insert into bill default values",
                "insert into bill_change default values",
                "delete from bill",
                "delete from job_log",
                "update chunk set state = 'DONE'",
                "select sweep_dead_load(1)",
            ],
        ),
        (
            "monthend_worker",
            &[
                "update bill set total_amount = 0",
                "delete from bill",
                "update bill_item set amount = 0",
                "delete from quarantined_member",
                "delete from ineligible_member",
                "update bill_change set cause = 'PLAN'",
                "delete from bill_change",
                "delete from member",
                "update member set name = ''",
                "delete from usage",
                "update subscription set to_date = null",
                "update adjustment set amount = 0",
                "update revision set state = 'LIVE'",
                "insert into revision default values",
                "update month_lock set fence = 0",
                "delete from job_log",
                "update load set number = 5",
                "update installation set currency = 'USD'",
                "insert into price_book values ('', '', '')",
                "create table mine (a int)",
            ],
        ),
    ];
    for (role, statements) in cases {
        let mut connection = site.database.connect_as(role).await;
        for statement in statements {
            let refused = sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut connection).await;
            let code =
                refused.unwrap_err().as_database_error().and_then(|e| e.code().map(|code| code.into_owned()));
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {statement}");
        }
    }
    let mut operator = site.database.connect_as("monthend_operator").await;
    sqlx::raw_sql("select member_id, load, locale from member; select * from live_bill; select * from bill_diff; select open_billing_month('2026-10')")
        .execute(&mut operator)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_finished_job_cannot_be_changed() {
    let site = Site::new().await;
    site.load(&site.folder("in", &[("members.csv", "member_id,name,email,phone\n")])).with(0);
    let mut worker = site.database.connect_as("monthend_worker").await;
    let error = sqlx::raw_sql("update job_log set succeeded = 5").execute(&mut worker).await.unwrap_err();
    assert!(error.to_string().contains("is finished and cannot be changed"), "{error}");
}
