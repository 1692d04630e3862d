//! `monthend check`: whether an installation can be worked with, as `helm test` asks. Changes nothing.

use anyhow::anyhow;
use clap::Args;
use domain::ids::MemberId;
use secrecy::ExposeSecret as _;
use store::crypto::{Column, Keyring};
use store::{installation, member, migrate, pool};

use crate::Global;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::output::print_line;

/// Checks that the database answers, has this version's schema, and that the keys open what is sealed in it
#[derive(Debug, Args)]
pub(crate) struct Check {}

impl Check {
    pub(crate) async fn run(&self, global: &Global) -> CommandResult {
        let mut connection = pool::connect_one(global.database_url()?, "monthend check").await?;
        migrate::check_version(&mut connection).await?;
        let installation = installation::read(&mut connection).await?;
        print_line(format_args!(
            "database: schema version {}, time zone {}, currency {}",
            migrate::embedded_version(),
            installation.zone,
            installation.currency
        ));

        let folder = global.keys_dir.as_deref();
        let folder = folder.ok_or_else(|| {
            CommandError::usage(anyhow!("no keys: set MONTHEND_KEYS_DIR or give --keys-dir"))
        })?;
        let keys = Keyring::from_folder(folder).or_exit(ExitStatus::Usage)?;
        opens_its_own(&keys)?;
        let sealed = match member::any_sealed_name(&mut connection).await? {
            None => "there is no member yet to open",
            Some((id, name)) => {
                keys.open(Column::Name, id, &name).or_exit(ExitStatus::Usage)?;
                "they open a member of the database"
            }
        };
        print_line(format_args!("keys: {} writes; {sealed}", keys.active()));
        Ok(ExitStatus::Success)
    }
}

fn opens_its_own(keys: &Keyring) -> CommandResult<()> {
    const PROBE: &str = "probe";
    let sealed = keys.sealer().seal(Column::Name, MemberId::FIRST, PROBE);
    let opened = keys.open(Column::Name, MemberId::FIRST, &sealed).or_exit(ExitStatus::Failed)?;
    if opened.expose_secret() != PROBE {
        return Err(CommandError::new(
            ExitStatus::Failed,
            anyhow!("key {} does not open what it sealed", keys.active()),
        ));
    }
    Ok(())
}
