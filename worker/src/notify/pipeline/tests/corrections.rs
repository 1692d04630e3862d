//! Corrections as members receive them, and who receives none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::mail_server::{Act, Stage};
use super::*;

/// The subject and the two bodies of the member's e-mail about this revision.
fn received(fixture: &Fixture, member: i64, revision: i32) -> String {
    let bill = format!("{MONTH}.{member}.{revision}");
    let emails: Vec<_> = fixture.server.received().into_iter().filter(|email| email.bill() == bill).collect();
    let [email] = emails.as_slice() else { panic!("{} e-mails about {bill}", emails.len()) };
    let decode = |part: &str| {
        let body: String = part
            .split("\r\n\r\n")
            .nth(1)
            .unwrap_or_default()
            .split("\r\n--")
            .next()?
            .split_whitespace()
            .collect();
        String::from_utf8(STANDARD.decode(body).ok()?).ok()
    };
    email.content.split("Content-Transfer-Encoding: base64").filter_map(decode).collect()
}

async fn selected(fixture: &Fixture, uid: u128, selection: Selection, targets: i64) -> RunFacts {
    let run = fixture.run_with(uid, selection, None).await;
    assert_eq!(run.targets, targets, "{selection:?}");
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_arrives_with_both_amounts_and_only_once() {
    let fixture = Fixture::new(6).await;
    fixture.send(&fixture.run(1).await).await;
    fixture.database.issue_bills(2, "values (1), (2), (3)").await;
    assert_eq!(fixture.run(2).await.targets, 0, "nothing is sent to them as their first bill");
    let corrections = selected(&fixture, 3, Selection::Corrected, 3).await;
    fixture.send(&corrections).await;
    assert_eq!(fixture.counts(&corrections).await, "SENT 3");
    // Member 1 has the installation's language, member 2 English.
    for (member, amounts) in
        [(1, ["178,000원", "89,000원", "+89,000원"]), (2, ["₩178,000", "₩89,000", "+₩89,000"])]
    {
        let email = received(&fixture, member, 2);
        for amount in amounts {
            assert!(email.matches(amount).count() >= 2, "{amount} in both bodies: {email}");
        }
        assert!(!received(&fixture, member, 1).contains("178,000"), "the bill itself");
    }
    selected(&fixture, 4, Selection::Corrected, 0).await;
    assert_eq!(fixture.server.received().len(), 9);
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_check_of_a_superseded_revision_sends_nothing() {
    let fixture = Fixture::new(4).await;
    let first = fixture.run(1).await;
    let messages = fixture.messages(&first).await;
    fixture.database.issue_bills(2, "values (1), (2)").await;
    let engine = fixture.engine();
    engine.intake().submit(messages).await.unwrap().await.unwrap();
    fixture.ended(&first).await;
    assert_eq!(fixture.counts(&first).await, "SENT 2, SKIPPED 2");
    assert_eq!(fixture.outcome(&first, 1).await, "SKIPPED SUPERSEDED");
    // The members to whom nothing was sent get the new bill as their bill.
    selected(&fixture, 2, Selection::Corrected, 0).await;
    let second = selected(&fixture, 3, Selection::Ready, 2).await;
    engine.drain(LIMIT).await.unwrap();
    fixture.send(&second).await;
    assert_eq!(fixture.server.received().len(), 4);
    assert!(!received(&fixture, 1, 2).contains("89,000"));
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_survive_a_kill_and_stay_corrections() {
    let fixture = Fixture::new(20).await;
    fixture.send(&fixture.run(1).await).await;
    fixture.database.issue_bills(2, "select generate_series(1, 20)").await;
    let corrections = selected(&fixture, 2, Selection::Corrected, 20).await;
    fixture.server.script(|step| match step.stage {
        Stage::End if step.emails >= 1 => Act::Hang,
        _ => Act::Accept,
    });
    let engine = fixture.engine();
    let done = engine.intake().submit(fixture.messages(&corrections).await).await.unwrap();
    fixture.until("select count(*) from delivery where state = 'HANDED_OVER'", "4").await;
    fixture.until("select count(*) from delivery where state = 'SENT' and revision = 2", "4").await;
    drop(engine);
    assert!(done.await.is_err(), "nothing of the batch may be committed");
    fixture.expire().await;
    fixture.server.script(|_| Act::Accept);
    fixture.send(&corrections).await;
    assert_eq!(fixture.counts(&corrections).await, "SENT 16, UNKNOWN 4");
    fixture.check().await;

    let unknown = selected(&fixture, 3, Selection::Unknown, 4).await;
    fixture.send(&unknown).await;
    assert_eq!(fixture.counts(&unknown).await, "SENT 4");
    fixture.check().await;
    let plain =
        "select count(*) from notice_target where outcome = 'SENT' and revision = 2 and corrects is null";
    assert_eq!(fixture.one(plain).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_without_corrections_fail_corrections_with_the_reason() {
    let fixture = Fixture::new(2).await;
    fixture.send(&fixture.run(1).await).await;
    fixture.database.issue_bills(2, "values (1), (2)").await;
    let run = selected(&fixture, 2, Selection::Corrected, 2).await;
    fixture
        .sql(
            "update template_set set content = (
                 select jsonb_object_agg(key, value) from jsonb_each(content) where key not like '%.correction.%')",
        )
        .await;
    fixture.send(&run).await;
    assert_eq!(
        fixture.outcome(&run, 1).await,
        "FAILED COMPOSE: the e-mail would be a correction, and the run's templates have none"
    );
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_bill_is_sent_once_its_member_has_an_address() {
    let fixture = Fixture::new(3).await;
    fixture.sql("update member set email = null where member_id in (1, 2)").await;
    let first = fixture.run(1).await;
    fixture.send(&first).await;
    assert_eq!(fixture.counts(&first).await, "SENT 1, SKIPPED 2");
    selected(&fixture, 2, Selection::Skipped, 0).await;

    let mut sealer = fixture.keyring.sealer();
    let envelope = sealer.seal(store::crypto::Column::Email, 1.try_into().unwrap(), &address(1));
    sqlx::query("update member set email = $1 where member_id = 1")
        .bind(envelope)
        .execute(&fixture.database.pool)
        .await
        .unwrap();
    let skipped = selected(&fixture, 3, Selection::Skipped, 1).await;
    fixture.send(&skipped).await;
    assert_eq!(fixture.outcome(&skipped, 1).await, "SENT");
    fixture.check().await;
    selected(&fixture, 4, Selection::Skipped, 0).await;
}
