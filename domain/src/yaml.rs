//! YAML into typed values. The only module that knows the YAML library, so that another one can take its place.

use std::fmt;

use serde::de::DeserializeOwned;

/// Where a text is not what it should be. The path is empty where the text as a whole is refused.
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

/// Reads a text of one document. A refusal names the field.
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let reason = error.inner().to_string();
        // The library puts its own idea of the path in front, which may lack the last steps.
        let own = reason.split_once(": ").filter(|(own, _)| !own.is_empty() && path.starts_with(own));
        let reason = own.map_or(reason.as_str(), |(_, rest)| rest).to_owned();
        YamlError { path, reason }
    })
}
