//! The digests of a chunk's outcomes and of a whole draft.
//!
//! The bytes that are hashed are a contract with stored drafts: a change here makes the same bills
//! look different.

use sha2::{Digest as _, Sha256};

use crate::digest::Sha256Digest;
use crate::ids::MemberId;
use crate::pricing::{Bill, Outcome};

/// The digest of a draft: the SHA-256 of the digests of its chunks, in the order of the chunks.
pub fn of_chunks(chunks: impl IntoIterator<Item = Sha256Digest>) -> Sha256Digest {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update(chunk.as_bytes());
    }
    Sha256Digest::from_bytes(hasher.finalize().into())
}

/// The digest of a chunk's outcomes, added by ascending member id.
///
/// It covers everything that is stored or counted for a member: every column and item of a bill,
/// the code and the detail of a quarantine, and the number of usage rows.
#[derive(Clone, Debug, Default)]
pub struct ChunkDigest {
    hasher: Sha256,
    scratch: Vec<u8>,
    last: Option<MemberId>,
}

impl ChunkDigest {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one member. Panics unless members are added by ascending id, because the digest would
    /// depend on the order.
    pub fn add(&mut self, member: MemberId, outcome: &Outcome<'_>) {
        assert!(self.last < Some(member), "members must be added to a chunk digest by ascending id");
        self.last = Some(member);
        let out = &mut self.scratch;
        out.clear();
        put_i64(out, member.get());
        match outcome {
            Outcome::Billed(bill) => put_bill(out, bill),
            Outcome::Quarantined { quarantine, usage_rows } => {
                out.push(b'Q');
                put_str(out, quarantine.code.as_str());
                put_str(out, &quarantine.detail);
                put_u64(out, *usage_rows);
            }
            Outcome::NotEligible { usage_rows } => {
                out.push(b'N');
                put_u64(out, *usage_rows);
            }
        }
        self.hasher.update(&self.scratch);
    }

    pub fn finish(self) -> Sha256Digest {
        Sha256Digest::from_bytes(self.hasher.finalize().into())
    }
}

fn put_bill(out: &mut Vec<u8>, bill: &Bill<'_>) {
    out.push(b'B');
    let columns = [
        bill.base_amount,
        bill.usage_amount,
        bill.discount_amount,
        bill.adjustment_amount,
        bill.tax_amount,
        bill.rounding_amount,
        bill.total_amount,
    ];
    columns.into_iter().for_each(|amount| put_i64(out, amount.get()));
    put_u64(out, bill.rated_rows);
    put_u64(out, bill.unbillable_rows);
    put_u64(out, bill.items.len() as u64);
    for item in &bill.items {
        put_str(out, item.kind.as_str());
        put_str(out, item.code);
        put_i64(out, item.quantity);
        put_i64(out, item.amount.get());
        for detail in [item.days.map(i64::from), item.used, item.free] {
            // These values are never negative, so -1 stands for a missing one.
            put_i64(out, detail.unwrap_or(-1));
        }
    }
}

fn put_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}
