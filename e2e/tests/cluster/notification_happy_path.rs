//! A notification run without faults, and what a person reads about it: e-mails, status, views,
//! job_log and kubectl.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, Cohort};
use e2e::installation::Installation;
use e2e::mail::Message;
use e2e::notifications::{count, members_with};
use e2e::runs::{LIMIT, condition, status};
use e2e::suite::Suite;
use e2e::{delivery_audit, kafka, wait};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("each_bill_is_sent_once_and_status_views_and_job_log_agree", every_place_agrees);
    suite.scenario("kubectl_shows_notification_runs_readably", kubectl_output);
    suite.scenario("inserted_differences_to_the_mail_server_are_found", differences_are_found);
}

/// The members of the cohort that have a bill, as positions in the data set.
async fn billed(installation: &Installation, cohort: &Cohort) -> Result<Vec<u64>> {
    let bills: BTreeSet<i64> =
        installation.bills(cohort).await?.into_iter().map(|(member, _)| member).collect();
    let mut members: Vec<u64> = cohort.members.clone().collect();
    members.retain(|n| i64::try_from(data::member_id(*n)).is_ok_and(|id| bills.contains(&id)));
    Ok(members)
}

fn ids(members: impl IntoIterator<Item = u64>) -> Result<Vec<i64>> {
    members.into_iter().map(|n| Ok(i64::try_from(data::member_id(n))?)).collect()
}

async fn every_place_agrees(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(0);
    installation.notify("plain", &cohort, json!({})).await?;
    let run = installation.wait_until_all_sent("plain").await?;
    let targets = installation.targets("plain").await?;
    let members = billed(installation, &cohort).await?;
    let (without_address, with_address): (Vec<u64>, Vec<u64>) =
        members.iter().partition(|n| data::MEMBERS_WITHOUT_ADDRESS.contains(**n));
    ensure!(
        !without_address.is_empty() && with_address.len() > 200,
        "{} members with an address, {} without",
        with_address.len(),
        without_address.len()
    );
    ensure!(
        members_with(&targets, "SENT") == ids(with_address.iter().copied())?,
        "the SENT targets are not exactly the members with an address"
    );
    ensure!(
        members_with(&targets, "SKIPPED") == ids(without_address.iter().copied())?,
        "the SKIPPED targets are not exactly the members without an address"
    );

    let total = i64::try_from(members.len())?;
    let counts = ["targets", "published", "sent", "skipped", "failed", "unknown", "open"]
        .map(|name| count(&run, name));
    let skipped = i64::try_from(without_address.len())?;
    ensure!(
        counts == [total, total, total - skipped, skipped, 0, 0, 0],
        "counts: {}",
        status(&run)["counts"]
    );
    ensure!(status(&run)["progress"]["percent"] == 100, "a finished run is at {}", status(&run)["progress"]);
    for kind in ["Started", "Complete", "Finished"] {
        let found = condition(&run, kind).with_context(|| format!("no condition {kind}"))?;
        ensure!(found.0 == "True", "condition {kind}: {found:?}");
    }
    for kind in ["Failed", "Suspended"] {
        ensure!(
            condition(&run, kind).is_none_or(|found| found.0 == "False"),
            "condition {kind} of a run that succeeded"
        );
    }
    ensure!(
        condition(&run, "TransportAvailable").is_none_or(|found| found.0 == "True"),
        "everything was sent, but TransportAvailable is not True"
    );
    ensure!(status(&run)["startTime"].is_string() && status(&run)["completionTime"].is_string(), "no times");
    ensure!(
        status(&run)["observedGeneration"].as_i64() == run.metadata.generation,
        "observedGeneration is not the current generation"
    );

    let (from, to) = cohort.ids();
    let views: Vec<(String, i64)> = sqlx::query_as(
        "select status, count(*) from live_bill where month = $1 and member_id between $2 and $3 group by 1 order by 1",
    )
    .bind(&cohort.month)
    .bind(i64::try_from(from)?)
    .bind(i64::try_from(to)?)
    .fetch_all(&installation.pool)
    .await?;
    ensure!(
        views == [("SENT".to_owned(), total - skipped), ("SKIPPED".to_owned(), skipped)],
        "live_bill: {views:?}"
    );
    let run_name = format!("{}/plain", installation.namespace);
    let log: Vec<(String, String, i64, i64)> =
        sqlx::query_as("select kind, status, total, succeeded from job_log where run = $1 and kind <> 'BILLING' order by kind")
            .bind(&run_name)
            .fetch_all(&installation.pool)
            .await?;
    let wanted = [("PUBLISH", total, total), ("SEND", total, total - skipped)]
        .map(|(kind, total, succeeded)| (kind.to_owned(), "SUCCEEDED".to_owned(), total, succeeded));
    ensure!(log == wanted, "job_log: {log:?}");

    check_topic(installation, &cohort, &run_name, &members).await?;
    check_messages(installation, &cohort, &with_address).await?;

    // A second run has nothing to send.
    installation.notify("second", &cohort, json!({})).await?;
    let (second, targets) = installation.wait_until_finished("second").await?;
    ensure!(
        targets.is_empty() && count(&second, "targets") == 0,
        "a second run had {} targets",
        targets.len()
    );

    // The operator reads these numbers from the tables every few seconds.
    let sent = format!(
        "monthend_notification_targets{{month=\"{}\",outcome=\"sent\",select=\"Ready\"}} ",
        cohort.month
    );
    let metrics = wait::until("the metrics to count the sent bills", LIMIT, async || {
        let metrics = installation.operator_get("metrics").await?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(&sent)).unwrap_or("nothing").to_owned();
        ensure!(value.parse::<i64>().is_ok_and(|value| value >= total - skipped), "the metric is {value}");
        Ok(Some(metrics))
    })
    .await?;
    for wanted in ["monthend_deliveries{", "monthend_kafka_lag{"] {
        ensure!(metrics.contains(wanted), "no metric {wanted} in:\n{metrics}");
    }
    ensure!(!metrics.contains("plain"), "a run's name is a label value in:\n{metrics}");
    Ok(())
}

