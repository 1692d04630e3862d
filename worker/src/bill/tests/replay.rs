//! A month that is priced again from what its revisions pinned, which gives what the worker wrote,
//! whatever was loaded, taken back or rolled back since; and what of it is changed by hand is found.

use domain::ids::MemberId;
use domain::pricing::VERSION;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::billing::{RollbackResult, Scope};
use store::pool::connect_one;
use store::testing::sample_month::EVERYTHING;
use tokio_util::sync::CancellationToken;

use super::Fixture;
use super::rebilling::{begun, corrected_price_book};
use crate::verify::replay::{Replay, replay_month};

async fn replay(fixture: &Fixture, connection: &mut PgConnection) -> Replay {
    let month = fixture.month.parse().unwrap();
    replay_month(connection, month, &CancellationToken::new()).await.unwrap().expect("nothing stopped it")
}

/// Replays the month as `monthend verify` does, under the worker's role, and returns what was
/// compared.
pub(super) async fn replay_that_holds(fixture: &Fixture) -> Vec<String> {
    let mut connection = connect_one(&fixture.worker, "test").await.unwrap();
    let mut snapshot =
        connection.begin_with("begin isolation level repeatable read, read only").await.unwrap();
    let replay = replay(fixture, &mut snapshot).await;
    assert_eq!((replay.found, replay.violations), (0, Vec::new()));
    replay.notes
}

const FIRST: &str = "revision 1, data cut-off 1: 12 billed and 4 in quarantine, of which 0 differ";
const SECOND: &str = "revision 2, data cut-off 2: 12 billed and 3 in quarantine, of which 0 differ";

/// A month that was billed and, with another price book and corrected data, billed again.
async fn billed_again() -> Fixture {
    let (fixture, key) = begun().await;
    fixture.work_all(&key).await;
    fixture.issue(&key).await;
    fixture
}

#[tokio::test]
async fn each_live_revision_is_priced_again_from_what_it_pinned() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    assert_eq!(replay_that_holds(&fixture).await, ["month 2026-10 has no live revision"]);
    let draft = fixture.begin(1).await;
    fixture.work_all(&draft.key).await;
    assert_eq!(replay_that_holds(&fixture).await, ["month 2026-10 has no live revision"]);
    fixture.issue(&draft.key).await;
    assert_eq!(replay_that_holds(&fixture).await, [FIRST]);

    let fixture = billed_again().await;
    assert_eq!(replay_that_holds(&fixture).await, [FIRST, SECOND]);
    // As of load 1 everything changes back.
    let store::billing::BeginResult::Started(third) = fixture.try_rebill(3, 2, Some(1)).await else {
        panic!("load 1 has finished and revision 2 is live");
    };
    fixture.work_all(&third.key).await;
    fixture.issue(&third.key).await;
    let last = FIRST.replace("revision 1", "revision 3");
    assert_eq!(replay_that_holds(&fixture).await, [FIRST, SECOND, &last]);
}

#[tokio::test]
async fn what_is_loaded_taken_back_or_rolled_back_later_makes_no_difference() {
    let fixture = billed_again().await;
    let late = r"
        insert into member (member_id, load, name) values (60, 3, '\x00'), (40, 3, '\x01');
        insert into subscription (member_id, plan_code, from_date, to_date, load) values
            (60, 'LTE-33', '2026-01-01', null, 3), (40, 'LTE-33', '2026-01-01', null, 3),
            (2, 'INSURANCE', '2026-10-20', '2026-10-20', 3);
        insert into discount_grant (member_id, discount_code, from_date, load) values (6, 'FAMILY', '2026-01-01', 3);
        insert into adjustment values (9, 7, '2026-10', 'LATE', 5, 'late', 3);
        insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
            (1000000, '2026-10-12T00:00:00+09:00', 999999, 3, 'voice', '2026-10', 'default', 'late')";
    fixture.load(3, late).await;
    assert_eq!(replay_that_holds(&fixture).await, [FIRST, SECOND]);
    // Load 2 was billed in revision 2, and load 1 in both.
    for load in [2, 1] {
        fixture.take_back(load).await;
        assert_eq!(replay_that_holds(&fixture).await, [FIRST, SECOND], "load {load} is taken back");
    }
    // A take-back within the cut-off counts: nothing but load 3 is left, and nobody is known of it but
    // members 40 and 60.
    let key = fixture.rebill(3, 2, &corrected_price_book(&fixture)).await.key;
    fixture.work_all(&key).await;
    fixture.issue(&key).await;
    let third = "revision 3, data cut-off 5: 2 billed and 0 in quarantine, of which 0 differ";
    assert_eq!(replay_that_holds(&fixture).await, [FIRST, SECOND, third]);

    // A revision that is not live is not priced again, whatever has become of its bills.
    for (uid, revision) in [(20, 3), (21, 2)] {
        assert!(matches!(fixture.roll_back(uid, revision).await, RollbackResult::RolledBack(_)));
    }
    fixture.database.execute("update bill set total_amount = 0 where revision <> 1").await;
    assert_eq!(replay_that_holds(&fixture).await, [FIRST]);
}

