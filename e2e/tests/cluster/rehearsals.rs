//! Rehearsals, which render every e-mail and send none, and runs with invalid templates.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, Cohort};
use e2e::environment::workspace;
use e2e::installation::Installation;
use e2e::notifications::{count, members_with};
use e2e::runs::{LIMIT, condition, phase, status};
use e2e::suite::Suite;
use e2e::{cluster, kafka, wait};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_rehearsal_sends_nothing_and_reports_what_would_fail", rehearsal);
    suite.scenario("a_notification_run_waits_for_valid_templates", waits_for_templates);
}

/// The chart's templates.
fn templates() -> Result<BTreeMap<String, String>> {
    let folder = workspace("charts/monthend/files/templates");
    let mut templates = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        templates.insert(entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
    }
    ensure!(templates.len() == 14, "the chart has {} templates", templates.len());
    Ok(templates)
}

async fn rehearsal(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(15);
    installation.ensure_billed(&cohort.month).await?;
    let messages = installation.mail.state().await?.messages;
    // The mistake affects bills of one plan only. The sample bills of the validation have other plans,
    // so it passes that.
    let mut templates = templates()?;
    let subject = r#"{{month}}{{#each plans}}{{#if (eq code "FLAT-89")}}{{colour}}{{/if}}{{/each}}"#;
    templates.insert("ko.subject.hbs".to_owned(), subject.to_owned());
    installation.put_templates("failing-templates", &templates).await?;
    installation
        .notify(
            "rehearsal",
            &cohort,
            json!({"rehearsal": true, "templateRef": {"name": "failing-templates"}}),
        )
        .await?;
    let (run, targets) = installation.wait_until_finished("rehearsal").await?;

    let has = |n: u64| targets.iter().any(|target| i64::try_from(data::member_id(n)) == Ok(target.member_id));
    let ids = |wanted: &dyn Fn(u64) -> bool| -> Result<Vec<i64>> {
        cohort
            .members
            .clone()
            .filter(|n| has(*n) && wanted(*n))
            .map(|n| Ok(i64::try_from(data::member_id(n))?))
            .collect()
    };
    let no_address = ids(&|n| data::email(n).is_empty())?;
    let flat = ids(&|n| n % 10 == 0 && !data::prefers_english(n) && !data::email(n).is_empty())?;
    ensure!(!no_address.is_empty() && !flat.is_empty(), "the cohort has no target that would fail");
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
            _ => ensure!(
                reason.contains("ko.subject.hbs"),
                "the reason does not name the template: {target:?}"
            ),
        }
    }
    let rendered = i64::try_from(targets.len() - no_address.len() - flat.len())?;
    ensure!(count(&run, "rendered") == rendered && count(&run, "sent") <= 0, "{}", status(&run)["counts"]);
    ensure!(phase(&run) == "CompletedWithFailures", "the phase is {}", phase(&run));

    // A rehearsal leaves no other trace.
    ensure!(installation.mail.state().await?.messages == messages, "the rehearsal sent messages");
    let name = format!("{}/rehearsal", installation.namespace);
    let published = installation.kafka.read_all(kafka::TOPIC).await.unwrap_or_default();
    let of_run =
        published.iter().filter(|record| String::from_utf8_lossy(&record.payload).contains(&name)).count();
    ensure!(of_run == 0, "the rehearsal published {of_run} messages");
    let (from, to) = cohort.ids();
    let touched: i64 = sqlx::query_scalar(
        "select (select count(*) from delivery where month = $1 and member_id between $2 and $3)
              + (select count(*) from live_bill where month = $1 and member_id between $2 and $3 and status <> 'READY')",
    )
    .bind(&cohort.month)
    .bind(i64::try_from(from)?)
    .bind(i64::try_from(to)?)
    .fetch_one(&installation.pool)
    .await?;
    ensure!(touched == 0, "the rehearsal changed {touched} deliveries");
    let kinds: Vec<String> = sqlx::query_scalar("select kind from job_log where run = $1")
        .bind(&name)
        .fetch_all(&installation.pool)
        .await?;
    ensure!(kinds == ["REHEARSAL"], "job_log: {kinds:?}");

    // A real run with the chart's templates.
    installation.notify("real-run", &cohort, json!({})).await?;
    installation.wait_until_all_sent("real-run").await.map(drop)
}

async fn waits_for_templates(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(16);
    installation
        .notify("own-templates", &cohort, json!({"templateRef": {"name": "edited-templates"}}))
        .await?;
    let message = installation
        .notification_runs()
        .wait_for_condition("own-templates", "Started", "False", "TemplatesNotFound")
        .await?;
    ensure!(message.contains("edited-templates"), "{message}");

    let good = templates()?;
    for (file, text, wanted) in [
        ("en.body.html.hbs", Some("{{#each plans}}{{money amount}}"), "en.body.html.hbs"),
        ("ko.subject.hbs", Some("{{unknownVariable}}"), "ko.subject.hbs"),
        ("en.body.txt.hbs", None, "en.body.txt.hbs"),
        ("ko.correction.subject.hbs", None, "ko.correction.subject.hbs"),
        ("fr.subject.hbs", Some("Votre facture"), "fr"),
    ] {
        let mut broken = good.clone();
        match text {
            Some(text) => broken.insert(file.to_owned(), text.to_owned()),
            None => broken.remove(file),
        };
        // Server-side apply removes the keys that it applied before.
        installation.put_templates("edited-templates", &broken).await?;
        wait::until_true(&format!("{file} to be rejected"), LIMIT, async || {
            let run = installation.notification_runs().get("own-templates").await?;
            let started = condition(&run, "Started").context("no condition Started")?;
            ensure!(
                started.1 == "TemplatesInvalid" && started.2.contains(wanted),
                "the condition is {started:?}"
            );
            ensure!(phase(&run) == "Pending", "the run is {}", phase(&run));
            Ok(true)
        })
        .await?;
    }
    let mut custom = good;
    custom.insert("en.subject.hbs".to_owned(), "A custom subject for {{month}}".to_owned());
    installation.put_templates("edited-templates", &custom).await?;
    installation.wait_until_all_sent("own-templates").await?;
    let subjects = installation.mail.messages_of(&cohort).await?;
    let with_custom_subject = subjects.iter().filter(|message| {
        message.header("Subject").is_some_and(|subject| subject.starts_with("A custom subject for "))
    });
    ensure!(with_custom_subject.count() > 50, "the templates of the run were not used");

    // The run has pinned the templates, so the ConfigMap is not needed any more.
    let maps = cluster::dynamic(&installation.client, &installation.namespace, "", "v1", "ConfigMap");
    maps.delete("edited-templates", &kube::api::DeleteParams::default())
        .await
        .context("delete the templates")?;
    Ok(())
}
