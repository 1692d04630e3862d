//! The price book: plans, discounts, tax and rounding of the months it is valid for.
//!
//! A [`PriceBook`] is valid by construction. Only `document` knows the format of its text. What a
//! member pays is computed in [`crate::pricing`].

mod book;
mod document;
mod names;
mod problem;
mod validate;

pub use book::{
    BillRounding, Discount, DiscountKind, DiscountTarget, Plan, PlanKind, PriceBook, Proration, RoundingMode,
    Tax, TaxMode, Tier, UsageRate,
};
pub use names::Names;
pub use problem::{PriceBookError, Problem};

use crate::digest::Sha256Digest;

impl PriceBook {
    /// Parses and validates a price book.
    ///
    /// # Errors
    /// The invalid fields, each with its reason: all of them where the text has the right
    /// structure, otherwise the first.
    pub fn parse(text: &str) -> Result<Self, PriceBookError> {
        // An editor may have put a byte-order mark before it, which YAML does not have.
        let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
        validate::validate(document::read(plain)?, Sha256Digest::of(text.as_bytes()))
    }
}
