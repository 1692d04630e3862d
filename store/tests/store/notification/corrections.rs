//! Bills of members who were told something before: who gets a correction, who the bill itself, and
//! who nothing.

use store::notification::{self, BillKey, ClaimedDelivery, Outcome, RunFacts, Scope, Selection};

use super::fixture::{Consumer, Fixture, keys, members};

/// What a run selected: each member's revision, and the one that it corrects.
async fn selected(fixture: &Fixture, run: &RunFacts) -> String {
    fixture
        .database
        .read_text(&format!(
            "select coalesce(string_agg(format('%s/%s', member_id, revision) || coalesce(' corrects ' || corrects, ''),
                                        ', ' order by member_id), '')
             from notice_target where notification = {}",
            run.id.0
        ))
        .await
}

async fn select(fixture: &Fixture, uid: u128, selection: Selection) -> (RunFacts, String) {
    let run = fixture.run(uid, selection, &Scope::Everyone).await;
    let selected = selected(fixture, &run).await;
    (run, selected)
}

/// Claims the targets and gives them this outcome.
async fn end(fixture: &Fixture, run: &RunFacts, keys: &[BillKey], outcome: Outcome) {
    let mut consumer = fixture.consumer("ends").await;
    let deliveries = consumer.claim(run, keys).await;
    assert_eq!(deliveries.len(), keys.len(), "claimed");
    consumer.deliver(&deliveries, outcome).await;
}

async fn set_amount(fixture: &Fixture, revision: i32, amount: i64, members: &str) {
    fixture
        .database
        .execute(&format!(
            "update bill set total_amount = {amount} where revision = {revision} and member_id in ({members})"
        ))
        .await;
}

async fn roll_back(fixture: &Fixture, revision: i32) {
    fixture
        .database
        .execute(&format!("update revision set state = 'ROLLED_BACK' where revision = {revision}"))
        .await;
}

/// The state of the live bill's delivery, and what selects it: if nothing was sent to the member
/// before, and if another amount was.
const STATES: [(&str, &str, &str); 9] = [
    ("none", "READY", "CORRECTED"),
    ("PENDING", "READY", "CORRECTED"),
    ("CLAIMED", "", ""),
    ("HANDED_OVER", "", ""),
    ("SENT", "", ""),
    ("FAILED", "FAILED", "FAILED"),
    ("UNKNOWN", "UNKNOWN", "UNKNOWN"),
    ("SKIPPED", "SKIPPED", "SKIPPED"),
    // Still without an address.
    ("NO_ADDRESS", "", ""),
];

/// What happened to the bill that the member had before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    AnotherAmount,
    SameAmount,
}

/// The state of the earlier bill's delivery; `none` if there is no earlier bill.
const EARLIER: [(&str, Before); 11] = [
    ("none", Before::Nothing),
    ("PENDING", Before::Nothing),
    ("CLAIMED", Before::Nothing),
    ("FAILED", Before::Nothing),
    ("SKIPPED", Before::Nothing),
    ("SENT", Before::AnotherAmount),
    ("UNKNOWN", Before::AnotherAmount),
    ("HANDED_OVER", Before::AnotherAmount),
    ("SENT", Before::SameAmount),
    ("UNKNOWN", Before::SameAmount),
    ("HANDED_OVER", Before::SameAmount),
];

