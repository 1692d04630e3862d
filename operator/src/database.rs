//! The operator's database: whether its schema is this operator's, and what the installation is. A connection that is
//! lost later does not make a schema unknown again.

use std::time::Duration;

use logging::chain;
use sqlx::PgPool;
use store::{
    error::{During as _, StoreError},
    installation::{self, Installation},
    migrate,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whether the database can be worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schema {
    /// Not looked at yet, out of reach, or of another version; the text says which.
    NotReady(String),
    Ready(Installation),
}

#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) pool: PgPool,
    schema: watch::Receiver<Schema>,
}

impl Database {
    /// Looks at the schema again and again until `stop`.
    pub(crate) fn watch(pool: PgPool, stop: CancellationToken) -> Self {
        let (tell, schema) =
            watch::channel(Schema::NotReady("the database was not looked at yet".to_owned()));
        let looking = pool.clone();
        tokio::spawn(async move {
            loop {
                let found = look(&looking).await;
                tell.send_if_modified(|known| take(known, found));
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
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

/// What a look changes: an outage does not take away what was known.
fn take(known: &mut Schema, found: Result<Installation, StoreError>) -> bool {
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

async fn look(pool: &PgPool) -> Result<Installation, StoreError> {
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
            locale: Locale::Ko,
        }
    }

    fn outage() -> StoreError {
        Err::<(), _>(sqlx::Error::PoolTimedOut).during("cannot connect to the database").unwrap_err().into()
    }

    #[test]
    fn an_outage_is_a_reason_at_first_and_none_later() {
        let mut known = Schema::NotReady("the database was not looked at yet".to_owned());
        assert!(take(&mut known, Err(outage())));
        assert!(matches!(&known, Schema::NotReady(why) if why.starts_with("cannot connect to the database")));

        assert!(take(&mut known, Ok(installation())));
        assert!(!take(&mut known, Err(outage())));
        assert_eq!(known, Schema::Ready(installation()));
    }

    #[test]
    fn another_version_is_never_ready() {
        let mut known = Schema::Ready(installation());
        assert!(take(&mut known, Err(StoreError::State("version 9".to_owned()))));
        assert_eq!(known, Schema::NotReady("version 9".to_owned()));
    }
}
