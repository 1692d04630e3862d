//! A month of which some members are billed again.

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, SCOPES_MONTH};
use e2e::installation::Installation;
use e2e::runs::{condition, status};
use e2e::suite::Suite;
use serde_json::{Value, json};

/// The ConfigMap with a price book that knows the plan of members in quarantine, and has another fee
/// for a plan of many others.
const CORRECTED: &str = "pricebook-for-scopes";

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("the_quarantined_a_range_and_the_late_are_billed_again_and_nobody_else", scopes);
}

/// Bills a scope again over the live revision and returns the succeeded run.
async fn rebill(installation: &Installation, name: &str, scope: Value) -> Result<(i32, Value)> {
    let live: i32 =
        sqlx::query_scalar("select max(revision) from revision where month = $1 and state = 'LIVE'")
            .bind(SCOPES_MONTH)
            .fetch_one(&installation.pool)
            .await?;
    let spec = json!({
        "priceBookRef": {"name": CORRECTED},
        "rebill": {"ofRevision": live, "reason": "some members"},
        "scope": scope,
    });
    installation.apply_run(name, SCOPES_MONTH, spec).await?;
    let run = installation.wait_for_phase(name, "Succeeded").await?;
    installation.billing_status_matches_tables(&run).await?;
    let complete = condition(&run, "Complete").context("no condition Complete")?;
    let wanted = format!("bills revision {live} again for ");
    ensure!(complete.2.contains(&wanted), "the message of {name}: {complete:?}");
    let revision = status(&run)["revision"].as_i64().context("no revision")?;
    Ok((i32::try_from(revision)?, status(&run).clone()))
}

/// Member ids, ascending.
async fn ids(installation: &Installation, query: &'static str, revision: i32) -> Result<Vec<i64>> {
    let found = sqlx::query_scalar(query).bind(SCOPES_MONTH).bind(revision);
    found.fetch_all(&installation.pool).await.with_context(|| query.to_owned())
}

const OUTCOMES: &str = "select member_id from outcome where month = $1 and revision = $2 order by 1";
const LISTED: &str = "select member_id from scope_member where month = $1 and revision = $2 order by 1";

async fn scopes(installation: &Installation) -> Result<()> {
    let corrected = data::PRICE_BOOK.replace("baseFee: 33000", "baseFee: 30000").replace(
        "plans:\n",
        "plans:\n  - { code: NO-SUCH-PLAN, name: A plan at last, baseFee: 10000, usage: {} }\n",
    );
    installation.put_price_book(CORRECTED, &corrected).await?;
    installation.apply_run("before-scopes", SCOPES_MONTH, json!({})).await?;
    let first = installation.wait_for_phase("before-scopes", "Succeeded").await?;

    // Only those in quarantine are billed, and only those whose plan is known by now get a bill.
    let (revision, quarantined) =
        rebill(installation, "quarantined", json!({"select": "Quarantined"})).await?;
    ensure!(
        quarantined["progress"]["members"] == status(&first)["counts"]["quarantined"],
        "members in quarantine: {}, then {quarantined}",
        status(&first)["counts"]
    );
    let unknown_plan: Vec<i64> = (0..data::MEMBERS)
        .filter(|n| n % 500 == 7)
        .map(|n| i64::try_from(data::member_id(n)))
        .collect::<Result<_, _>>()?;
    let billed = ids(installation, OUTCOMES, revision).await?;
    ensure!(billed == unknown_plan, "{billed:?} instead of {unknown_plan:?}");

    let (from, to) = (i64::try_from(data::member_id(100))?, i64::try_from(data::member_id(199))?);
    let (revision, of_range) =
        rebill(installation, "range", json!({"memberRange": {"from": from, "to": to}})).await?;
    let billed = ids(installation, OUTCOMES, revision).await?;
    ensure!(billed.iter().all(|id| (from..=to).contains(id)), "outside of {from} to {to}: {billed:?}");
    let members = of_range["progress"]["members"].as_u64().unwrap_or_default();
    ensure!(
        members <= 100 && billed.len() > 50 && billed.len() as u64 <= members,
        "{members} members, {} outcomes",
        billed.len()
    );

    // 200 members with usage, and one who was not known.
    let folder = tempfile::tempdir()?;
    data::write_late_load(folder.path(), SCOPES_MONTH)?;
    installation.load(folder.path()).await?;
    let mut late: Vec<i64> = (0..200).map(|n| i64::try_from(data::member_id(n))).collect::<Result<_, _>>()?;
    late.push(5);
    late.sort_unstable();
    let (revision, _) = rebill(installation, "late", json!({"select": "Late"})).await?;
    let listed = ids(installation, LISTED, revision).await?;
    ensure!(listed == late, "late are {late:?}, listed were {listed:?}");

    // All members again: those with late data have their bill already.
    let spec = json!({
        "priceBookRef": {"name": CORRECTED},
        "rebill": {"ofRevision": revision, "reason": "everyone"},
    });
    installation.apply_run("after-scopes", SCOPES_MONTH, spec).await?;
    let everyone = installation.wait_for_phase("after-scopes", "Succeeded").await?;
    installation.billing_status_matches_tables(&everyone).await?;
    let last = i32::try_from(status(&everyone)["revision"].as_i64().context("no revision")?)?;
    let changed = ids(installation, OUTCOMES, last).await?;
    ensure!(!changed.is_empty(), "the other members with the plan did not get its new fee");
    let again: Vec<&i64> = changed
        .iter()
        .filter(|id| late.contains(id) || unknown_plan.contains(id) || (from..=to).contains(id))
        .collect();
    ensure!(again.is_empty(), "these were billed with the same inputs before: {again:?}");
    Ok(())
}
