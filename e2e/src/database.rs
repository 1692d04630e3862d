//! The tests' own database on the development server: how it is created, compared and locked.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, PgPool};

pub const NAME: &str = "monthend_e2e";

/// Connects as the superuser, who can read everything and insert invalid rows that a check must
/// find.
pub async fn connect(options: PgConnectOptions) -> Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(6)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .context("connect to the development database")
}

/// Creates the tests' database, after dropping the one of an earlier test run.
pub async fn create(superuser: PgConnectOptions) -> Result<PgPool> {
    let pool = connect(superuser.clone().database("postgres")).await?;
    drop_database(&pool).await?;
    sqlx::query(AssertSqlSafe(format!("create database {NAME} owner monthend_migrate")))
        .execute(&pool)
        .await
        .context("create the tests' database")?;
    pool.close().await;
    connect(superuser.database(NAME)).await
}

pub async fn drop_database(pool: &PgPool) -> Result<()> {
    sqlx::query(AssertSqlSafe(format!("drop database if exists {NAME} with (force)")))
        .execute(pool)
        .await
        .context("drop the tests' database")?;
    Ok(())
}

const COMPARED_ROWS: &[(&str, &str, &str)] = &[
    (
        "bill",
        "select member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount, rounding_amount,
                total_amount from bill where month = $1 and revision = $2",
        "select member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount, rounding_amount,
                total_amount from live_bill where month = $1",
    ),
    (
        "bill_item",
        "select member_id, line_no, kind::text, code, quantity, amount, days, used_quantity, free_allowance
           from bill_item where month = $1 and revision = $2",
        "select member_id, line_no, kind, code, quantity, amount, days, used_quantity, free_allowance
           from live_bill_item where month = $1",
    ),
    (
        "quarantine",
        "select member_id, code, detail from quarantined_member where month = $1 and revision = $2",
        "select member_id, code, detail from quarantine where month = $1",
    ),
];

/// Fails unless the month's live rows equal those of the `reference` revision, which an undisturbed
/// run made.
pub async fn assert_live_equals(pool: &PgPool, month: &str, reference: i32) -> Result<()> {
    for (what, wanted, live) in COMPARED_ROWS {
        let sql = format!(
            "with wanted as ({wanted}), live as ({live}),
                  missing as (select * from wanted except all select * from live),
                  extra as (select * from live except all select * from wanted)
             select (select count(*) from wanted), (select count(*) from live),
                    (select count(*) from missing), (select count(*) from extra),
                    coalesce((select string_agg(row_to_json(m)::text, E'\\n') from (select * from missing limit 3) m), ''),
                    coalesce((select string_agg(row_to_json(e)::text, E'\\n') from (select * from extra limit 3) e), '')"
        );
        let (wanted, live, missing, extra, first_missing, first_extra): (i64, i64, i64, i64, String, String) =
            sqlx::query_as(AssertSqlSafe(sql)).bind(month).bind(reference).fetch_one(pool).await?;
        ensure!(wanted > 0, "revision {reference} of {month} has no row of {what} to compare with");
        ensure!(
            missing == 0 && extra == 0,
            "{what} of {month}: {live} live rows, {wanted} in revision {reference}; missing {missing}:\n{first_missing}\nextra {extra}:\n{first_extra}"
        );
    }
    Ok(())
}

/// Blocks every chunk transaction just before it writes its bills, so that a fault can be injected
/// in the middle of one. It is a table lock and not a row lock: PostgreSQL queues table locks
/// fairly, and transactions that hold the table already can finish.
pub struct ChunkLock {
    transaction: sqlx::Transaction<'static, sqlx::Postgres>,
}

impl ChunkLock {
    /// Waits until `chunks` chunks of the month's draft are done, takes the lock, and waits until
    /// it blocks `blocked` workers.
    pub async fn after(pool: &PgPool, month: &str, chunks: i64, blocked: i64) -> Result<Self> {
        let limit = Duration::from_secs(120);
        // Chunks take milliseconds, so polling alone could miss the last of them. Requesting the lock lets
        // the running chunks finish and blocks the next ones, so nothing changes while the chunks
        // are counted.
        let transaction = crate::wait::until(&format!("{chunks} chunks of {month}"), limit, async || {
            loop {
                let mut transaction = pool.begin().await?;
                sqlx::query("lock table bill in share mode").execute(&mut *transaction).await?;
                let (done, pending) = draft_chunks(&mut *transaction, month).await?;
                if done >= chunks {
                    ensure!(
                        pending > blocked,
                        "{month} was nearly billed before the fault could be injected: {done} chunks done"
                    );
                    return Ok(Some(transaction));
                }
                transaction.rollback().await?;
                if done + pending == 0 {
                    return Ok(None);
                }
            }
        })
        .await?;
        workers_wait(pool, blocked).await?;
        Ok(Self { transaction })
    }

    pub async fn release(self) -> Result<()> {
        self.transaction.rollback().await.context("release the lock on bill")
    }
}

/// Blocks everyone who writes to a table until it is released or dropped.
pub struct TableLock {
    transaction: sqlx::Transaction<'static, sqlx::Postgres>,
}

impl TableLock {
    /// Takes the lock and evaluates `found`. Releases the lock and tries again until `found`
    /// returns a value; then keeps the lock.
    pub async fn acquire_when<T>(
        pool: &PgPool,
        table: &str,
        what: &str,
        found: impl AsyncFn(&mut PgConnection) -> Result<Option<T>>,
    ) -> Result<(Self, T)> {
        crate::wait::until(what, Duration::from_secs(120), async || {
            let mut transaction = pool.begin().await?;
            sqlx::query(AssertSqlSafe(format!("lock table {table} in share mode")))
                .execute(&mut *transaction)
                .await?;
            Ok(found(&mut transaction).await?.map(|found| (Self { transaction }, found)))
        })
        .await
    }

    pub async fn acquire(pool: &PgPool, table: &str) -> Result<Self> {
        Ok(Self::acquire_when(pool, table, table, async |_| Ok(Some(()))).await?.0)
    }

    /// Waits until the lock blocks this many workers.
    pub async fn wait_until_blocking(&self, pool: &PgPool, workers: i64) -> Result<()> {
        workers_wait(pool, workers).await
    }

    pub async fn release(self) -> Result<()> {
        self.transaction.rollback().await.context("release the table lock")
    }
}

async fn workers_wait(pool: &PgPool, workers: i64) -> Result<()> {
    crate::wait::until_true(
        &format!("{workers} workers to wait for a lock"),
        Duration::from_secs(120),
        async || {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity
             where datname = current_database() and usename = 'monthend_worker' and wait_event_type = 'Lock'",
            )
            .fetch_one(pool)
            .await?;
            Ok(waiting >= workers)
        },
    )
    .await
}

/// The numbers of done and of pending chunks of the month's draft.
pub async fn draft_chunks(database: impl PgExecutor<'_>, month: &str) -> Result<(i64, i64)> {
    Ok(sqlx::query_as(
        "select count(*) filter (where c.state = 'DONE'), count(*) filter (where c.state = 'PENDING')
         from chunk c join revision r using (month, revision) where c.month = $1 and r.state = 'DRAFT'",
    )
    .bind(month)
    .fetch_one(database)
    .await?)
}
