//! Failures of the mail server: temporary and permanent rejections, lost connections, an unusable
//! or unreachable server. Recovery runs send what failed. Also the mock transport's failures, and
//! the rate limit.

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, Cohort};
use e2e::installation::{CONSUMERS, Installation, SESSIONS};
use e2e::notifications::{Target, count, members_with};
use e2e::runs::{LIMIT, condition, phase};
use e2e::suite::Suite;
use e2e::wait;
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario(
        "temporary_and_permanent_rejections_lost_connections_and_their_recovery",
        rejections_and_recovery,
    );
    suite.scenario("an_unusable_mail_server_fails_no_target", unusable_server);
    suite.scenario("the_mock_transport_fails_and_recovers_exactly_the_expected_members", mock_failures);
    suite.scenario("max_per_second_limits_all_consumers_together", max_per_second);
}

/// The ids of targets whose member has an address and a position `n` in the data set with `n %
/// modulus` in `remainders`.
fn members_by_remainder(
    cohort: &Cohort,
    targets: &[Target],
    remainders: &[u64],
    modulus: u64,
) -> Result<Vec<i64>> {
    let members =
        cohort.members.clone().filter(|n| remainders.contains(&(n % modulus)) && !data::email(*n).is_empty());
    let ids: Vec<i64> = members.map(|n| Ok(i64::try_from(data::member_id(n))?)).collect::<Result<_>>()?;
    Ok(ids.into_iter().filter(|id| targets.iter().any(|target| target.member_id == *id)).collect())
}

async fn rejections_and_recovery(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(12);
    installation
        .mail
        .set_rules(&[
            // Temporary: greylisted twice, or a full server once. Accepted later.
            json!({"at": "RCPT", "to": "^m[0-9]*0@", "first": 2, "reply": "451 4.7.1 {to} come back later"}),
            json!({"at": "BODY", "to": "^m[0-9]*4@", "first": 1, "reply": "452 4.3.1 insufficient storage"}),
            // Permanent.
            json!({"at": "RCPT", "to": "^m[0-9]*1@", "reply": "550 5.1.1 <{to}> no such user here"}),
            json!({"at": "BODY", "to": "^m[0-9]*2@", "reply": "554 5.7.1 looks like spam"}),
            json!({"at": "RCPT", "to": "^m[0-9]*99@", "reply": "450 4.2.1 mailbox of {to} busy"}),
            // Ambiguous: the connection is lost after the content was sent.
            json!({"at": "REPLY", "to": "^m[0-9]*5@", "drop": true}),
            json!({"at": "BODY", "to": "^m[0-9]*6@", "drop": true}),
            json!({"at": "REPLY", "delay": 0.02}),
        ])
        .await?;
    installation.notify("rejected", &cohort, json!({})).await?;
    let (run, targets) = installation.wait_until_finished("rejected").await?;
    ensure!(phase(&run) == "CompletedWithFailures", "the phase is {}", phase(&run));
    let complete = condition(&run, "Complete").context("no condition Complete")?;
    ensure!(complete.0 == "True", "Complete: {complete:?}");

    let mut failed = members_by_remainder(&cohort, &targets, &[1, 2], 10)?;
    let temporary = members_by_remainder(&cohort, &targets, &[99], 100)?;
    failed.extend(&temporary);
    failed.sort_unstable();
    let unknown = members_by_remainder(&cohort, &targets, &[5, 6], 10)?;
    ensure!(members_with(&targets, "FAILED") == failed, "FAILED: {:?}", members_with(&targets, "FAILED"));
    ensure!(members_with(&targets, "UNKNOWN") == unknown, "UNKNOWN: {:?}", members_with(&targets, "UNKNOWN"));
    let check_reason = |members: &[i64], code: &str, text: &str| -> Result<()> {
        for target in targets.iter().filter(|target| members.contains(&target.member_id)) {
            let reason = target.reason.as_deref().unwrap_or_default();
            ensure!(
                reason.contains(code) && reason.contains(text),
                "{} failed with {reason:?}",
                target.member_id
            );
            ensure!(!reason.contains("@example.com"), "the reason contains an address: {reason}");
        }
        Ok(())
    };
    check_reason(&members_by_remainder(&cohort, &targets, &[1], 10)?, "550", "no such user here")?;
    check_reason(&members_by_remainder(&cohort, &targets, &[2], 10)?, "554", "looks like spam")?;
    check_reason(&temporary, "450", "busy")?;

    // Two recovery runs at the same time: each bill is sent by one of them.
    installation.mail.set_rules(&[json!({"at": "MAIL", "hold": true})]).await?;
    for name in ["recovery-a", "recovery-b"] {
        installation.notify(name, &cohort, json!({"select": "Failed"})).await?;
    }
    for name in ["recovery-a", "recovery-b"] {
        let wanted = i64::try_from(failed.len())?;
        installation
            .notification_runs()
            .until(name, "published", |run| count(run, "published") == wanted)
            .await?;
    }
    installation.mail.set_rules(&[]).await?;
    let (_, a) = installation.wait_until_finished("recovery-a").await?;
    let (_, b) = installation.wait_until_finished("recovery-b").await?;
    let (sent_a, sent_b) = (members_with(&a, "SENT"), members_with(&b, "SENT"));
    let mut together = [sent_a.clone(), sent_b.clone()].concat();
    together.sort_unstable();
    ensure!(
        together == failed,
        "{} had failed; the two runs sent {} and {}",
        failed.len(),
        sent_a.len(),
        sent_b.len()
    );
    for (targets, sent) in [(&a, &sent_a), (&b, &sent_b)] {
        let skipped = members_with(targets, "SKIPPED").len();
        ensure!(
            sent.len() + skipped == failed.len(),
            "{} sent and {skipped} skipped, of {}",
            sent.len(),
            failed.len()
        );
    }
    let attempts: Vec<i32> =
        sqlx::query_scalar("select distinct attempt from delivery where month = $1 and member_id = any($2)")
            .bind(&cohort.month)
            .bind(&failed)
            .fetch_all(&installation.pool)
            .await?;
    ensure!(attempts == [2], "attempts of the recovered deliveries: {attempts:?}");

    installation.notify("unknown", &cohort, json!({"select": "Unknown"})).await?;
    installation.wait_until_all_sent("unknown").await?;
    let again = members_with(&installation.targets("unknown").await?, "SENT");
    ensure!(again == unknown, "{} were unknown, {} were sent again", unknown.len(), again.len());
    let kinds: Vec<(String, i64)> = sqlx::query_as(
        "select kind, count(*) from job_log where run = any($1) and kind <> 'PUBLISH' group by 1 order by 1",
    )
    .bind(
        ["rejected", "recovery-a", "recovery-b", "unknown"]
            .map(|name| format!("{}/{name}", installation.namespace)),
    )
    .fetch_all(&installation.pool)
    .await?;
    ensure!(kinds == [("RECOVERY".to_owned(), 3), ("SEND".to_owned(), 1)], "job_log: {kinds:?}");
    Ok(())
}

