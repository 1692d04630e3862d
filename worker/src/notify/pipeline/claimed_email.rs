//! The email of a claimed delivery, as it goes through the pipeline.

use email::Email;
use store::notification::ClaimedDelivery;
use tokio::time::Instant;

use super::ack::Ack;

/// A claimed delivery with its rendered email.
pub(super) struct ClaimedEmail {
    pub(super) delivery: ClaimedDelivery,
    pub(super) email: Email,
    /// How often the server has deferred it.
    pub(super) tries: i32,
    pub(super) first_try: Option<Instant>,
    pub(super) ack: Ack,
}
