//! Signatures.

use super::*;
#[expect(unused_imports, reason = "not all")]
use {
    secrecy::SecretString,
    sqlx::{PgConnection, PgPool},
    std::time::Duration,
};

pub async fn advance(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    hand_over: &[InHand],
    ended: &[Ended],
) -> Result<Advanced, NoticeError> {
    drop((connection, consumer, lease, hand_over, ended));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn end_targets(
    connection: &mut PgConnection,
    run: &RunFacts,
    ended: &[(NoticeKey, Outcome, Option<String>)],
) -> Result<NotificationState, NoticeError> {
    drop((connection, run, ended));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn settle(pool: &PgPool, month: BillingMonth) -> Result<Settled, NoticeError> {
    drop((pool, month));
    Err(NoticeError::NoSuchRun("?".into()))
}
