//! `monthend check`: whether an installation is usable; `helm test` runs it. Changes nothing.

use anyhow::anyhow;
use clap::Args;
use domain::ids::MemberId;
use secrecy::ExposeSecret as _;
use store::crypto::{Column, Keyring};
use store::{installation, member, migrate};

use crate::database;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;
use crate::output::print_line;

/// Check the database, its schema version and the encryption keys
///
/// Fails if the database cannot be reached, was not migrated by this version, or has data that the
/// keys cannot decrypt. `helm test` runs this command.
#[derive(Debug, Args)]
pub(crate) struct Check {}

impl Check {
    pub(crate) async fn run(&self, global: &GlobalOptions) -> CommandResult {
        let mut connection = database::connect(global.database_url()?, "monthend check").await?;
        let installation = installation::read(&mut connection).await?;
        print_line(format_args!(
            "database: schema version {}, time zone {}, currency {}",
            migrate::embedded_version(),
            installation.zone,
            installation.currency
        ));

        let keys = global.keys().or_exit(ExitStatus::Usage)?;
        check_round_trip(&keys)?;
        let sealed = match member::any_sealed_name(&mut connection).await? {
            None => "no member to decrypt yet",
            Some((id, name)) => {
                keys.open(Column::Name, id, &name).or_exit(ExitStatus::Usage)?;
                "a member of the database can be decrypted"
            }
        };
        print_line(format_args!("keys: key {} encrypts; {sealed}", keys.active()));
        Ok(ExitStatus::Success)
    }
}

/// Checks that the active key decrypts what it encrypts.
fn check_round_trip(keys: &Keyring) -> CommandResult<()> {
    const PROBE: &str = "probe";
    let sealed = keys.sealer().seal(Column::Name, MemberId::FIRST, PROBE);
    let opened = keys.open(Column::Name, MemberId::FIRST, &sealed).or_exit(ExitStatus::Failed)?;
    if opened.expose_secret() != PROBE {
        return Err(CommandError::new(
            ExitStatus::Failed,
            anyhow!("key {} cannot decrypt what it encrypted", keys.active()),
        ));
    }
    Ok(())
}
