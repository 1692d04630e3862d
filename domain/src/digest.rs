//! SHA-256 digests: of a price book's text, of a chunk's outcomes, of a whole draft.
//!
//! The bytes that go into a digest are a contract with drafts that are already stored: a change here makes the same
//! bills look different.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::ids::MemberId;
use crate::pricing::{Bill, Outcome};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digest of a draft: over the digests of its chunks, in their order.
pub fn of_chunks(chunks: impl IntoIterator<Item = Sha256Digest>) -> Sha256Digest {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update(chunk.0);
    }
    Sha256Digest(hasher.finalize().into())
}

/// The digest of a chunk's outcomes, added by ascending member id.
///
/// It covers all that is stored or counted for a member: every column and item of a bill, the code and detail of a
/// quarantine, the number of usage rows.
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

    /// Adds one member. Panics when members don't come by ascending id: the digest would not be canonical.
    pub fn add(&mut self, member: MemberId, outcome: &Outcome<'_>) {
        assert!(self.last < Some(member), "members of a chunk digest come by ascending id");
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
        Sha256Digest(self.hasher.finalize().into())
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
            // No such figure is ever negative.
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
