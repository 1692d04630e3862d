//! Signatures.

use super::*;
#[expect(unused_imports, reason = "not all")]
use {
    secrecy::SecretString,
    sqlx::{PgConnection, PgPool},
    std::time::Duration,
};

pub async fn begin(pool: &PgPool, asked: &Begin<'_>) -> Result<Beginning, NoticeError> {
    drop((pool, asked));
    Err(NoticeError::NoSuchRun("?".into()))
}
