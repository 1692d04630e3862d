//! Personal data and amounts stay in the database: no log, Event, status, metric or Kafka message
//! shows them.

use anyhow::{Context as _, Result, bail, ensure};
use e2e::data::{self, Cohort};
use e2e::installation::Installation;
use e2e::notifications::members_with;
use e2e::suite::Suite;
use e2e::{cluster, delivery_audit, kafka};
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};

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

    plant(installation).await?;
    let mut texts = objects(installation, "CompletedWithFailures").await?;
    texts.extend(other_texts(installation).await?);
    for (place, text) in &texts {
        ensure!(text.len() > 20, "{place} is empty");
    }
    ensure_absent(&texts, &canaries)
}

/// A text that can be read without the encryption keys: its place and its content.
type Text = (String, String);

const EVENTS: &str = "the list of Events";
/// What a scan must find: it is in an Event of the test's own, and has characters that JSON escapes.
const PLANTED: &str = "<i>Planted & \"planted\" planted@canary.test";

/// Creates the Event with [`PLANTED`].
async fn plant(installation: &Installation) -> Result<()> {
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": "planted", "namespace": installation.namespace},
        "involvedObject": {
            "apiVersion": "monthend.dev/v1alpha1", "kind": "NotificationRun",
            "name": "privacy", "namespace": installation.namespace,
        },
        "type": "Normal", "reason": "Planted", "message": PLANTED,
    });
    cluster::apply_typed::<Event>(&installation.client, &installation.namespace, &event).await
}

/// Fails if a text contains one of the words, or if the scan does not find the one that was planted.
fn ensure_absent(texts: &[Text], words: &[String]) -> Result<()> {
    let find = |word: &str| texts.iter().find_map(|(place, text)| Some((place, text, text.find(word)?)));
    let planted = find(PLANTED).map(|(place, ..)| place.as_str());
    ensure!(
        planted == Some(EVENTS),
        "the scan finds `{PLANTED}` in {planted:?}, not in {EVENTS}: it would not find personal data either"
    );
    for word in words {
        if let Some((place, text, at)) = find(word) {
            let before: String =
                text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
            bail!("{place} contains `{word}`, after:\n{before}");
        }
    }
    Ok(())
}

/// The objects of the API server; at least one run must be in this phase.
async fn objects(installation: &Installation, phase: &str) -> Result<Vec<Text>> {
    let read = async |kinds| {
        let listed = installation.kubectl(&["get", kinds, "-o", "json"]).await?;
        let mut text = String::new();
        append_values(&serde_json::from_str(&listed)?, &mut text);
        anyhow::Ok(text)
    };
    let runs = read("brun,nrun").await?;
    ensure!(runs.contains(&format!("phase {phase}\n")), "no run that was read is {phase}");
    Ok(vec![
        (EVENTS.to_owned(), read("events").await?),
        ("the runs and their status".to_owned(), runs),
        // The price book and the templates are included; they contain no personal data.
        ("another object".to_owned(), read("jobs,pods,deployments,configmaps").await?),
    ])
}

/// All names and values, as they are before JSON escapes characters of them.
fn append_values(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                *text += name;
                *text += " ";
                append_values(value, text);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| append_values(value, text)),
        Value::String(value) => {
            *text += value;
            *text += "\n";
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => *text += &format!("{value}\n"),
    }
}

/// Logs, metrics, topics and tables.
async fn other_texts(installation: &Installation) -> Result<Vec<Text>> {
    let mut read = Vec::new();
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
    // A BillingRun with a full status: it bills a live month again and waits for approval.
    let month = Cohort::of(20).month;
    installation.ensure_billed(&month).await?;
    let live: i32 =
        sqlx::query_scalar("select max(revision) from revision where month = $1 and state = 'LIVE'")
            .bind(&month)
            .fetch_one(&installation.pool)
            .await?;
    let rebill = json!({"ofRevision": live, "reason": "to read its status"});
    installation
        .apply_run("privacy-again", &month, json!({"rebill": rebill, "approvalPolicy": "Manual"}))
        .await?;
    installation.wait_for_phase("privacy-again", "AwaitingApproval").await?;

    plant(installation).await?;
    let mut texts = objects(installation, "AwaitingApproval").await?;
    for pod in cluster::pods(&installation.client, &installation.namespace, "app.kubernetes.io/name=monthend")
        .await?
    {
        let name = cluster::pod_name(&pod);
        let log = cluster::log_tail(&installation.client, &installation.namespace, &name, 100_000).await;
        texts.push((format!("the log of {name}"), log));
    }
    texts.push(("the operator's metrics".to_owned(), installation.operator_get("metrics").await?));
    let jobs: Vec<String> = sqlx::query_scalar("select row_to_json(j)::text from job_log j")
        .fetch_all(&installation.pool)
        .await?;
    texts.push(("table job_log".to_owned(), jobs.concat()));
    let billing = texts.iter().any(|(_, text)| text.contains("BillingRun") || text.contains("BILLING"));
    ensure!(billing, "the texts mention no billing run");
    // One value each of an address, a name and a phone number of the data set.
    ensure_absent(&texts, &["@example.com", "Member 12", "010-0012"].map(str::to_owned))?;
    let plain: i64 = sqlx::query_scalar(
        "select count(*) from member where position('example.com'::bytea in email) > 0 or position('Member'::bytea in name) > 0",
    )
    .fetch_one(&installation.pool)
    .await?;
    ensure!(plain == 0, "the database has {plain} members in plain text");
    Ok(())
}
