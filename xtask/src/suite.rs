//! `cargo xtask test`: everything, from a bare machine. The world is compiled
//! once, and the tests' own closing lines come last.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Deserialize;

use crate::cluster::{self, Cluster, Record, Settings};
use crate::paths::Paths;
use crate::progress::{Progress, seconds};
use crate::{alerts, checks, dashboards, exec, images, interrupt, kafka, postgres, stack};

/// The profile of the tests and of the binaries that they meet in the cluster.
const PROFILE: &str = "dev";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Format, lints, dependencies, alerts, dashboards, generated files
    Lint,
    /// Every test that needs no cluster, with a private PostgreSQL and a private Kafka
    Unit,
    /// The tests on a real cluster
    E2e,
}

/// A program with tests in it.
struct TestProgram {
    package: String,
    target: String,
    program: PathBuf,
    folder: PathBuf,
}

pub(crate) fn run(paths: &Paths, progress: &Progress, only: Option<Part>, filter: &[String]) -> Result<()> {
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted(Part::Lint) {
        checks::lint(paths, progress)?;
        alerts::check(paths, progress)?;
        dashboards::check(paths, progress)?;
    }
    let programs = progress.section("build", || build(paths))?;
    if wanted(Part::Lint) {
        let operator = stack::profile_folder(paths, PROFILE).join("operator");
        checks::codegen(paths, progress, true, Some(&operator))?;
    }
    let (e2e, unit): (Vec<_>, Vec<_>) = programs.into_iter().partition(|program| program.package == "e2e");
    if unit.is_empty() || e2e.is_empty() {
        bail!("cargo built no tests: {} without a cluster, {} with one", unit.len(), e2e.len());
    }
    if wanted(Part::Unit) {
        let server = postgres::start(paths, progress)?;
        let broker = kafka::start(paths, progress)?;
        let environment = [
            ("MONTHEND_TEST_DATABASE_URL", server.url("postgres")),
            ("MONTHEND_TEST_KAFKA", broker.address()),
            ("MONTHEND_TEST_KAFKA_JARS", kafka::jars(paths, progress)?.display().to_string()),
        ];
        heading(progress, "tests without a cluster");
        run_all(&unit, &environment, filter)?;
    }
    if wanted(Part::E2e) {
        on_cluster(paths, progress, |cluster| {
            check_chart(paths, progress, cluster)?;
            let mut environment = stack::environment(paths, cluster)?;
            let mail = images::ensure_test_mail(paths, progress, cluster)?;
            environment.push(("MONTHEND_E2E_MAIL_IMAGE", mail.whole()));
            heading(progress, "tests on the cluster");
            run_all(&e2e, &environment, filter)
        })?;
    }
    Ok(())
}

/// Compiles the workspace once: binaries for the image and all tests.
fn build(paths: &Paths) -> Result<Vec<TestProgram>> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        package_id: Option<String>,
        manifest_path: Option<PathBuf>,
        executable: Option<PathBuf>,
        target: Option<Target>,
        profile: Option<Profile>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }

    let output = checks::cargo(paths)
        .args(["build", "--locked", "--workspace", "--bins", "--tests", "--all-features"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo build: {}", output.status);
    }
    let mut programs = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Message = serde_json::from_slice(line).context("cargo's messages have changed")?;
        let Message { reason, package_id, manifest_path, executable, target, profile } = message;
        if reason != "compiler-artifact" || !profile.is_some_and(|profile| profile.test) {
            continue;
        }
        let (Some(program), Some(target), Some(manifest)) = (executable, target, manifest_path) else {
            continue;
        };
        let folder = manifest.parent().context("a manifest without a folder")?.to_path_buf();
        let package = folder
            .file_name()
            .map_or_else(|| package_id.unwrap_or_default(), |name| name.to_string_lossy().into_owned());
        programs.push(TestProgram { package, target: target.name, program, folder });
    }
    programs.sort_by(|one, other| (&one.package, &one.target).cmp(&(&other.package, &other.target)));
    Ok(programs)
}

/// Runs every program, then names those that failed.
fn run_all(
    programs: &[TestProgram],
    environment: &[(&'static str, String)],
    filter: &[String],
) -> Result<()> {
    let mut failed = Vec::new();
    for program in programs {
        interrupt::check()?;
        eprintln!("     Running {} {}", program.package, program.target);
        let status = Command::new(&program.program)
            .args(filter)
            .current_dir(&program.folder)
            .env("CARGO_MANIFEST_DIR", &program.folder)
            .env_remove("DATABASE_URL")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .status()
            .with_context(|| format!("cannot run {}", program.program.display()))?;
        if !status.success() {
            failed.push(format!("{} {}", program.package, program.target));
        }
    }
    interrupt::check()?;
    if !failed.is_empty() {
        bail!("tests failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Work on the cluster that is there, or on one that is there only for it:
/// that one is removed afterwards, whatever happened.
fn on_cluster(paths: &Paths, progress: &Progress, work: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    let was_there = Record::read(paths)?.is_some();
    let result = Cluster::up(paths, progress, &Settings::default()).and_then(|mut cluster| {
        stack::install(paths, progress, &mut cluster, PROFILE, &stack::profile_folder(paths, PROFILE))?;
        work(&cluster)
    });
    if was_there {
        return result;
    }
    // Also after Ctrl-C. Silent: the tests' closing lines stay the last.
    interrupt::clear();
    let removed = cluster::down(paths, &Progress::silent());
    result.and(removed)
}

/// What the API server and Helm say to the chart.
fn check_chart(paths: &Paths, progress: &Progress, cluster: &Cluster) -> Result<()> {
    let chart = paths.repo.join("charts/monthend");
    let mut values: Vec<PathBuf> = Vec::new();
    let folder = chart.join("ci");
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        values.push(entry?.path());
    }
    values.sort();
    for file in &values {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        progress.step(&format!("chart with {name}"), |_| check_values(cluster, &chart, file))?;
    }
    Ok(())
}

fn check_values(cluster: &Cluster, chart: &Path, values: &Path) -> Result<()> {
    exec::output(cluster.helm().args(["lint", "--strict", "--values"]).arg(values).arg(chart))?;
    let rendered = exec::output(
        cluster
            .helm()
            .args(["template", cluster::NAME])
            .arg(chart)
            .args(["--namespace", stack::NAMESPACE, "--values"])
            .arg(values),
    )?;
    // Kinds of KEDA and of the Prometheus operator are rendered and no more: this cluster doesn't know them.
    let unknown = ["apiVersion: keda.sh/", "apiVersion: monitoring.coreos.com/"];
    let rendered: Vec<&str> = rendered
        .split("\n---\n")
        .filter(|document| !unknown.iter().any(|kind| document.contains(kind)))
        .collect();
    exec::output_with_input(
        cluster.kubectl().args([
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--namespace",
            stack::NAMESPACE,
            "-f",
            "-",
        ]),
        rendered.join("\n---\n").as_bytes(),
    )
    .map(drop)
}

fn heading(progress: &Progress, title: &str) {
    eprintln!("── {title} (after {})", seconds(progress.elapsed()));
}
