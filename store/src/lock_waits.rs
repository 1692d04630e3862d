//! Sessions of the database that wait for the locks of others, for the condition of a run that
//! stands still. Reads only; what a session does is not visible to every role, but its number is.

use sqlx::PgPool;

use crate::error::{DatabaseError, During as _};

/// Who waits for whom, in words; none if no session waits.
///
/// # Errors
/// When the database fails.
pub async fn read_lock_waits(pool: &PgPool) -> Result<Option<String>, DatabaseError> {
    // Of a chain of waits, the sessions at its end, which wait for nobody.
    let row = sqlx::query!(
        r#"with waiting as (select distinct pid from pg_locks where not granted and pid is not null),
                holding as (select distinct unnest(pg_blocking_pids(pid)) as pid from waiting)
           select (select count(*) from waiting) as "waiting!",
                  (select string_agg(pid::text, ', ' order by pid) from holding
                   where pid not in (select pid from waiting)) as holding"#
    )
    .fetch_one(pool)
    .await
    .during("cannot read which sessions of the database wait for locks")?;
    Ok(row.holding.map(|holding| {
        format!(
            "{} sessions of the database wait for locks of session {holding}; pg_stat_activity says what it does, \
             pg_terminate_backend ends it",
            row.waiting
        )
    }))
}
