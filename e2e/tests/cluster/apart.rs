//! What notices must leave alone: the speed of billing, and everybody's privacy. And what the dashboard shows of both.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    cluster,
    data::{self, Slice},
    environment::workspace,
    installation::Installation,
    kafka,
    notices::members_with,
    runs::{LIMIT, over},
    sink,
    suite::Suite,
    wait,
};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("billing_is_as_fast_without_kafka_and_mail", billing_is_as_fast);
    suite.scenario("names_addresses_and_amounts_stay_in_the_database", nothing_leaks);
    suite.scenario("every_expression_of_the_dashboard_has_a_value", dashboard);
}

#[expect(clippy::print_stderr, reason = "a measurement is told")]
async fn billing_is_as_fast(on: &Installation) -> Result<()> {
    let month = data::month(20);
    // The better of two, as this machine has other things to do.
    let bill_twice = async |name: &str| -> Result<Duration> {
        let mut best = Duration::MAX;
        for n in 0..2 {
            let name = format!("{name}-{n}");
            let start = Instant::now();
            on.apply_run(&name, &month, json!({"approvalPolicy": "Manual"})).await?;
            on.reach(&name, "AwaitingApproval").await?;
            best = best.min(start.elapsed());
            on.delete_run(&name).await?;
        }
        Ok(best)
    };
    let with = bill_twice("with").await?;

    on.billed(&Slice::of(21).month).await?;
    on.scale_kafka(0).await?;
    on.mail.go_away().await?;
    on.notify("stuck", &Slice::of(21), json!({})).await?;
    on.notices().says("stuck", "Progressing", "False", "KafkaUnavailable").await?;
    let without = bill_twice("without").await?;
    ensure!(!over(&on.notices().get("stuck").await?), "the notification ended without Kafka and mail");
    let figures = format!("billing took {with:.1?} with Kafka and mail, {without:.1?} without");
    eprintln!("{figures}");
    // A pod may start a little later, and the operator looks every second.
    let allowed = with.mul_f64(1.25) + Duration::from_secs(3);
    ensure!(without <= allowed, "{figures}");

    on.mail.behave(&[]).await?;
    on.scale_kafka(1).await?;
    on.all_sent("stuck").await.map(drop)
}

async fn nothing_leaks(on: &Installation) -> Result<()> {
    let slice = Slice::of(20);
    on.helm_upgrade(&json!({"operator": {"log": "trace"}, "notify": {"log": "trace"}})).await?;
    // Servers quote those whom they refuse.
    on.mail
        .behave(&[
            json!({"at": "RCPT", "to": "^m[0-9]*2@", "reply": "550 5.1.1 <{to}> unknown, {to} never lived here"}),
            json!({"at": "BODY", "to": "^m[0-9]*3@", "first": 1, "reply": "451 4.7.1 {to} is full"}),
            json!({"at": "REPLY", "to": "^m[0-9]*15@", "drop": true}),
        ])
        .await?;
    on.notify("rehearsal-of-secrets", &slice, json!({"rehearsal": true})).await?;
    on.notified("rehearsal-of-secrets").await?;
    on.notify("secrets", &slice, json!({})).await?;
    let (_, targets) = on.notified("secrets").await?;
    ensure!(members_with(&targets, "FAILED").len() > 20, "nobody was refused");
    ensure!(!members_with(&targets, "UNKNOWN").is_empty(), "no connection was dropped");

    let rich = i64::try_from(data::member_id(data::RICH.1))?;
    let bills = on.bills(&slice).await?;
    let (_, total) =
        bills.iter().find(|(member, _)| *member == rich).context("the rich member has no bill")?;
    ensure!(*total > data::RICHES / 2, "the rich member owes {total}");
    let amounts =
        [*total, data::RICHES].into_iter().flat_map(|amount| [amount.to_string(), sink::separated(amount)]);
    let mut canaries: Vec<String> =
        ["@example.com", "Member 12", "<b>Ann", "010-0012"].map(str::to_owned).into();
    canaries.extend(amounts);

    for (place, text) in everything_readable(on).await? {
        ensure!(text.len() > 20, "there was nothing to read in {place}");
        for canary in &canaries {
            if let Some(at) = text.find(canary) {
                let around: String =
                    text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                bail!("`{canary}` can be read in {place}, after:\n{around}");
            }
        }
    }
    Ok(())
}

