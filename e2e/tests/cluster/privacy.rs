//! Personal data and amounts stay in the database: no log, Event, status, metric or Kafka message
//! shows them.

use anyhow::{Context as _, Result, bail, ensure};
use e2e::data::{self, Cohort};
use e2e::installation::Installation;
use e2e::notifications::members_with;
use e2e::suite::Suite;
use e2e::{cluster, delivery_audit, kafka};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("names_addresses_and_amounts_are_only_in_the_database", nothing_leaks);
    suite.scenario("personal_data_is_in_no_log_event_or_status", no_personal_data);
}

async fn nothing_leaks(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(20);
    installation.helm_upgrade(&json!({"operator": {"log": "trace"}, "notify": {"log": "trace"}})).await?;
    // Mail servers quote the address of a rejected recipient.
    installation.mail
        .set_rules(&[
            json!({"at": "RCPT", "to": "^m[0-9]*2@", "reply": "550 5.1.1 <{to}> unknown, {to} has no mailbox here"}),
            json!({"at": "BODY", "to": "^m[0-9]*3@", "first": 1, "reply": "451 4.7.1 {to} is full"}),
            json!({"at": "REPLY", "to": "^m[0-9]*15@", "drop": true}),
        ])
        .await?;
    installation.notify("privacy-rehearsal", &cohort, json!({"rehearsal": true})).await?;
    installation.wait_until_finished("privacy-rehearsal").await?;
    installation.notify("privacy", &cohort, json!({})).await?;
    let (_, targets) = installation.wait_until_finished("privacy").await?;
    ensure!(members_with(&targets, "FAILED").len() > 20, "too few targets were rejected");
    ensure!(!members_with(&targets, "UNKNOWN").is_empty(), "no target is UNKNOWN");

    let member = i64::try_from(data::member_id(data::MEMBERS_WITH_LARGE_BILL.offset))?;
    let bills = installation.bills(&cohort).await?;
    let (_, total) =
        bills.iter().find(|(id, _)| *id == member).context("the member with the large bill has no bill")?;
    ensure!(*total > data::LARGE_ADJUSTMENT / 2, "the large bill is only {total}");
    let amounts = [*total, data::LARGE_ADJUSTMENT]
        .into_iter()
        .flat_map(|amount| [amount.to_string(), delivery_audit::with_separators(amount)]);
    let mut canaries: Vec<String> =
        ["@example.com", "Member 12", "<b>Ann", "010-0012"].map(str::to_owned).into();
    canaries.extend(amounts);

    for (place, text) in readable_texts(installation).await? {
        ensure!(text.len() > 20, "{place} is empty");
        for canary in &canaries {
            if let Some(at) = text.find(canary) {
                let before: String =
                    text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                bail!("{place} contains `{canary}`, after:\n{before}");
            }
        }
    }
    Ok(())
}

/// Every text that can be read without the encryption keys: its place and its content.
async fn readable_texts(installation: &Installation) -> Result<Vec<(String, String)>> {
    let mut read = Vec::new();
    let objects = installation
        .kubectl(&["get", "nrun,brun,events,jobs,pods,deployments,configmaps", "-o", "json"])
        .await?;
    // The price book and the templates are included; they contain no personal data.
    read.push(("the API server".to_owned(), objects));
    let mut at_trace = 0;
    for pod in cluster::pods(&installation.client, &installation.namespace, "app.kubernetes.io/name=monthend")
        .await?
    {
        let name = cluster::pod_name(&pod);
        let log = cluster::log_tail(&installation.client, &installation.namespace, &name, 1_000_000).await;
        at_trace += usize::from(log.contains("TRACE"));
        read.push((format!("the log of {name}"), log + &" ".repeat(20)));
        if name.contains("notify-") && cluster::is_running(&pod) {
            let path =
                format!("/api/v1/namespaces/{}/pods/{name}:8080/proxy/metrics", installation.namespace);
            read.push((
                format!("the metrics of {name}"),
                installation.kubectl(&["get", "--raw", &path]).await?,
            ));
        }
    }
    ensure!(at_trace >= 3, "only {at_trace} pods log at TRACE");
    read.push(("the operator's metrics".to_owned(), installation.operator_get("metrics").await?));
    for topic in [kafka::TOPIC, kafka::DLQ] {
        let mut text = " ".repeat(20);
        if installation.kafka.partitions(topic).await? > 0 {
            for record in installation.kafka.read_all(topic).await? {
                text += &format!("{:?} {}\n", record.headers, String::from_utf8_lossy(&record.payload));
            }
        }
        read.push((format!("topic {topic}"), text));
    }
    for table in
        ["job_log", "notice_target", "delivery", "notification", "publication", "consumer", "template_set"]
    {
        let sql = format!("select coalesce(string_agg(row_to_json(t)::text, E'\\n'), '') from {table} t");
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&installation.pool).await?;
        read.push((format!("table {table}"), text));
    }
    Ok(read)
}

async fn no_personal_data(installation: &Installation) -> Result<()> {
    // One value each of an address, a name and a phone number of the data set.
    let canaries = ["@example.com", "Member 12", "010-0012"];
    let mut read = installation.kubectl(&["get", "brun,events,jobs", "-o", "json"]).await?;
    for pod in cluster::pods(&installation.client, &installation.namespace, "app.kubernetes.io/name=monthend")
        .await?
    {
        read += &cluster::log_tail(
            &installation.client,
            &installation.namespace,
            &cluster::pod_name(&pod),
            100_000,
        )
        .await;
    }
    read += &installation.operator_get("metrics").await?;
    let jobs: Vec<String> = sqlx::query_scalar("select row_to_json(j)::text from job_log j")
        .fetch_all(&installation.pool)
        .await?;
    read += &jobs.concat();
    ensure!(read.contains("BillingRun") || read.contains("BILLING"), "the texts mention no billing run");
    for canary in canaries {
        ensure!(!read.contains(canary), "a log, Event, status, metric or job_log row contains `{canary}`");
    }
    let plain: i64 = sqlx::query_scalar(
        "select count(*) from member where position('example.com'::bytea in email) > 0 or position('Member'::bytea in name) > 0",
    )
    .fetch_one(&installation.pool)
    .await?;
    ensure!(plain == 0, "the database has {plain} members in plain text");
    Ok(())
}
