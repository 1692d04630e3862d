//! The Helm chart: which values it rejects, what it renders, and what an upgrade changes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use e2e::data;
use e2e::environment::workspace;
use e2e::installation::Installation;
use e2e::shell::{self, path};
use e2e::suite::Suite;
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("the_chart_passes_lint_and_a_server_side_dry_run", lint_and_dry_run);
    suite.scenario("the_chart_rejects_invalid_values", rejects_invalid_values);
    suite.scenario("helm_test_passes", helm_test);
    suite.scenario("an_upgrade_without_a_relevant_change_runs_no_migration", upgrade_without_change);
    suite.scenario("an_upgrade_replaces_the_crds_and_keeps_the_runs", upgrade_of_crds);
}

fn chart() -> String {
    workspace("charts/monthend").to_string_lossy().into_owned()
}

async fn lint_and_dry_run(installation: &Installation) -> Result<()> {
    let mut variants = 0;
    for entry in fs::read_dir(workspace("charts/monthend/ci"))? {
        let values = entry?.path();
        let values = path(&values)?;
        let linted = shell::run(&["helm", "lint", "--strict", &chart(), "-f", values], &[], None).await?;
        ensure!(linted.contains("0 chart(s) failed"), "{linted}");
        // Leaves out what a dry run would reject: the service account of `helm test` does not exist yet,
        // the node ports are taken, and this cluster has neither KEDA nor the Prometheus operator.
        let no_ports = [
            "devStack.postgresql.nodePort=null",
            "devStack.kafka.nodePort=null",
            "devStack.mail.nodePort=null",
            "devStack.mail.smtpNodePort=null",
            "devStack.prometheus.nodePort=null",
        ]
        .join(",");
        let chart = chart();
        let template = ["helm", "template", "other", &chart, "-n", &installation.namespace, "-f", values];
        let template = [template.as_slice(), &["--skip-tests", "--set", &no_ports]].concat();
        let rendered = shell::run(&template, &[], None).await?;
        let (keda, rendered): (Vec<&str>, Vec<&str>) =
            rendered.split("\n---\n").partition(|document| document.contains("apiVersion: keda.sh/"));
        let rendered: Vec<&str> = rendered
            .into_iter()
            .filter(|document| !document.contains("apiVersion: monitoring.coreos.com/"))
            .collect();
        let rendered = rendered.join("\n---\n");
        // Either the operator or KEDA scales the consumers, never both.
        let labelled = rendered.contains("monthend.dev/scale-on-lag:");
        ensure!(
            labelled == keda.is_empty(),
            "{values}: the label is set: {labelled}, KEDA objects: {}",
            keda.len()
        );
        let dry_run = ["--dry-run=server", "--server-side", "--force-conflicts", "-f", "-"];
        let apply = [["kubectl", "-n", &installation.namespace, "apply"].as_slice(), &dry_run].concat();
        let accepted = shell::run(&apply, &[], Some(&rendered))
            .await
            .with_context(|| format!("dry run of the chart with {values}"))?;
        for kind in [
            "customresourcedefinition",
            "deployment.apps/other-monthend-operator",
            "deployment.apps/other-monthend-notify",
            "configmap/other-monthend-templates",
            "poddisruptionbudget.policy/other-monthend-notify",
            "job.batch",
            "role.rbac",
            "clusterrole.rbac.authorization.k8s.io/monthend.dev:edit",
            "job.batch/other-monthend-release",
            "service/",
        ] {
            ensure!(accepted.contains(kind), "{kind} is not rendered with {values}:\n{accepted}");
        }
        variants += 1;
    }
    ensure!(variants >= 3, "only {variants} value files in charts/monthend/ci");
    Ok(())
}

