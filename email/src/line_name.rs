//! What a line of a bill is called.

use domain::price_book::PriceBook;
use domain::pricing::ItemKind;

use crate::bill::{Bill, Line};
use crate::context::cleaned;
use crate::formatting;

/// The name of the line's plan, discount or kind of usage, or the reason of an adjustment. The code
/// stands in for a name that there is not. `book` is the bill's or, of a line of the bill that it
/// corrects, that one's.
pub(crate) fn line_name(line: &Line<'_>, book: &PriceBook, bill: &Bill<'_>) -> String {
    let code = line.item.code;
    let locales = [bill.locale, bill.default_locale];
    let name = match line.item.kind {
        ItemKind::Base | ItemKind::Addon => book.plan(code).map(|plan| plan.names.in_first_of(&locales)),
        ItemKind::Discount => {
            let discount = book.discounts().iter().find(|discount| discount.code == code);
            discount.map(|discount| discount.names.in_first_of(&locales))
        }
        ItemKind::Usage => return formatting::usage_kind(code, bill.locale).to_owned(),
        ItemKind::Adjustment => return reason(line).unwrap_or_else(|| code.to_owned()),
        ItemKind::Tax | ItemKind::Rounding => None,
    };
    name.unwrap_or(code).to_owned()
}

/// The reason of an adjustment as one line, if there is one.
pub(crate) fn reason(line: &Line<'_>) -> Option<String> {
    line.reason.map(cleaned).filter(|reason| !reason.is_empty()).map(Into::into)
}
