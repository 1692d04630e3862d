//! Signatures.

use super::*;
#[expect(unused_imports, reason = "not all")]
use {
    secrecy::SecretString,
    sqlx::{PgConnection, PgPool},
    std::time::Duration,
};

pub async fn run_of(connection: &mut PgConnection, run_uid: Uuid) -> Result<RunFacts, NoticeError> {
    drop((connection, run_uid));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn select_targets(
    connection: &mut PgConnection,
    run: &RunFacts,
    chunk: i64,
    go_on: impl FnMut(i64) -> bool,
) -> Result<Selected, NoticeError> {
    drop((connection, run, chunk, go_on));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn open_round(pool: &PgPool, id: NotificationId, after_round: i32) -> Result<i32, NoticeError> {
    drop((pool, id, after_round));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn open_targets(
    connection: &mut PgConnection,
    run: &RunFacts,
    after: Option<MemberId>,
    limit: i64,
) -> Result<Vec<NoticeKey>, NoticeError> {
    drop((connection, run, after, limit));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn publication(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
) -> Result<Publication, NoticeError> {
    drop((connection, id, round));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn checkpoint(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
    from: i64,
    to: MemberId,
    messages: i64,
) -> Result<NotificationState, NoticeError> {
    drop((connection, id, round, from, to, messages));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn waits(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
    what: Option<&str>,
) -> Result<NotificationState, NoticeError> {
    drop((connection, id, round, what));
    Err(NoticeError::NoSuchRun("?".into()))
}

pub async fn close_round(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
) -> Result<(), NoticeError> {
    drop((connection, id, round));
    Err(NoticeError::NoSuchRun("?".into()))
}
