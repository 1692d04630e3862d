//! Signatures.

use super::*;
#[expect(unused_imports, reason = "not all")]
use {
    secrecy::SecretString,
    sqlx::{PgConnection, PgPool},
    std::time::Duration,
};

pub async fn read_notices(
    connection: &mut PgConnection,
    month: BillingMonth,
    keys: &[NoticeKey],
) -> Result<Vec<NoticeRow>, NoticeError> {
    drop((connection, month, keys));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn templates(connection: &mut PgConnection, sha256: &str) -> Result<TemplateSet, NoticeError> {
    drop((connection, sha256));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn price_book(connection: &mut PgConnection, sha256: &str) -> Result<String, NoticeError> {
    drop((connection, sha256));
    Err(NoticeError::NoSuchRun("?".into()))
}
