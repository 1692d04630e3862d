//! What is remembered of the cluster between commands.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::ProviderKind;
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
    pub(crate) provider: ProviderKind,
    pub(crate) time_zone: String,
    pub(crate) currency: String,
    pub(crate) locale: String,
    /// The cargo profile of the binaries that were installed last.
    pub(crate) profile: Option<String>,
}

impl Record {
    pub(crate) fn new(provider: ProviderKind, settings: &Settings) -> Self {
        let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
        Self {
            provider,
            time_zone: or(&settings.time_zone, "Asia/Seoul"),
            currency: or(&settings.currency, "KRW"),
            locale: or(&settings.locale, "ko"),
            profile: None,
        }
    }

    /// The record as it is, if what is asked for is what is there.
    pub(crate) fn keep(self, asked: Option<ProviderKind>, settings: &Settings) -> Result<Self> {
        let differs = |what: &str, asked: &str, there: &str| -> Result<()> {
            if asked != there {
                bail!(
                    "the cluster was set up with {what} {there}, not {asked}; \
                     run `cargo xtask down` first, which deletes its data"
                );
            }
            Ok(())
        };
        if let Some(asked) = asked {
            let name = |kind| format!("{kind:?}").to_lowercase();
            differs("provider", &name(asked), &name(self.provider))?;
        }
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
    fn what_is_there_stays_as_it_is() {
        let record = Record::new(ProviderKind::Node, &Settings::default());
        assert_eq!(record.clone().keep(None, &Settings::default()).unwrap(), record);
        assert_eq!(record.clone().keep(Some(ProviderKind::Node), &Settings::default()).unwrap(), record);
        let settings = Settings { currency: Some("EUR".to_owned()), ..Settings::default() };
        assert_eq!(
            record.clone().keep(None, &settings).unwrap_err().to_string(),
            "the cluster was set up with currency KRW, not EUR; \
             run `cargo xtask down` first, which deletes its data"
        );
        assert!(record.keep(Some(ProviderKind::Kind), &Settings::default()).is_err());
    }
}
