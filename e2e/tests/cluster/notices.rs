//! An undisturbed notification, and what a person reads of it: the mail, the status, the views, the log, kubectl.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    cluster,
    data::{self, Slice},
    installation::Installation,
    kafka,
    mail::Message,
    notices::{count, members_with},
    runs::{LIMIT, condition, status},
    sink,
    suite::Suite,
    wait,
};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("notices_go_out_once_and_every_place_tells_the_same", the_same_everywhere);
    suite.scenario("kubectl_reads_notifications_well", kubectl_reads_well);
    suite.scenario("the_api_server_refuses_wrong_notifications", wrong_runs);
    suite.scenario("a_notification_waits_for_its_bills", waits_for_bills);
    suite.scenario("planted_disagreements_with_the_mail_server_are_found", planted_are_found);
}

/// The members of the slice, by their number in the data set, that have a bill.
async fn billed(on: &Installation, slice: &Slice) -> Result<Vec<u64>> {
    let bills: BTreeSet<i64> = on.bills(slice).await?.into_iter().map(|(member, _)| member).collect();
    let mut members: Vec<u64> = slice.members.clone().collect();
    members.retain(|n| i64::try_from(data::member_id(*n)).is_ok_and(|id| bills.contains(&id)));
    Ok(members)
}

fn ids(members: impl IntoIterator<Item = u64>) -> Result<Vec<i64>> {
    members.into_iter().map(|n| Ok(i64::try_from(data::member_id(n))?)).collect()
}

async fn the_same_everywhere(on: &Installation) -> Result<()> {
    let slice = Slice::of(0);
    on.notify("plain", &slice, json!({})).await?;
    let run = on.all_sent("plain").await?;
    let targets = on.targets("plain").await?;
    let members = billed(on, &slice).await?;
    let (without, with): (Vec<u64>, Vec<u64>) =
        members.iter().partition(|n| data::is_one_of(data::WITHOUT_ADDRESS, **n));
    ensure!(
        !without.is_empty() && with.len() > 200,
        "{} members with an address, {} without",
        with.len(),
        without.len()
    );
    ensure!(
        members_with(&targets, "SENT") == ids(with.iter().copied())?,
        "not exactly those with an address were sent to"
    );
    ensure!(
        members_with(&targets, "SKIPPED") == ids(without.iter().copied())?,
        "not exactly those without one were skipped"
    );

    let total = i64::try_from(members.len())?;
    let said = ["targets", "published", "sent", "skipped", "failed", "unknown", "open"]
        .map(|name| count(&run, name));
    let skipped = i64::try_from(without.len())?;
    ensure!(said == [total, total, total - skipped, skipped, 0, 0, 0], "counts: {}", status(&run)["counts"]);
    ensure!(status(&run)["progress"]["percent"] == 100, "a finished run is at {}", status(&run)["progress"]);
    for kind in ["Started", "Complete", "Finished"] {
        let said = condition(&run, kind).with_context(|| format!("no condition {kind}"))?;
        ensure!(said.0 == "True", "condition {kind}: {said:?}");
    }
    for kind in ["Failed", "Suspended"] {
        ensure!(
            condition(&run, kind).is_none_or(|said| said.0 == "False"),
            "condition {kind} of a run that succeeded"
        );
    }
    ensure!(
        condition(&run, "TransportAvailable").is_none_or(|said| said.0 == "True"),
        "no transport, and all sent"
    );
    ensure!(status(&run)["startTime"].is_string() && status(&run)["completionTime"].is_string(), "no times");
    ensure!(
        status(&run)["observedGeneration"].as_i64() == run.metadata.generation,
        "observedGeneration lags"
    );

    let (from, to) = slice.ids();
    let views: Vec<(String, i64)> = sqlx::query_as(
        "select status, count(*) from live_bill where month = $1 and member_id between $2 and $3 group by 1 order by 1",
    )
    .bind(&slice.month)
    .bind(i64::try_from(from)?)
    .bind(i64::try_from(to)?)
    .fetch_all(&on.pool)
    .await?;
    ensure!(
        views == [("SENT".to_owned(), total - skipped), ("SKIPPED".to_owned(), skipped)],
        "live_bill: {views:?}"
    );
    let run_name = format!("{}/plain", on.namespace);
    let log: Vec<(String, String, i64, i64)> =
        sqlx::query_as("select kind, status, total, succeeded from job_log where run = $1 and kind <> 'BILLING' order by kind")
            .bind(&run_name)
            .fetch_all(&on.pool)
            .await?;
    let wanted = [("PUBLISH", total, total), ("SEND", total, total - skipped)]
        .map(|(kind, total, succeeded)| (kind.to_owned(), "SUCCEEDED".to_owned(), total, succeeded));
    ensure!(log == wanted, "job_log: {log:?}");

    on_the_topic(on, &slice, &run_name, &members).await?;
    in_the_mailboxes(on, &slice, &with).await?;

    // What was told is not told again.
    on.notify("again", &slice, json!({})).await?;
    let (again, targets) = on.notified("again").await?;
    ensure!(
        targets.is_empty() && count(&again, "targets") == 0,
        "a second run had {} targets",
        targets.len()
    );

    // Figures of the tables are taken every few seconds.
    let sent = format!(
        "monthend_notification_targets{{month=\"{}\",outcome=\"sent\",select=\"Ready\"}} ",
        slice.month
    );
    let metrics = wait::until("the metrics to count what was sent", LIMIT, async || {
        let metrics = on.operator_says("metrics").await?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(&sent)).unwrap_or("nothing").to_owned();
        ensure!(value.parse::<i64>().is_ok_and(|value| value >= total - skipped), "it counts {value}");
        Ok(Some(metrics))
    })
    .await?;
    for wanted in ["monthend_deliveries{", "monthend_kafka_lag{"] {
        ensure!(metrics.contains(wanted), "no metric {wanted} in:\n{metrics}");
    }
    ensure!(!metrics.contains("plain"), "a run's name is a label in:\n{metrics}");
    Ok(())
}

