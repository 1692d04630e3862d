//! `monthend migrate`: creates or upgrades the database schema. Waits for a database that is not
//! available yet.

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

use crate::database_retry::{DatabaseRetries, DatabaseRetryPolicy, RetryError, retry};
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::global_options::GlobalOptions;
use crate::output::{format_duration, print_line};

/// Create or upgrade the database schema
///
/// The first migration also sets the installation's time zone and currency, which never change.
/// Every migration grants the roles of the operator and the workers what they need. Needs a role
/// that may create tables; waits two minutes for the database.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  monthend migrate --time-zone Asia/Seoul --currency KRW")]
pub(crate) struct Migrate {
    /// Time zone of billing months and days, by its IANA name; never changes later
    #[arg(long, env = "MONTHEND_TIME_ZONE", value_name = "ZONE", value_parser = Zone::named)]
    time_zone: Zone,
    /// Currency of every amount, by its ISO 4217 code; never changes later
    #[arg(long, env = "MONTHEND_CURRENCY", value_name = "CODE")]
    currency: Currency,
    /// Locale of members without one of their own: a language tag such as ko, en or pt-BR [default:
    /// the installation's, at first ko]
    #[arg(long, env = "MONTHEND_LOCALE", value_name = "LOCALE")]
    locale: Option<Locale>,
    /// Database role of the operator
    #[arg(long, env = "MONTHEND_OPERATOR_ROLE", default_value = "monthend_operator", value_name = "ROLE")]
    operator_role: String,
    /// Database role of the workers
    #[arg(long, env = "MONTHEND_WORKER_ROLE", default_value = "monthend_worker", value_name = "ROLE")]
    worker_role: String,
}

impl Migrate {
    pub(crate) async fn run(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        let wanted = MigrationRequest {
            zone: self.time_zone.clone(),
            currency: self.currency,
            locale: self.locale,
            roles: Roles::new(&self.operator_role, &self.worker_role)?,
        };
        let started = Instant::now();
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
                let error = anyhow!("interrupted: run `monthend migrate` again to continue");
                CommandError::new(ExitStatus::TryAgain, error)
            }
        })?;
        report(&migrated, started.elapsed());
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
        None => format!("created schema version {}", migrated.to),
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
