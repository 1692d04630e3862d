//! Mail servers as they are: slow, full, choosy, away. And what recovery runs make of what they left.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    data::{self, Slice},
    installation::{CONSUMERS, Installation, SESSIONS},
    notices::{Target, count, members_with},
    runs::{LIMIT, condition, phase},
    suite::Suite,
    wait,
};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_mail_server_that_puts_off_refuses_and_drops_and_the_recovery", puts_off_refuses_drops);
    suite.scenario("a_mail_server_that_cannot_be_used_fails_nobody", cannot_be_used);
    suite.scenario("the_failures_of_the_mock_and_their_recovery_are_exact", mock_failures);
    suite.scenario("max_per_second_holds_over_all_consumers", max_per_second);
}

/// Members whose number ends so.
fn ending(slice: &Slice, targets: &[Target], digits: &[u64], of: u64) -> Result<Vec<i64>> {
    let members = slice.members.clone().filter(|n| digits.contains(&(n % of)) && !data::email(*n).is_empty());
    let ids: Vec<i64> = members.map(|n| Ok(i64::try_from(data::member_id(n))?)).collect::<Result<_>>()?;
    Ok(ids.into_iter().filter(|id| targets.iter().any(|target| target.member_id == *id)).collect())
}

async fn puts_off_refuses_drops(on: &Installation) -> Result<()> {
    let slice = Slice::of(12);
    on.mail
        .behave(&[
            // Greylisted twice, full once: put off, and taken later.
            json!({"at": "RCPT", "to": "^m[0-9]*0@", "first": 2, "reply": "451 4.7.1 {to} come back later"}),
            json!({"at": "BODY", "to": "^m[0-9]*4@", "first": 1, "reply": "452 4.3.1 insufficient storage"}),
            // Never.
            json!({"at": "RCPT", "to": "^m[0-9]*1@", "reply": "550 5.1.1 <{to}> no such user here"}),
            json!({"at": "BODY", "to": "^m[0-9]*2@", "reply": "554 5.7.1 looks like spam"}),
            json!({"at": "RCPT", "to": "^m[0-9]*99@", "reply": "450 4.2.1 mailbox of {to} busy"}),
            // Nobody knows: it has the message, or it does not.
            json!({"at": "REPLY", "to": "^m[0-9]*5@", "drop": true}),
            json!({"at": "BODY", "to": "^m[0-9]*6@", "drop": true}),
            json!({"at": "REPLY", "delay": 0.02}),
        ])
        .await?;
    on.notify("choosy", &slice, json!({})).await?;
    let (run, targets) = on.notified("choosy").await?;
    ensure!(phase(&run) == "CompletedWithFailures", "it ended {}", phase(&run));
    let complete = condition(&run, "Complete").context("no condition Complete")?;
    ensure!(complete.0 == "True", "Complete: {complete:?}");

    let mut failed = ending(&slice, &targets, &[1, 2], 10)?;
    let put_off = ending(&slice, &targets, &[99], 100)?;
    failed.extend(&put_off);
    failed.sort_unstable();
    let unknown = ending(&slice, &targets, &[5, 6], 10)?;
    ensure!(members_with(&targets, "FAILED") == failed, "FAILED: {:?}", members_with(&targets, "FAILED"));
    ensure!(members_with(&targets, "UNKNOWN") == unknown, "UNKNOWN: {:?}", members_with(&targets, "UNKNOWN"));
    let words = |members: &[i64], code: &str, words: &str| -> Result<()> {
        for target in targets.iter().filter(|target| members.contains(&target.member_id)) {
            let reason = target.reason.as_deref().unwrap_or_default();
            ensure!(
                reason.contains(code) && reason.contains(words),
                "{} failed with {reason:?}",
                target.member_id
            );
            ensure!(!reason.contains("@example.com"), "the reason names somebody: {reason}");
        }
        Ok(())
    };
    words(&ending(&slice, &targets, &[1], 10)?, "550", "no such user here")?;
    words(&ending(&slice, &targets, &[2], 10)?, "554", "looks like spam")?;
    words(&put_off, "450", "busy")?;

    // Two recoveries at once: each bill is claimed by one of them.
    on.mail.behave(&[json!({"at": "MAIL", "hold": true})]).await?;
    for name in ["recovery-a", "recovery-b"] {
        on.notify(name, &slice, json!({"select": "Failed"})).await?;
    }
    for name in ["recovery-a", "recovery-b"] {
        let wanted = i64::try_from(failed.len())?;
        on.notices().until(name, "published", |run| count(run, "published") == wanted).await?;
    }
    on.mail.behave(&[]).await?;
    let (_, a) = on.notified("recovery-a").await?;
    let (_, b) = on.notified("recovery-b").await?;
    let (sent_a, sent_b) = (members_with(&a, "SENT"), members_with(&b, "SENT"));
    let mut together = [sent_a.clone(), sent_b.clone()].concat();
    together.sort_unstable();
    ensure!(
        together == failed,
        "{} failed; {} and {} were sent again",
        failed.len(),
        sent_a.len(),
        sent_b.len()
    );
    for (targets, sent) in [(&a, &sent_a), (&b, &sent_b)] {
        let skipped = members_with(targets, "SKIPPED").len();
        ensure!(
            sent.len() + skipped == failed.len(),
            "{} sent, {skipped} skipped of {}",
            sent.len(),
            failed.len()
        );
    }
    let attempts: Vec<i32> =
        sqlx::query_scalar("select distinct attempt from delivery where month = $1 and member_id = any($2)")
            .bind(&slice.month)
            .bind(&failed)
            .fetch_all(&on.pool)
            .await?;
    ensure!(attempts == [2], "attempts of what failed once and was sent then: {attempts:?}");

    on.notify("unknown", &slice, json!({"select": "Unknown"})).await?;
    on.all_sent("unknown").await?;
    let again = members_with(&on.targets("unknown").await?, "SENT");
    ensure!(again == unknown, "{} were unknown, {} were sent again", unknown.len(), again.len());
    let kinds: Vec<(String, i64)> = sqlx::query_as(
        "select kind, count(*) from job_log where run = any($1) and kind <> 'PUBLISH' group by 1 order by 1",
    )
    .bind(["choosy", "recovery-a", "recovery-b", "unknown"].map(|name| format!("{}/{name}", on.namespace)))
    .fetch_all(&on.pool)
    .await?;
    ensure!(kinds == [("RECOVERY".to_owned(), 3), ("SEND".to_owned(), 1)], "job_log: {kinds:?}");
    Ok(())
}