/// What anyone reads of the installation without the keys, by where it is.
async fn everything_readable(on: &Installation) -> Result<Vec<(String, String)>> {
    let mut read = Vec::new();
    let objects =
        on.kubectl(&["get", "nrun,brun,events,jobs,pods,deployments,configmaps", "-o", "json"]).await?;
    // The price book and the templates are nobody's secret, and have no member in them.
    read.push(("the API server".to_owned(), objects));
    let mut traced = 0;
    for pod in cluster::pods(&on.client, &on.namespace, "app.kubernetes.io/name=monthend").await? {
        let name = cluster::name(&pod);
        let log = cluster::log_tail(&on.client, &on.namespace, &name, 1_000_000).await;
        traced += usize::from(log.contains("TRACE"));
        read.push((format!("the log of {name}"), log + &" ".repeat(20)));
        if name.contains("notify-") && cluster::runs(&pod) {
            let path = format!("/api/v1/namespaces/{}/pods/{name}:8080/proxy/metrics", on.namespace);
            read.push((format!("the metrics of {name}"), on.kubectl(&["get", "--raw", &path]).await?));
        }
    }
    ensure!(traced >= 3, "only {traced} pods log at TRACE");
    read.push(("the operator's metrics".to_owned(), on.operator_says("metrics").await?));
    for topic in [kafka::TOPIC, kafka::DLQ] {
        let mut text = " ".repeat(20);
        if on.kafka.partitions(topic).await? > 0 {
            for record in on.kafka.read_all(topic).await? {
                text += &format!("{:?} {}\n", record.headers, String::from_utf8_lossy(&record.payload));
            }
        }
        read.push((format!("topic {topic}"), text));
    }
    for table in
        ["job_log", "notice_target", "delivery", "notification", "publication", "consumer", "template_set"]
    {
        let sql = format!("select coalesce(string_agg(row_to_json(t)::text, E'\\n'), '') from {table} t");
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&on.pool).await?;
        read.push((format!("table {table}"), text));
    }
    Ok(read)
}

/// All expressions of a dashboard, of panels in panels as well.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

async fn dashboard(on: &Installation) -> Result<()> {
    let slice = Slice::of(22);
    on.billed(&slice.month).await?;
    // Something of everything: runs of both kinds under way, outcomes of every sort, a consumer that waits.
    on.mail
        .behave(&[
            json!({"at": "RCPT", "to": "^m[0-9]*2@", "reply": "550 5.1.1 no such user"}),
            json!({"at": "REPLY", "to": "^m[0-9]*[13579]@", "delay": 1}),
        ])
        .await?;
    on.apply_run("on-the-dashboard", &data::month(20), json!({"approvalPolicy": "Manual"})).await?;
    on.notify("on-the-dashboard", &slice, json!({"maxPerSecond": 5})).await?;
    on.reach("on-the-dashboard", "AwaitingApproval").await?;

    let mut asked = 0;
    for entry in fs::read_dir(workspace("grafana"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let dashboard: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let mut found = Vec::new();
        expressions(&dashboard["panels"], &mut found);
        for expression in found {
            let mut query = expression.clone();
            for (variable, value) in [
                ("month", slice.month.as_str()),
                ("namespace", &on.namespace),
                ("__rate_interval", "1m"),
                ("__interval", "15s"),
                ("__range", "15m"),
            ] {
                query =
                    query.replace(&format!("${{{variable}}}"), value).replace(&format!("${variable}"), value);
            }
            ensure!(!query.contains('$'), "a variable that the tests do not know: {expression}");
            has_a_value(on, &query).await?;
            asked += 1;
        }
    }
    ensure!(asked > 15, "the dashboards have {asked} expressions");
    ensure!(
        !over(&on.notices().get("on-the-dashboard").await?),
        "the notification ended before the dashboard was read"
    );
    on.notices().change("on-the-dashboard", json!({"maxPerSecond": Value::Null})).await?;
    on.mail.behave(&[]).await?;
    on.notified("on-the-dashboard").await.map(drop)
}

async fn has_a_value(on: &Installation, query: &str) -> Result<()> {
    let service = format!("{}-prometheus", on.environment.release);
    let encoded: String =
        query
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
    let page = format!("api/v1/query?query={encoded}");
    wait::until_true(&format!("a value of {query}"), LIMIT, async || {
        let said =
            cluster::proxied(&on.client, &on.environment.namespace, &service, 9090, "GET", &page, Vec::new())
                .await?;
        let said: Value = serde_json::from_str(&said)?;
        ensure!(said["status"] == "success", "Prometheus says {said}");
        let values = said["data"]["result"].as_array().context("no vector")?;
        ensure!(!values.is_empty(), "the vector is empty");
        let numbers =
            values.iter().filter_map(|value| value["value"][1].as_str()).any(|value| value != "NaN");
        ensure!(numbers, "there is no number in {said}");
        Ok(true)
    })
    .await
}
