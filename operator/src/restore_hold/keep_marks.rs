//! Moves the marks on, finds the hold of a month and releases it. The ConfigMap is always read
//! before the database and written after it, so that the database is never behind because of a
//! write that was in between.

use std::collections::BTreeMap;

use api::labels::HIGH_WATER_MARKS;
use domain::month::BillingMonth;
use kube::Client;
use sqlx::PgPool;
use store::notification::{self, MarkedMonth};

use super::cluster_marks;
use super::hold::{Comparison, Hold, Release, compare};
use crate::error::{Doing as _, RunError};

/// Moves on the marks of the months of which something is billed or sent, and writes those of the
/// other months to the cluster if it does not have them. Suspends, in the
/// database, the runs of a month that is held: the cluster may no longer have them, or count them as
/// over, and their messages may still be on the topic.
pub(crate) async fn keep_marks(client: &Client, namespace: &str, pool: &PgPool) -> Result<(), RunError> {
    let Some(marks) = cluster_marks::read(client, namespace).await? else {
        tracing::warn!("{}", missing(namespace));
        return Ok(());
    };
    let months = notification::read_marked_months(pool)
        .await
        .doing(|| "read the months of which something was billed or sent".to_owned())?;
    let mut moved = BTreeMap::new();
    for MarkedMonth { month, mark, touched } in months {
        let cluster = match marks.of(month) {
            Ok(cluster) => cluster,
            Err(problem) => {
                tracing::warn!("{problem}");
                continue;
            }
        };
        match compare(cluster, mark) {
            Comparison::Equal if !touched => {}
            Comparison::Equal => {
                let from = mark.map(|mark| mark.mark);
                let advanced = notification::advance_high_water_mark(pool, month, from)
                    .await
                    .doing(|| format!("move the high-water mark of {month}"))?;
                moved.extend(advanced.map(|mark| (month, mark)));
            }
            Comparison::Copy(mark) => drop(moved.insert(month, mark)),
            Comparison::Lost => {
                let suspended = notification::suspend_month(pool, month)
                    .await
                    .doing(|| format!("suspend the notifications of {month}"))?;
                if suspended > 0 {
                    tracing::warn!(%month, suspended, "suspended notifications: the database was restored");
                }
            }
        }
    }
    if moved.is_empty() { Ok(()) } else { cluster_marks::write(client, namespace, &marks, &moved).await }
}

/// Why nothing of the month is sent; None if it may be sent.
pub(crate) async fn find_hold(
    client: &Client,
    namespace: &str,
    pool: &PgPool,
    month: BillingMonth,
) -> Result<Option<Hold>, RunError> {
    let marks = cluster_marks::read(client, namespace).await?;
    let database = notification::read_high_water_mark(pool, month)
        .await
        .doing(|| format!("read the high-water mark of {month}"))?;
    let cluster = marks.map_or_else(|| Err(missing(namespace)), |marks| marks.of(month));
    Ok(Hold::of(month, cluster, database))
}

/// Sets a new mark of the month in both places, unless either has changed since the hold was found.
pub(crate) async fn release(
    client: &Client,
    namespace: &str,
    pool: &PgPool,
    release: Release,
) -> Result<(), RunError> {
    let Release { month, cluster, database } = release;
    let Some(marks) = cluster_marks::read(client, namespace).await? else { return Ok(()) };
    if marks.of(month) != Ok(Some(cluster)) {
        return Ok(());
    }
    let advanced = notification::advance_high_water_mark(pool, month, database)
        .await
        .doing(|| format!("set the high-water mark of {month}"))?;
    let Some(mark) = advanced else { return Ok(()) };
    cluster_marks::write(client, namespace, &marks, &BTreeMap::from([(month, mark)])).await?;
    tracing::warn!(%month, %cluster, "a person has released the month's e-mails after a restore");
    Ok(())
}

fn missing(namespace: &str) -> String {
    format!(
        "there is no ConfigMap {HIGH_WATER_MARKS} in namespace {namespace}, without which a restored database is not recognised; \
         the chart installs it: restore it with `helm upgrade`"
    )
}