async fn rejects_invalid_values(_: &Installation) -> Result<()> {
    let valid = [
        "timeZone=Asia/Seoul",
        "currency=KRW",
        "database.existingSecret=d",
        "encryption.existingSecret=e",
        "kafka.brokers=kafka:9092",
        "notify.transport=smtp://mail:25",
    ];
    let mut unexpected = Vec::new();
    for (set, message) in [
        (
            "timeZone=",
            "timeZone is not set: name the time zone of billing months, e.g. --set timeZone=Asia/Seoul",
        ),
        ("currency=", "currency is not set: name the ISO 4217 code of every amount, e.g. --set currency=KRW"),
        (
            "database.existingSecret=",
            "database.existingSecret is not set: name a Secret of this namespace with the keys migrate-url, operator-url and worker-url",
        ),
        (
            "encryption.existingSecret=",
            "encryption.existingSecret is not set: name a Secret of this namespace with an entry for each key id",
        ),
        (
            "kafka.brokers=",
            "kafka.brokers is not set: name Kafka's brokers as HOST:PORT, separated by commas",
        ),
        (
            "notify.transport=",
            "notify.transport is not set: name the mail server, e.g. --set notify.transport=smtp://mail.example.com:587",
        ),
        (
            "kafka.dlqTopic=monthend.notices",
            "kafka.topic and kafka.dlqTopic are both monthend.notices: name another topic for the messages that no consumer can use",
        ),
        (
            "notify.scaling.minReplicas=7",
            "notify.scaling.minReplicas (7) is above notify.scaling.maxReplicas (6): lower the first or raise the second",
        ),
        (
            "load.enabled=true",
            "load.volume is not set: name the volume with the files to load as in a pod, e.g. --set load.volume.persistentVolumeClaim.claimName=billing-files",
        ),
        (
            "load.enabled=true,load.volume.persistentVolumeClaim.claimName=a",
            "load.rejectsVolume is not set: name the volume for rejected lines as in a pod",
        ),
        ("load.schedule=daily", "at '/load/schedule': 'daily' does not match pattern"),
        ("load.path=/data", "at '/load/path': '/data' does not match pattern"),
        ("load.volume.name=a", "at '/load/volume': 'not' failed"),
        ("kafka.brokers=kafka", "at '/kafka/brokers': 'kafka' does not match pattern"),
        ("kafka.topic=a b", "at '/kafka/topic': 'a b' does not match pattern"),
        ("kafka.partitions=0", "at '/kafka/partitions': minimum: got 0, want 1"),
        ("kafka.retentionHours=1", "at '/kafka/retentionHours': minimum: got 1, want 24"),
        (
            "notify.transport=smtp://me:secret@mail:25",
            "at '/notify/transport': 'smtp://me:secret@mail:25' does not match pattern",
        ),
        ("notify.transport=http://mail", "at '/notify/transport': 'http://mail' does not match pattern"),
        ("notify.from=Billing", "at '/notify/from': 'Billing' does not match pattern"),
        ("notify.leaseSeconds=5", "at '/notify/leaseSeconds': minimum: got 5, want 60"),
        ("notify.scaling.by=hpa", "at '/notify/scaling/by': value must be one of 'operator', 'keda'"),
        ("notify.scaling.lagPerReplica=0", "at '/notify/scaling/lagPerReplica': minimum: got 0, want 1"),
        ("notify.replicas=3", "at '/notify': additional properties 'replicas' not allowed"),
        ("currency=won", "at '/currency': 'won' does not match pattern"),
        ("timeZone=Asia Seoul", "at '/timeZone': 'Asia Seoul' does not match pattern"),
        ("locale=x!", "at '/locale': 'x!' does not match pattern"),
        ("operator.replicas=-1", "at '/operator/replicas': minimum: got -1, want 0"),
        ("operator.replica=2", "at '/operator': additional properties 'replica' not allowed"),
        (
            "image.pullPolicy=Sometimes",
            "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
        ),
        (
            "worker.resources.limits.memory=lots",
            "at '/worker/resources/limits/memory': 'lots' does not match pattern",
        ),
        (
            "devStack.postgresql.nodePort=80",
            "at '/devStack/postgresql/nodePort': minimum: got 80, want 30,000",
        ),
        (
            "schedule.enabled=true",
            "schedule.billing.priceBookRef.name is not set: name the ConfigMap with the price book that every month is billed with",
        ),
        ("schedule.billing.month=2026-10", "at '/schedule/billing/month': false schema"),
        ("schedule.catchUpMonths=25", "at '/schedule/catchUpMonths': maximum: got 25, want 24"),
        ("devStack.enabled=maybe", "at '/devStack/enabled': got string, want boolean"),
    ] {
        let chart = chart();
        let mut command = vec!["helm", "template", "m", chart.as_str()];
        for value in valid.iter().chain([&set]) {
            command.extend(["--set", value]);
        }
        let output = shell::capture(&command, &[], None).await?;
        if output.code == Some(0) || !output.stderr.contains(message) {
            unexpected.push(format!("{set}\n  wanted: {message}\n  got:    {}", output.stderr));
        }
    }
    ensure!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    Ok(())
}