#[tokio::test]
async fn each_selection_selects_by_the_deliverys_state_and_by_what_was_sent_before() {
    let members = i64::try_from(STATES.len() * EARLIER.len()).unwrap();
    let fixture = Fixture::with_bills(members).await;
    fixture.database.issue_bills(2, &format!("select generate_series(1, {members})")).await;
    // Claimed by nobody, the runs make the month's partitions.
    fixture.run(1, Selection::Failed, &Scope::Everyone).await;
    let held = |state: &str| matches!(state, "CLAIMED" | "HANDED_OVER");
    let mut expected = Vec::new();
    for (member, ((earlier, before), (state, fresh, corrected))) in
        (1..).zip(EARLIER.into_iter().flat_map(|earlier| STATES.map(|state| (earlier, state))))
    {
        let mut live = 2;
        match (earlier, before) {
            ("none", _) => {
                live = 1;
                let sql = format!("delete from bill where member_id = {member} and revision = 2");
                fixture.database.execute(&sql).await;
            }
            (_, Before::SameAmount) => set_amount(&fixture, 2, 89_000, &member.to_string()).await,
            _ => {}
        }
        for (revision, state) in [(1, earlier), (2, state)] {
            let (revision, state) =
                if live == 1 { (1, if revision == 2 { state } else { "none" }) } else { (revision, state) };
            if state == "none" {
                continue;
            }
            let without = state == "NO_ADDRESS";
            let state = if without { "SKIPPED" } else { state };
            let lease = if held(state) { "now() + interval '1 hour'" } else { "null" };
            fixture
                .database
                .execute(&format!(
                    "insert into delivery (month, member_id, revision, attempt, notification, ended_at, state, lease_until, reason)
                     values ('2026-10', {member}, {revision}, 1, 0, now(), '{state}', {lease},
                             case '{state}' when 'SKIPPED' then 'NO_ADDRESS' end)
                     {}",
                    if without { format!("; update member set email = null where member_id = {member}") } else { String::new() }
                ))
                .await;
        }
        let (selection, what) = match before {
            Before::Nothing => (fresh, format!("{member}/{live}")),
            Before::AnotherAmount => (corrected, format!("{member}/{live} corrects 1")),
            Before::SameAmount => ("", String::new()),
        };
        expected.push((selection, what, format!("{state} after {earlier}, {before:?}")));
    }
    for (uid, selection) in (2..).zip(Selection::ALL) {
        let (_, found) = select(&fixture, uid, selection).await;
        let found: Vec<&str> = found.split(", ").filter(|target| !target.is_empty()).collect();
        for (by, what, case) in &expected {
            let is = found.contains(&what.as_str());
            assert_eq!(
                is,
                *by == selection.as_str() && !what.is_empty(),
                "{case}: {selection:?} selected {found:?}"
            );
        }
        let wanted = expected.iter().filter(|(by, ..)| *by == selection.as_str()).count();
        assert_eq!(found.len(), wanted, "{selection:?} selected {found:?}");
        assert!(wanted > 0, "{selection:?}");
    }
}

#[tokio::test]
async fn a_correction_is_sent_once_and_a_failed_or_unknown_one_is_sent_again_as_a_correction() {
    let fixture = Fixture::with_bills(6).await;
    let first = fixture.run(1, Selection::Ready, &Scope::Members(members_of(&[1, 2, 3, 4]))).await;
    end(&fixture, &first, &keys(&[1, 2, 3, 4], 1), Outcome::Sent).await;
    fixture.database.issue_bills(2, "values (1), (2), (3), (5)").await;

    let (corrections, found) = select(&fixture, 2, Selection::Corrected).await;
    assert_eq!(found, "1/2 corrects 1, 2/2 corrects 1, 3/2 corrects 1");
    assert_eq!(select(&fixture, 3, Selection::Ready).await.1, "5/2, 6/1");
    end(&fixture, &corrections, &keys(&[1], 2), Outcome::Sent).await;
    end(&fixture, &corrections, &keys(&[2], 2), Outcome::Failed).await;
    let mut consumer = fixture.consumer("dies").await;
    let lost = consumer.claim(&corrections, &keys(&[3], 2)).await;
    consumer.hand_over(&lost).await;
    fixture.expire_leases().await;
    assert_eq!(fixture.end_expired_leases().await, (1, 0));
    assert!(notification::finish_run(&fixture.operator, corrections.id).await.unwrap());

    assert_eq!(select(&fixture, 4, Selection::Corrected).await.1, "");
    for (uid, selection, member) in [(5, Selection::Failed, 2), (6, Selection::Unknown, 3)] {
        let (run, found) = select(&fixture, uid, selection).await;
        assert_eq!(found, format!("{member}/2 corrects 1"));
        end(&fixture, &run, &keys(&[member], 2), Outcome::Sent).await;
    }
    for (uid, selection) in (7..).zip([Selection::Corrected, Selection::Failed, Selection::Unknown]) {
        assert_eq!(select(&fixture, uid, selection).await.1, "", "{selection:?}");
    }
    let kinds =
        "select string_agg(kind, ' ' order by id) from job_log where run in ('test/run-2', 'test/run-5')";
    assert_eq!(fixture.database.read_text(kinds).await, "SEND RECOVERY");
}

