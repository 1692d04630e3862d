//! Signatures.

use super::*;
#[expect(unused_imports, reason = "not all")]
use {
    secrecy::SecretString,
    sqlx::{PgConnection, PgPool},
    std::time::Duration,
};

pub async fn observe(pool: &PgPool, run_uid: Uuid) -> Result<Option<Snapshot>, NoticeError> {
    drop((pool, run_uid));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn any_sending(pool: &PgPool) -> Result<bool, NoticeError> {
    drop((pool,));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn unfinished(pool: &PgPool) -> Result<Vec<Unfinished>, NoticeError> {
    drop((pool,));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn totals(pool: &PgPool, only_changing: bool) -> Result<Vec<MonthTotals>, NoticeError> {
    drop((pool, only_changing));
    Err(NoticeError::NoSuchRun("?".into()))
}
