//! Sums over the chunks of a revision.

use jiff::Timestamp;
use sqlx::PgConnection;

use super::amounts::{AmountTexts, Amounts, Counts};
use super::billing_error::BillingError;
use super::not_charged::NotCharged;
use super::posted_differences::PostedDifferences;
use super::revision::RevisionKey;
use crate::decode::read_amount;
use crate::error::During as _;

/// The chunks of a revision. Counts and amounts are those of the chunks that are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChunkSums {
    pub(super) chunks: i64,
    pub(super) chunks_done: i64,
    /// Members of the chunks done within the last ten seconds.
    pub(super) members_done_recently: i64,
    /// When the first chunk that is done was claimed.
    pub(super) first_claim_at: Option<Timestamp>,
    pub(super) last_done_at: Option<Timestamp>,
    pub(super) counts: Counts,
    pub(super) amounts: Amounts,
    /// Outcomes that the revision wrote.
    pub(super) changed: i64,
    /// The versions of the pricing rules of the workers, ascending.
    pub(super) pricing_versions: Vec<i32>,
    pub(super) not_charged: NotCharged,
    pub(super) posted: PostedDifferences,
}

/// Sums the chunks of a revision.
pub(super) async fn sum_chunks(
    connection: &mut PgConnection,
    key: &RevisionKey,
) -> Result<ChunkSums, BillingError> {
    let row = sqlx::query!(
        r#"select count(*) as "chunks!", count(*) filter (where state = 'DONE') as "chunks_done!",
                  min(started_at) as "first_claim_at: jiff_sqlx::Timestamp",
                  max(done_at) as "last_done_at: jiff_sqlx::Timestamp",
                  coalesce(sum(billed + quarantined) filter (where done_at > now() - interval '10 seconds'), 0)::bigint
                      as "recently!",
                  coalesce(sum(billed), 0)::bigint as "billed!", coalesce(sum(quarantined), 0)::bigint as "quarantined!",
                  coalesce(sum(items), 0)::bigint as "items!", coalesce(sum(rated_usage), 0)::bigint as "rated!",
                  coalesce(sum(unbillable_usage), 0)::bigint as "unbillable!",
                  coalesce(sum(quarantined_usage), 0)::bigint as "quarantined_usage!",
                  coalesce(sum(base_amount), 0)::text as "base!", coalesce(sum(usage_amount), 0)::text as "usage!",
                  coalesce(sum(discount_amount), 0)::text as "discount!",
                  coalesce(sum(adjustment_amount), 0)::text as "adjustment!",
                  coalesce(sum(tax_amount), 0)::text as "tax!", coalesce(sum(rounding_amount), 0)::text as "rounding!",
                  coalesce(sum(total_amount), 0)::text as "total!",
                  coalesce(sum(coalesce(changed, billed + quarantined)), 0)::bigint as "changed!",
                  coalesce(array_agg(distinct pricing_version) filter (where pricing_version is not null), '{}')
                      as "pricing_versions!",
                  coalesce(sum(not_charged_add_ons), 0)::bigint as "not_charged_add_ons!",
                  coalesce(sum(not_charged_adjustments), 0)::bigint as "not_charged_adjustments!",
                  coalesce(sum(not_charged_adjustment_amount), 0)::text as "not_charged_adjustment_amount!",
                  coalesce(sum(not_charged_usage), 0)::bigint as "not_charged_usage!",
                  coalesce(sum(posted), 0)::bigint as "posted!", coalesce(sum(posted_amount), 0)::text as "posted_amount!"
           from chunk where month = $1 and revision = $2"#,
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_one(connection)
    .await
    .during("cannot sum the chunks")?;
    let amounts = AmountTexts {
        base: row.base,
        usage: row.usage,
        discount: row.discount,
        adjustment: row.adjustment,
        tax: row.tax,
        rounding: row.rounding,
        total: row.total,
    };
    Ok(ChunkSums {
        chunks: row.chunks,
        chunks_done: row.chunks_done,
        members_done_recently: row.recently,
        first_claim_at: row.first_claim_at.map(jiff_sqlx::Timestamp::to_jiff),
        last_done_at: row.last_done_at.map(jiff_sqlx::Timestamp::to_jiff),
        counts: Counts {
            billed: row.billed,
            quarantined: row.quarantined,
            items: row.items,
            rated_usage: row.rated,
            unbillable_usage: row.unbillable,
            quarantined_usage: row.quarantined_usage,
        },
        amounts: amounts.parse()?,
        changed: row.changed,
        pricing_versions: row.pricing_versions,
        not_charged: NotCharged {
            add_ons: row.not_charged_add_ons,
            adjustments: row.not_charged_adjustments,
            adjustment_amount: read_amount(
                "chunk.not_charged_adjustment_amount",
                &row.not_charged_adjustment_amount,
            )?,
            usage_rows: row.not_charged_usage,
        },
        posted: PostedDifferences {
            members: row.posted,
            amount: read_amount("chunk.posted_amount", &row.posted_amount)?,
        },
    })
}
