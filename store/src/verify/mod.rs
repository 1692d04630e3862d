//! What must hold of a month whatever happened to its runs, as far as the tables tell: one report of all of it. Reads only,
//! and shares nothing with the code that writes what it reads. Knows nothing of the cluster: what a run's resource says is
//! compared by whoever can see it.

mod bills;
mod envelopes;
mod notices;
mod runs;

use domain::month::BillingMonth;
use domain::price_book::PriceBookError;
use sqlx::PgConnection;
pub use sqlx::types::Uuid;

use crate::error::{DatabaseError, During as _};

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct VerificationRequest<'a> {
    pub month: BillingMonth,
    /// The uids of the runs that are not over. None: whatever the tables hold for unfinished may go on.
    pub active: Option<&'a [Uuid]>,
    /// The ids of the keys that there are. None: not to be judged.
    pub keys: Option<&'a [String]>,
    /// The Message-ID of every message that arrived, as often as it did. None: not to be judged.
    pub sink: Option<&'a [String]>,
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvariantResult {
    /// What holds, with the number that reliability gives it.
    pub holds: &'static str,
    /// What stands against it, [`MAX_VIOLATIONS`] of them; nothing if it holds.
    pub violations: Vec<String>,
}

/// No more violations of one thing are told.
pub const MAX_VIOLATIONS: usize = 20;
const LIMIT: i64 = 20;

/// Why a month could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the price book that revision {revision} of month {month} was billed with cannot be read")]
    PriceBook { month: BillingMonth, revision: i32, source: PriceBookError },
}

/// Looks at everything. What is found is of one moment only if the transaction is.
///
/// # Errors
/// When the database fails, or a price book that was kept can't be read.
pub async fn verify_month(
    connection: &mut PgConnection,
    asked: &VerificationRequest<'_>,
) -> Result<Vec<InvariantResult>, VerifyError> {
    sqlx::query!(
        "select set_config('work_mem', '256MB', true) as memory, set_config('jit', 'off', true) as jit"
    )
    .fetch_one(&mut *connection)
    .await
    .during("cannot prepare the verification")?;
    let month = asked.month.to_string();
    let mut report = Vec::new();
    let mut add = |holds, violations| report.push(InvariantResult { holds, violations });
    add("1 a bill is the sum of its items and of its parts", bills::sums(connection, &month).await?);
    add(
        "2 an eligible member has one live bill or one quarantine record, and no other has any",
        bills::eligible(connection, asked.month).await?,
    );
    add("3 usage is counted once", bills::usage(connection, &month).await?);
    add("4 chunks tile all ids", bills::tiles(connection, &month).await?);
    add("4 chunks are done once, with the rows that they say", bills::chunks(connection, &month).await?);
    add("5 job_log agrees with the bills", runs::billing_log(connection, &month).await?);
    add("5 job_log agrees with the notices", runs::notice_log(connection, &month).await?);
    add("6 what is over runs no longer", runs::over(connection, &month, asked.active).await?);
    add(
        "6 nothing of a notice is in hand when its run is over",
        runs::notices_over(connection, &month, asked.active).await?,
    );
    add(
        "7 a bill is sent once, and its delivery says what its runs say",
        notices::once(connection, &month).await?,
    );
    if let Some(sink) = asked.sink {
        add(
            "7 what arrived was sent or is unknown, and what was sent arrived",
            notices::sink(connection, &month, sink).await?,
        );
    }
    add(
        "9 a recovery touches only what had failed or was unknown",
        notices::recoveries(connection, &month).await?,
    );
    add(
        "10 revisions follow each other, and none changed since it was digested",
        bills::revisions(connection, &month).await?,
    );
    add(
        "12 envelopes are of known keys, and no nonce is used twice",
        envelopes::all(connection, asked.keys).await?,
    );
    Ok(report)
}
