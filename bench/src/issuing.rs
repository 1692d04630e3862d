//! Measures issuing a revision and rolling it back: with the bills of a few members, and with as many
//! more as are asked for. Neither may depend on their number.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use secrecy::SecretString;
use sqlx::PgPool;
use store::billing::{self, RevisionKey, RollbackRequest, RollbackResult, Uuid};

use crate::billing::{MONTH, draft, keys, seed, tidy};
use crate::progress::print_step;
use crate::server::{Server, execute, query_value, wanted};
use crate::worker_process::WorkerProgram;

/// The members that are billed.
const MEMBERS: u64 = 1000;

/// Issuing a revision and rolling it back.
pub(crate) struct Issuing {
    pub(crate) bills: i64,
    pub(crate) issuing: Cost,
    pub(crate) rolling_back: Cost,
}

/// Wall time, and the bytes of write-ahead log.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) log: u64,
}

/// The first result is that of a few bills, the second that of `bills` more.
pub(crate) async fn measure(program: &Path, price_book: &Path, bills: u64) -> anyhow::Result<[Issuing; 2]> {
    let text = std::fs::read_to_string(price_book)
        .with_context(|| format!("cannot read {}", price_book.display()))?;
    let book = PriceBook::parse(&text)?;
    let month: BillingMonth = MONTH.parse()?;
    let server = Server::start()?;
    let database = server.database("bench", &wanted(&book.time_zone, book.currency.code())?).await?;
    let worker = WorkerProgram { program, database: &database, keys: &keys(server.folder())? };
    seed(&worker, price_book, MEMBERS, 1).await?;
    let pool = store::pool::connect(&database, "bench", 4).await?;

    print_step(format_args!("issuing a few bills"));
    let few = draft(&pool, &server, &worker, &book, &text, month, None, 1).await?;
    let few = issue_and_roll_back(&pool, &database, &few.key).await?;
    print_step(format_args!("issuing {bills} bills more"));
    let many = draft(&pool, &server, &worker, &book, &text, month, None, 3).await?;
    // The verification is over: only the size of what is issued counts here.
    let more = format!(
        "insert into bill (member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount,
                           rounding_amount, total_amount, revision, month, digest)
         select 1000000000 + n, 33000, 0, 0, 0, 3000, 0, 33000, {}, '{MONTH}', '\\x00112233445566778899aabbccddeeff'
         from generate_series(1, {bills}) n",
        many.key.revision
    );
    execute(&database, &more).await?;
    tidy(&database).await?;
    Ok([few, issue_and_roll_back(&pool, &database, &many.key).await?])
}

async fn issue_and_roll_back(
    pool: &PgPool,
    database: &SecretString,
    key: &RevisionKey,
) -> anyhow::Result<Issuing> {
    let issuing = cost(database, billing::issue_revision(pool, key, None)).await?;
    let bills =
        query_value(database, &format!("select count(*) from live_bill where month = '{MONTH}'")).await?;
    let request = RollbackRequest {
        run: "bench/rollback",
        run_uid: Uuid::from_u128(key.run_uid.as_u128() + 1),
        month: key.month,
        revision: key.revision,
        reason: "a measurement",
    };
    let rolling_back = cost(database, async {
        match billing::roll_back_revision(pool, &request).await? {
            RollbackResult::RolledBack(_) => Ok::<_, anyhow::Error>(()),
            refused => anyhow::bail!("not rolled back: {refused:?}"),
        }
    })
    .await?;
    let left =
        query_value(database, &format!("select count(*) from live_bill where month = '{MONTH}'")).await?;
    anyhow::ensure!(left == 0, "{left} bills are live after the rollback");
    Ok(Issuing { bills, issuing, rolling_back })
}

async fn cost<E>(database: &SecretString, work: impl Future<Output = Result<(), E>>) -> anyhow::Result<Cost>
where
    anyhow::Error: From<E>,
{
    const POSITION: &str = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
    let before = query_value(database, POSITION).await?;
    let begun = Instant::now();
    work.await?;
    let wall = begun.elapsed();
    let log = query_value(database, POSITION).await? - before;
    Ok(Cost { wall, log: u64::try_from(log).context("the log went backwards")? })
}
