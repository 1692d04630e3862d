//! Generates the files of the custom resource definitions, for `crds/` and the chart.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

const HEADER: &str = "# Generated from api/ by `cargo xtask codegen`; edit the types there.";

/// Each definition's file name and text.
pub(crate) fn files() -> Result<Vec<(String, String)>> {
    api::crds()
        .into_iter()
        .map(|crd| {
            let name = crd.metadata.name.clone().context("a definition has no name")?;
            // As a JSON value, whose keys are sorted.
            let mut value =
                serde_json::to_value(&crd).with_context(|| format!("cannot write {name} as JSON"))?;
            unwrap_descriptions(&mut value);
            let mut text = HEADER.to_owned();
            block(&value, 0, &mut text);
            text.push('\n');
            Ok((format!("{name}.yaml"), text))
        })
        .collect()
}

pub(crate) fn write(folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    files()?
        .into_iter()
        .map(|(name, text)| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// Removes the line breaks of the source: `kubectl explain` wraps lines itself.
fn unwrap_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, child) in fields {
                match child {
                    Value::String(text) if key == "description" => *text = text.replace('\n', " "),
                    child => unwrap_descriptions(child),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_descriptions),
        _ => {}
    }
}

/// Writes a JSON value as block-style YAML. A few lines in place of a YAML library, as JSON scalars
/// are valid YAML.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, child) in fields {
                // No definition has a key that needs quotes.
                out.push_str(&format!("\n{indent}{key}:"));
                block(child, depth + 1, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut text = String::new();
                block(item, depth + 1, &mut text);
                out.push_str(&format!("\n{indent}- {}", text.trim_start()));
            }
        }
        scalar => out.push_str(&format!(" {scalar}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_maps_are_written_as_blocks() {
        let value = serde_json::json!({"a": {"b": [{"c": "x: y", "d": [1, 2]}, true], "e": {}}, "f": []});
        let mut text = String::new();
        block(&value, 0, &mut text);
        assert_eq!(
            text,
            "\na:\n  b:\n    - c: \"x: y\"\n      d:\n        - 1\n        - 2\n    - true\n  e: {}\nf: []"
        );
    }

    #[test]
    fn the_committed_files_are_the_generated_ones() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        let mut expected: Vec<String> = Vec::new();
        for (name, text) in files().unwrap() {
            let committed = std::fs::read_to_string(folder.join(&name)).unwrap();
            assert!(committed == text, "crds/{name} differs from api/: run `cargo xtask codegen`");
            expected.push(name);
        }
        let mut there: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(there, expected, "crds/ holds exactly the generated files");
    }
}
