//! `kubectl monthend`: each command, as a person runs it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::installation::Installation;
use e2e::runs::{LIMIT, phase, status};
use e2e::shell::{self, CommandOutput};
use e2e::suite::Suite;
use e2e::{cluster, data, wait};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

/// Before the months of the data set, so that the month is these scenarios'.
const MONTH: &str = "2023-10";
const BOOK: &str = "pricebook-plugin";

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_month_is_operated_with_kubectl_monthend", month);
    suite.scenario("kubectl_monthend_reads_and_loads_in_a_pod_of_the_release", pods);
    suite.scenario("kubectl_monthend_says_what_is_wrong", wrong_uses);
    suite.scenario("kubectl_completes_runs_and_months", completion);
}

/// `kubectl monthend` with these arguments, in the tests' namespace.
async fn plugin(installation: &Installation, arguments: &[&str]) -> Result<CommandOutput> {
    let command: Vec<&str> = ["kubectl", "monthend", "-n", &installation.namespace]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    shell::capture(&command, &[], None).await
}

/// The same with this exit code. Returns both outputs as one text.
async fn ends(installation: &Installation, arguments: &[&str], code: i32) -> Result<String> {
    let output = plugin(installation, arguments).await?;
    ensure!(
        output.code == Some(code),
        "`kubectl monthend {}` ended with {:?}, not {code}\n{}{}",
        arguments.join(" "),
        output.code,
        output.stdout,
        output.stderr
    );
    Ok(output.stdout + &output.stderr)
}

fn has(text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "`{part}` is not in:\n{text}");
    Ok(())
}

/// The price book of the data set, with another fee.
async fn put_book(installation: &Installation, base_fee: &str) -> Result<()> {
    let book = data::PRICE_BOOK.replace("baseFee: 33000", &format!("baseFee: {base_fee}"));
    installation.put_price_book(BOOK, &book).await
}

async fn live_bills(installation: &Installation) -> Result<i64> {
    let bills = sqlx::query_scalar("select count(*) from live_bill where month = $1").bind(MONTH);
    Ok(bills.fetch_one(&installation.pool).await?)
}

async fn month(installation: &Installation) -> Result<()> {
    let user = installation.user().await?;
    put_book(installation, "33000").await?;

    // A dry run prints what would be created, and creates nothing.
    let bill = ["bill", MONTH, "--price-book", BOOK, "--manual", "--shards", "4"];
    let printed = ends(installation, &[&bill[..], &["--dry-run"]].concat(), 0).await?;
    has(&printed, "name: billing-2023-10")?;
    let accepted = installation.kubectl_apply(&printed, &["--dry-run=server"]).await?;
    has(&accepted, "billing-2023-10")?;
    ensure!(installation.billing_runs().all().await?.is_empty(), "a dry run created a run");

    // A draft waits: exit code 3.
    let waits = ends(installation, &[&bill[..], &["--wait", "--timeout", "4m"]].concat(), 3).await?;
    has(&waits, "billing-2023-10 waits for approval: kubectl monthend approve billing-2023-10")?;
    let run = installation.billing_runs().get("billing-2023-10").await?;
    let creator = run.metadata.annotations.as_ref().and_then(|all| all.get("monthend.dev/created-by"));
    ensure!(creator == Some(&user), "created by {creator:?}, not {user}");
    let digest = status(&run)["digest"].as_str().context("a draft without a digest")?.to_owned();
    has(&ends(installation, &["diff"], 0).await?, &digest)?;

    // Without a terminal nothing is decided by accident.
    let refused = ends(installation, &["approve"], 2).await?;
    has(&refused, "There is no terminal to answer on: if you are sure, add --yes")?;
    ensure!(live_bills(installation).await? == 0, "a draft that was not approved is live");
    // The name is free when the command has ended.
    ends(installation, &["reject", "--yes"], 0).await?;

    ends(installation, &[&bill[..], &["--wait"]].concat(), 3).await?;
    let approved = ends(installation, &["approve", MONTH, "--yes", "--wait", "--timeout", "2m"], 0).await?;
    has(&approved, &format!("approved by {user}"))?;
    let bills = live_bills(installation).await?;
    ensure!(bills > 0, "the approved draft is not live");
    has(
        &ends(installation, &["bill", MONTH, "--price-book", BOOK], 2).await?,
        "2023-10 is billed: revision",
    )?;

    // Another price book changes bills; the run finds the live revision and the price book itself.
    put_book(installation, "30000").await?;
    let rebill = ["rebill", MONTH, "--reason", "wrong fee", "--yes", "--wait"];
    ends(installation, &rebill, 0).await?;
    // Pods that start after the bills were issued have nothing to do, and do not fail for it.
    let jobs = Api::<Job>::namespaced(installation.client.clone(), &installation.namespace);
    wait::until_true("every worker Job to complete", LIMIT, async || {
        let all = jobs.list(&ListParams::default()).await?;
        let failed = |job: &Job| job.status.as_ref().and_then(|status| status.failed).unwrap_or(0);
        ensure!(all.iter().all(|job| failed(job) == 0), "a pod of a Job failed");
        Ok(all.iter().all(|job| job.status.as_ref().is_some_and(|status| status.completion_time.is_some())))
    })
    .await?;
    let screen = ends(installation, &["status", MONTH], 0).await?;
    for part in ["live: revision", "rebilling-2023-10-r"] {
        has(&screen, part)?;
    }
    let objects: Value =
        serde_json::from_str(&plugin(installation, &["status", MONTH, "-o", "json"]).await?.stdout)?;
    ensure!(objects["items"].as_array().map(Vec::len) == Some(2), "status -o json: {objects}");
    has(&ends(installation, &["diff", MONTH], 0).await?, "PriceBook")?;

    notices(installation).await?;

    // Both revisions are taken back, so that the month ends as it began.
    let back = ["rollback", MONTH, "--reason", "the test is over", "--yes", "--wait"];
    ends(installation, &back, 0).await?;
    ensure!(live_bills(installation).await? > 0, "the first revision does not count again");
    ends(installation, &back, 0).await?;
    ensure!(live_bills(installation).await? == 0, "the month is live after its rollback");
    Ok(())
}