async fn cannot_be_used(on: &Installation) -> Result<()> {
    let slice = Slice::of(13);
    on.mail.go_away().await?;
    on.notify("patient", &slice, json!({})).await?;
    let unavailable = async |why: &str, words: &str| {
        wait::until(&format!("TransportAvailable=False for {why}"), LIMIT, async || {
            let run = on.notices().get("patient").await?;
            let said = condition(&run, "TransportAvailable").context("no condition TransportAvailable")?;
            ensure!(said.0 == "False" && said.2.contains(words), "it says {said:?}");
            Ok(Some([count(&run, "failed"), count(&run, "unknown"), count(&run, "sent")]))
        })
        .await
    };
    unavailable("nobody is there", "").await?;
    for (at, reply, words) in [
        ("AUTH", "535 5.7.8 who are you", "535"),
        ("CONNECT", "421 4.3.2 too busy", "421"),
        ("EHLO", "550 5.7.0 not you", "550"),
        ("MAIL", "451 4.3.0 out of order", "451"),
    ] {
        on.mail.behave(&[json!({"at": at, "reply": reply})]).await?;
        let ended = unavailable(reply, words).await?;
        ensure!(ended.iter().all(|count| *count <= 0), "{reply} ended something: {ended:?}");
    }
    on.mail.behave(&[json!({"at": "REPLY", "delay": 0.1})]).await?;
    on.notices().says_status("patient", "TransportAvailable", "True").await?;

    // In the middle of it all sessions are cut. What was handed over then is in doubt, nothing else.
    on.ended("patient", 20).await?;
    on.mail.go_away().await?;
    unavailable("it went away", "").await?;
    on.mail.behave(&[]).await?;
    let (_, targets) = on.notified("patient").await?;
    let unknown = members_with(&targets, "UNKNOWN").len();
    ensure!(unknown <= usize::try_from(CONSUMERS * SESSIONS)?, "{unknown} are unknown");
    let failed = members_with(&targets, "FAILED").len();
    ensure!(failed == 0, "a mail server that is away made {failed} of them fail");
    Ok(())
}

