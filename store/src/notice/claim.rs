//! Signatures.

use super::*;
#[expect(unused_imports, reason = "not all")]
use {
    secrecy::SecretString,
    sqlx::{PgConnection, PgPool},
    std::time::Duration,
};

pub async fn claim(
    connection: &mut PgConnection,
    run: &RunFacts,
    consumer: ConsumerId,
    lease: Duration,
    keys: &[NoticeKey],
) -> Result<Claims, NoticeError> {
    drop((connection, run, consumer, lease, keys));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn put_off(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    what: &[PutOff],
) -> Result<Vec<Claimed>, NoticeError> {
    drop((connection, consumer, lease, what));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn renew(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    what: &[InHand],
) -> Result<Vec<InHand>, NoticeError> {
    drop((connection, consumer, lease, what));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn give_back(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    what: &[InHand],
) -> Result<Vec<InHand>, NoticeError> {
    drop((connection, consumer, what));
    Err(NoticeError::NoSuchRun("?".into()))
}