/// Rehearses and sends the bills of two members.
async fn notices(installation: &Installation) -> Result<()> {
    let range = "1-8";
    ends(installation, &["rehearse", MONTH, "--range", range, "--wait"], 0).await?;
    let notify = ["notify", MONTH, "--range", range, "--max-per-second", "1"];
    let created = ends(installation, &notify, 0).await?;
    has(&created, "notificationrun.monthend.dev/notification-2023-10 created")?;
    ends(installation, &["suspend", "notification-2023-10"], 0).await?;
    let run = installation.notification_runs().get("notification-2023-10").await?;
    ensure!(run.data["spec"]["suspend"] == true, "it is not suspended");
    ends(installation, &["resume", "notification-2023-10"], 0).await?;
    ends(installation, &["watch", "notification-2023-10", "--timeout", "4m"], 0).await?;
    let run = installation.notification_runs().get("notification-2023-10").await?;
    ensure!(phase(&run) == "Succeeded" && status(&run)["counts"]["sent"] == 2, "status: {}", status(&run));
    // Nothing has failed: a retry has no targets.
    ends(installation, &["retry", MONTH, "--wait"], 0).await?;
    let question = ends(installation, &["retry", MONTH, "--unknown"], 2).await?;
    has(&question, "may get their bill twice")
}

