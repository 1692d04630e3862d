//! The month billed again: a price book that is corrected, what it changes, a person's approval, and
//! a correction to each member who was sent another amount.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::follow::{Kind, Run, Until, follow, text};
use super::{billing, notices, sql};
use crate::cluster::Cluster;
use crate::exec;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::stack::NAMESPACE;

const CONFIG_MAP: &str = "demo-pricebook-corrected";

/// The add-on of about one member in twelve, as it was priced and as it should have been.
const WRONG: &str =
    "{ code: MUSIC, name: { ko: 음악 스트리밍, en: Music streaming }, type: addon, baseFee: 8690 }";
const RIGHT: &str =
    "{ code: MUSIC, name: { ko: 음악 스트리밍, en: Music streaming }, type: addon, baseFee: 7590 }";

/// The runs of a corrected month.
pub(super) struct Correction {
    pub(super) billing: Run,
    pub(super) notices: Vec<Run>,
}

/// Bills the month again and sends the corrections, the sample's by SMTP.
pub(super) fn run(paths: &Paths, progress: &Progress, cluster: &Cluster, month: &str) -> Result<Correction> {
    let billing = Run::new(Kind::Billing, format!("demo-{month}-corrected"));
    if !billing.is_done(cluster)? {
        price_book(paths, progress, cluster)?;
        billing.apply(
            progress,
            cluster,
            &json!({
                "month": month,
                "priceBookRef": {"name": CONFIG_MAP},
                "rebill": {"ofRevision": live_revision(cluster, month)?, "reason": "MUSIC costs 7590, not 8690"},
                "approvalPolicy": "Manual",
            }),
        )?;
        progress.section("billing again", || follow(cluster, &billing, Until::Approval, |_| Ok(())))?;
        eprint!("{}", diff(&billing.get(cluster)?["status"]["diff"])?);
        progress.step("approved", |step| approve(cluster, &billing).map(|by| step.note(by)))?;
        progress.section("issuing", || follow(cluster, &billing, Until::Issued, |_| Ok(())))?;
    }
    let notices = notices::corrections(paths, progress, cluster, month)?;
    progress.step("corrections went to whom they concern", |step| {
        let (sent_another_amount, corrected) = concerned(cluster, month)?;
        ensure!(
            sent_another_amount == corrected,
            "{sent_another_amount} members were sent another amount, and corrections were for {corrected} of them"
        );
        step.note(format!("{corrected} members"));
        Ok(())
    })?;
    Ok(Correction { billing, notices })
}

fn price_book(paths: &Paths, progress: &Progress, cluster: &Cluster) -> Result<()> {
    progress.step("corrected price book", |step| {
        let file = paths.repo.join(billing::PRICE_BOOK);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        ensure!(text.contains(WRONG), "{} has no line {WRONG}", file.display());
        step.note("MUSIC costs 7590, not 8690");
        billing::apply_price_book(cluster, CONFIG_MAP, &text.replace(WRONG, RIGHT))
    })
}

fn live_revision(cluster: &Cluster, month: &str) -> Result<i32> {
    let revision =
        sql(cluster, &format!("select revision from highest_live_revision where month = '{month}'"))?;
    revision.parse().with_context(|| format!("{month} has no live revision"))
}

/// Approves the draft in the name of the demonstration's own user.
fn approve(cluster: &Cluster, run: &Run) -> Result<String> {
    let by = exec::output(cluster.kubectl().args([
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ]))?;
    let draft = run.get(cluster)?;
    let Some(digest) = draft["status"]["digest"].as_str() else {
        bail!("brun/{} has no digest to approve", run.name);
    };
    let approval = json!({"spec": {"approval": {"digest": digest, "by": by}}});
    exec::output(
        cluster
            .kubectl()
            .args(["patch", "brun", &run.name, "-n", NAMESPACE, "--type", "merge", "-p"])
            .arg(approval.to_string()),
    )?;
    Ok(by)
}

/// `status.diff` as a table.
fn diff(diff: &Value) -> Result<String> {
    let members = diff.as_object().context("the draft has no status.diff")?;
    let mut table = String::new();
    for (key, value) in members.iter().filter(|(key, _)| *key != "causes") {
        writeln!(table, "    {key:<20} {:>24}", text(value))?;
    }
    for cause in members.get("causes").and_then(Value::as_array).into_iter().flatten() {
        let title = format!("by {}", text(&cause["cause"]));
        writeln!(table, "    {title:<20} {:>24}   delta {}", text(&cause["members"]), text(&cause["delta"]))?;
    }
    Ok(table)
}

/// How many members were sent an amount that the live bill does not have, and for how many members
/// there were corrections.
fn concerned(cluster: &Cluster, month: &str) -> Result<(u64, u64)> {
    let sent_another_amount = format!(
        "select count(*) from live_bill l
         join delivery d on d.month = l.month and d.member_id = l.member_id and d.revision < l.revision
         join bill b on b.month = d.month and b.member_id = d.member_id and b.revision = d.revision
         where l.month = '{month}' and d.state in ('SENT', 'UNKNOWN') and b.total_amount <> l.total_amount"
    );
    let corrected = format!(
        "select count(distinct member_id) from notice_target where month = '{month}' and corrects is not null"
    );
    let counts = sql(cluster, &format!("select concat_ws(' ', ({sent_another_amount}), ({corrected}))"))?;
    let (sent_another_amount, corrected) = counts.split_once(' ').context("two counts were asked for")?;
    Ok((sent_another_amount.parse()?, corrected.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_shown_with_its_causes() {
        let text = diff(&json!({"changed": 80, "totalDelta": "-88000",
            "causes": [{"cause": "PRICE_BOOK", "members": 80, "delta": "-88000"}]}))
        .unwrap();
        assert!(text.contains("totalDelta                             -88000\n"), "{text}");
        assert!(text.contains("by PRICE_BOOK                              80   delta -88000\n"), "{text}");
        assert!(!text.contains("causes"), "{text}");
    }

    #[test]
    fn the_price_book_has_the_line_that_is_corrected() {
        assert!(include_str!("../../../examples/pricebook.yaml").contains(WRONG));
    }
}
