//! Which locales the database takes, from members and as the installation's.

use domain::locale::Locale;
use domain::zone::Zone;
use store::installation;
use store::migrate::{MigrationRequest, Roles, embedded_version, migrate, schema_version};
use store::testing::TestDatabase;

const WELL_FORMED: [&str; 5] = ["de", "pt-BR", "vie", "zh-Hant-TW", "zh-Hant-TW-abcd"];
const MALFORMED: [&str; 8] = ["x!", "", "d", "DE", "de_AT", "de-", "deutsch", "zh-Hant-TW-abcde"];

/// What the database says to a member of this locale.
async fn insert(database: &TestDatabase, member: usize, locale: &str) -> Result<(), String> {
    let statement = "insert into member (member_id, load, locale, name) values ($1, 1, $2, '\\x00')";
    let insert = sqlx::query(statement).bind(i64::try_from(member).unwrap()).bind(locale);
    insert.execute(&database.pool).await.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_member_has_any_well_formed_locale() {
    let database = TestDatabase::new().await;
    for (id, locale) in (1..).zip(WELL_FORMED.into_iter().chain(["ko", "en"])) {
        insert(&database, id, locale).await.unwrap();
        let stored = database.read_text(&format!("select locale from member where member_id = {id}")).await;
        assert_eq!(stored.parse::<Locale>().unwrap().as_str(), locale);
    }
    for locale in MALFORMED {
        let error = insert(&database, 100, locale).await.unwrap_err();
        assert!(error.contains("member_locale_check"), "{locale}: {error}");
        // The database and the program agree on what a locale is.
        assert!(locale.parse::<Locale>().is_err(), "{locale}");
    }
}

#[tokio::test]
async fn an_installation_has_any_well_formed_locale() {
    let database = TestDatabase::empty().await;
    let wanted = MigrationRequest {
        zone: Zone::named("Europe/Berlin").unwrap(),
        currency: "EUR".parse().unwrap(),
        locale: Some("de".parse().unwrap()),
        roles: Roles::default(),
    };
    let mut connection = database.connect().await;
    while let Err(error) = migrate(&mut connection, &wanted).await {
        // Other tests grant rights to the same roles at the same time.
        assert!(format!("{error:?}").contains("concurrently updated"), "{error:?}");
    }
    assert_eq!(installation::read(&mut connection).await.unwrap().locale.as_str(), "de");
    for locale in MALFORMED {
        let update = sqlx::query("update installation set locale = $1").bind(locale).execute(&database.pool);
        let error = update.await.unwrap_err().to_string();
        assert!(error.contains("installation_locale_check"), "{locale}: {error}");
    }
}

#[tokio::test]
async fn a_database_of_korean_and_english_members_is_upgraded() {
    let database = TestDatabase::new().await;
    // As the version before left it.
    let before = "alter table installation drop constraint installation_locale_check,
                      add constraint installation_locale_check check (locale in ('ko', 'en'));
                  alter table member drop constraint member_locale_check,
                      add constraint member_locale_check check (locale in ('ko', 'en'));
                  delete from _sqlx_migrations where version >= 17";
    database.execute(before).await;
    for (id, locale) in [(1, "ko"), (2, "en")] {
        insert(&database, id, locale).await.unwrap();
    }
    insert(&database, 3, "de").await.unwrap_err();
    let upgraded = database.migrate("Asia/Seoul", "KRW").await;
    assert_eq!((upgraded.from, upgraded.installation.locale), (Some(16), Locale::KO));
    insert(&database, 3, "de").await.unwrap();
    let mut connection = database.connect().await;
    assert_eq!(schema_version(&mut connection).await.unwrap(), Some(embedded_version()));
    assert_eq!(database.read_text("select count(*)::text from member").await, "3");
}
