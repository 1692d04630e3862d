//! Checks the invariants of a month: what must hold in the tables after any sequence of runs and
//! failures. Reads only, and shares nothing with the code that writes what it reads, except for
//! [`replay`], whose purpose is to have the same code price the month again. Knows nothing of the
//! cluster: the tests on a cluster compare custom resources with the tables.

mod bills;
mod diffs;
mod envelopes;
mod notifications;
mod posted_differences;
mod progress;
mod rebillings;
pub mod replay;
mod report;
mod rollbacks;
mod runs;

use sqlx::PgConnection;
pub use sqlx::types::Uuid;

pub use self::progress::Progress;
pub use self::report::{InvariantResult, MAX_VIOLATIONS, VerificationRequest, VerifyError};
use crate::error::During as _;

/// Checks every invariant. The result is consistent only if the transaction reads one snapshot.
///
/// # Errors
/// When the database fails, or a stored price book can't be parsed.
pub async fn verify_month(
    connection: &mut PgConnection,
    request: &VerificationRequest<'_>,
) -> Result<Vec<InvariantResult>, VerifyError> {
    verify_with_progress(connection, request, &Progress::default()).await
}

/// The same; `progress` says meanwhile which check is made.
///
/// # Errors
/// When the database fails, or a stored price book can't be parsed.
pub async fn verify_with_progress(
    connection: &mut PgConnection,
    request: &VerificationRequest<'_>,
    progress: &Progress,
) -> Result<Vec<InvariantResult>, VerifyError> {
    sqlx::query!(
        "select set_config('work_mem', '256MB', true) as memory, set_config('jit', 'off', true) as jit"
    )
    .fetch_one(&mut *connection)
    .await
    .during("cannot prepare the verification")?;
    let month = request.month.to_string();
    let mut report = vec![
        InvariantResult {
            name: progress.begin("bill-sums"),
            description: "a bill is the sum of its items and of its parts",
            violations: bills::check_sums(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("bills-are-unchanged"),
            description: "every amount and item of a bill is as it was written",
            violations: bills::check_digests(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("one-result-per-member"),
            description: "an eligible member has one live bill or one quarantine record, and no other member has any",
            violations: bills::check_members(connection, request.month).await?,
        },
        InvariantResult {
            name: progress.begin("usage-counted-once"),
            description: "every usage row of the month, of members of the revision's scope, is counted once",
            violations: bills::check_usage(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("chunks-cover-all-ids"),
            description: "the chunks of a revision cover all ids of its scope without gap or overlap",
            violations: bills::check_chunk_ranges(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("chunks-match-rows"),
            description: "a chunk of an issued revision is done, and its counts and sums are those of its rows",
            violations: bills::check_chunk_sums(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("month-figures-match-bills"),
            description: "the figures of the month that the live revision keeps are those of the live bills",
            violations: bills::check_month_figures(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("job-log-matches-bills"),
            description: "job_log agrees with the bills of each revision",
            violations: runs::check_billing_log(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("job-log-matches-notifications"),
            description: "job_log agrees with the targets and publications of each notification",
            violations: runs::check_notification_log(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("ended-runs-are-closed"),
            description: "a run that has ended leaves no running job, draft or lock",
            violations: runs::check_ended_runs(connection, &month, request.active).await?,
        },
        InvariantResult {
            name: progress.begin("ended-notifications-hold-nothing"),
            description: "a notification that has ended leaves no running job, open target or held delivery",
            violations: runs::check_ended_notifications(connection, &month, request.active).await?,
        },
        InvariantResult {
            name: progress.begin("deliveries-match-targets"),
            description: "a bill is sent at most once, and its delivery agrees with the targets of its runs",
            violations: notifications::check_deliveries(connection, &month).await?,
        },
    ];
    if let Some(sink) = request.sink {
        report.push(InvariantResult {
            name: progress.begin("arrived-emails-match-deliveries"),
            description: "every email that arrived was sent or is unknown, and every email that was sent arrived",
            violations: notifications::check_arrived(connection, &month, sink).await?,
        });
    }
    report.extend([
        InvariantResult {
            name: progress.begin("recoveries-only-retry"),
            description: "a Failed, Unknown or Skipped run selects only bills in that state, and others only bills that were not attempted",
            violations: notifications::check_recoveries(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("corrections-follow-sent-bills"),
            description: "a member is sent one bill of the month, then only corrections, each of the bill sent last and to another amount",
            violations: notifications::check_corrections(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("revisions-are-unchanged"),
            description: "revisions are numbered without gaps, and their digests are those of their chunks",
            violations: bills::check_revisions(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("rollbacks-match-revisions"),
            description: "a revision was rolled back by one run, while it was the highest live one, and job_log agrees",
            violations: rollbacks::check_rollbacks(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("rebillings-build-on-live-revisions"),
            description: "each live revision bills the next lower live revision again; the lowest one is a first billing",
            violations: rebillings::check_layers(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("rebillings-write-changes-only"),
            description: "a re-billing has one outcome for each member of its scope whose outcome changes, and none for others",
            violations: rebillings::check_changes(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("diffs-match-outcomes"),
            description: "the diff of a re-billing has one row for each of its outcomes, with the one before, and its summary agrees",
            violations: diffs::check_diffs(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("posted-differences-match-outcomes"),
            description: "a re-billing posts to a later month that is not live, and nothing for a member whose outcome it writes",
            violations: posted_differences::check_posted(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("posted-differences-are-billed"),
            description: "a live bill has every difference that earlier months have posted to the month",
            violations: posted_differences::check_billed(connection, &month).await?,
        },
        InvariantResult {
            name: progress.begin("envelopes-are-valid"),
            description: "encrypted columns use known keys, and no nonce is used twice",
            violations: envelopes::check_envelopes(connection, request.keys).await?,
        },
    ]);
    Ok(report)
}
