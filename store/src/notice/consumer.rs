//! Signatures.

use super::*;
#[expect(unused_imports, reason = "not all")]
use {
    secrecy::SecretString,
    sqlx::{PgConnection, PgPool},
    std::time::Duration,
};

pub async fn connect(url: &SecretString, application: &str, max: u32) -> Result<PgPool, DatabaseError> {
    drop((url, application, max));
    Err(DatabaseError { operation: "not written yet".into(), source: sqlx::Error::PoolClosed })
}

pub async fn register(
    connection: &mut PgConnection,
    name: &str,
    transport: &str,
) -> Result<ConsumerId, NoticeError> {
    drop((connection, name, transport));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn alive(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    trouble: Option<&str>,
) -> Result<(), NoticeError> {
    drop((connection, consumer, trouble));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn leave(connection: &mut PgConnection, consumer: ConsumerId) -> Result<(), NoticeError> {
    drop((connection, consumer));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn forget_consumers(pool: &PgPool) -> Result<u64, NoticeError> {
    drop((pool,));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn runs(connection: &mut PgConnection, names: &[String]) -> Result<Vec<RunFacts>, NoticeError> {
    drop((connection, names));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn take_slots(
    connection: &mut PgConnection,
    id: NotificationId,
    slots: u32,
) -> Result<Slots, NoticeError> {
    drop((connection, id, slots));
    Err(NoticeError::NoSuchRun("?".into()))
}