#[tokio::test]
async fn a_correction_corrects_what_was_sent_last() {
    let fixture = Fixture::with_bills(3).await;
    let first = fixture.ready(1).await;
    end(&fixture, &first, &keys(&[1, 2], 1), Outcome::Sent).await;
    end(&fixture, &first, &keys(&[3], 1), Outcome::Failed).await;
    fixture.database.issue_bills(2, "values (1), (2), (3)").await;
    let (second, _) = select(&fixture, 2, Selection::Corrected).await;
    end(&fixture, &second, &keys(&[1], 2), Outcome::Sent).await;
    let fresh = fixture.ready(3).await;
    end(&fixture, &fresh, &keys(&[3], 2), Outcome::Sent).await;

    // Revision 1 is live again. Members 1 and 2 were sent its bills, which are therefore not sent
    // again. Of member 3 it failed, and another amount was sent since.
    roll_back(&fixture, 2).await;
    for (uid, selection) in (4..).zip([Selection::Ready, Selection::Corrected, Selection::Unknown]) {
        assert_eq!(select(&fixture, uid, selection).await.1, "", "{selection:?}");
    }
    let (again, found) = select(&fixture, 7, Selection::Failed).await;
    assert_eq!(found, "3/1 corrects 2");
    end(&fixture, &again, &keys(&[3], 1), Outcome::Sent).await;

    // Member 1 was told the amount of revision 2 last, the others that of revision 1.
    fixture.database.issue_bills(3, "values (1), (2), (3)").await;
    let (third, found) = select(&fixture, 8, Selection::Corrected).await;
    assert_eq!(found, "1/3 corrects 2, 2/3 corrects 1, 3/3 corrects 1");
    let mut connection = fixture.worker().await;
    let rows =
        notification::read_bills_for_email(&mut connection, &third, &keys(&[1, 2, 3], 3)).await.unwrap();
    let amounts: Vec<_> = rows
        .iter()
        .map(|row| {
            let sent = row.corrects.as_ref().unwrap();
            (row.amounts.total.get(), sent.revision.get(), sent.amounts.total.get(), sent.items.len())
        })
        .collect();
    assert_eq!(amounts, [(267_000, 2, 178_000, 1), (267_000, 1, 89_000, 1), (267_000, 1, 89_000, 1)]);
    let plain = notification::read_bills_for_email(&mut connection, &first, &keys(&[1], 1)).await.unwrap();
    assert_eq!(plain[0].corrects, None);
}

#[tokio::test]
async fn after_a_rollback_an_unsent_bill_corrects_the_one_that_was_taken_back() {
    let fixture = Fixture::with_bills(2).await;
    fixture.database.issue_bills(2, "values (1), (2)").await;
    let run = fixture.ready(1).await;
    end(&fixture, &run, &keys(&[1], 2), Outcome::Sent).await;
    roll_back(&fixture, 2).await;
    assert_eq!(select(&fixture, 2, Selection::Corrected).await.1, "1/1 corrects 2");
    assert_eq!(select(&fixture, 3, Selection::Ready).await.1, "2/1");
}

#[tokio::test]
async fn a_member_without_a_live_bill_gets_no_correction() {
    let fixture = Fixture::with_bills(3).await;
    let first = fixture.ready(1).await;
    end(&fixture, &first, &keys(&[1, 2, 3], 1), Outcome::Sent).await;
    fixture.database.issue_bills(2, "values (3)").await;
    fixture
        .database
        .execute(
            "insert into quarantined_member values ('2026-10', 1, 2, 'NO_PLAN', 'x');
             insert into ineligible_member values ('2026-10', 2, 2)",
        )
        .await;
    assert_eq!(select(&fixture, 2, Selection::Corrected).await.1, "3/2 corrects 1");
}