async fn helm_test(installation: &Installation) -> Result<()> {
    let output = shell::run(
        &["helm", "-n", &installation.namespace, "test", "monthend", "--timeout", "120s"],
        &[],
        None,
    )
    .await?;
    ensure!(output.contains("Phase:          Succeeded"), "{output}");
    let notes =
        shell::run(&["helm", "-n", &installation.namespace, "get", "notes", "monthend"], &[], None).await?;
    ensure!(notes.contains("kind: BillingRun") && notes.contains(data::TIME_ZONE), "{notes}");
    Ok(())
}

async fn migrations(installation: &Installation) -> Result<Vec<String>> {
    let jobs = installation
        .kubectl(&["get", "job", "-l", "app.kubernetes.io/component=migrate", "-o", "json"])
        .await?;
    let jobs: Value = serde_json::from_str(&jobs)?;
    let names = jobs["items"].as_array().into_iter().flatten().map(|job| job["metadata"]["uid"].to_string());
    Ok(names.collect())
}

async fn upgrade_without_change(installation: &Installation) -> Result<()> {
    let before = migrations(installation).await?;
    ensure!(before.len() == 1, "{} migration Jobs", before.len());
    installation.helm_upgrade(&json!({"operator": {"log": "debug"}})).await?;
    ensure!(
        migrations(installation).await? == before,
        "a change of the operator's log level ran the migration again"
    );
    installation.helm_upgrade(&json!({"locale": "en"})).await?;
    let other = migrations(installation).await?;
    ensure!(other.len() == 1 && other != before, "a change of the migration's arguments created no new Job");
    installation.helm_upgrade(&json!({})).await
}

/// The development release owns the CRDs. It is set back to an older chart, whose CRD has another
/// column name, and then upgraded.
async fn upgrade_of_crds(installation: &Installation) -> Result<()> {
    installation
        .apply_run("before-upgrade", &data::month(0), json!({"priceBookRef": {"name": "not-there"}}))
        .await?;
    let uid = installation.billing_runs().api.get("before-upgrade").await?.metadata.uid;

    let folder = tempfile::tempdir()?;
    let older = folder.path().join("monthend");
    copy(&workspace("charts/monthend"), &older)?;
    let crd = older.join("files/crds/billingruns.monthend.dev.yaml");
    let text = fs::read_to_string(&crd)?;
    ensure!(text.contains(r#"name: "ETA""#), "the CRD has no column ETA");
    fs::write(&crd, text.replace(r#"name: "ETA""#, r#"name: "OLDER""#))?;

    upgrade_development(installation, &older).await?;
    ensure!(columns(installation).await?.contains("OLDER"), "the older CRD was not installed");
    upgrade_development(installation, &workspace("charts/monthend")).await?;
    let now = columns(installation).await?;
    ensure!(now.contains("ETA") && !now.contains("OLDER"), "the CRD was not upgraded: {now}");
    ensure!(
        installation.billing_runs().api.get("before-upgrade").await?.metadata.uid == uid,
        "the run did not survive the upgrade"
    );
    let kept = installation
        .kubectl(&["get", "crd", "billingruns.monthend.dev", "-o", "jsonpath={.metadata.annotations}"])
        .await?;
    ensure!(
        kept.contains(r#""helm.sh/resource-policy":"keep""#),
        "`helm uninstall` would delete every run: {kept}"
    );
    Ok(())
}

async fn columns(installation: &Installation) -> Result<String> {
    let path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}";
    installation.kubectl(&["get", "crd", "billingruns.monthend.dev", "-o", path]).await
}

async fn upgrade_development(installation: &Installation, chart: &Path) -> Result<()> {
    let (namespace, release) =
        (installation.environment.namespace.as_str(), installation.environment.release.as_str());
    let command = [
        "helm",
        "-n",
        namespace,
        "upgrade",
        release,
        path(chart)?,
        "--reuse-values",
        "--wait",
        "--timeout",
        "180s",
    ];
    shell::run(&command, &[], None).await.map(drop)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().context("copy the chart")?;
    ensure!(status.success(), "copy the chart: {status}");
    Ok(())
}