async fn unusable_server(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(13);
    installation.mail.go_offline().await?;
    installation.notify("unusable-server", &cohort, json!({})).await?;
    let unavailable = async |why: &str, text: &str| {
        wait::until(&format!("TransportAvailable=False because {why}"), LIMIT, async || {
            let run = installation.notification_runs().get("unusable-server").await?;
            let found = condition(&run, "TransportAvailable").context("no condition TransportAvailable")?;
            ensure!(found.0 == "False" && found.2.contains(text), "the condition is {found:?}");
            Ok(Some([count(&run, "failed"), count(&run, "unknown"), count(&run, "sent")]))
        })
        .await
    };
    unavailable("the server is offline", "").await?;
    for (at, reply, text) in [
        ("AUTH", "535 5.7.8 who are you", "535"),
        ("CONNECT", "421 4.3.2 too busy", "421"),
        ("EHLO", "550 5.7.0 not you", "550"),
        ("MAIL", "451 4.3.0 out of order", "451"),
    ] {
        installation.mail.set_rules(&[json!({"at": at, "reply": reply})]).await?;
        let outcomes = unavailable(reply, text).await?;
        ensure!(outcomes.iter().all(|count| *count <= 0), "{reply} gave targets an outcome: {outcomes:?}");
    }
    installation.mail.set_rules(&[json!({"at": "REPLY", "delay": 0.1})]).await?;
    installation
        .notification_runs()
        .wait_for_condition_status("unusable-server", "TransportAvailable", "True")
        .await?;

    // All sessions are aborted while sending. Only messages that were handed over at that moment may be
    // UNKNOWN.
    installation.wait_for_outcomes("unusable-server", 20).await?;
    installation.mail.go_offline().await?;
    unavailable("the server went offline", "").await?;
    installation.mail.set_rules(&[]).await?;
    let (_, targets) = installation.wait_until_finished("unusable-server").await?;
    let unknown = members_with(&targets, "UNKNOWN").len();
    ensure!(unknown <= usize::try_from(CONSUMERS * SESSIONS)?, "{unknown} targets are UNKNOWN");
    let failed = members_with(&targets, "FAILED").len();
    ensure!(failed == 0, "{failed} targets failed because the mail server was offline");
    Ok(())
}

