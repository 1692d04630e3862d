//! The reference for seeding: raw COPY of the same bytes into the same tables, with the same number
//! of connections, and the same indexes built at the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use secrecy::SecretString;

use crate::server::{Server, connect, execute, query_value};

const TABLES: [&str; 5] = ["member", "subscription", "discount_grant", "adjustment", "usage"];

/// The cost of raw COPY of a seeded database.
pub(crate) struct RawCopy {
    pub(crate) wall: Duration,
    pub(crate) bytes: u64,
}

/// Copies all seeded rows into files, and measures how long copying these files into an empty
/// database takes.
pub(crate) async fn raw_copy(
    server: &Server,
    seeded: &SecretString,
    empty: &SecretString,
) -> anyhow::Result<RawCopy> {
    let middle: i64 =
        query_value(seeded, "select percentile_disc(0.5) within group (order by member_id) from member")
            .await?;
    let halves = [format!("member_id <= {middle}"), format!("member_id > {middle}")];
    let file = |table: &str, half: usize| -> PathBuf { server.folder().join(format!("{table}.{half}")) };
    let mut bytes = 0;
    for table in TABLES {
        for (half, condition) in halves.iter().enumerate() {
            let path = file(table, half);
            execute(
                seeded,
                &format!(
                    "copy (select * from {table} where {condition}) to '{}' (format binary)",
                    path.display()
                ),
            )
            .await?;
            bytes += std::fs::metadata(&path)?.len();
        }
    }
    let months: Vec<String> = {
        let mut connection = connect(seeded).await?;
        sqlx::query_scalar("select distinct month from usage order by 1").fetch_all(&mut connection).await?
    };
    for month in &months {
        execute(empty, &format!("select open_usage_month('{month}')")).await?;
    }
    execute(empty, "checkpoint").await?;
    let begun = Instant::now();
    tokio::try_join!(copy_half(empty, &file, 0), copy_half(empty, &file, 1))?;
    for month in &months {
        execute(empty, &format!("select index_usage_month('{month}')")).await?;
    }
    execute(empty, "select analyze_reference_data()").await?;
    let wall = begun.elapsed();
    for table in TABLES {
        for half in 0..halves.len() {
            remove(&file(table, half))?;
        }
    }
    Ok(RawCopy { wall, bytes })
}

async fn copy_half(
    database: &SecretString,
    file: &impl Fn(&str, usize) -> PathBuf,
    half: usize,
) -> anyhow::Result<()> {
    for table in TABLES {
        execute(database, &format!("copy {table} from '{}' (format binary)", file(table, half).display()))
            .await?;
    }
    Ok(())
}

fn remove(file: &Path) -> anyhow::Result<()> {
    Ok(std::fs::remove_file(file)?)
}
