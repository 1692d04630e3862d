//! The text of a ConfigMap's entries. `kubectl create configmap --from-file` puts a file that it
//! does not take for text into `binaryData`; an editor may have put a byte-order mark before it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;

/// The entries of a ConfigMap, without byte-order marks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigMapText {
    pub(crate) entries: BTreeMap<String, String>,
    /// The keys of entries that are not UTF-8.
    pub(crate) not_utf8: BTreeSet<String>,
}

/// What to do about an entry that is not UTF-8.
pub(crate) const NOT_UTF8_FIX: &str =
    "convert the file with `iconv -f CP949 -t UTF-8` or from its encoding, and replace the ConfigMap";

impl From<ConfigMap> for ConfigMapText {
    fn from(map: ConfigMap) -> Self {
        let mut text = Self::default();
        for (key, bytes) in map.binary_data.unwrap_or_default() {
            match String::from_utf8(bytes.0) {
                Ok(entry) => drop(text.entries.insert(key, without_mark(entry))),
                Err(_) => drop(text.not_utf8.insert(key)),
            }
        }
        let data = map.data.unwrap_or_default();
        text.entries.extend(data.into_iter().map(|(key, entry)| (key, without_mark(entry))));
        text
    }
}

fn without_mark(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_read_from_text_and_from_bytes() {
        let map: ConfigMap = serde_json::from_value(json!({
            "data": { "plain": "a: 1\n", "marked": "\u{feff}a: 1\n" },
            // "\u{feff}a: 1\n", "김\n" in UTF-8, 김 in CP949, and a: 1 in UTF-16.
            "binaryData": {
                "bytes": "77u/YTogMQo=", "korean": "6rmACg==", "cp949": "seg=", "utf-16": "//5hADoAIAAxAA==",
            },
        }))
        .unwrap();
        let text = ConfigMapText::from(map);
        let entries = [("bytes", "a: 1\n"), ("korean", "김\n"), ("marked", "a: 1\n"), ("plain", "a: 1\n")];
        assert_eq!(text.entries, entries.map(|(key, entry)| (key.to_owned(), entry.to_owned())).into());
        assert_eq!(text.not_utf8, ["cp949", "utf-16"].map(str::to_owned).into());
        assert_eq!(ConfigMapText::from(ConfigMap::default()), ConfigMapText::default());
    }
}