async fn pods(installation: &Installation) -> Result<()> {
    let folder = tempfile::tempdir().context("create a folder to load")?;
    let rejects = tempfile::tempdir().context("create a folder for rejects")?;
    let usage = format!(
        "usage_id,member_id,kind,quantity,started_at\n\
         plugin-1,{},voice,60,2023-09-05T10:00:00+09:00\nplugin-2,x,voice,60,2023-09-05T10:00:00+09:00\n",
        data::member_id(4)
    );
    fs::write(folder.path().join("usage.csv"), usage).context("write usage.csv")?;
    let (path, rejects_path) = (shell::path(folder.path())?, shell::path(rejects.path())?);
    let loaded = ends(installation, &["load", path, "--rejects-dir", rejects_path], 3).await?;
    has(&loaded, "is finished")?;
    let rejected =
        fs::read_to_string(rejects.path().join("usage.csv.rejects.csv")).context("no rejects came back")?;
    has(&rejected, "plugin-2")?;
    let rows: i64 =
        sqlx::query_scalar("select count(*) from usage where month = '2023-09' and usage_id = 'plugin-1'")
            .fetch_one(&installation.pool)
            .await?;
    ensure!(rows == 1, "{rows} rows of usage were loaded");

    put_book(installation, "33000").await?;
    // A name of its own, as an earlier scenario may have billed the month by a run that is deleted.
    let bill = ["bill", MONTH, "--price-book", BOOK, "--name", "bill-for-pods", "--wait"];
    ends(installation, &bill, 0).await?;
    let member = data::member_id(4).to_string();
    has(&ends(installation, &["explain", &member, MONTH], 0).await?, &member)?;
    ends(installation, &["verify", MONTH], 0).await?;
    ends(installation, &["late", MONTH], 0).await?;
    has(&ends(installation, &["log", MONTH], 0).await?, "BILLING")?;
    let log = plugin(installation, &["log", MONTH, "-o", "json"]).await?;
    serde_json::from_str::<Value>(&log.stdout).with_context(|| format!("log -o json: {}", log.stdout))?;
    ends(installation, &["status", MONTH, "--database"], 0).await?;

    // A run that is gone does not hide the live revision: the database knows it.
    installation.delete_run("bill-for-pods").await?;
    let back = ["rollback", MONTH, "--reason", "the test is over", "--yes", "--wait"];
    has(&ends(installation, &back, 0).await?, "asking the database by a pod")?;

    let left =
        cluster::pods(&installation.client, &installation.namespace, "app.kubernetes.io/component=toolbox");
    let left: Vec<String> = left
        .await?
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(cluster::pod_name)
        .collect();
    ensure!(left.is_empty(), "pods were left: {left:?}");
    Ok(())
}

async fn wrong_uses(installation: &Installation) -> Result<()> {
    let empty = tempfile::tempdir().context("create an empty folder")?;
    let empty = shell::path(empty.path())?;
    for (arguments, code, words) in [
        (&["approve"] as &[&str], 2, "no draft waits for approval"),
        (&["approve", "nobody"], 2, "there is no run nobody: the namespace has none"),
        (&["diff", MONTH], 2, "2023-10 has no billing run: no run is there"),
        (&["watch"], 2, "no run is unfinished: name one, or a month"),
        (&["suspend", "nobody"], 2, "there is no run nobody"),
        (&["bill", "2023-13"], 2, "is not a month from 2000-01 to 2099-12"),
        (&["bill", MONTH], 2, "no run says which price book to use"),
        (&["load", empty], 2, "contains nothing to load"),
        (&["load", "/no/such/folder"], 2, "cannot open the folder /no/such/folder"),
        (&["--context", "nowhere", "status"], 2, "the kubeconfig has no context nowhere"),
        (&["--kubeconfig", "/no/such/file", "status"], 2, "the kubeconfig /no/such/file cannot be read"),
        (&["--release", "another", "late", MONTH], 2, "has no release another: there is monthend"),
        (&["-n", "default", "late", MONTH], 2, "no release of monthend is in namespace default"),
        (&["--as", "lee", "status"], 1, "you may not list "),
        (&["rollback", MONTH, "--reason", "x", "--yes"], 2, "2023-10 has no live revision"),
    ] {
        has(&ends(installation, arguments, code).await?, words)?;
    }
    // What only the operator knows: the run waits, and says for what.
    let future = ["bill", "2099-12", "--price-book", BOOK, "--wait", "--timeout", "5s"];
    let waits = ends(installation, &future, 75).await?;
    has(&waits, "2099-12 is not over before 2100-01-01")?;
    has(&waits, "MonthNotOver")?;
    has(
        &ends(installation, &future, 2).await?,
        "BillingRun billing-2099-12 exists already and is not finished",
    )?;
    has(&ends(installation, &["approve", "2099-12"], 2).await?, "has no draft yet, its phase is Pending")?;
    installation.delete_run("billing-2099-12").await
}

async fn completion(installation: &Installation) -> Result<()> {
    installation.apply_run("for-completion", "2099-11", json!({})).await?;
    let ask = |words: &'static [&'static str]| async move {
        let command: Vec<&str> = ["kubectl-monthend", "__complete", "-n", &installation.namespace]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        shell::run(&command, &[], None).await
    };
    has(&ask(&["watch", "for"]).await?, "for-completion\t2099-11, Pending\n:4\n")?;
    has(&ask(&["status", "2099"]).await?, "2099-11\tmonth\n:4\n")?;
    installation.delete_run("for-completion").await
}