#[tokio::test]
async fn the_members_of_a_scope_are_priced_again_and_nobody_else() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.bill().await;
    let id = |id: i64| MemberId::try_from(id).unwrap();
    let members = Scope::Members([1, 10, 34, 77, i64::MAX].map(id).to_vec());
    let range = Scope::Range { from: id(1), to: id(31) };
    let cheaper = fixture.price_book.replace("baseFee: 33000", "baseFee: 30000");
    let corrected = corrected_price_book(&fixture);
    let mut notes = vec![FIRST.to_owned()];
    for (revision, book, scope, figures) in [
        (2, &cheaper, members, "3 billed and 1 in quarantine"),
        (3, &corrected, Scope::Quarantined, "1 billed and 3 in quarantine"),
        (4, &corrected, range, "11 billed and 0 in quarantine"),
    ] {
        let uid = u128::try_from(revision).unwrap();
        let key = fixture.rebill_scope(uid, revision - 1, book, &scope, None).await.key;
        fixture.work_all(&key).await;
        fixture.issue(&key).await;
        notes.push(format!("revision {revision}, data cut-off 1: {figures}, of which 0 differ"));
        assert_eq!(replay_that_holds(&fixture).await, notes, "{scope:?}");
    }
    // Member 1 is of the scope of revision 2 and 4; member 2 only of that of revision 4.
    fixture.database.execute("delete from bill_item where member_id = 2 and line_no = 2").await;
    fixture
        .database
        .execute("delete from bill_item where member_id = 1 and line_no = 1 and revision = 2")
        .await;
    let mut connection = fixture.database.connect().await;
    let found = replay(&fixture, &mut connection).await.violations.join("\n");
    assert_eq!(
        found,
        "member 2 revision 1: line 2 ADDON INSURANCE is missing, priced 1897\n\
         member 1 revision 2: line 1 BASE LTE-33 is missing, priced 20323\n\
         member 2 revision 4: line 2 ADDON INSURANCE is missing, priced 1897"
    );
}

