//! What is installed into the cluster: the chart with its development stack,
//! and the Secrets that it wants to find.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::checks::cargo;
use crate::cluster::{Cluster, NAME};
use crate::daemon::hex;
use crate::images::{self, Images, Reference};
use crate::paths::{Paths, write_if_changed};
use crate::progress::{Progress, seconds};
use crate::{exec, interrupt};

pub(crate) const NAMESPACE: &str = NAME;
pub(crate) const DATABASE_SECRET: &str = "monthend-database";
const ENCRYPTION_SECRET: &str = "monthend-encryption";
const DATABASE: &str = "monthend";

/// Where the development stack is reached from this machine.
mod port {
    pub(super) const POSTGRESQL: u16 = 30432;
    pub(super) const KAFKA: u16 = 30092;
    pub(super) const SMTP: u16 = 30025;
    pub(super) const MAIL: u16 = 30080;
    pub(super) const PROMETHEUS: u16 = 30090;
}

/// The namespace of the tests' own release, whose metrics the development
/// stack's Prometheus reads too.
const TESTS_NAMESPACE: &str = "monthend-e2e";

const CONSUMERS: &str = "deployment/monthend-notify";
const PATIENCE: Duration = Duration::from_secs(300);

/// Cargo's name of a profile and the folder that it builds into.
pub(crate) fn profile_folder(paths: &Paths, profile: &str) -> PathBuf {
    paths.target.join(if profile == "dev" { "debug" } else { profile })
}

/// The build of what the image holds, the plugin of kubectl among it, which runs beside other steps.
pub(crate) struct BinaryBuild {
    running: exec::Running,
    profile: String,
    folder: PathBuf,
}

impl BinaryBuild {
    pub(crate) fn start(paths: &Paths, profile: &str) -> Result<Self> {
        let packages =
            ["operator", "worker", "kubectl-monthend"].map(|package| format!("--package={package}"));
        let mut cargo = cargo(paths);
        cargo.args(["build", "--locked", "--profile", profile]).args(packages);
        let running = exec::start(&mut cargo, &paths.log("build"))?;
        Ok(Self { running, profile: profile.to_owned(), folder: profile_folder(paths, profile) })
    }

    /// Waits until it is done; where the binaries are.
    pub(crate) fn wait(self, progress: &Progress) -> Result<PathBuf> {
        let Self { running, profile, folder } = self;
        progress.step(&format!("operator, monthend and kubectl-monthend ({profile} build)"), |_| {
            running.wait()
        })?;
        Ok(folder)
    }
}

/// From binaries to an operator that is ready.
pub(crate) fn install(
    paths: &Paths,
    progress: &Progress,
    cluster: &mut Cluster,
    profile: &str,
    binaries: &Path,
) -> Result<()> {
    let images = images::ensure(paths, progress, cluster, binaries)?;
    progress.step("secrets", |_| make_secrets(cluster))?;
    progress.step("chart", |_| upgrade(paths, cluster, &images))?;
    // All of them start at once: whoever is waited for later is up by then.
    progress.step("database", |_| rolled_out(cluster, "statefulset/monthend-postgresql"))?;
    progress.step("operator", |_| rolled_out(cluster, "deployment/monthend-operator"))?;
    progress.step("Kafka", |_| rolled_out(cluster, "statefulset/monthend-kafka"))?;
    progress.step("mail server and Prometheus", |_| {
        rolled_out(cluster, "deployment/monthend-mail")?;
        rolled_out(cluster, "deployment/monthend-prometheus")
    })?;
    progress.step("consumers", |_| rolled_out(cluster, CONSUMERS))?;
    cluster.record.profile = Some(profile.to_owned());
    cluster.record.write(paths)
}

/// Makes the namespace, and the Secrets that are not there: a key that changes
/// makes data unreadable, so what is there stays.
fn make_secrets(cluster: &Cluster) -> Result<()> {
    cluster.apply(&json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
        }},
    }))?;
    let mut entries = json!({"superuser-password": random_password()?});
    for role in ["migrate", "operator", "worker"] {
        let password = random_password()?;
        let url = format!("postgres://monthend_{role}:{password}@monthend-postgresql:5432/{DATABASE}");
        entries[format!("{role}-password")] = Value::from(password);
        entries[format!("{role}-url")] = Value::from(url);
    }
    make_secret(cluster, DATABASE_SECRET, &entries)?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("no randomness")?;
    make_secret(cluster, ENCRYPTION_SECRET, &json!({"dev-1": STANDARD.encode(key), "active": "dev-1"}))
}

fn make_secret(cluster: &Cluster, name: &str, entries: &Value) -> Result<()> {
    let there = exec::output(cluster.kubectl().args([
        "get",
        "secret",
        name,
        "-n",
        NAMESPACE,
        "--ignore-not-found",
        "-o",
        "name",
    ]))?;
    if !there.is_empty() {
        return Ok(());
    }
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": entries,
    });
    exec::output_with_input(cluster.kubectl().args(["create", "-f", "-"]), &serde_json::to_vec(&secret)?)
        .map(drop)
}

