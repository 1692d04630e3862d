//! What needs neither a server nor a cluster to be judged: style, lints,
//! dependencies, and generated files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths::{Paths, write_if_changed};
use crate::progress::Progress;
use crate::{exec, postgres, source_layout};

const CARGO_DENY: &str = "0.20.2";

/// Folders of generated files: in the checkout, and what is in them.
const CRD_FOLDERS: [&str; 2] = ["crds", "charts/monthend/files/crds"];

pub(crate) const DASHBOARDS: &str = "grafana";
/// Helm reads no file outside of the chart.
pub(crate) const DASHBOARDS_COPY: &str = "charts/monthend/files/dashboards";

pub(crate) fn cargo(paths: &Paths) -> Command {
    let mut command = Command::new("cargo");
    // Queries are checked against what is committed, whatever this shell has.
    command.current_dir(&paths.repo).env_remove("DATABASE_URL").env("SQLX_OFFLINE", "true");
    // `cargo run` describes this program to it in variables that build scripts of dependencies watch.
    // With them, whatever was built by a cargo of the shell would be built again.
    for (name, _) in std::env::vars_os() {
        let describes_this_program = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
        if describes_this_program {
            command.env_remove(name);
        }
    }
    command
}

/// Everything that is judged by reading.
pub(crate) fn lint(paths: &Paths, progress: &Progress) -> Result<()> {
    progress.section("cargo fmt", || exec::inherit(cargo(paths).args(["fmt", "--all", "--check"])))?;
    source_layout::check(paths, progress)?;
    deny(paths, progress)?;
    progress.section("cargo clippy", || {
        exec::inherit(
            cargo(paths)
                .args(["clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--quiet"])
                .args(["--", "-D", "warnings"]),
        )
    })
}

/// Licences, sources and bans of dependencies. Advisories are a command of
/// their own (`cargo deny check advisories`): their database has to be fetched.
fn deny(paths: &Paths, progress: &Progress) -> Result<()> {
    let root = paths.cache.join("cargo-deny").join(CARGO_DENY);
    let program = root.join("bin/cargo-deny");
    progress.step("cargo-deny", |step| {
        if program.exists() {
            step.note("cached");
            return Ok(());
        }
        step.note("built, once for this machine");
        exec::run(
            Command::new("cargo")
                .args(["install", "--locked", "--no-default-features", "cargo-deny", "--version", CARGO_DENY])
                .arg("--root")
                .arg(&root),
            &paths.log("cargo-deny"),
        )
    })?;
    progress.section("cargo deny", || {
        exec::inherit(
            Command::new(&program)
                .current_dir(&paths.repo)
                .args(["--all-features", "--locked", "check"])
                .args(["bans", "licenses", "sources"]),
        )
    })
}

/// What is generated from the code, by path in the checkout.
type Generated = BTreeMap<PathBuf, Vec<u8>>;

/// Writes the generated files, or only says whether they are up to date. An
/// operator that is built already need not be built once more.
pub(crate) fn codegen(
    paths: &Paths,
    progress: &Progress,
    check: bool,
    operator: Option<&Path>,
) -> Result<()> {
    let mut fresh = Generated::new();
    for (name, content) in files(&paths.repo.join(DASHBOARDS), "json")? {
        fresh.insert(Path::new(DASHBOARDS_COPY).join(name), content);
    }
    queries(paths, progress, &mut fresh)?;
    if !check {
        // The operator compiles against the new queries.
        write(paths, &[".sqlx", DASHBOARDS_COPY], &fresh)?;
    }
    definitions(paths, progress, operator, &mut fresh)?;
    let folders: Vec<&str> = CRD_FOLDERS.into_iter().chain([".sqlx", DASHBOARDS_COPY]).collect();
    if !check {
        return write(paths, &folders, &fresh);
    }
    progress.step("generated files", |step| {
        let mut stale: Vec<String> = Vec::new();
        let committed = read(paths, &folders)?;
        for path in fresh.keys().chain(committed.keys().filter(|path| !fresh.contains_key(*path))) {
            if fresh.get(path) != committed.get(path) {
                stale.push(path.display().to_string());
            }
        }
        if !stale.is_empty() {
            bail!("not up to date: run `cargo xtask codegen` and commit {}", stale.join(", "));
        }
        step.note(format!("{} up to date", fresh.len()));
        Ok(())
    })
}

/// The custom resource definitions, from the types.
fn definitions(
    paths: &Paths,
    progress: &Progress,
    operator: Option<&Path>,
    fresh: &mut Generated,
) -> Result<()> {
    progress.step("custom resource definitions", |_| {
        let folder = tempfile::tempdir().context("no room for generated files")?;
        let mut command = match operator {
            Some(program) => Command::new(program),
            None => {
                let mut command = cargo(paths);
                command.args(["run", "--locked", "--quiet", "--package", "operator", "--"]);
                command
            }
        };
        exec::run(command.args(["crds", "--out"]).arg(folder.path()), &paths.log("codegen"))?;
        for (name, content) in files(folder.path(), "yaml")? {
            for target in CRD_FOLDERS {
                fresh.insert(Path::new(target).join(&name), content.clone());
            }
        }
        Ok(())
    })
}

/// What the queries of `store` return, asked of a migrated database.
fn queries(paths: &Paths, progress: &Progress, fresh: &mut Generated) -> Result<()> {
    let server = postgres::start(paths, progress)?;
    progress.step("queries", |_| {
        let log = paths.log("codegen");
        for (name, _) in files(&paths.repo.join("migrations"), "sql")? {
            exec::run(
                Command::new("psql")
                    .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"])
                    .arg(server.url("postgres"))
                    .arg("--file")
                    .arg(paths.repo.join("migrations").join(name)),
                &log,
            )?;
        }
        let folder = tempfile::tempdir().context("no room for generated files")?;
        // Queries are described while they are compiled, so that has to happen. The whole workspace, as
        // the lints do: for one package alone, dependencies have other features and are compiled again.
        exec::run(Command::new("touch").arg(paths.repo.join("store/src/lib.rs")), &log)?;
        exec::run(
            cargo(paths)
                .env("DATABASE_URL", server.url("postgres"))
                .env("SQLX_OFFLINE", "false")
                .env("SQLX_OFFLINE_DIR", folder.path())
                .args(["check", "--locked", "--quiet", "--workspace", "--all-targets", "--all-features"]),
            &log,
        )?;
        for (name, content) in files(folder.path(), "json")? {
            fresh.insert(Path::new(".sqlx").join(name), content);
        }
        Ok(())
    })
}

fn files(folder: &Path, extension: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        other => other.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == extension)
            && let Some(name) = path.file_name()
        {
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.insert(name.to_string_lossy().into_owned(), content);
        }
    }
    Ok(found)
}

fn read(paths: &Paths, folders: &[&str]) -> Result<Generated> {
    let mut all = Generated::new();
    for folder in folders {
        let extension = if CRD_FOLDERS.contains(folder) { "yaml" } else { "json" };
        for (name, content) in files(&paths.repo.join(folder), extension)? {
            all.insert(Path::new(folder).join(name), content);
        }
    }
    Ok(all)
}

fn write(paths: &Paths, folders: &[&str], fresh: &Generated) -> Result<()> {
    for path in read(paths, folders)?.keys() {
        if !fresh.contains_key(path) {
            let stale = paths.repo.join(path);
            fs::remove_file(&stale).with_context(|| format!("cannot remove {}", stale.display()))?;
        }
    }
    for (path, content) in fresh {
        if write_if_changed(&paths.repo.join(path), content)? {
            eprintln!("  {}", path.display());
        }
    }
    Ok(())
}