/// The members for whom the mock transport fails this attempt.
fn expected_failures(month: &str, members: &[i64], attempt: i32) -> Result<Vec<i64>> {
    let month = month.parse().map_err(|error| anyhow::anyhow!("month {month}: {error}"))?;
    let mut found = Vec::new();
    for id in members {
        let member =
            domain::ids::MemberId::try_from(*id).map_err(|error| anyhow::anyhow!("member {id}: {error}"))?;
        let revision = domain::ids::Revision::try_from(1_i64).map_err(|error| anyhow::anyhow!("{error}"))?;
        if email::mock::fails(50_000, month, member, revision, attempt) {
            found.push(*id);
        }
    }
    Ok(found)
}

async fn mock_failures(installation: &Installation) -> Result<()> {
    let cohort = Cohort::whole(data::NOTIFICATION_MONTHS - 1);
    ensure!(cohort.month == data::mock_month(), "{} is not the month of the mock transport", cohort.month);
    installation
        .helm_upgrade(
            &json!({"notify": {"transport": "mock://?latencyMs=1&failPerMillion=50000", "batch": 500}}),
        )
        .await?;
    installation.notify("mock", &cohort, json!({})).await?;
    let (run, targets) = installation.wait_until_finished("mock").await?;
    ensure!(
        targets.len() > 3000 && phase(&run) == "CompletedWithFailures",
        "{} targets, {}",
        targets.len(),
        phase(&run)
    );
    let with_address: Vec<i64> = targets
        .iter()
        .filter(|target| target.outcome.as_deref() != Some("SKIPPED"))
        .map(|target| target.member_id)
        .collect();
    let failed = members_with(&targets, "FAILED");
    let wanted = expected_failures(&cohort.month, &with_address, 1)?;
    ensure!(failed == wanted, "{} failed, {} were expected to fail", failed.len(), wanted.len());

    installation.notify("mock-recovery", &cohort, json!({"select": "Failed"})).await?;
    let (_, again) = installation.wait_until_finished("mock-recovery").await?;
    let members: Vec<i64> = again.iter().map(|target| target.member_id).collect();
    ensure!(members == failed, "{} had failed, the recovery run has {} targets", failed.len(), members.len());
    let wanted = expected_failures(&cohort.month, &failed, 2)?;
    let failed_again = members_with(&again, "FAILED");
    ensure!(failed_again == wanted, "the second attempts failed for {failed_again:?}, expected {wanted:?}");
    let sent = members_with(&again, "SENT").len();
    ensure!(sent == failed.len() - wanted.len(), "the recovery run sent {sent}");
    let others: i64 = sqlx::query_scalar(
        "select count(*) from delivery where month = $1 and attempt <> 1 and member_id <> all($2)",
    )
    .bind(&cohort.month)
    .bind(&failed)
    .fetch_one(&installation.pool)
    .await?;
    ensure!(others == 0, "the recovery run changed {others} deliveries that had not failed");
    Ok(())
}

async fn max_per_second(installation: &Installation) -> Result<()> {
    let all = Cohort::of(14);
    let half = all.members.start + 130;
    let cohort = Cohort { members: all.members.start..half, ..all.clone() };
    let rate: i64 = 20;
    installation.notify("rate-limited", &cohort, json!({"maxPerSecond": rate})).await?;
    installation.wait_until_all_sent("rate-limited").await?;
    let mut times: Vec<i64> =
        installation.mail.messages_of(&cohort).await?.iter().map(|message| message.at).collect();
    times.sort_unstable();
    ensure!(times.len() > 60, "only {} messages", times.len());
    // The database assigns the slots. A message can arrive later than its slot, never earlier. So any
    // span of messages takes at least as long as the rate allows for their number, minus those that
    // can be in transit.
    let in_transit = usize::try_from(CONSUMERS * SESSIONS)?;
    for (first, at) in times.iter().enumerate() {
        for (last, until) in times.iter().enumerate().skip(first + in_transit + 1) {
            let least = i64::try_from(last - first - in_transit - 1)? * 1000 / rate;
            ensure!(until - at >= least - 1, "{} messages in {} ms", last - first + 1, until - at);
        }
    }

    // Without the limit the rest is sent at once; with it this run would take minutes.
    let rest = Cohort { members: half..all.members.end, ..all };
    installation.notify("limit-removed", &rest, json!({"maxPerSecond": 1})).await?;
    installation.wait_for_outcomes("limit-removed", 2).await?;
    installation.notification_runs().change("limit-removed", json!({"maxPerSecond": Value::Null})).await?;
    installation.wait_until_all_sent("limit-removed").await.map(drop)
}