/// The messages on the topic hold month, member id, revision and run, and nothing else.
async fn check_topic(installation: &Installation, cohort: &Cohort, run: &str, members: &[u64]) -> Result<()> {
    let mut keys = Vec::new();
    for record in installation.kafka.read_all(kafka::TOPIC).await? {
        let message: Value = serde_json::from_slice(&record.payload).context("a message is not JSON")?;
        if message["run"] != run {
            continue;
        }
        let key = String::from_utf8(record.key.context("a message has no key")?)?;
        let wanted = json!({"v": 1, "month": cohort.month, "memberId": key, "revision": 1, "run": run});
        ensure!(message == wanted, "{message} is not {wanted}");
        ensure!(record.headers.is_empty(), "headers: {:?}", record.headers);
        keys.push(key.parse::<i64>()?);
    }
    keys.sort_unstable();
    ensure!(keys == ids(members.iter().copied())?, "{} messages for {} bills", keys.len(), members.len());
    Ok(())
}

async fn check_messages(installation: &Installation, cohort: &Cohort, members: &[u64]) -> Result<()> {
    let messages = installation.mail.messages_of(cohort).await?;
    ensure!(messages.len() == members.len(), "{} messages for {} members", messages.len(), members.len());
    let (mut with_markup, mut english, mut korean) = (0, 0, 0);
    for n in members {
        let address = data::email(*n);
        let message = messages.iter().find(|message| message.to == [address.as_str()]);
        let message = message.with_context(|| format!("no message was sent to {address}"))?;
        check_headers(message).with_context(|| format!("the e-mail to {address}: {:?}", message.headers))?;
        let (text, html) =
            (message.text.clone().unwrap_or_default(), message.html.clone().unwrap_or_default());
        let subject = message.header("Subject").unwrap_or_default();
        let hangul = |text: &str| text.chars().any(|c| ('가'..='힣').contains(&c));
        if data::prefers_english(*n) {
            english += 1;
            ensure!(
                ![subject, &text, &html].into_iter().any(hangul),
                "the e-mail to {address} is not in English:\n{text}"
            );
        } else {
            korean += 1;
            ensure!(
                [subject, &text, &html].into_iter().all(hangul),
                "the e-mail to {address} is not in Korean:\n{text}"
            );
        }
        if data::MEMBERS_WITH_MARKUP_NAME.contains(*n) {
            with_markup += 1;
            ensure!(text.contains(data::MARKUP_NAME), "the plain text changes the name:\n{text}");
            ensure!(
                html.contains("&lt;b&gt;Ann&lt;/b&gt; &amp;") && !html.contains("<b>Ann"),
                "the HTML does not escape the name:\n{html}"
            );
        } else {
            let name = format!("Member {n}");
            ensure!(
                text.contains(&name) && html.contains(&name),
                "the e-mail does not contain the name {name}:\n{text}"
            );
        }
    }
    ensure!(
        with_markup > 0 && english > 50 && korean > 50,
        "{with_markup} names with markup, {english} English, {korean} Korean"
    );
    Ok(())
}

