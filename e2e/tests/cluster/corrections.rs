//! A month that is corrected after its e-mails were sent: who gets a correction, and who an e-mail
//! only now.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, Cohort};
use e2e::delivery_audit::contains_amount;
use e2e::installation::Installation;
use e2e::notifications::{count, members_with};
use e2e::runs::status;
use e2e::suite::Suite;
use serde_json::json;

/// The ConfigMap with the price book that corrects the month.
const CORRECTED: &str = "pricebook-corrections";

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("corrections_go_once_to_exactly_those_who_were_sent_another_amount", corrections);
}

/// Loads the member who has no address at first. Other months do not bill this member.
async fn load_member(installation: &Installation, month: &str, address: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let id = data::MEMBER_WITH_LATE_ADDRESS;
    let member = format!("member_id,name,email,phone\n{id},Late Address,{address},010-3333-4444\n");
    fs::write(folder.path().join("members.csv"), member)?;
    let subscription = format!("member_id,plan_code,from,to\n{id},FLAT-89,{month}-01,{month}-28\n");
    fs::write(folder.path().join("subscriptions.csv"), subscription)?;
    installation.load(folder.path()).await
}

/// Member, old total and new total of those who were sent a bill that is not their live one.
async fn sent_another_amount(
    installation: &Installation,
    cohort: &Cohort,
) -> Result<BTreeMap<i64, (i64, i64)>> {
    let (from, to) = cohort.ids();
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "select l.member_id, b.total_amount, l.total_amount
         from live_bill l
         join delivery d on d.month = l.month and d.member_id = l.member_id and d.revision < l.revision and d.state = 'SENT'
         join bill b on b.month = d.month and b.member_id = d.member_id and b.revision = d.revision
         where l.month = $1 and l.member_id between $2 and $3 and b.total_amount <> l.total_amount",
    )
    .bind(&cohort.month)
    .bind(i64::try_from(from)?)
    .bind(i64::try_from(to)?)
    .fetch_all(&installation.pool)
    .await?;
    Ok(rows.into_iter().map(|(member, old, new)| (member, (old, new))).collect())
}

async fn corrections(installation: &Installation) -> Result<()> {
    let cohort = Cohort { members: 0..1000, ..Cohort::whole(data::CORRECTED_MONTH) };
    let month = &cohort.month;
    load_member(installation, month, "").await?;
    installation.notify("told-first", &cohort, json!({})).await?;
    installation.wait_until_all_sent("told-first").await?;

    let text = data::PRICE_BOOK.replace("baseFee: 33000", "baseFee: 30000");
    ensure!(text != data::PRICE_BOOK, "the price book is not corrected");
    installation.put_price_book(CORRECTED, &text).await?;
    let live: i32 =
        sqlx::query_scalar("select max(revision) from revision where month = $1 and state = 'LIVE'")
            .bind(month)
            .fetch_one(&installation.pool)
            .await?;
    let spec = json!({
        "priceBookRef": {"name": CORRECTED},
        "rebill": {"ofRevision": live, "reason": "wrong base fee"},
    });
    installation.apply_run("lower-fee", month, spec).await?;
    let run = installation.wait_for_phase("lower-fee", "Succeeded").await?;
    let revision = status(&run)["revision"].as_i64().context("no revision")?;

    let concerned = sent_another_amount(installation, &cohort).await?;
    let billed = installation.bills(&cohort).await?.len();
    ensure!(
        concerned.len() > 300 && concerned.len() < billed,
        "the correction changes {} of {billed} bills",
        concerned.len()
    );
    let expected: Vec<i64> = concerned.keys().copied().collect();

    installation.notify("rehearsed", &cohort, json!({"select": "Corrected", "rehearsal": true})).await?;
    let (rehearsed, targets) = installation.wait_until_finished("rehearsed").await?;
    ensure!(members_with(&targets, "RENDERED") == expected, "{}", status(&rehearsed)["counts"]);

    installation.notify("corrections", &cohort, json!({"select": "Corrected"})).await?;
    let run = installation.wait_until_all_sent("corrections").await?;
    let targets = installation.targets("corrections").await?;
    ensure!(members_with(&targets, "SENT") == expected, "corrections: {}", status(&run)["counts"]);
    installation.notification_status_matches_tables(&run).await?;
    let mut corrected: BTreeMap<i64, usize> = BTreeMap::new();
    for message in installation.mail.messages_of(&cohort).await? {
        let Some((_, member, of)) = message.bill().filter(|(.., of)| i64::from(*of) == revision) else {
            continue;
        };
        let (old, new) = concerned
            .get(&member)
            .with_context(|| format!("member {member} was sent revision {of} and is not concerned"))?;
        *corrected.entry(member).or_default() += 1;
        for text in [&message.text, &message.html] {
            let text = text.as_deref().unwrap_or_default();
            ensure!(
                contains_amount(text, *old) && contains_amount(text, *new),
                "the correction of member {member} is without {old} or {new}: {text}"
            );
        }
    }
    ensure!(
        corrected.len() == expected.len() && corrected.values().all(|messages| *messages == 1),
        "{corrected:?}"
    );

    installation.notify("corrections-again", &cohort, json!({"select": "Corrected"})).await?;
    let (again, targets) = installation.wait_until_finished("corrections-again").await?;
    ensure!(
        targets.is_empty() && count(&again, "targets") == 0,
        "a second run had {} targets",
        targets.len()
    );

    load_member(installation, month, data::LATE_ADDRESS).await?;
    installation.notify("skipped", &cohort, json!({"select": "Skipped"})).await?;
    installation.wait_until_all_sent("skipped").await?;
    let targets = installation.targets("skipped").await?;
    ensure!(
        members_with(&targets, "SENT") == [i64::try_from(data::MEMBER_WITH_LATE_ADDRESS)?],
        "Skipped sent to {:?}",
        members_with(&targets, "SENT")
    );
    Ok(())
}
