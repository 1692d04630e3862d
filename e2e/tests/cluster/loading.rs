//! Loads in the cluster, by the Job of the example: files on a volume that nobody can write to,
//! under the `restricted` Pod Security profile.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster;
use e2e::data;
use e2e::environment::workspace;
use e2e::installation::Installation;
use e2e::shell::{self, path};
use e2e::suite::Suite;
use e2e::wait;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
const FILES: &str = "files-to-load";

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_job_loads_from_a_read_only_volume_and_only_a_reject_needs_another", load_in_a_job);
}

/// The Job of examples/load-job.yaml for this installation, with the files of the ConfigMap.
async fn job(installation: &Installation, name: &str, arguments: Value, rejects: Value) -> Result<Value> {
    let example = workspace("examples/load-job.yaml");
    let convert = ["kubectl", "create", "--dry-run=client", "-o", "json", "-f", path(&example)?];
    let mut job: Value = serde_json::from_str(&shell::run(&convert, &[], None).await?)?;
    job["metadata"] = json!({ "name": name });
    let image = &installation.image;
    let pod = &mut job["spec"]["template"]["spec"];
    let container = &mut pod["containers"][0];
    container["image"] = json!(format!(
        "{}:{}",
        image["repository"].as_str().context("the image has no repository")?,
        image["tag"].as_str().context("the image has no tag")?
    ));
    container["args"] = arguments;
    container["env"][0]["valueFrom"]["secretKeyRef"]["name"] = json!("database");
    let named = |volume: Value, name: &str| {
        let mut volume = volume;
        volume["name"] = json!(name);
        volume
    };
    pod["volumes"] = json!([
        { "name": "files", "configMap": { "name": FILES } },
        named(rejects, "rejects"),
        { "name": "keys", "secret": { "secretName": "encryption", "defaultMode": 288 } },
    ]);
    Ok(job)
}

/// Runs a Job to its end. Returns the exit code of its only pod, and what it wrote.
async fn run(installation: &Installation, job: &Value) -> Result<(i32, String)> {
    let name = job["metadata"]["name"].as_str().context("the Job has no name")?;
    installation.kubectl_apply(&job.to_string(), &[]).await?;
    let selector = format!("batch.kubernetes.io/job-name={name}");
    let (pod, code) = wait::until(&format!("{name} to end"), LIMIT, async || {
        let pods = cluster::pods(&installation.client, &installation.namespace, &selector).await?;
        Ok(pods.iter().find_map(|pod| exit_code(pod).map(|code| (cluster::pod_name(pod), code))))
    })
    .await?;
    let log = installation.kubectl(&["logs", &pod]).await?;
    installation.kubectl(&["delete", "job", name, "--cascade=foreground"]).await?;
    Ok((code, log))
}

fn exit_code(pod: &Pod) -> Option<i32> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    Some(containers.first()?.state.as_ref()?.terminated.as_ref()?.exit_code)
}

async fn put_files(installation: &Installation, adjustment: &str) -> Result<()> {
    let line = format!("{adjustment},{},2023-10,LOADED_IN_A_JOB,-1,test", data::member_id(5));
    let files = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": FILES },
        "data": { "adjustments.csv": format!("adjustment_id,member_id,month,code,amount,reason\n{line}\n") },
    });
    installation.kubectl_apply(&files.to_string(), &[]).await.map(drop)
}

async fn load_in_a_job(installation: &Installation) -> Result<()> {
    let in_place = json!(["load", "/files"]);
    let beside = json!(["load", "/files", "--rejects-dir", "/rejects/$(POD_NAME)"]);
    let empty = json!({ "emptyDir": {} });

    put_files(installation, "900000000001").await?;
    let whole = job(installation, "load-whole", in_place.clone(), empty.clone()).await?;
    let (code, log) = run(installation, &whole).await?;
    ensure!(code == 0 && log.contains(" is finished ("), "the load ended with {code}\n{log}");
    let loaded = sqlx::query_scalar("select count(*) from adjustment where code = 'LOADED_IN_A_JOB'");
    let loaded: i64 = loaded.fetch_one(&installation.pool).await?;
    ensure!(loaded == 1, "{loaded} adjustments were loaded");

    put_files(installation, "0").await?;
    let nowhere = job(installation, "load-nowhere", in_place, empty.clone()).await?;
    let (code, log) = run(installation, &nowhere).await?;
    ensure!(
        code == 2 && log.contains("name a folder that can be written to with --rejects-dir"),
        "the load without a folder for its reject ended with {code}\n{log}"
    );

    let rejecting = job(installation, "load-rejecting", beside, empty).await?;
    let (code, log) = run(installation, &rejecting).await?;
    ensure!(
        code == 3 && log.contains("1 lines were rejected: see *.rejects.csv in /rejects/load-rejecting-"),
        "the load with a reject ended with {code}\n{log}"
    );
    installation.kubectl(&["delete", "configmap", FILES]).await.map(drop)
}
