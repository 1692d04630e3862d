//! Why outcomes change in a re-billing: a member for each kind of change and for each pair of kinds,
//! in one chunk and in several.

use std::fmt::Write as _;

use domain::change_cause::ChangeCause;
use domain::ids::MemberId;
use store::billing::{CauseShare, Diff, RevisionKey, Scope};

use super::Fixture;

/// A kind of change that concerns one member, and the statements of load 2 that make it. `{plan}`
/// is the member's plan.
const KINDS: [(&str, &str); 7] = [
    // The corrected price book has another fee for the plan OTHER, which these members have.
    ("PRICE_BOOK", ""),
    (
        "PLAN",
        "insert into subscription (member_id, plan_code, from_date, to_date, load) values
             ({id}, '{plan}', '2026-01-01', '2026-10-16', 2), ({id}, 'UNLIMITED-89', '2026-10-16', null, 2);",
    ),
    (
        "ADDON",
        "insert into subscription (member_id, plan_code, from_date, load) values ({id}, 'INSURANCE', '2026-10-20', 2);",
    ),
    (
        "DISCOUNT",
        "insert into discount_grant (member_id, discount_code, from_date, load) values ({id}, 'CONTRACT-25', '2026-01-01', 2);",
    ),
    (
        "ADJUSTMENT",
        "insert into adjustment (adjustment_id, member_id, month, code, amount, reason, load)
             values ({id}, {id}, '2026-10', 'GOODWILL', -500, 'sorry', 2);",
    ),
    (
        "LATE_USAGE",
        "insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id)
             values ({id}, '2026-10-13T00:00:00+09:00', 500, 2, 'voice', '2026-10', 'default', '{id} late');",
    ),
    (
        "QUARANTINE",
        "insert into subscription (member_id, plan_code, from_date, load) values ({id}, 'NO-SUCH-PLAN', '2026-10-31', 2);",
    ),
];

/// The numbers of the kinds of each member: one, or two that differ.
fn members() -> impl Iterator<Item = (usize, usize)> {
    (0..KINDS.len()).flat_map(|one| (one..KINDS.len()).map(move |other| (one, other)))
}

fn id((one, other): (usize, usize)) -> usize {
    100 + 10 * one + other
}

/// The causes of all members that have a kind or a pair of kinds, as `bill_diff` is to have them.
fn expected(late_usage: &str) -> String {
    let cause = |(one, other): (usize, usize)| match (KINDS[one].0, KINDS[other].0) {
        (one, other) if [one, other].contains(&"QUARANTINE") => "QUARANTINE",
        (one, other) if one != other => "MORE_THAN_ONE",
        ("LATE_USAGE", _) => late_usage,
        (one, _) => one,
    };
    members().map(|member| format!("{} {}", id(member), cause(member))).collect::<Vec<_>>().join(", ")
}

/// Members 1 to 3 beside the others: one that stays, one that is new in load 2, and one that ends
/// with it.
async fn loaded(chunk_size: i32) -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture.billing.chunk_size = chunk_size;
    fixture.billing.price_book = fixture.price_book.replacen(
        "plans:\n",
        "plans:\n  - { code: OTHER, name: Other, baseFee: 20000, usage: { voice: { allowance: 0, per: 1, tiers: [ { rate: \"1\" } ] } } }\n",
        1,
    );
    let mut first = "insert into member (member_id, load, name) values (1, 1, ''), (3, 1, '');
                     insert into subscription (member_id, plan_code, from_date, load)
                         values (1, 'LTE-33', '2026-01-01', 1), (3, 'LTE-33', '2026-01-01', 1);"
        .to_owned();
    let mut second = "insert into member (member_id, load, name) values (2, 2, '');
                      insert into subscription (member_id, plan_code, from_date, to_date, load)
                          values (2, 'UNLIMITED-89', '2026-01-01', null, 2), (3, 'LTE-33', '2026-01-01', '2026-01-01', 2);"
        .to_owned();
    for member in members() {
        let (id, kinds) = (id(member), [KINDS[member.0], KINDS[member.1]]);
        let plan = if kinds.iter().any(|(name, _)| *name == "PRICE_BOOK") { "OTHER" } else { "LTE-33" };
        write!(
            first,
            "insert into member (member_id, load, name) values ({id}, 1, '');
             insert into subscription (member_id, plan_code, from_date, load) values ({id}, '{plan}', '2026-01-01', 1);
             insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id)
                 values ({id}, '2026-10-12T00:00:00+09:00', 9000, 1, 'voice', '2026-10', 'default', '{id}');"
        )
        .unwrap();
        let own = if member.0 == member.1 { &kinds[..1] } else { &kinds };
        for (_, statements) in own {
            second += &statements.replace("{id}", &id.to_string()).replace("{plan}", plan);
        }
    }
    fixture.load(1, &first).await;
    fixture.bill().await;
    fixture.load(2, &second).await;
    fixture
}