/// Claim checks and nothing else: a month, a member, a revision, a run.
async fn on_the_topic(on: &Installation, slice: &Slice, run: &str, members: &[u64]) -> Result<()> {
    let mut keys = Vec::new();
    for record in on.kafka.read_all(kafka::TOPIC).await? {
        let message: Value = serde_json::from_slice(&record.payload).context("a message is no JSON")?;
        if message["run"] != run {
            continue;
        }
        let key = String::from_utf8(record.key.context("a message has no key")?)?;
        let wanted = json!({"v": 1, "month": slice.month, "memberId": key, "revision": 1, "run": run});
        ensure!(message == wanted, "{message} is not {wanted}");
        ensure!(record.headers.is_empty(), "headers: {:?}", record.headers);
        keys.push(key.parse::<i64>()?);
    }
    keys.sort_unstable();
    ensure!(keys == ids(members.iter().copied())?, "{} messages for {} bills", keys.len(), members.len());
    Ok(())
}

async fn in_the_mailboxes(on: &Installation, slice: &Slice, members: &[u64]) -> Result<()> {
    let messages = on.mail.messages_of(slice).await?;
    ensure!(messages.len() == members.len(), "{} messages for {} members", messages.len(), members.len());
    let (mut odd, mut english, mut korean) = (0, 0, 0);
    for n in members {
        let address = data::email(*n);
        let message = messages.iter().find(|message| message.to == [address.as_str()]);
        let message = message.with_context(|| format!("nothing came to {address}"))?;
        is_well_made(message).with_context(|| format!("the mail to {address}: {:?}", message.headers))?;
        let (text, html) =
            (message.text.clone().unwrap_or_default(), message.html.clone().unwrap_or_default());
        let subject = message.header("Subject").unwrap_or_default();
        let hangul = |text: &str| text.chars().any(|c| ('가'..='힣').contains(&c));
        if data::speaks_english(*n) {
            english += 1;
            ensure!(![subject, &text, &html].into_iter().any(hangul), "{address} reads English:\n{text}");
        } else {
            korean += 1;
            ensure!([subject, &text, &html].into_iter().all(hangul), "{address} reads Korean:\n{text}");
        }
        if data::is_one_of(data::ODD_NAME, *n) {
            odd += 1;
            ensure!(text.contains(data::ODD), "the name is not as it is:\n{text}");
            ensure!(
                html.contains("&lt;b&gt;Ann&lt;/b&gt; &amp;") && !html.contains("<b>Ann"),
                "not escaped:\n{html}"
            );
        } else {
            let name = format!("Member {n}");
            ensure!(text.contains(&name) && html.contains(&name), "{name} is not addressed:\n{text}");
        }
    }
    ensure!(odd > 0 && english > 50 && korean > 50, "{odd} odd names, {english} English, {korean} Korean");
    Ok(())
}

