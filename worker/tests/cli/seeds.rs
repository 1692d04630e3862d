//! Generated data: the same for the same parameters.

use secrecy::ExposeSecret as _;
use sqlx::Row as _;
use store::crypto::Column;

use crate::harness::{Ended, Site};

fn seed(site: &Site, members: &str, more: &[&str]) -> Ended {
    site.run(&[&["seed", "--month", "2026-10", "--members", members][..], more].concat())
}

/// Everything that was generated, without what differs by nature: nonces.
async fn contents(site: &Site) -> Vec<String> {
    let mut rows = site
        .rows(
            "select t::text from subscription t union all select t::text from discount_grant t union all
             select t::text from adjustment t union all select t::text from usage t order by 1",
        )
        .await;
    let keys = site.keys();
    let members = sqlx::query("select member_id, locale, name, email, phone from member order by 1")
        .fetch_all(&site.database.pool)
        .await
        .unwrap();
    for row in members {
        let member = row.get::<i64, _>(0).try_into().unwrap();
        let mut line = format!("{member} {:?}", row.get::<Option<String>, _>(1));
        for (column, at) in [(Column::Name, 2), (Column::Email, 3), (Column::Phone, 4)] {
            let sealed: Option<Vec<u8>> = row.get(at);
            line += sealed
                .map_or(String::new(), |s| keys.open(column, member, &s).unwrap().expose_secret().to_owned())
                .as_str();
        }
        rows.push(line);
    }
    rows
}

#[tokio::test]
async fn the_same_parameters_give_the_same_data() {
    let (one, other) = (Site::new().await, Site::new().await);
    seed(&one, "9500", &["--connections", "1"]).with(0);
    seed(&other, "9500", &["--connections", "3"]).with(0);
    let data = contents(&one).await;
    assert_eq!(data, contents(&other).await);
    let different = Site::new().await;
    seed(&different, "9500", &["--seed", "7"]).with(0);
    assert_ne!(data, contents(&different).await);
    assert_eq!(one.rows("select count(*)::text from usage where month = '2026-10'").await, ["47500"]);
    let outside = "select (count(*) between 1 and 60)::text from usage where month <> '2026-10'";
    assert_eq!(one.rows(outside).await, ["true"]);
    let mix = "select bool_and(n > 0)::text from (values
        ((select count(*) from subscription where plan_code = 'MUSIC')),
        ((select count(*) from subscription where from_date > '2026-10-01')),
        ((select count(*) from subscription where to_date between '2026-10-02' and '2026-10-31')),
        ((select count(*) from discount_grant where to_date is null)),
        ((select count(*) from adjustment where amount < 0)),
        ((select count(*) from member where email is null)),
        ((select count(*) from member where locale = 'en')),
        ((select max(member_id) - count(*) from member))) m(n)";
    assert_eq!(one.rows(mix).await, ["true"]);
}

#[tokio::test]
async fn an_empty_installation_is_seeded_once() {
    let site = Site::new().await;
    seed(&site, "1200", &["--usage-per-member", "0"]).with(0);
    assert_eq!(
        site.rows(
            "select concat_ws(' ', kind, month, status, (total = succeeded)::text, failed) from job_log"
        )
        .await,
        ["SEED 2026-10 SUCCEEDED true 0"]
    );
    let again = seed(&site, "1200", &["--usage-per-member", "0"]).with(0);
    assert_eq!(again.out, "already seeded with these parameters, by load 1\n");
    let other = seed(&site, "1201", &[]).with(2);
    assert_eq!(
        other.message(),
        "the database already has members of another seed or load: seed an empty installation"
    );
    assert_eq!(site.rows("select count(*)::text from load").await, ["1"]);
}

#[tokio::test]
async fn wrong_parameters_are_refused() {
    let site = Site::new().await;
    for (members, more) in [
        ("0", &[][..]),
        ("-1", &[]),
        ("many", &[]),
        ("5", &["--month", "2026-13"]),
        ("5", &["--connections", "0"]),
    ] {
        seed(&site, members, more).with(2);
    }
    let book = site.path().join("book.yaml");
    std::fs::write(&book, "version: [").unwrap();
    let ended = seed(&site, "5", &["--price-book", book.to_str().unwrap()]).with(2);
    assert!(
        ended.message().starts_with(&format!("{}: the price book is invalid: ", book.display())),
        "{}",
        ended.message()
    );
}
