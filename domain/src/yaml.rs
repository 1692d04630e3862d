//! Parses YAML into typed values. The only module that uses the YAML library, so that it can be
//! replaced.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _, MapAccess};

/// The text is invalid at `path`. The path is empty where the text as a whole is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct YamlError {
    pub path: String,
    pub reason: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

/// Parses a text with one document.
///
/// # Errors
/// The first invalid field and the reason.
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let reason = error.inner().to_string();
        // The library prefixes its message with a path of its own, which may lack the last segments.
        let own = reason.split_once(": ").filter(|(own, _)| !own.is_empty() && path.starts_with(own));
        let reason = own.map_or(reason.as_str(), |(_, rest)| rest).to_owned();
        YamlError { path, reason }
    })
}

/// The entries of a mapping in the order they are written. Deserializing into a map would silently
/// keep the last of two entries with the same key.
///
/// # Errors
/// A key or value without its type, or a key that is listed twice.
pub fn unique_entries<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    mut map: A,
) -> Result<Vec<(String, T)>, A::Error> {
    let mut entries: Vec<(String, T)> = Vec::new();
    while let Some((key, value)) = map.next_entry::<String, T>()? {
        if entries.iter().any(|(other, _)| *other == key) {
            return Err(A::Error::custom(format_args!("`{key}` is listed twice")));
        }
        entries.push((key, value));
    }
    Ok(entries)
}
