//! The operator's database: its connection pool, whether its schema has this operator's version,
//! and the installation's settings. A schema that was ready stays ready during an outage.

use std::time::Duration;

use logging::chain;
use sqlx::PgPool;
use store::error::{During as _, StoreError};
use store::installation::{self, Installation};
use store::migrate;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Whether the database can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schema {
    /// Not checked yet, unavailable, or of another version; the text says which.
    NotReady(String),
    Ready(Installation),
}

#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) pool: PgPool,
    schema: watch::Receiver<Schema>,
}

impl Database {
    /// Checks the schema regularly until `stop`.
    pub(crate) fn watch(pool: PgPool, stop: CancellationToken) -> Self {
        let (sender, schema) =
            watch::channel(Schema::NotReady("the database has not been checked yet".to_owned()));
        let checked = pool.clone();
        tokio::spawn(async move {
            loop {
                let found = check(&checked).await;
                sender.send_if_modified(|known| update(known, found));
                tokio::select! {
                    () = tokio::time::sleep(CHECK_INTERVAL) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
        Self { pool, schema }
    }

    pub(crate) fn schema(&self) -> Schema {
        self.schema.borrow().clone()
    }
}

/// Updates the schema after a check, and says whether it changed. An outage changes nothing once
/// the schema was ready.
fn update(known: &mut Schema, found: Result<Installation, StoreError>) -> bool {
    let next = match found {
        Ok(installation) => Schema::Ready(installation),
        Err(StoreError::Database(_)) if matches!(known, Schema::Ready(_)) => return false,
        Err(error) => Schema::NotReady(chain(&error)),
    };
    if *known == next {
        return false;
    }
    match &next {
        Schema::Ready(installation) => {
            tracing::info!(
                version = migrate::embedded_version(),
                zone = installation.zone.name(),
                "the schema is ready"
            );
        }
        Schema::NotReady(why) => tracing::warn!(why, "the schema is not ready"),
    }
    *known = next;
    true
}

async fn check(pool: &PgPool) -> Result<Installation, StoreError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    migrate::check_version(&mut connection).await?;
    installation::read(&mut connection).await
}

#[cfg(test)]
mod tests {
    use domain::zone::Zone;
    use store::installation::Locale;

    use super::*;

    fn installation() -> Installation {
        Installation {
            zone: Zone::named("Asia/Seoul").unwrap(),
            currency: "KRW".parse().unwrap(),
            locale: Locale::KO,
        }
    }

    fn outage() -> StoreError {
        Err::<(), _>(sqlx::Error::PoolTimedOut).during("cannot connect to the database").unwrap_err().into()
    }

    #[test]
    fn an_outage_is_reported_only_before_the_schema_was_ready() {
        let mut known = Schema::NotReady("the database has not been checked yet".to_owned());
        assert!(update(&mut known, Err(outage())));
        assert!(matches!(&known, Schema::NotReady(why) if why.starts_with("cannot connect to the database")));

        assert!(update(&mut known, Ok(installation())));
        assert!(!update(&mut known, Err(outage())));
        assert_eq!(known, Schema::Ready(installation()));
    }

    #[test]
    fn a_schema_of_another_version_is_never_ready() {
        let mut known = Schema::Ready(installation());
        assert!(update(&mut known, Err(StoreError::State("version 9".to_owned()))));
        assert_eq!(known, Schema::NotReady("version 9".to_owned()));
    }
}
