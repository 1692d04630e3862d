//! What a line of a bill is called.

use domain::locale::Locale;
use domain::price_book::PriceBook;
use domain::pricing::ItemKind;

use crate::bill::Line;
use crate::context::cleaned;
use crate::formats::Formats;

/// The language of an e-mail.
#[derive(Clone, Copy)]
pub(crate) struct Wording<'a> {
    /// The locale of the e-mail, then that of a name that there is not in it.
    pub(crate) locales: [Locale; 2],
    pub(crate) formats: &'a Formats,
}

/// The name of the line's plan, discount or kind of usage, or the reason of an adjustment. The code
/// stands in for a name that there is not. `book` is the bill's or, of a line of the bill that it
/// corrects, that one's.
pub(crate) fn line_name(line: &Line<'_>, book: &PriceBook, wording: &Wording<'_>) -> String {
    let code = line.item.code;
    let Wording { locales, formats } = wording;
    let name = match line.item.kind {
        ItemKind::Base | ItemKind::Addon => book.plan(code).map(|plan| plan.names.in_first_of(locales)),
        ItemKind::Discount => {
            let discount = book.discounts().iter().find(|discount| discount.code == code);
            discount.map(|discount| discount.names.in_first_of(locales))
        }
        ItemKind::Usage => {
            let names = book.names_of_usage_kind(code).map(|names| names.in_first_of(locales));
            names.or_else(|| formats.usage_kind(code))
        }
        ItemKind::Adjustment => return reason(line).unwrap_or_else(|| code.to_owned()),
        ItemKind::Tax | ItemKind::Rounding => None,
    };
    name.unwrap_or(code).to_owned()
}

/// The reason of an adjustment as one line, if there is one.
pub(crate) fn reason(line: &Line<'_>) -> Option<String> {
    line.reason.map(cleaned).filter(|reason| !reason.is_empty()).map(Into::into)
}
