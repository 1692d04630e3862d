//! A bill as the templates see it.

use std::fmt;

use domain::ids::{MemberId, Revision};
use domain::locale::Locale;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use domain::pricing::{Amounts, Item};
use secrecy::SecretString;

/// Everything that an e-mail shows. The recipient's address is not part of it.
#[derive(Clone, Copy)]
pub struct Bill<'a> {
    pub month: BillingMonth,
    pub member: MemberId,
    pub revision: Revision,
    /// The member's locale. If the set of templates does not have it, the e-mail is in the locale of
    /// the installation.
    pub locale: Locale,
    /// The installation's locale: the language of a name that there is not in that of the e-mail.
    pub default_locale: Locale,
    pub name: &'a SecretString,
    pub amounts: Amounts,
    /// The bill's items, in their order.
    pub lines: &'a [Line<'a>],
    /// The price book that the bill was priced with. It has the currency and the names of plans and
    /// discounts.
    pub book: &'a PriceBook,
    /// The bill that this one corrects. The e-mail is then a correction, which has its own
    /// templates.
    pub corrects: Option<SentBill<'a>>,
}

/// A bill of the same member and month that was sent before, with another total.
#[derive(Clone, Copy)]
pub struct SentBill<'a> {
    pub revision: Revision,
    pub amounts: Amounts,
    /// The bill's items, in their order.
    pub lines: &'a [Line<'a>],
    /// The price book that it was priced with, for the names of what the new bill no longer has.
    pub book: &'a PriceBook,
}

impl fmt::Debug for Bill<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Amounts are as confidential as names.
        f.debug_struct("Bill")
            .field("month", &self.month)
            .field("member", &self.member)
            .field("revision", &self.revision)
            .field("locale", &self.locale)
            .field("lines", &self.lines.len())
            .field("corrects", &self.corrects)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SentBill<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentBill").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// An item of the bill.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub item: Item<'a>,
    /// The reason of an adjustment, where it has one.
    pub reason: Option<&'a str>,
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("line_no", &self.item.line_no)
            .field("kind", &self.item.kind)
            .finish_non_exhaustive()
    }
}
