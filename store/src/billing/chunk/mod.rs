//! One chunk's transaction, step by step: check that the run still holds the month, claim the
//! chunk, read its inputs, write its results, mark it done. Pricing, between reading and writing,
//! is the caller's. A re-billing also reads the live outcomes and writes only those that change, each
//! with its cause, which the caller finds. No statement is executed per member.
//!
//! A claim is the chunk's row lock: when a worker dies, its connection ends and the chunk is free
//! again.

mod change;
mod chunk_inputs;
mod chunk_outcomes;
mod chunk_span;
mod claim_chunk;
mod comparison;
mod complete_chunk;
mod live_outcomes;
mod prior_inputs;
mod shard;

pub use self::change::{Change, ChangeSide};
pub use self::chunk_inputs::{
    AdjustmentRow, GrantRow, SubscriptionRow, UsageBoundaries, UsageRow, read_adjustments, read_grants,
    read_members, read_subscriptions, read_usage,
};
pub use self::chunk_outcomes::ChunkOutcomes;
pub use self::chunk_span::ChunkSpan;
pub use self::claim_chunk::{ChunkClaim, ClaimedChunk, claim_chunk};
pub use self::complete_chunk::{complete_chunk, is_chunk_done};
pub use self::live_outcomes::{LiveOutcomes, read_live_outcomes};
pub use self::prior_inputs::{
    ComparedUsageRow, InputRows, PriorRevision, read_compared_usage, read_inputs_of, read_last_billings,
    read_prior_revisions,
};
pub use self::shard::{PinnedInputs, ShardTotals, prepare_connection, read_pinned_inputs, read_shard_totals};
