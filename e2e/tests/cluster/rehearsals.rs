//! Rehearsals, and the templates that they are for.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    cluster,
    data::{self, Slice},
    environment::workspace,
    installation::Installation,
    kafka,
    notices::{count, members_with},
    runs::{LIMIT, condition, phase, status},
    suite::Suite,
    wait,
};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_rehearsal_sends_nothing_and_says_what_would_fail", rehearsed);
    suite.scenario("a_notification_waits_for_its_templates", waits_for_its_templates);
}

/// The chart's own.
fn templates() -> Result<BTreeMap<String, String>> {
    let folder = workspace("charts/monthend/files/templates");
    let mut templates = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        templates.insert(entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
    }
    ensure!(templates.len() == 6, "the chart has {} templates", templates.len());
    Ok(templates)
}

async fn rehearsed(on: &Installation) -> Result<()> {
    let slice = Slice::of(15);
    on.billed(&slice.month).await?;
    let messages = on.mail.state().await?.messages;
    // A mistake where only bills of one plan come by: the samples that templates are tried with have other plans.
    let mut templates = templates()?;
    let subject = r#"{{month}}{{#each plans}}{{#if (eq code "FLAT-89")}}{{colour}}{{/if}}{{/each}}"#;
    templates.insert("ko.subject.hbs".to_owned(), subject.to_owned());
    on.put_templates("colourful", &templates).await?;
    on.notify("rehearsal", &slice, json!({"rehearsal": true, "templateRef": {"name": "colourful"}})).await?;
    let (run, targets) = on.notified("rehearsal").await?;

    let has = |n: u64| targets.iter().any(|target| i64::try_from(data::member_id(n)) == Ok(target.member_id));
    let ids = |wanted: &dyn Fn(u64) -> bool| -> Result<Vec<i64>> {
        slice
            .members
            .clone()
            .filter(|n| has(*n) && wanted(*n))
            .map(|n| Ok(i64::try_from(data::member_id(n))?))
            .collect()
    };
    let no_address = ids(&|n| data::email(n).is_empty())?;
    let flat = ids(&|n| n % 10 == 0 && !data::speaks_english(n) && !data::email(n).is_empty())?;
    ensure!(!no_address.is_empty() && !flat.is_empty(), "nothing would fail");
    ensure!(
        members_with(&targets, "SKIPPED") == no_address,
        "SKIPPED: {:?}",
        members_with(&targets, "SKIPPED")
    );
    ensure!(members_with(&targets, "FAILED") == flat, "FAILED: {:?}", members_with(&targets, "FAILED"));
    for target in &targets {
        let reason = target.reason.as_deref().unwrap_or_default();
        match target.outcome.as_deref() {
            Some("RENDERED") => {}
            Some("SKIPPED") => ensure!(reason == "NO_ADDRESS", "{target:?}"),
            _ => ensure!(reason.contains("ko.subject.hbs"), "the reason names no template: {target:?}"),
        }
    }
    let rendered = i64::try_from(targets.len() - no_address.len() - flat.len())?;
    ensure!(count(&run, "rendered") == rendered && count(&run, "sent") <= 0, "{}", status(&run)["counts"]);
    ensure!(phase(&run) == "CompletedWithFailures", "it ended {}", phase(&run));

    // Nothing of it is anywhere else.
    ensure!(on.mail.state().await?.messages == messages, "a rehearsal sent something");
    let name = format!("{}/rehearsal", on.namespace);
    let published = on.kafka.read_all(kafka::TOPIC).await.unwrap_or_default();
    let of_it =
        published.iter().filter(|record| String::from_utf8_lossy(&record.payload).contains(&name)).count();
    ensure!(of_it == 0, "a rehearsal published {of_it} messages");
    let (from, to) = slice.ids();
    let touched: i64 = sqlx::query_scalar(
        "select (select count(*) from delivery where month = $1 and member_id between $2 and $3)
              + (select count(*) from live_bill where month = $1 and member_id between $2 and $3 and status <> 'READY')",
    )
    .bind(&slice.month)
    .bind(i64::try_from(from)?)
    .bind(i64::try_from(to)?)
    .fetch_one(&on.pool)
    .await?;
    ensure!(touched == 0, "a rehearsal touched {touched} deliveries");
    let kinds: Vec<String> =
        sqlx::query_scalar("select kind from job_log where run = $1").bind(&name).fetch_all(&on.pool).await?;
    ensure!(kinds == ["REHEARSAL"], "job_log: {kinds:?}");

    // In earnest, with the chart's templates.
    on.notify("earnest", &slice, json!({})).await?;
    on.all_sent("earnest").await.map(drop)
}

async fn waits_for_its_templates(on: &Installation) -> Result<()> {
    let slice = Slice::of(16);
    on.notify("particular", &slice, json!({"templateRef": {"name": "mine"}})).await?;
    let message = on.notices().says("particular", "Started", "False", "TemplatesNotFound").await?;
    ensure!(message.contains("mine"), "{message}");

    let good = templates()?;
    for (file, text, wanted) in [
        ("en.body.html.hbs", Some("{{#each plans}}{{money amount}}"), "en.body.html.hbs"),
        ("ko.subject.hbs", Some("{{nobodysVariable}}"), "ko.subject.hbs"),
        ("en.body.txt.hbs", None, "en.body.txt.hbs"),
        ("fr.subject.hbs", Some("Votre facture"), "fr"),
    ] {
        let mut broken = good.clone();
        match text {
            Some(text) => broken.insert(file.to_owned(), text.to_owned()),
            None => broken.remove(file),
        };
        // Server-side apply takes away what it put there before.
        on.put_templates("mine", &broken).await?;
        wait::until_true(&format!("{file} to be refused"), LIMIT, async || {
            let run = on.notices().get("particular").await?;
            let said = condition(&run, "Started").context("no condition Started")?;
            ensure!(said.1 == "TemplatesInvalid" && said.2.contains(wanted), "it says {said:?}");
            ensure!(phase(&run) == "Pending", "it is {}", phase(&run));
            Ok(true)
        })
        .await?;
    }
    let mut mine = good;
    mine.insert("en.subject.hbs".to_owned(), "A subject of my own for {{month}}".to_owned());
    on.put_templates("mine", &mine).await?;
    on.all_sent("particular").await?;
    let subjects = on.mail.messages_of(&slice).await?;
    let own = subjects.iter().filter(|message| {
        message.header("Subject").is_some_and(|subject| subject.starts_with("A subject of my own for "))
    });
    ensure!(own.count() > 50, "the templates of the run were not used");

    // Another run is not touched by what becomes of them; its own were pinned.
    let maps = cluster::dynamic(&on.client, &on.namespace, "", "v1", "ConfigMap");
    maps.delete("mine", &kube::api::DeleteParams::default()).await.context("delete the templates")?;
    Ok(())
}