fn check_headers(message: &Arc<Message>) -> Result<()> {
    ensure!(message.r#type == "multipart/alternative", "the content type is {}", message.r#type);
    ensure!(message.header("From").is_some_and(|from| from.contains("billing@monthend.test")), "From");
    ensure!(message.header("Message-ID").is_some_and(|id| id.ends_with("@monthend.test>")), "Message-ID");
    ensure!(message.header("Auto-Submitted") == Some("auto-generated"), "Auto-Submitted");
    for name in ["Date", "Subject", "To", "MIME-Version"] {
        let times = message.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count();
        ensure!(times == 1, "{times} headers {name}");
    }
    ensure!(message.acknowledged == Some(true), "the server did not acknowledge the message");
    Ok(())
}

async fn kubectl_output(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(1);
    installation.notify("readable", &cohort, json!({})).await?;
    let run = installation.wait_until_all_sent("readable").await?;
    let table = installation.kubectl(&["get", "nrun", "readable"]).await?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().context("kubectl get printed nothing")?;
    let wanted = ["NAME", "MONTH", "SELECT", "PHASE", "TARGETS", "SENT", "FAILED", "LAG", "CONSUMERS", "AGE"];
    ensure!(header == wanted, "columns: {header:?}");
    let row = lines.next().context("kubectl get printed no row")?;
    let (targets, sent) = (count(&run, "targets").to_string(), count(&run, "sent").to_string());
    let wanted = ["readable", cohort.month.as_str(), "Ready", "Succeeded", &targets, &sent, "0"];
    ensure!(row[..7] == wanted, "row: {row:?}");
    let category = installation.kubectl(&["get", "monthend"]).await?;
    ensure!(
        category.contains("notificationrun.monthend.dev/readable"),
        "category monthend lists: {category}"
    );

    let described = installation.kubectl(&["describe", "nrun", "readable"]).await?;
    let events = described.split("Events:").nth(1).unwrap_or_default();
    ensure!(events.contains("monthend-operator"), "kubectl describe shows no Event:\n{described}");

    let explained = installation.kubectl(&["explain", "nrun.spec"]).await?;
    for field in [
        "month",
        "select",
        "scope",
        "templateRef",
        "rehearsal",
        "maxPerSecond",
        "suspend",
        "ttlSecondsAfterFinished",
    ] {
        let of_field = explained.split(&format!("  {field}\t")).nth(1);
        let of_field = of_field.with_context(|| format!("no {field} in:\n{explained}"))?;
        // For an enum, kubectl prints the values first.
        let description = of_field.lines().skip(1).take(3).any(|line| line.trim().len() > 10);
        ensure!(description, "field {field} is not described:\n{explained}");
    }
    let recursive = installation.kubectl(&["explain", "nrun.status", "--recursive"]).await?;
    for field in ["published", "unknown", "lag", "replicas", "desired", "observedGeneration", "percent"] {
        ensure!(recursive.contains(field), "no status field {field}:\n{recursive}");
    }
    Ok(())
}

/// Each kind of difference that the audit after every scenario must find.
async fn differences_are_found(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(2);
    installation.notify("differences", &cohort, json!({})).await?;
    installation.wait_until_all_sent("differences").await?;
    let (recorded, messages) =
        (installation.recorded_deliveries().await?, installation.mail.messages().await?);
    let found = delivery_audit::discrepancies(&recorded, &messages);
    ensure!(found.is_empty(), "differences before anything was changed: {found:#?}");
    let of_cohort = installation.mail.messages_of(&cohort).await?;
    let chosen = of_cohort.first().context("no message was sent")?;
    let bill = chosen.bill().context("a Message-ID without a bill")?;
    let is_chosen = |recorded: &delivery_audit::RecordedDelivery| {
        (recorded.month.clone(), recorded.member_id, recorded.revision) == bill
    };

    let changed = |change: &dyn Fn(&mut Message)| -> Vec<Arc<Message>> {
        let mut one = Message::clone(chosen);
        change(&mut one);
        let others = messages.iter().filter(|message| message.number != chosen.number);
        others.cloned().chain([Arc::new(one)]).collect()
    };
    let changed_record =
        |change: &dyn Fn(&mut delivery_audit::RecordedDelivery)| -> Vec<delivery_audit::RecordedDelivery> {
            let mut recorded = recorded.clone();
            recorded.iter_mut().filter(|recorded| is_chosen(recorded)).for_each(change);
            recorded
        };
    let lost: Vec<_> = messages.iter().filter(|message| message.number != chosen.number).cloned().collect();
    let twice: Vec<_> = messages.iter().chain([chosen]).cloned().collect();
    let unrecorded: Vec<_> = recorded.iter().filter(|recorded| !is_chosen(recorded)).cloned().collect();
    let without_id = changed(&|message| message.headers.retain(|(name, _)| name != "Message-ID"));
    for (what, recorded, messages) in [
        ("a SENT bill without a message", recorded.clone(), lost),
        ("a SENT bill with two messages", recorded.clone(), twice),
        ("a message without a record", unrecorded, messages.clone()),
        (
            "a message of a FAILED bill",
            changed_record(&|recorded| (recorded.sent, recorded.state) = (0, Some("FAILED".into()))),
            messages.clone(),
        ),
        ("a bill sent by two runs", changed_record(&|recorded| recorded.sent = 2), messages.clone()),
        (
            "a SENT delivery without a SENT target",
            changed_record(&|recorded| recorded.sent = 0),
            messages.clone(),
        ),
        (
            "another bill's amount",
            changed_record(&|recorded| recorded.total_amount = recorded.total_amount.map(|total| total + 10)),
            messages.clone(),
        ),
        (
            "a correction without the old amount",
            changed_record(&|recorded| recorded.corrected_amount = Some(123)),
            messages.clone(),
        ),
        (
            "another recipient",
            recorded.clone(),
            changed(&|message| message.to = vec!["m1@example.com".into(), "m2@example.com".into()]),
        ),
        (
            "a text without the amount",
            recorded.clone(),
            changed(&|message| message.text = Some("Hello".into())),
        ),
        ("HTML without the amount", recorded.clone(), changed(&|message| message.html = None)),
        ("a message that names no bill", recorded.clone(), without_id),
    ] {
        let found = delivery_audit::discrepancies(&recorded, &messages);
        ensure!(!found.is_empty(), "{what} was not found");
    }
    Ok(())
}