#[tokio::test]
async fn a_bill_that_may_have_arrived_stays_so_when_sending_it_again_fails_or_is_skipped() {
    let fixture = Fixture::with_bills(6).await;
    let first = fixture.ready(1).await;
    fixture.end(&first, &[1, 2, 3, 4], Outcome::Unknown).await;
    fixture.end(&first, &[5], Outcome::Failed).await;
    let (again, found) = select(&fixture, 2, Selection::Unknown).await;
    assert_eq!(found, "1/1, 2/1, 3/1, 4/1");
    fixture.end(&again, &[1, 3], Outcome::Failed).await;
    let mut consumer = fixture.consumer("a").await;
    let skipped = consumer.claim(&again, &keys(&[2], 1)).await;
    let skipped = super::fixture::outcomes_of(&skipped, Outcome::Skipped);
    assert_eq!(consumer.hand_over_and_record(&[], &skipped).await.recorded.len(), 1);
    // Once more: member 3 is claimed, member 5 fails again.
    let (failed, found) = select(&fixture, 3, Selection::Failed).await;
    assert_eq!(found, "1/1, 3/1, 5/1");
    assert_eq!(consumer.claim(&failed, &keys(&[3], 1)).await.len(), 1);
    fixture.end(&failed, &[5], Outcome::Failed).await;
    assert_eq!(fixture.deliveries().await, "1 FAILED 2, 2 SKIPPED 2, 3 CLAIMED 3, 4 UNKNOWN 1, 5 FAILED 2");

    fixture.database.issue_bills(2, "select generate_series(1, 6)").await;
    let (corrections, found) = select(&fixture, 4, Selection::Corrected).await;
    assert_eq!(found, "1/2 corrects 1, 2/2 corrects 1, 3/2 corrects 1, 4/2 corrects 1");
    assert_eq!(select(&fixture, 5, Selection::Ready).await.1, "5/2, 6/2");
    end(&fixture, &corrections, &keys(&[1, 2, 3, 4], 2), Outcome::Sent).await;
}

#[tokio::test]
async fn what_failed_last_may_have_arrived_before_what_was_sent_since() {
    let fixture = Fixture::with_bills(1).await;
    let first = fixture.ready(1).await;
    fixture.end(&first, &[1], Outcome::Unknown).await;
    fixture.database.issue_bills(2, "values (1)").await;
    let (second, _) = select(&fixture, 2, Selection::Corrected).await;
    end(&fixture, &second, &keys(&[1], 2), Outcome::Sent).await;
    roll_back(&fixture, 2).await;
    let (again, found) = select(&fixture, 3, Selection::Unknown).await;
    assert_eq!(found, "1/1 corrects 2");
    end(&fixture, &again, &keys(&[1], 1), Outcome::Failed).await;
    fixture.database.issue_bills(3, "values (1)").await;
    assert_eq!(select(&fixture, 4, Selection::Corrected).await.1, "1/3 corrects 2");
}

/// Member 1 was handed revision 1 and has no outcome; the correction to revision 2 is selected.
async fn correction_of_a_hand_over() -> (Fixture, Consumer, Vec<ClaimedDelivery>, RunFacts) {
    let fixture = Fixture::with_bills(1).await;
    let first = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&first, &keys(&[1], 1)).await;
    consumer.hand_over(&deliveries).await;
    fixture.database.issue_bills(2, "values (1)").await;
    let (run, found) = select(&fixture, 2, Selection::Corrected).await;
    assert_eq!(found, "1/2 corrects 1");
    let claims = consumer.claims(&run, &keys(&[1], 2)).await;
    assert_eq!((claims.claimed, claims.unavailable), (vec![], keys(&[1], 2)), "it waits for the outcome");
    assert_eq!(fixture.outcomes(&run).await, "1");
    (fixture, consumer, deliveries, run)
}

#[tokio::test]
async fn a_correction_waits_for_the_outcome_of_the_bill_that_it_corrects() {
    let table = [
        (Outcome::Sent, 1, "1"),
        (Outcome::Unknown, 1, "1"),
        (Outcome::Failed, 0, "1 SKIPPED NOTHING_TO_CORRECT"),
    ];
    for (outcome, claimed, target) in table {
        let (fixture, mut consumer, deliveries, run) = correction_of_a_hand_over().await;
        let ended = super::fixture::outcomes_of(&deliveries, outcome);
        assert_eq!(consumer.hand_over_and_record(&[], &ended).await.recorded, deliveries);
        let corrections = consumer.claim(&run, &keys(&[1], 2)).await;
        assert_eq!(
            (corrections.len(), fixture.outcomes(&run).await.as_str()),
            (claimed, target),
            "{outcome:?}"
        );
        if claimed == 1 {
            consumer.deliver(&corrections, Outcome::Sent).await;
        } else {
            // Nothing was sent after all, so that it is a bill like any other.
            assert_eq!(select(&fixture, 3, Selection::Ready).await.1, "1/2");
        }
    }
}

