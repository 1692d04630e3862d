//! The notification run that is measured.

use secrecy::SecretString;
use store::notification::Uuid;

use crate::billing::MONTH;
use crate::server::query_value;

pub(super) const RUN: &str = "bench/notices";
pub(super) const RUN_UID: Uuid = Uuid::from_u128(2);
/// The chart's default.
pub(super) const PARTITIONS: i32 = 12;

/// The number of targets without an outcome.
pub(super) async fn open_targets(database: &SecretString) -> anyhow::Result<i64> {
    query_value(
        database,
        &format!("select count(*) from notice_target where month = '{MONTH}' and outcome is null"),
    )
    .await
}
