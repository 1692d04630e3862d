//! Reports an action that failed, or that takes longer than its limit, in the run's condition: a run
//! never stands still without a reason. The condition stays until another pass gets through, so that
//! a run that tries again and again does not alternate between two reasons.

use api::conditions::{PROGRESSING, STARTED};
use api::reasons;
use api::reconciled::Reconciled as _;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use logging::chain;
use logging::masking::mask_text;

use super::{Context, publish, write_status};
use crate::controller::events::EventRecord;
use crate::controller::kind::Kind;
use crate::error::{ErrorClass, RunError};

/// A failure is reported when the second attempt fails too, half a second after the first.
const REPORTED_AFTER: u32 = 1;
/// Conflicts are part of the work: another reader of the same state was faster.
const CONFLICTS_REPORTED_AFTER: u32 = 3;
/// In characters.
const LONGEST_MESSAGE: usize = 1500;

/// Whether these conditions say that an action failed.
pub(crate) fn is_reported(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| {
        condition.status == "False"
            && [STARTED, PROGRESSING].contains(&condition.type_.as_str())
            && [reasons::ACTION_FAILED, reasons::ACTION_REFUSED].contains(&condition.reason.as_str())
    })
}

/// Writes why the attempt failed. What cannot be written, as when the API server refuses the status,
/// is an Event, once.
pub(super) async fn report<K: Kind>(
    run: &K::Object,
    error: &RunError,
    runs: &Api<K::Object>,
    context: &Context<K>,
) {
    let failures = context.failures_of(run);
    let enough =
        if error.class() == ErrorClass::Conflict { CONFLICTS_REPORTED_AFTER } else { REPORTED_AFTER };
    if failures < enough {
        return;
    }
    let reason = if error.is_refusal() { reasons::ACTION_REFUSED } else { reasons::ACTION_FAILED };
    let words = mask_text(&error.words()).into_owned();
    let message = cut(&format!("{words}; the operator tries again"));
    let status = context.kind.with_failure(run, context.clock.now(), reason, &message);
    // The status of what is over does not change any more.
    let Some(status) = status else { return };
    if let Err(unwritten) = write_status(run, &status, runs, context).await {
        tracing::warn!(error = chain(&unwritten), "cannot write the failure into the run's status");
        if failures == enough {
            let record = EventRecord { warning: true, reason: reason.to_owned(), note: message };
            publish(&context.recorder, run, record).await;
        }
    }
}

/// Writes that an action takes longer than its limit. Returns the run with the status, if it was
/// written.
pub(super) async fn report_slow<K: Kind>(
    run: &K::Object,
    action: &str,
    since: Timestamp,
    runs: &Api<K::Object>,
    context: &Context<K>,
) -> Option<K::Object> {
    if is_reported(run.conditions()) {
        return None;
    }
    let message = cut(&format!(
        "{action} has not ended since {since:.0}; it goes on, and the run continues when it ends; if it waits for a \
         lock, pg_stat_activity of the database names the session that holds it"
    ));
    let status = context.kind.with_failure(run, context.clock.now(), reasons::ACTION_SLOW, &message)?;
    match write_status(run, &status, runs, context).await {
        Ok(written) => written,
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "cannot write into the run's status that an action is slow"
            );
            None
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).collect()
}