fn corrected_price_book(fixture: &Fixture) -> String {
    let corrected = fixture.price_book.replace("baseFee: 20000", "baseFee: 20100");
    assert_ne!(corrected, fixture.price_book);
    corrected
}

/// The members of [`members`] with their causes.
async fn causes(fixture: &Fixture, revision: i32) -> String {
    fixture
        .database
        .read_text(&format!(
            "select string_agg(format('%s %s', member_id, cause), ', ' order by member_id)
             from bill_diff where revision = {revision} and member_id >= 100"
        ))
        .await
}

async fn billed_again(fixture: &Fixture, key: &RevisionKey) -> Diff {
    fixture.work_all(key).await;
    fixture.issue(key).await;
    fixture.observe(key).await.diff.expect("the diff of a re-billing")
}

#[tokio::test]
async fn each_kind_of_change_and_each_pair_has_its_cause() {
    for chunk_size in [1000, 3] {
        let fixture = loaded(chunk_size).await;
        let second = fixture.rebill(2, 1, &corrected_price_book(&fixture)).await;
        assert_eq!(second.chunks == 1, chunk_size == 1000);
        let diff = billed_again(&fixture, &second.key).await;
        assert_eq!(causes(&fixture, 2).await, expected("LATE_USAGE"));
        assert_eq!((diff.changed, diff.unchanged, diff.added, diff.removed), (28, 1, 1, 1));
        let share = |cause| diff.causes.iter().find(|share| share.cause == cause).unwrap();
        // All other pairs, and a quarantine with each kind and alone.
        assert_eq!(share(ChangeCause::MoreThanOne).members, 15);
        assert_eq!(share(ChangeCause::Quarantine).members, 7);
        assert_eq!(
            *share(ChangeCause::PriceBook),
            CauseShare { cause: ChangeCause::PriceBook, members: 1, delta: 100 }
        );
        assert_eq!(
            *share(ChangeCause::Adjustment),
            CauseShare { cause: ChangeCause::Adjustment, members: 1, delta: -500 }
        );
        // Who is new, who is gone, and who has another plan.
        assert_eq!(share(ChangeCause::Plan).members, 3);
        assert_eq!(diff.causes.iter().map(|share| share.delta).sum::<i128>(), diff.total_delta());

        // Back again, as of load 1: the usage of load 2 does not count any more.
        let store::billing::BeginResult::Started(third) = fixture.try_rebill(3, 2, Some(1)).await else {
            panic!("load 1 has finished and revision 2 is live");
        };
        let back = billed_again(&fixture, &third.key).await;
        assert_eq!(causes(&fixture, 3).await, expected("USAGE"));
        assert_eq!((back.changed, back.unchanged, back.added, back.removed), (28, 1, 1, 1));
        assert_eq!((back.increase, back.decrease), (-diff.decrease, -diff.increase));
    }
}

#[tokio::test]
async fn a_load_that_was_taken_back_is_the_cause_of_what_it_no_longer_brings() {
    for chunk_size in [1000, 3] {
        let fixture = loaded(chunk_size).await;
        let corrected = corrected_price_book(&fixture);
        let second = fixture.rebill(2, 1, &corrected).await;
        let diff = billed_again(&fixture, &second.key).await;
        fixture.take_back(2).await;
        let third = fixture.rebill(3, 2, &fixture.price_book).await;
        let back = billed_again(&fixture, &third.key).await;
        assert_eq!(causes(&fixture, 3).await, expected("USAGE"));
        assert_eq!((back.changed, back.unchanged, back.added, back.removed), (28, 1, 1, 1));
        assert_eq!((back.increase, back.decrease), (-diff.decrease, -diff.increase));

        // As of load 2 it was not taken back, also when revision 3 is what the member had before.
        let fourth = fixture.rebill_scope(4, 3, &corrected, &Scope::Everyone, Some(2)).await;
        billed_again(&fixture, &fourth.key).await;
        assert_eq!(causes(&fixture, 4).await, expected("LATE_USAGE"));
    }
}

#[tokio::test]
async fn a_member_is_compared_with_the_revision_that_billed_it_last() {
    let fixture = loaded(1000).await;
    let second = fixture.rebill(2, 1, &corrected_price_book(&fixture)).await;
    billed_again(&fixture, &second.key).await;
    // Only the price book is new since revision 2. The bill of member 1 is of revision 1, and member 4
    // has none.
    fixture
        .load(
            3,
            "insert into member (member_id, load, name) values (4, 3, '');
             insert into subscription (member_id, plan_code, from_date, load) values (4, 'LTE-33', '2026-01-01', 3)",
        )
        .await;
    let dearer = corrected_price_book(&fixture).replace("baseFee: 33000", "baseFee: 33100");
    let third = fixture.rebill(3, 2, &dearer).await;
    billed_again(&fixture, &third.key).await;
    assert_eq!(
        fixture
            .database
            .read_text(
                "select string_agg(format('%s %s %s', member_id, change, cause), ', ' order by member_id)
                 from bill_diff where revision = 3 and member_id in (1, 4, 155)"
            )
            .await,
        // 155 has the late usage since revision 2.
        "1 CHANGED PRICE_BOOK, 4 ADDED MORE_THAN_ONE, 155 CHANGED PRICE_BOOK"
    );
}