fn is_well_made(message: &Arc<Message>) -> Result<()> {
    ensure!(message.r#type == "multipart/alternative", "it is {}", message.r#type);
    ensure!(message.header("From").is_some_and(|from| from.contains("billing@monthend.test")), "From");
    ensure!(message.header("Message-ID").is_some_and(|id| id.ends_with("@monthend.test>")), "Message-ID");
    ensure!(message.header("Auto-Submitted") == Some("auto-generated"), "Auto-Submitted");
    for name in ["Date", "Subject", "To", "MIME-Version"] {
        let times = message.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count();
        ensure!(times == 1, "{times} headers {name}");
    }
    ensure!(message.acknowledged == Some(true), "it was not acknowledged");
    Ok(())
}

async fn kubectl_reads_well(on: &Installation) -> Result<()> {
    let slice = Slice::of(1);
    on.notify("readable", &slice, json!({})).await?;
    let run = on.all_sent("readable").await?;
    let table = on.kubectl(&["get", "nrun", "readable"]).await?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().context("kubectl get printed nothing")?;
    let wanted = ["NAME", "MONTH", "SELECT", "PHASE", "TARGETS", "SENT", "FAILED", "LAG", "CONSUMERS", "AGE"];
    ensure!(header == wanted, "columns: {header:?}");
    let row = lines.next().context("kubectl get printed no row")?;
    let (targets, sent) = (count(&run, "targets").to_string(), count(&run, "sent").to_string());
    let wanted = ["readable", slice.month.as_str(), "Ready", "Succeeded", &targets, &sent, "0"];
    ensure!(row[..7] == wanted, "row: {row:?}");
    let category = on.kubectl(&["get", "monthend"]).await?;
    ensure!(
        category.contains("notificationrun.monthend.dev/readable"),
        "category monthend holds: {category}"
    );

    let described = on.kubectl(&["describe", "nrun", "readable"]).await?;
    let events = described.split("Events:").nth(1).unwrap_or_default();
    ensure!(events.contains("monthend-operator"), "kubectl describe shows no Event:\n{described}");

    let explained = on.kubectl(&["explain", "nrun.spec"]).await?;
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
        // An enum's values come between.
        let description = of_field.lines().skip(1).take(3).any(|line| line.trim().len() > 10);
        ensure!(description, "field {field} is not described:\n{explained}");
    }
    let recursive = on.kubectl(&["explain", "nrun.status", "--recursive"]).await?;
    for field in ["published", "unknown", "lag", "replicas", "desired", "observedGeneration", "percent"] {
        ensure!(recursive.contains(field), "no status field {field}:\n{recursive}");
    }
    Ok(())
}

async fn wrong_runs(on: &Installation) -> Result<()> {
    let slice = Slice::of(1);
    let ids: Vec<u64> = (1..=1001).collect();
    for (spec, wanted) in [
        (json!({"month": "2026-13"}), "month must be written YYYY-MM and lie in 2000-01 to 2099-12"),
        (json!({"month": null}), "spec.month: Required value"),
        (json!({"select": "Corrected"}), "select: Corrected is not available in this version"),
        (json!({"select": "Some"}), "supported values: \"Ready\", \"Failed\", \"Unknown\""),
        (json!({"scope": {}}), "scope must have either memberRange or memberIds"),
        (
            json!({"scope": {"memberRange": {"from": 1, "to": 2}, "memberIds": [1]}}),
            "scope must have either memberRange or memberIds",
        ),
        (
            json!({"scope": {"memberRange": {"from": 3, "to": 2}}}),
            "scope.memberRange must begin at 1 or more and not end before it begins",
        ),
        (json!({"scope": {"memberIds": ids}}), "must have at most 1000 items"),
        (json!({"scope": {"memberIds": []}}), "scope.memberIds must be 1 to 1000 ids"),
        (
            json!({"templateRef": {"name": "My Templates"}}),
            "templateRef.name must be the name of a ConfigMap",
        ),
        (json!({"maxPerSecond": 0}), "maxPerSecond must be 1 to 100000"),
        (json!({"maxPerSecond": 100_001}), "maxPerSecond must be 1 to 100000"),
        (json!({"ttlSecondsAfterFinished": -1}), "ttlSecondsAfterFinished must be 0 or more"),
    ] {
        let run = on.notification_run("wrong", &slice, spec.clone());
        let outcome = cluster::apply(&on.notices().api, &run).await;
        let refused = outcome.err().with_context(|| format!("{spec} was taken"))?.to_string();
        ensure!(refused.contains(wanted), "{spec}: {refused}");
    }

    // Waits for its bills, so that it is there to be changed.
    let unbilled = json!({"month": "2098-01", "suspend": true, "maxPerSecond": 5});
    cluster::apply(&on.notices().api, &on.notification_run("fixed", &slice, unbilled)).await?;
    for (spec, wanted) in [
        (json!({"month": "2098-02"}), "month cannot be changed"),
        (json!({"select": "Failed"}), "select cannot be changed"),
        (json!({"scope": {"memberIds": [1]}}), "scope cannot be changed"),
        (json!({"rehearsal": true}), "rehearsal cannot be changed"),
        (json!({"templateRef": {"name": "other"}}), "templateRef cannot be changed"),
    ] {
        let outcome = on.notices().change("fixed", spec.clone()).await;
        let refused = format!("{:#}", outcome.err().with_context(|| format!("{spec} was taken"))?);
        ensure!(refused.contains(wanted), "{spec}: {refused}");
    }
    let free = json!({"suspend": false, "maxPerSecond": 7, "ttlSecondsAfterFinished": 60});
    on.notices().change("fixed", free).await.context("change what may be changed")
}

