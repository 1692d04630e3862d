//! Few rows and many are written in different ways, and arrive the same.

use sqlx::Row as _;
use store::copy::{ColumnType, CopyRows, Table};
use store::testing::TestDatabase;

const SAMPLE: Table = Table {
    name: "sample",
    columns: &[
        ("id", ColumnType::Int8),
        ("small", ColumnType::Int4),
        ("words", ColumnType::Text),
        ("bytes", ColumnType::Bytea),
        ("kind", ColumnType::Enum("item_kind")),
    ],
};

fn rows(number: i64) -> CopyRows {
    let mut rows = CopyRows::default();
    for id in 0..number {
        rows.row(5).int8(-id);
        match id % 3 {
            0 => rows.int4(i32::MIN).text("é, \"{}\" \\ NULL").bytes(&[0, 1, 255]).text("BASE"),
            1 => rows.int4(7).text("").bytes(&[]).text("TAX"),
            _ => rows.null().null().null().null(),
        };
    }
    rows
}

#[tokio::test]
async fn few_rows_arrive_like_many() {
    const MANY: i64 = 3000;
    let database = TestDatabase::new().await;
    database
        .execute("create table sample (id bigint, small integer, words text, bytes bytea, kind item_kind)")
        .await;
    let mut connection = database.connect().await;
    let mut written = Vec::new();
    // In one statement they are enough for COPY; a hundred at a time, they are not.
    for (table, size) in [("all", MANY), ("parts", 100)] {
        let mut count = 0;
        for _ in 0..MANY / size {
            count += rows(size).write(&mut connection, &SAMPLE).await.unwrap();
        }
        assert_eq!(count, MANY.cast_unsigned(), "{table}");
        let row = sqlx::query(
            "select count(*) filter (where small = -2147483648 and words = E'é, \"{}\" \\\\ NULL' and bytes = '\\x0001ff' and kind = 'BASE'),
                    count(*) filter (where small = 7 and words = '' and bytes = '' and kind = 'TAX'),
                    count(*) filter (where num_nulls(small, words, bytes, kind) = 4)
             from sample",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        written.push([0, 1, 2].map(|column| row.get::<i64, _>(column)));
        sqlx::query("truncate sample").execute(&mut connection).await.unwrap();
    }
    assert_eq!(written[0], [1000, 1000, 1000]);
    assert_eq!(written[1], [1020, 990, 990], "a hundred rows have 34, 33 and 33 of each kind");
}

#[tokio::test]
async fn a_refused_row_writes_none() {
    let database = TestDatabase::new().await;
    database
        .execute("create table sample (id bigint check (id > -50), small integer, words text, bytes bytea, kind item_kind)")
        .await;
    let mut connection = database.connect().await;
    for size in [100, 3000] {
        let error = rows(size).write(&mut connection, &SAMPLE).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("23514"));
    }
    assert_eq!(rows(10).write(&mut connection, &SAMPLE).await.unwrap(), 10);
    let left: i64 =
        sqlx::query_scalar("select count(*) from sample").fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 10);
}
