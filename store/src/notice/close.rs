//! Signatures.

use super::*;
#[expect(unused_imports, reason = "not all")]
use {
    secrecy::SecretString,
    sqlx::{PgConnection, PgPool},
    std::time::Duration,
};

pub async fn adjust(
    pool: &PgPool,
    id: NotificationId,
    suspended: bool,
    max_per_second: Option<i32>,
) -> Result<NotificationState, NoticeError> {
    drop((pool, id, suspended, max_per_second));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn finish(pool: &PgPool, id: NotificationId) -> Result<bool, NoticeError> {
    drop((pool, id));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn cancel(pool: &PgPool, id: NotificationId, reason: &str) -> Result<i64, NoticeError> {
    drop((pool, id, reason));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn fail(pool: &PgPool, id: NotificationId, reason: &str) -> Result<i64, NoticeError> {
    drop((pool, id, reason));
    Err(NoticeError::NoSuchRun("?".into()))
}