fn random_password() -> Result<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).context("no randomness")?;
    // Hexadecimal needs no quoting in a URL, a shell or SQL.
    Ok(hex(&bytes))
}

/// The chart's values for this installation.
pub(crate) fn values(cluster: &Cluster, images: &Images) -> Value {
    let image = |image: &Reference| json!({"repository": image.repository, "tag": image.tag});
    json!({
        "image": image(&images.monthend),
        "timeZone": cluster.record.time_zone,
        "currency": cluster.record.currency,
        "locale": cluster.record.locale,
        "database": {"existingSecret": DATABASE_SECRET},
        "encryption": {"existingSecret": ENCRYPTION_SECRET},
        "devStack": {
            "enabled": true,
            "postgresql": {"image": image(&images.postgres), "nodePort": port::POSTGRESQL},
            "kafka": {"image": image(&images.kafka), "nodePort": port::KAFKA},
            "mail": {
                "image": image(&images.mail),
                "nodePort": port::MAIL,
                "smtpNodePort": port::SMTP,
            },
            "prometheus": {
                "image": image(&images.prometheus),
                "nodePort": port::PROMETHEUS,
                "alsoScrape": [TESTS_NAMESPACE],
            },
        },
    })
}

fn upgrade(paths: &Paths, cluster: &Cluster, images: &Images) -> Result<()> {
    write_if_changed(&values_file(paths), &serde_json::to_vec_pretty(&values(cluster, images))?)?;
    helm(paths, cluster, None)
}

/// The installation as it is, with other values for some things until it is
/// configured or brought up the next time.
pub(crate) fn configure(paths: &Paths, cluster: &Cluster, changes: &Value) -> Result<()> {
    let file = tempfile::NamedTempFile::new().context("no room for values")?;
    fs::write(file.path(), serde_json::to_vec(changes)?)
        .with_context(|| format!("cannot write {}", file.path().display()))?;
    helm(paths, cluster, Some(file.path()))?;
    rolled_out(cluster, CONSUMERS)
}

/// The file of the chart's values that `up` used.
fn values_file(paths: &Paths) -> PathBuf {
    paths.state.join("values.json")
}

fn helm(paths: &Paths, cluster: &Cluster, changes: Option<&Path>) -> Result<()> {
    // An upgrade that was interrupted leaves a record that locks the release.
    exec::output(cluster.kubectl().args([
        "delete",
        "secret",
        "-n",
        NAMESPACE,
        "--ignore-not-found",
        "-l",
        "owner=helm,name=monthend,status in (pending-install,pending-upgrade,pending-rollback)",
    ]))?;
    exec::run(
        cluster
            .helm()
            .args(["upgrade", "--install", NAME])
            .arg(paths.repo.join("charts/monthend"))
            .args(["--namespace", NAMESPACE])
            .args(
                [Some(values_file(paths).as_path()), changes]
                    .into_iter()
                    .flatten()
                    .flat_map(|file| [OsStr::new("--values"), file.as_os_str()]),
            ),
        &paths.log("helm"),
    )
}

/// Waits for a workload; when it isn't to be, says what its pods say.
fn rolled_out(cluster: &Cluster, workload: &str) -> Result<()> {
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    let result =
        exec::output(cluster.kubectl().args(["rollout", "status", workload, "-n", NAMESPACE, &timeout]));
    match result {
        Ok(_) => Ok(()),
        Err(error) => {
            interrupt::check()?;
            Err(error).with_context(|| {
                format!(
                    "{workload} is not ready after {}\n{}\nlook with: eval \"$(cargo xtask env)\"; \
                     kubectl get pods,events -n {NAMESPACE}",
                    seconds(PATIENCE),
                    diagnosis(cluster)
                )
            })
        }
    }
}

/// What pods that aren't well have to say.
pub(crate) fn diagnosis(cluster: &Cluster) -> String {
    let ask = |args: &[&str]| {
        exec::output(cluster.kubectl().args(["-n", NAMESPACE]).args(args))
            .unwrap_or_else(|error| format!("{error:#}"))
    };
    let mut text = ask(&["get", "pods", "-o", "wide"]);
    let unready = ask(&[
        "get",
        "pods",
        "-o",
        r#"jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.containerStatuses[*].ready}{"\n"}{end}"#,
    ]);
    for line in unready.lines() {
        let mut words = line.split(' ');
        let (Some(pod), Some(phase)) = (words.next(), words.next()) else { continue };
        if phase == "Succeeded" || words.all(|ready| ready == "true") {
            continue;
        }
        text.push_str(&format!("\n── {pod}\n{}", ask(&["logs", pod, "--all-containers", "--tail=15"])));
    }
    let events = ask(&["get", "events", "--field-selector", "type!=Normal", "--sort-by", ".lastTimestamp"]);
    let recent: Vec<&str> = events.lines().rev().take(8).collect();
    text.push_str("\n── events\n");
    text.push_str(&recent.into_iter().rev().collect::<Vec<_>>().join("\n"));
    text
}