/// Members of whom the mock fails this attempt, by the product's own word.
fn fails(month: &str, members: &[i64], attempt: i32) -> Result<Vec<i64>> {
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

async fn mock_failures(on: &Installation) -> Result<()> {
    let slice = Slice::whole(data::NOTICE_MONTHS - 1);
    ensure!(slice.month == data::mock_month(), "{} is not the mock's", slice.month);
    on.helm_upgrade(
        &json!({"notify": {"transport": "mock://?latencyMs=1&failPerMillion=50000", "batch": 500}}),
    )
    .await?;
    on.notify("mocked", &slice, json!({})).await?;
    let (run, targets) = on.notified("mocked").await?;
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
    let wanted = fails(&slice.month, &with_address, 1)?;
    ensure!(failed == wanted, "{} failed, {} were to fail", failed.len(), wanted.len());

    on.notify("mock-recovery", &slice, json!({"select": "Failed"})).await?;
    let (_, again) = on.notified("mock-recovery").await?;
    let members: Vec<i64> = again.iter().map(|target| target.member_id).collect();
    ensure!(members == failed, "{} failed, the recovery took up {}", failed.len(), members.len());
    let wanted = fails(&slice.month, &failed, 2)?;
    let failed_again = members_with(&again, "FAILED");
    ensure!(failed_again == wanted, "the second attempts fail for {failed_again:?}, not for {wanted:?}");
    let sent = members_with(&again, "SENT").len();
    ensure!(sent == failed.len() - wanted.len(), "{sent} were sent by the recovery");
    let others: i64 = sqlx::query_scalar(
        "select count(*) from delivery where month = $1 and attempt <> 1 and member_id <> all($2)",
    )
    .bind(&slice.month)
    .bind(&failed)
    .fetch_one(&on.pool)
    .await?;
    ensure!(others == 0, "the recovery touched {others} bills that had not failed");
    Ok(())
}

async fn max_per_second(on: &Installation) -> Result<()> {
    let all = Slice::of(14);
    let half = all.members.start + 130;
    let slice = Slice { members: all.members.start..half, ..all.clone() };
    let rate: i64 = 20;
    on.notify("paced", &slice, json!({"maxPerSecond": rate})).await?;
    on.all_sent("paced").await?;
    let mut times: Vec<i64> = on.mail.messages_of(&slice).await?.iter().map(|message| message.at).collect();
    times.sort_unstable();
    ensure!(times.len() > 60, "only {} messages", times.len());
    // Slots are given out by the database; from there to the mailbox a message may be late, never early. So of any
    // messages in a row those in between cannot have come faster, but for as many as can be on their way.
    let on_their_way = usize::try_from(CONSUMERS * SESSIONS)?;
    for (first, at) in times.iter().enumerate() {
        for (last, until) in times.iter().enumerate().skip(first + on_their_way + 1) {
            let least = i64::try_from(last - first - on_their_way - 1)? * 1000 / rate;
            ensure!(until - at >= least - 1, "{} messages in {} ms", last - first + 1, until - at);
        }
    }

    // Lifted, the rest goes at once: this one would take hours.
    let rest = Slice { members: half..all.members.end, ..all };
    on.notify("hurried", &rest, json!({"maxPerSecond": 1})).await?;
    on.ended("hurried", 2).await?;
    on.notices().change("hurried", json!({"maxPerSecond": Value::Null})).await?;
    on.all_sent("hurried").await.map(drop)
}