#[tokio::test]
async fn what_is_changed_by_hand_is_found() {
    let fixture = billed_again().await;
    let mut connection = fixture.database.connect().await;
    let table: [(&str, &[&str]); 11] = [
        (
            // The total and the parts stay as they are.
            "update bill_item set amount = amount + case line_no when 1 then 10 else -10 end
             where member_id = 2 and line_no in (1, 2)",
            &[
                "member 2 revision 1: line 1 BASE UNLIMITED-89: amount 89010, priced 89000; line 2 ADDON INSURANCE: amount 1887, priced 1897",
                "member 2 revision 2: line 1 BASE UNLIMITED-89: amount 89010, priced 89000; line 2 ADDON INSURANCE: amount 1887, priced 1897",
            ],
        ),
        (
            "update bill set digest = '\\x00000000000000000000000000000000' where member_id = 1 and revision = 2",
            &["member 1 revision 2: digest 00000000000000000000000000000000, priced "],
        ),
        (
            "delete from bill_item where member_id = 3 and revision = 2 and line_no = 2",
            &["member 3 revision 2: line 2 ADJUSTMENT GOODWILL is missing, priced -1000"],
        ),
        (
            "insert into bill values (40, 0, 0, 0, 0, 0, 0, 0, 2, '2026-10')",
            &["member 40 revision 2: a bill of 0, priced: no outcome, not eligible"],
        ),
        (
            // Nothing at all is known of member 41.
            "insert into bill values (41, 0, 0, 0, 0, 0, 0, 0, 2, '2026-10')",
            &["member 41 revision 2: a bill of 0, priced: no outcome, not eligible"],
        ),
        (
            "delete from bill where member_id = 50; delete from bill_item where member_id = 50",
            &["member 50 revision 2: no outcome, priced: a bill of 33000"],
        ),
        (
            "insert into ineligible_member values ('2026-10', 8, 2)",
            &["member 8 revision 2: no outcome, priced: a bill of 89000"],
        ),
        (
            "delete from quarantined_member where member_id = 34",
            &[
                "member 34 revision 1: no outcome, priced: quarantine for AMOUNT_OVERFLOW",
                "member 34 revision 2: no outcome, priced: quarantine for AMOUNT_OVERFLOW",
            ],
        ),
        (
            "update quarantined_member set code = 'UNKNOWN_PLAN' where member_id = 34",
            &[
                "member 34 revision 1: quarantine for UNKNOWN_PLAN, priced: quarantine for AMOUNT_OVERFLOW",
                "member 34 revision 2: quarantine for UNKNOWN_PLAN, priced: quarantine for AMOUNT_OVERFLOW",
            ],
        ),
        (
            "update adjustment set amount = -2000 where adjustment_id = 3",
            &["member 3 revision 2: adjustment amount -1500, priced -3000; "],
        ),
        (
            "update price_book set content = content || '# changed' where sha256 = (select price_book from revision where revision = 1)",
            &["revision 1 pinned price book "],
        ),
    ];
    for (statement, expected) in table {
        let mut planted = connection.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *planted).await.unwrap();
        let replay = replay(&fixture, &mut planted).await;
        planted.rollback().await.unwrap();
        let violations = replay.violations;
        let as_expected = violations.len() == expected.len()
            && violations.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
        assert!(as_expected, "{statement}: {violations:#?} instead of {expected:#?}");
        assert_eq!(replay.found, expected.len() as u64, "{statement}");
    }
}

#[tokio::test]
async fn every_difference_is_counted_and_the_first_ones_are_named() {
    let mut fixture = Fixture::new().await;
    fixture.billing.chunk_size = 7;
    fixture
        .load(
            1,
            r"insert into member (member_id, load, name) select id, 1, '\x00' from generate_series(1, 30) id;
              insert into subscription (member_id, plan_code, from_date, load)
                  select id, 'LTE-33', '2026-01-01', 1 from generate_series(1, 30) id",
        )
        .await;
    fixture.bill().await;
    fixture.database.execute("update bill_item set amount = 1 where line_no = 1 and member_id > 5").await;
    let mut connection = fixture.database.connect().await;
    let replay = replay(&fixture, &mut connection).await;
    assert_eq!((replay.found, replay.violations.len()), (25, 20));
    assert!(replay.violations[0].starts_with("member 6 revision 1: "), "{:?}", replay.violations);
    assert_eq!(
        replay.notes,
        ["revision 1, data cut-off 1: 30 billed and 0 in quarantine, of which 25 differ"]
    );
}

#[tokio::test]
async fn another_version_of_the_pricing_rules_is_named_and_the_bills_are_compared() {
    let fixture = billed_again().await;
    fixture
        .database
        .execute("update chunk set pricing_version = 77 where revision = 1 and chunk_no = 2")
        .await;
    let mut connection = fixture.database.connect().await;
    let held = replay(&fixture, &mut connection).await;
    assert_eq!((held.found, held.other_rules), (0, true));
    let note = format!(
        "revision 1 was priced with other pricing rules: version {VERSION}, 77; this program has version {VERSION}, \
         and differences can come from it"
    );
    assert_eq!(held.notes, [FIRST, &note, SECOND]);
    fixture.database.execute("update bill_item set amount = 1 where member_id = 2 and line_no = 1").await;
    assert_eq!(replay(&fixture, &mut connection).await.found, 2);
}

#[tokio::test]
async fn a_replay_that_is_stopped_has_no_result() {
    let fixture = billed_again().await;
    let stop = CancellationToken::new();
    stop.cancel();
    let mut connection = fixture.database.connect().await;
    let stopped = replay_month(&mut connection, fixture.month.parse().unwrap(), &stop).await.unwrap();
    assert!(stopped.is_none(), "{stopped:?}");
}