/// What a shell on this machine needs to work with the cluster.
pub(crate) fn environment(paths: &Paths, cluster: &Cluster) -> Result<Vec<(&'static str, String)>> {
    let database = secret(cluster, DATABASE_SECRET)?;
    let password = |role: &str| -> Result<String> {
        let name = format!("{role}-password");
        let bytes = database
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, bytes)| bytes.clone())
            .with_context(|| format!("Secret {DATABASE_SECRET} has no {name}"))?;
        String::from_utf8(bytes).with_context(|| format!("{name} is no text"))
    };
    let url = |role: &str| -> Result<String> {
        let password = password(role)?;
        Ok(format!("postgres://monthend_{role}:{password}@127.0.0.1:{}/{DATABASE}", port::POSTGRESQL))
    };
    let keys = write_keys(paths, cluster)?;
    let profile = cluster.record.profile.as_deref().unwrap_or("release");
    let folders = [profile_folder(paths, profile), cluster.tools.bin.clone()];
    let old = std::env::var_os("PATH").unwrap_or_default();
    let known: Vec<PathBuf> = std::env::split_paths(&old).collect();
    let path = std::env::join_paths(
        folders.iter().cloned().chain(known.into_iter().filter(|folder| !folders.contains(folder))),
    )
    .context("PATH can't hold our folders")?;
    let superuser = password("superuser")?;
    let mut variables = vec![
        ("KUBECONFIG", paths.kubeconfig().to_string_lossy().into_owned()),
        ("KUBECACHEDIR", paths.kube_cache().to_string_lossy().into_owned()),
        ("DATABASE_URL", url("worker")?),
        ("MONTHEND_MIGRATE_URL", url("migrate")?),
        ("MONTHEND_OPERATOR_URL", url("operator")?),
        (
            "MONTHEND_SUPERUSER_URL",
            format!("postgres://postgres:{superuser}@127.0.0.1:{}/{DATABASE}", port::POSTGRESQL),
        ),
        ("KAFKA_BROKERS", format!("127.0.0.1:{}", port::KAFKA)),
        ("MONTHEND_SMTP", format!("127.0.0.1:{}", port::SMTP)),
        ("MONTHEND_MAIL_URL", mail_url()),
        ("MONTHEND_PROMETHEUS_URL", prometheus_url()),
        ("MONTHEND_KEYS_DIR", keys.to_string_lossy().into_owned()),
        ("MONTHEND_NAMESPACE", NAMESPACE.to_owned()),
        ("PATH", path.to_string_lossy().into_owned()),
    ];
    // Where docker does not find the cluster's engine by itself.
    variables.extend(cluster.engine().host().map(|host| ("DOCKER_HOST", host)));
    Ok(variables)
}

/// The page of the mail server.
pub(crate) fn mail_url() -> String {
    format!("http://127.0.0.1:{}", port::MAIL)
}

pub(crate) fn prometheus_url() -> String {
    format!("http://127.0.0.1:{}", port::PROMETHEUS)
}

/// The keys as the worker on this machine wants them: a private folder.
fn write_keys(paths: &Paths, cluster: &Cluster) -> Result<PathBuf> {
    let folder = paths.keys();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot protect {}", folder.display()))?;
    for (name, bytes) in secret(cluster, ENCRYPTION_SECRET)? {
        write_if_changed(&folder.join(name), &bytes)?;
    }
    Ok(folder)
}

/// The entries of a Secret.
fn secret(cluster: &Cluster, name: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let text =
        exec::output(cluster.kubectl().args(["get", "secret", name, "-n", NAMESPACE, "-o", "json"]))
            .with_context(|| format!("cannot read Secret {name}: is the cluster up? (`cargo xtask up`)"))?;
    let secret: Value = serde_json::from_str(&text)?;
    let entries = secret["data"].as_object().with_context(|| format!("Secret {name} is empty"))?;
    entries
        .iter()
        .map(|(key, value)| {
            let text = value.as_str().with_context(|| format!("entry {key} of Secret {name} is no text"))?;
            Ok((key.clone(), STANDARD.decode(text)?))
        })
        .collect()
}

/// Lines for `eval`.
pub(crate) fn exports(variables: &[(&'static str, String)]) -> String {
    variables.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect()
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_exported() {
        let value = r#"it's $HOME "and" `more`"#;
        let script = format!("{}printf %s \"$GREETING\"", exports(&[("GREETING", value.to_owned())]));
        let read = exec::output(Command::new("sh").args(["-c", &script])).unwrap();
        assert_eq!(read, value);
    }

    #[test]
    fn passwords_differ_and_need_no_quoting() {
        let (one, other) = (random_password().unwrap(), random_password().unwrap());
        assert_ne!(one, other);
        assert!(one.len() == 48 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
    }
}