#[tokio::test]
async fn a_correction_of_a_superseded_revision_is_not_sent() {
    let fixture = Fixture::with_bills(3).await;
    let first = fixture.ready(1).await;
    end(&fixture, &first, &keys(&[1, 2, 3], 1), Outcome::Sent).await;
    fixture.database.issue_bills(2, "values (1), (2), (3)").await;
    let (second, _) = select(&fixture, 2, Selection::Corrected).await;
    let mut consumer = fixture.consumer("a").await;
    let claimed = consumer.claim(&second, &keys(&[1], 2)).await;
    fixture.database.issue_bills(3, "values (1), (2)").await;
    let result = consumer.hand_over_and_record(&claimed, &[]).await;
    assert_eq!((members(&result.granted), members(&result.refused)), (vec![], vec![1]));
    notification::release_claims(&mut consumer.connection, consumer.id, &result.refused).await.unwrap();
    let claimed = consumer.claim(&second, &keys(&[1, 2, 3], 2)).await;
    assert_eq!(members(&claimed), [3]);
    assert_eq!(fixture.outcomes(&second).await, "1 SKIPPED SUPERSEDED, 2 SKIPPED SUPERSEDED, 3");
    assert_eq!(select(&fixture, 3, Selection::Corrected).await.1, "1/3 corrects 1, 2/3 corrects 1");
}

#[tokio::test]
async fn a_skipped_bill_is_selected_once_its_member_has_an_address() {
    let fixture = Fixture::with_bills(4).await;
    let first = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&first, &keys(&[1, 2, 3, 4], 1)).await;
    let skipped: Vec<_> = super::fixture::outcomes_of(&deliveries, Outcome::Skipped)
        .into_iter()
        .map(|ended| store::notification::DeliveryOutcome { reason: Some("NO_ADDRESS".to_owned()), ..ended })
        .collect();
    assert_eq!(consumer.hand_over_and_record(&[], &skipped).await.recorded.len(), 4);
    // Load 2 takes the addresses away, load 3 gives members 1 and 2 one, and load 4, which gives
    // member 3 one, is not finished.
    fixture
        .database
        .execute(
            "with job as (insert into job_log (kind) select 'LOAD' from generate_series(1, 3) returning id)
             insert into load (number, kind, source, state, finished_at, job)
             select n, 'LOAD', 'default', case n when 4 then 'RUNNING' else 'FINISHED' end, case when n < 4 then now() end, id
             from (select 1 + row_number() over (order by id) as n, id from job) j;
             insert into member (member_id, load, name, email)
             select id, 2, '\\x01', null from generate_series(1, 4) id
             union all values (1, 3, '\\x01'::bytea, '\\x02'::bytea), (2, 3, '\\x01', '\\x02'), (3, 4, '\\x01', '\\x02')",
        )
        .await;
    let (run, found) = select(&fixture, 2, Selection::Skipped).await;
    assert_eq!(found, "1/1, 2/1");
    end(&fixture, &run, &keys(&[1], 1), Outcome::Sent).await;
    // A claim that is given back is skipped again.
    let claimed = consumer.claim(&run, &keys(&[2], 1)).await;
    notification::release_claims(&mut consumer.connection, consumer.id, &claimed).await.unwrap();
    assert_eq!(fixture.deliveries().await, "1 SENT 2, 2 SKIPPED 1, 3 SKIPPED 1, 4 SKIPPED 1");
    assert_eq!(select(&fixture, 3, Selection::Skipped).await.1, "2/1");
    let kind = "select kind from job_log where run = 'test/run-2'";
    assert_eq!(fixture.database.read_text(kind).await, "SEND");
}

fn members_of(ids: &[i64]) -> Vec<domain::ids::MemberId> {
    ids.iter().map(|id| super::fixture::member(*id)).collect()
}
