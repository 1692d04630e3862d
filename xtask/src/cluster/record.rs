//! What is remembered of the cluster between commands.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::docker::Engine;
use crate::paths::{Paths, write_if_changed};

/// What the installation in the cluster is set up with. A database is migrated
/// with the first three once and for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) time_zone: Option<String>,
    pub(crate) currency: Option<String>,
    pub(crate) locale: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The Docker engine that the cluster runs in.
    pub(crate) engine: Engine,
    pub(crate) time_zone: String,
    pub(crate) currency: String,
    pub(crate) locale: String,
    /// The cargo profile of the binaries that were installed last.
    pub(crate) profile: Option<String>,
}

impl Record {
    pub(crate) fn new(engine: Engine, settings: &Settings) -> Self {
        let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
        Self {
            engine,
            time_zone: or(&settings.time_zone, "Asia/Seoul"),
            currency: or(&settings.currency, "KRW"),
            locale: or(&settings.locale, "ko"),
            profile: None,
        }
    }

    /// The record as it is, if what is asked for is what is there.
    pub(crate) fn keep(self, settings: &Settings) -> Result<Self> {
        let differs = |what: &str, asked: &str, there: &str| -> Result<()> {
            if asked != there {
                bail!(
                    "the cluster was set up with {what} {there}, not {asked}; \
                     run `cargo xtask down` first, which deletes its data"
                );
            }
            Ok(())
        };
        for (what, asked, there) in [
            ("time zone", &settings.time_zone, &self.time_zone),
            ("currency", &settings.currency, &self.currency),
            ("locale", &settings.locale, &self.locale),
        ] {
            if let Some(asked) = asked {
                differs(what, asked, there)?;
            }
        }
        Ok(self)
    }

    pub(crate) fn read(paths: &Paths) -> Result<Option<Self>> {
        let file = file(paths);
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("{} is not a cluster's record", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    pub(crate) fn write(&self, paths: &Paths) -> Result<()> {
        write_if_changed(&file(paths), &serde_json::to_vec_pretty(self)?).map(drop)
    }
}

fn file(paths: &Paths) -> PathBuf {
    paths.state.join("cluster.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_keeps_the_settings_that_it_was_made_with() {
        let record = Record::new(Engine::Own, &Settings::default());
        assert_eq!(record.clone().keep(&Settings::default()).unwrap(), record);
        let settings = Settings { currency: Some("EUR".to_owned()), ..Settings::default() };
        assert_eq!(
            record.keep(&settings).unwrap_err().to_string(),
            "the cluster was set up with currency KRW, not EUR; \
             run `cargo xtask down` first, which deletes its data"
        );
    }
}