#[tokio::test]
async fn with_the_same_data_only_the_price_book_or_the_calculation_can_be_the_cause() {
    let fixture = loaded(3).await;
    let key = fixture.rebill(2, 1, &fixture.price_book).await.key;
    billed_again(&fixture, &key).await;
    // The price book without the plan of some: a quarantine, whatever the reason.
    let without = fixture.price_book.replace("code: OTHER", "code: ANOTHER");
    let cheaper = without.replace("baseFee: 89000", "baseFee: 88000");
    let third = fixture.rebill(3, 2, &cheaper).await.key;
    fixture.work_all(&third).await;
    let counted = "select string_agg(line, ', ' order by line) from (
                       select format('%s %s', cause, count(*)) as line from bill_diff where revision = 3 group by cause) l";
    // Of 7 members with the plan OTHER, one was in quarantine already. Of 8 members with the cheaper plan,
    // one had the plan OTHER, and one is in quarantine already.
    assert_eq!(fixture.database.read_text(counted).await, "PRICE_BOOK 6, QUARANTINE 6");

    // The same price book: somebody has lost a bill by hand.
    let same = loaded(3).await;
    let key = same.rebill(2, 1, &same.price_book).await.key;
    billed_again(&same, &key).await;
    let by_hand = "delete from bill where member_id = 100; delete from bill_item where member_id = 100";
    same.database.execute(by_hand).await;
    let third = same.rebill(3, 2, &same.price_book).await.key;
    same.work_all(&third).await;
    assert_eq!(
        same.database
            .read_text(
                "select string_agg(format('%s %s', member_id, cause), ', ') from bill_diff where revision = 3"
            )
            .await,
        "100 CALCULATION"
    );
}

/// The changes of a revision with their causes.
async fn changes(fixture: &Fixture, revision: i32) -> String {
    let changes = format!(
        "select string_agg(format('%s %s %s', member_id, change, cause), ', ' order by member_id)
         from bill_diff where revision = {revision}"
    );
    fixture.database.read_text(&changes).await
}

#[tokio::test]
async fn what_a_revision_has_seen_is_no_cause_of_a_later_change() {
    let fixture = Fixture::new().await;
    fixture
        .load(
            1,
            "insert into member (member_id, load, name) select id, 1, '' from generate_series(1, 5) id;
             insert into subscription (member_id, plan_code, from_date, load) values (3, 'LTE-33', '2026-01-01', 1)",
        )
        .await;
    fixture.bill().await;
    // The grants come late. Without a plan they change nothing.
    fixture
        .load(
            2,
            "insert into discount_grant (member_id, discount_code, from_date, load)
                 select id, 'CONTRACT-25', '2026-01-01', 2 from unnest(array[1, 2, 4, 5]) id",
        )
        .await;
    let member = |id: i64| MemberId::try_from(id).unwrap();
    let range = Scope::Range { from: member(1), to: member(1) };
    let list = Scope::Members(vec![member(3), member(4)]);
    for (uid, of_revision, scope) in [(2, 1, range), (3, 2, list)] {
        let key = fixture.rebill_scope(uid, of_revision, &fixture.price_book, &scope, None).await.key;
        billed_again(&fixture, &key).await;
        assert_eq!(changes(&fixture, key.revision.get()).await, "");
    }
    let plans = |load: i64, ids: &str| {
        format!(
            "insert into subscription (member_id, plan_code, from_date, load)
                 select id, 'LTE-33', '2026-01-01', {load} from unnest(array[{ids}]) id"
        )
    };
    fixture.load(3, &plans(3, "1, 2, 4")).await;
    let fourth = fixture.rebill(4, 3, &fixture.price_book).await;
    billed_again(&fixture, &fourth.key).await;
    // The grant of member 2 is new: it was in neither scope.
    assert_eq!(changes(&fixture, 4).await, "1 ADDED PLAN, 2 ADDED MORE_THAN_ONE, 4 ADDED PLAN");

    // Everyone was billed since the grant came.
    fixture.load(4, &plans(4, "5")).await;
    let fifth = fixture.rebill(5, 4, &fixture.price_book).await;
    billed_again(&fixture, &fifth.key).await;
    assert_eq!(changes(&fixture, 5).await, "5 ADDED PLAN");
}
