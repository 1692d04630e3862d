//! Prices the chunks of a revision without the loop of `monthend bill`: one worker, one member
//! after the other.

use std::collections::{BTreeMap, BTreeSet};

use domain::change_cause::ChangeCause;
use domain::ids::MemberId;
use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use domain::pricing::{Adjustment, Eligibility, Grant, Pricer, Subscription, UsageSum};
use sqlx::{Connection as _, PgConnection};
use store::billing::RevisionKey;
use store::billing::chunk::{self, Change, ChunkClaim, ChunkOutcomes, ChunkSpan, UsageBoundaries};
use store::installation;
use store::load::DataVersion;
use store::testing::BillingFixture;

/// Begins a run, prices its chunks, verifies and issues the revision. Returns the live bills as
/// text.
pub(crate) async fn bill_month(fixture: &BillingFixture) -> String {
    let key = fixture.begin(1).await.key;
    bill_shards(fixture, &key).await;
    fixture.issue(&key).await
}

/// Prices every chunk of both shards.
pub(crate) async fn bill_shards(fixture: &BillingFixture, key: &RevisionKey) {
    for shard in 0..2 {
        bill_shard(fixture, key, shard).await;
    }
}

/// Prices every chunk of a shard.
pub(crate) async fn bill_shard(fixture: &BillingFixture, key: &RevisionKey, shard: i32) {
    let mut connection = fixture.database.connect_as("monthend_worker").await;
    let inputs = chunk::read_pinned_inputs(&mut connection, key).await.unwrap();
    let price_book = PriceBook::parse(&inputs.price_book).unwrap();
    let month = installation::read(&mut connection).await.unwrap().zone.month(key.month);
    let pricer = Pricer::new(&price_book, &month);
    loop {
        let mut tx = connection.begin().await.unwrap();
        let claimed = match chunk::claim_chunk(&mut tx, key, shard).await.unwrap() {
            ChunkClaim::Claimed(claimed) => claimed,
            ChunkClaim::ShardDone => return,
            ChunkClaim::HeldByOthers => panic!("there is no other worker"),
        };
        let (of_revision, after_sent) = (inputs.of_revision, inputs.after_sent);
        let live = chunk::read_live_outcomes(&mut tx, &claimed.span, key.month, of_revision, after_sent)
            .await
            .unwrap();
        let outcomes = ChunkOutcomes::new(key, live);
        let mut outcomes =
            price_chunk(&mut tx, &pricer, outcomes, &claimed.span, key.month, &inputs.data).await;
        if inputs.of_revision.is_some() {
            // The worker finds the causes; here the plan always is.
            let cause = |change: &Change| {
                if change.is_quarantine() { ChangeCause::Quarantine } else { ChangeCause::Plan }
            };
            let causes = outcomes.changes().iter().map(cause).collect();
            outcomes.explain(causes);
        }
        chunk::complete_chunk(&mut tx, key, &claimed, outcomes, "test").await.unwrap();
        tx.commit().await.unwrap();
    }
}

async fn price_chunk(
    tx: &mut PgConnection,
    pricer: &Pricer<'_>,
    mut outcomes: ChunkOutcomes,
    span: &ChunkSpan,
    month: BillingMonth,
    data: &DataVersion,
) -> ChunkOutcomes {
    let members = chunk::read_members(tx, span, data).await.unwrap();
    let subscriptions = chunk::read_subscriptions(tx, span, month, data).await.unwrap();
    let grants = chunk::read_grants(tx, span, month, data).await.unwrap();
    let adjustments = chunk::read_adjustments(tx, span, month, data).await.unwrap();
    let mut boundaries = UsageBoundaries::default();
    let mut eligibilities: BTreeMap<MemberId, Eligibility<'_>> = BTreeMap::new();
    for member in &members {
        let own: Vec<Subscription<'_>> = subscriptions
            .iter()
            .filter(|row| row.member_id == *member)
            .map(|row| Subscription { plan: &row.plan_code, from: row.from_date, to: row.to_date })
            .collect();
        let eligibility = pricer.eligibility(&own);
        boundaries.add(*member, eligibility.usage_boundaries());
        eligibilities.insert(*member, eligibility);
    }
    let usage = chunk::read_usage(tx, span, month, data, &boundaries).await.unwrap();
    let everyone: BTreeSet<MemberId> =
        members.into_iter().chain(usage.iter().map(|row| row.member_id)).collect();
    for member in everyone {
        let grants: Vec<Grant<'_>> = grants
            .iter()
            .filter(|row| row.member_id == member)
            .map(|row| Grant { discount: &row.discount_code, from: row.from_date, to: row.to_date })
            .collect();
        let adjustments: Vec<Adjustment<'_>> = adjustments
            .iter()
            .filter(|row| row.member_id == member)
            .map(|row| Adjustment { id: row.id, code: &row.code, amount: MinorUnits::new(row.amount) })
            .collect();
        let usage: Vec<UsageSum<'_>> = usage
            .iter()
            .filter(|row| row.member_id == member)
            .map(|row| UsageSum {
                kind: &row.kind,
                interval: row.interval,
                quantity: row.quantity,
                rows: row.rows,
            })
            .collect();
        let eligibility = eligibilities.get(&member).unwrap_or(&Eligibility::NotEligible);
        outcomes.add(member, &pricer.price(eligibility, &grants, &adjustments, &usage)).unwrap();
    }
    outcomes
}
