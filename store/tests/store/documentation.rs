//! The queries of the README and of docs/ run as they stand there, under the role that they name.

use sqlx::AssertSqlSafe;
use store::testing::TestDatabase;

const PAGES: [(&str, &str); 4] = [
    ("README.md", include_str!("../../../README.md")),
    ("docs/operations.md", include_str!("../../../docs/operations.md")),
    ("docs/performance.md", include_str!("../../../docs/performance.md")),
    ("docs/run-books.md", include_str!("../../../docs/run-books.md")),
];

/// How a page calls a query of the worker's role, up to the query.
const CALL: &str = r#"psql "$DATABASE_URL" -c ""#;

#[tokio::test]
async fn every_query_of_the_pages_can_be_run() {
    let database = TestDatabase::new().await;
    let mut connection = database.connect_as("monthend_worker").await;
    let mut queries = 0;
    for (page, text) in PAGES {
        for call in text.split(CALL).skip(1) {
            let (query, _) = call.split_once('"').unwrap();
            let explained = sqlx::raw_sql(AssertSqlSafe(format!("explain {query}"))).execute(&mut connection);
            explained.await.map(drop).unwrap_or_else(|error| panic!("{page}: {error}\n{query}"));
            queries += 1;
        }
    }
    assert!(queries > 10, "only {queries} queries were found: do the pages call psql in another way?");
}
