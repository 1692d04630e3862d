//! The mail server of the development stack: its programs, by npm.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::progress::Progress;
use crate::{cache, exec, packages};

const FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// The folder `node_modules`.
pub(crate) fn modules(paths: &Paths, progress: &Progress) -> Result<PathBuf> {
    let sources = FILES.map(|name| paths.repo.join("xtask/tools/mail").join(name));
    let folder = cache::folder(paths, progress, "mail", &sources, &packages::NPM, |folder| {
        for (source, name) in sources.iter().zip(FILES) {
            fs::copy(source, folder.join(name))
                .with_context(|| format!("cannot copy {}", source.display()))?;
        }
        exec::run(
            Command::new("npm")
                .current_dir(folder)
                // Nothing of what is fetched is run here.
                .args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]),
            &paths.log("mail"),
        )
    })?;
    Ok(folder.join("node_modules"))
}
