//! The digest of a bill: two bills with the same digest are the same in every stored column and
//! item.
//!
//! The bytes that are hashed are a contract with stored bills: the view `bill_digest` of the
//! database computes the same from the tables, and a change here makes every stored bill look
//! different.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::pricing::{Bill, Item};

/// The first 16 bytes of the SHA-256 of a bill: its amounts, the number of its items, and every
/// column of each item. The usage rows that were counted are no part of it, as they are not stored
/// with the bill.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BillDigest([u8; 16]);

impl BillDigest {
    pub fn of(bill: &Bill<'_>) -> Self {
        // A column that is added to the bill has to be hashed or left out here.
        let Bill {
            base_amount,
            usage_amount,
            discount_amount,
            adjustment_amount,
            tax_amount,
            rounding_amount,
            total_amount,
            items,
            rated_rows: _,
            unbillable_rows: _,
        } = bill;
        let mut hasher = Sha256::new();
        let amounts = [
            base_amount,
            usage_amount,
            discount_amount,
            adjustment_amount,
            tax_amount,
            rounding_amount,
            total_amount,
        ];
        for amount in amounts {
            hasher.update(amount.get().to_be_bytes());
        }
        hasher.update((items.len() as u64).to_be_bytes());
        for item in items {
            add_item(&mut hasher, item);
        }
        let hash: [u8; 32] = hasher.finalize().into();
        let mut first = [0; 16];
        first.copy_from_slice(&hash[..16]);
        Self(first)
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

fn add_item(hasher: &mut Sha256, item: &Item<'_>) {
    let Item { line_no, kind, code, quantity, amount, days, used, free } = *item;
    hasher.update(i64::from(line_no).to_be_bytes());
    for text in [kind.as_str(), code] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    // Days, usage and allowances are never negative, so -1 stands for a missing one.
    let numbers =
        [quantity, amount.get(), days.map_or(-1, i64::from), used.unwrap_or(-1), free.unwrap_or(-1)];
    for number in numbers {
        hasher.update(number.to_be_bytes());
    }
}

impl fmt::Debug for BillDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::MinorUnits;
    use crate::pricing::ItemKind;

    fn item() -> Item<'static> {
        Item {
            line_no: 1,
            kind: ItemKind::Usage,
            code: "voice",
            quantity: 3,
            amount: MinorUnits::new(30),
            days: Some(31),
            used: Some(103),
            free: Some(100),
        }
    }

    fn bill() -> Bill<'static> {
        Bill {
            base_amount: MinorUnits::new(1),
            usage_amount: MinorUnits::new(2),
            discount_amount: MinorUnits::new(3),
            adjustment_amount: MinorUnits::new(4),
            tax_amount: MinorUnits::new(5),
            rounding_amount: MinorUnits::new(6),
            total_amount: MinorUnits::new(7),
            items: vec![item(), Item { line_no: 2, used: None, free: None, days: None, ..item() }],
            rated_rows: 8,
            unbillable_rows: 9,
        }
    }

    type Change = fn(&mut Bill<'static>);

    #[test]
    fn every_column_of_a_bill_and_of_an_item_counts() {
        let changes: [(&str, Change); 18] = [
            ("base", |bill| bill.base_amount = MinorUnits::new(0)),
            ("usage", |bill| bill.usage_amount = MinorUnits::new(0)),
            ("discount", |bill| bill.discount_amount = MinorUnits::new(0)),
            ("adjustment", |bill| bill.adjustment_amount = MinorUnits::new(0)),
            ("tax", |bill| bill.tax_amount = MinorUnits::new(0)),
            ("rounding", |bill| bill.rounding_amount = MinorUnits::new(0)),
            ("total", |bill| bill.total_amount = MinorUnits::new(0)),
            ("one item less", |bill| bill.items.truncate(1)),
            ("one item more", |bill| bill.items.push(item())),
            ("the order", |bill| bill.items.reverse()),
            ("line", |bill| bill.items[0].line_no = 3),
            ("kind", |bill| bill.items[0].kind = ItemKind::Addon),
            ("code", |bill| bill.items[0].code = "data"),
            ("quantity", |bill| bill.items[0].quantity = 4),
            ("amount", |bill| bill.items[1].amount = MinorUnits::new(31)),
            ("days", |bill| bill.items[1].days = Some(1)),
            ("used", |bill| bill.items[1].used = Some(0)),
            ("free", |bill| bill.items[0].free = None),
        ];
        for (name, change) in changes {
            let mut changed = bill();
            change(&mut changed);
            assert_ne!(BillDigest::of(&changed), BillDigest::of(&bill()), "{name}");
        }
    }

    #[test]
    fn usage_rows_are_not_part_of_a_bill() {
        let counted = Bill { rated_rows: 0, unbillable_rows: 0, ..bill() };
        assert_eq!(BillDigest::of(&counted), BillDigest::of(&bill()));
    }

    #[test]
    fn the_digest_of_a_bill_never_changes() {
        // Stored bills contain this digest.
        assert_eq!(format!("{:?}", BillDigest::of(&bill())), "33a249776aac815901ea73eaca4fb318");
    }
}
