//! Why a member's outcome changes when a month is billed again: which of its inputs differ from
//! those of the revision that billed the member last, and which of these make a difference. Knows
//! neither where inputs come from nor what becomes of the cause.

mod comparison;

use std::fmt;

pub use self::comparison::{ComparedUsage, Comparison, Inputs};

/// Why a member's outcome changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeCause {
    /// The text of the price book.
    PriceBook,
    /// A base plan: a subscription, or that the member has become known.
    Plan,
    /// A subscription to an add-on.
    Addon,
    /// A grant of a discount.
    Discount,
    /// An adjustment of the month.
    Adjustment,
    /// Usage that was loaded after the cut-off of the revision before, in addition to what counted.
    LateUsage,
    /// Usage of which something counted before and does not count any more.
    Usage,
    /// The member is in quarantine, or was.
    Quarantine,
    /// More than one input, each of which makes a difference, or several only together.
    MoreThanOne,
    /// No input: the same inputs give another outcome, because the program that calculated the live
    /// outcome did it in another way, or because the live outcome was changed by hand.
    Calculation,
}

impl ChangeCause {
    pub const ALL: [Self; 10] = [
        Self::PriceBook,
        Self::Plan,
        Self::Addon,
        Self::Discount,
        Self::Adjustment,
        Self::LateUsage,
        Self::Usage,
        Self::Quarantine,
        Self::MoreThanOne,
        Self::Calculation,
    ];
    /// The causes that are inputs of pricing and are known without the usage.
    const INPUTS: [Self; 5] = [Self::PriceBook, Self::Plan, Self::Addon, Self::Discount, Self::Adjustment];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PriceBook => "PRICE_BOOK",
            Self::Plan => "PLAN",
            Self::Addon => "ADDON",
            Self::Discount => "DISCOUNT",
            Self::Adjustment => "ADJUSTMENT",
            Self::LateUsage => "LATE_USAGE",
            Self::Usage => "USAGE",
            Self::Quarantine => "QUARANTINE",
            Self::MoreThanOne => "MORE_THAN_ONE",
            Self::Calculation => "CALCULATION",
        }
    }
}

impl fmt::Display for ChangeCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
