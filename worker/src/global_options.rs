//! The options that every command has, and what the commands get from them.

use std::convert::Infallible;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use secrecy::SecretString;
use store::crypto::Keyring;

use crate::exit::{CommandError, CommandResult};

#[derive(Debug, Args)]
pub(crate) struct GlobalOptions {
    /// Address of the database, as postgres://ROLE:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL",
          value_parser = secret)]
    database_url: Option<SecretString>,
    /// Folder with the encryption keys: one file for each key, named by its id, with 32 bytes in
    /// base64; and a file `active` with the id of the key that encrypts
    #[arg(long, env = "MONTHEND_KEYS_DIR", global = true, value_name = "FOLDER")]
    keys_dir: Option<PathBuf>,
    /// Which log lines to write to standard error, such as `info`, `debug` or `info,sqlx=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true, value_name = "FILTER")]
    pub(crate) log: String,
}

impl GlobalOptions {
    /// # Errors
    /// The address is missing.
    pub(crate) fn database_url(&self) -> CommandResult<&SecretString> {
        self.database_url.as_ref().ok_or_else(|| {
            CommandError::usage(anyhow!("no database: set DATABASE_URL or give --database-url"))
        })
    }

    /// Whether a folder with keys is given.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys_dir.is_some()
    }

    /// The keys for personal data.
    ///
    /// # Errors
    /// The folder is missing or cannot be read, or has a wrong key.
    pub(crate) fn keys(&self) -> anyhow::Result<Keyring> {
        let folder = self.keys_dir.as_deref();
        let folder = folder.ok_or_else(|| anyhow!("no keys: set MONTHEND_KEYS_DIR or give --keys-dir"))?;
        Ok(Keyring::from_folder(folder)?)
    }
}

/// Parses an option whose value must not be logged.
pub(crate) fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}