async fn waits_for_bills(on: &Installation) -> Result<()> {
    let slice = Slice { month: data::notice_month(3), members: 0..data::SLICE };
    let run = on.notification_run("early", &slice, json!({}));
    cluster::apply(&on.notices().api, &run).await?;
    let billed: i64 = sqlx::query_scalar("select count(*) from revision where month = $1 and state = 'LIVE'")
        .bind(&slice.month)
        .fetch_one(&on.pool)
        .await?;
    ensure!(billed == 0, "{} is billed already, so nothing can wait for it", slice.month);
    let message = on.notices().says("early", "Started", "False", "MonthNotBilled").await?;
    ensure!(message.contains(&slice.month), "{message}");
    on.billed(&slice.month).await?;
    on.all_sent("early").await.map(drop)
}

/// What the comparison of every scenario with the mail server would find.
async fn planted_are_found(on: &Installation) -> Result<()> {
    let slice = Slice::of(2);
    on.notify("to-plant-in", &slice, json!({})).await?;
    on.all_sent("to-plant-in").await?;
    let (told, messages) = (on.told().await?, on.mail.messages().await?);
    let found = sink::disagreements(&told, &messages);
    ensure!(found.is_empty(), "before anything was planted: {found:#?}");
    let of_slice = on.mail.messages_of(&slice).await?;
    let victim = of_slice.first().context("nothing was sent")?;
    let bill = victim.bill().context("a message without a bill")?;
    let is_victim = |told: &sink::Told| (told.month.clone(), told.member_id, told.revision) == bill;

    let changed = |change: &dyn Fn(&mut Message)| -> Vec<Arc<Message>> {
        let mut one = Message::clone(victim);
        change(&mut one);
        let others = messages.iter().filter(|message| message.number != victim.number);
        others.cloned().chain([Arc::new(one)]).collect()
    };
    let told_otherwise = |change: &dyn Fn(&mut sink::Told)| -> Vec<sink::Told> {
        let mut told = told.clone();
        told.iter_mut().filter(|told| is_victim(told)).for_each(change);
        told
    };
    let lost: Vec<_> = messages.iter().filter(|message| message.number != victim.number).cloned().collect();
    let twice: Vec<_> = messages.iter().chain([victim]).cloned().collect();
    let unknown_to_us: Vec<_> = told.iter().filter(|told| !is_victim(told)).cloned().collect();
    let without_id = changed(&|message| message.headers.retain(|(name, _)| name != "Message-ID"));
    for (what, told, messages) in [
        ("a SENT bill without a message", told.clone(), lost),
        ("a SENT bill with two", told.clone(), twice),
        ("a message without a record", unknown_to_us, messages.clone()),
        (
            "a message of a bill that failed",
            told_otherwise(&|told| (told.sent, told.state) = (0, Some("FAILED".into()))),
            messages.clone(),
        ),
        ("a bill sent by two runs", told_otherwise(&|told| told.sent = 2), messages.clone()),
        ("a SENT delivery that no run sent", told_otherwise(&|told| told.sent = 0), messages.clone()),
        (
            "another bill's amount",
            told_otherwise(&|told| told.total_amount = told.total_amount.map(|total| total + 10)),
            messages.clone(),
        ),
        (
            "somebody else's mailbox",
            told.clone(),
            changed(&|message| message.to = vec!["m1@example.com".into(), "m2@example.com".into()]),
        ),
        ("a text without the amount", told.clone(), changed(&|message| message.text = Some("Hello".into()))),
        ("HTML without the amount", told.clone(), changed(&|message| message.html = None)),
        ("a message that names no bill", told.clone(), without_id),
    ] {
        let found = sink::disagreements(&told, &messages);
        ensure!(!found.is_empty(), "{what} was not found");
    }
    Ok(())
}
