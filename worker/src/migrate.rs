//! `monthend migrate`: brings a database to this version's schema. Waits for one that is not there yet.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use domain::money::Currency;
use domain::zone::Zone;
use secrecy::SecretString;
use store::installation::Locale;
use store::migrate::{MigrateError, MigrationRequest, MigrationResult, Roles, migrate};
use store::pool::connect_one;
use tokio_util::sync::CancellationToken;

use crate::Global;
use crate::database_retry::{DatabaseRetries, DatabaseRetryPolicy, RetryError, retry};
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::output::{format_duration, print_line};

/// Makes or upgrades the schema, fixes the time zone and currency the first time, and grants the roles what they need
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// IANA name of the zone that months and days are in; never changes afterwards
    #[arg(long, env = "MONTHEND_TIME_ZONE", value_name = "ZONE", value_parser = Zone::named)]
    time_zone: Zone,
    /// ISO 4217 code that every amount is in; never changes afterwards
    #[arg(long, env = "MONTHEND_CURRENCY", value_name = "CODE")]
    currency: Currency,
    /// Locale of members whose own is not given: ko or en [default: ko, or what the installation has]
    #[arg(long, env = "MONTHEND_LOCALE", value_name = "LOCALE")]
    locale: Option<Locale>,
    /// The role that the operator connects with
    #[arg(long, env = "MONTHEND_OPERATOR_ROLE", default_value = "monthend_operator", value_name = "ROLE")]
    operator_role: String,
    /// The role that workers connect with
    #[arg(long, env = "MONTHEND_WORKER_ROLE", default_value = "monthend_worker", value_name = "ROLE")]
    worker_role: String,
}

impl Migrate {
    pub(crate) async fn run(&self, global: &Global, stop: &CancellationToken) -> CommandResult {
        let wanted = MigrationRequest {
            zone: self.time_zone.clone(),
            currency: self.currency,
            locale: self.locale,
            roles: Roles::new(&self.operator_role, &self.worker_role)?,
        };
        let begun = Instant::now();
        let database = global.database_url()?;
        let mut retries = DatabaseRetries::new(DatabaseRetryPolicy::MIGRATION, stop.clone());
        let migrating = async { retry!(retries, attempt(database, &wanted)) };
        let migrated = tokio::select! {
            migrated = migrating => migrated,
            // Dropping the attempt closes its connection, and the server rolls back.
            () = stop.cancelled() => Err(RetryError::Stopped),
        };
        let migrated = migrated.map_err(|error| match error {
            RetryError::Fatal(error) | RetryError::GaveUp(error) => error.into(),
            RetryError::Stopped => {
                let error = anyhow!("interrupted: run `monthend migrate` again to go on");
                CommandError::new(ExitStatus::TryAgain, error)
            }
        })?;
        report(&migrated, begun.elapsed());
        Ok(ExitStatus::Success)
    }
}

async fn attempt(
    database: &SecretString,
    wanted: &MigrationRequest,
) -> Result<MigrationResult, MigrateError> {
    let mut connection = connect_one(database, "monthend migrate").await?;
    migrate(&mut connection, wanted).await
}

fn report(migrated: &MigrationResult, time: Duration) {
    let installation = &migrated.installation;
    let what = match migrated.from {
        None => format!("made schema version {}", migrated.to),
        Some(from) if from == migrated.to => format!("schema version {from} is up to date"),
        Some(from) => format!("upgraded schema version {from} to {}", migrated.to),
    };
    print_line(format_args!(
        "{what}; time zone {}, currency {}, locale {} ({})",
        installation.zone,
        installation.currency,
        installation.locale,
        format_duration(time)
    ));
}
