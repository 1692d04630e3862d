//! Properties that hold for every price book and every member.

use domain::price_book::{DiscountTarget, PriceBook};
use domain::pricing::{ItemKind, Outcome};
use jiff::ToSpan;
use jiff::civil::Date;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::generate::{book, book_and_member};
use crate::members::{Dated, Member, UsageRow, month};
use crate::reference;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn the_product_and_the_reference_implementation_agree((model, member) in book_and_member()) {
        let book = PriceBook::parse(&model.text()).unwrap();
        let ours = member.priced(&book, &month(model.zone, model.month));
        prop_assert_eq!(ours, reference::priced(&model, &member));
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn the_items_of_a_bill_add_up_to_its_amounts((model, member) in book_and_member()) {
        let book = PriceBook::parse(&model.text()).unwrap();
        member.with_outcome(&book, &month(model.zone, model.month), |outcome| {
            let Outcome::Billed(bill) = outcome else { return Ok(()) };
            let sum = |kinds: &[ItemKind]| -> i128 {
                bill.items.iter().filter(|item| kinds.contains(&item.kind)).map(|item| item.amount.exact()).sum()
            };
            let all: i128 = bill.items.iter().map(|item| item.amount.exact()).sum();
            prop_assert_eq!(all, bill.total_amount.exact());
            prop_assert_eq!(sum(&[ItemKind::Base, ItemKind::Addon]), bill.base_amount.exact());
            prop_assert_eq!(sum(&[ItemKind::Usage]), bill.usage_amount.exact());
            prop_assert_eq!(-sum(&[ItemKind::Discount]), bill.discount_amount.exact());
            prop_assert_eq!(sum(&[ItemKind::Adjustment]), bill.adjustment_amount.exact());
            prop_assert_eq!(sum(&[ItemKind::Rounding]), bill.rounding_amount.exact());
            let exclusive = sum(&[ItemKind::Tax]);
            prop_assert!(exclusive == 0 || exclusive == bill.tax_amount.exact());
            prop_assert_eq!(
                bill.total_amount.exact(),
                bill.base_amount.exact() + bill.usage_amount.exact() - bill.discount_amount.exact()
                    + bill.adjustment_amount.exact() + exclusive + bill.rounding_amount.exact()
            );
            prop_assert!(bill.discount_amount.get() >= 0);
            if member.adjustments.is_empty() {
                prop_assert!(bill.total_amount.get() >= 0);
            }
            prop_assert!(bill.items.iter().enumerate().all(|(i, item)| usize::try_from(item.line_no) == Ok(i + 1)));
            Ok(())
        })?;
    }

    #[test]
    fn discounts_never_exceed_their_target((model, member) in book_and_member()) {
        let book = PriceBook::parse(&model.text()).unwrap();
        member.with_outcome(&book, &month(model.zone, model.month), |outcome| {
            let Outcome::Billed(bill) = outcome else { return Ok(()) };
            let taken = |target: DiscountTarget| -> i128 {
                let of_target = book.discounts().iter().filter(|d| d.applies_to == target);
                let codes: Vec<_> = of_target.map(|d| d.code.as_str()).collect();
                let items = bill.items.iter().filter(|i| i.kind == ItemKind::Discount && codes.contains(&i.code));
                items.map(|item| -item.amount.exact()).sum()
            };
            let (base, usage) = (bill.base_amount.exact(), bill.usage_amount.exact());
            prop_assert!(taken(DiscountTarget::Base) <= base);
            prop_assert!(taken(DiscountTarget::Usage) <= usage);
            prop_assert!(taken(DiscountTarget::Base) + taken(DiscountTarget::Usage) + taken(DiscountTarget::Total) <= base + usage);
            Ok(())
        })?;
    }

    #[test]
    fn the_order_of_the_input_does_not_matter((model, member) in book_and_member(), seed in any::<u64>()) {
        let book = PriceBook::parse(&model.text()).unwrap();
        let month = month(model.zone, model.month);
        let mut shuffled = member.clone();
        let mut state = seed | 1;
        let mut key = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state >> 33 };
        shuffled.subscriptions.sort_by_cached_key(|_| key());
        shuffled.grants.sort_by_cached_key(|_| key());
        shuffled.adjustments.sort_by_cached_key(|_| key());
        shuffled.usage.sort_by_cached_key(|_| key());
        member.with_outcome(&book, &month, |one| {
            shuffled.with_outcome(&book, &month, |other| { prop_assert_eq!(one, other); Ok(()) })
        })?;
    }

    #[test]
    fn splitting_a_subscription_changes_nothing(
        (model, member) in book_and_member(),
        which in any::<Index>(),
        at in 0..90_i64,
    ) {
        prop_assume!(!member.subscriptions.is_empty());
        let book = PriceBook::parse(&model.text()).unwrap();
        let month = month(model.zone, model.month);
        let mut split = member.clone();
        let first = which.get_mut(&mut split.subscriptions);
        let cut = first.from + at.days();
        let cut = first.to.map_or(cut, |to| cut.min(to));
        let second = Dated { code: first.code.clone(), from: cut, to: first.to };
        first.to = Some(cut);
        split.subscriptions.push(second);
        prop_assert_eq!(member.priced(&book, &month), split.priced(&book, &month));
    }

    #[test]
    fn segments_with_gaps_never_exceed_the_fee_and_allowance_of_the_month(model in book(), parts in proptest::collection::vec((0..5_i64, 1..9_i64), 1..6)) {
        let book = PriceBook::parse(&model.text()).unwrap();
        let month = month(model.zone, model.month);
        let mut day: Date = format!("{}-01", model.month).parse().unwrap();
        let mut member = Member::default();
        let noon = |day: Date| day.at(12, 0, 0, 0).in_tz(model.zone).unwrap().timestamp();
        for (gap, length) in parts {
            let from = day + gap.days();
            day = from + length.days();
            member.subscriptions.push(Dated { code: "A".to_owned(), from, to: Some(day) });
            for rate in &model.plans[0].usage {
                member.usage.push(UsageRow { kind: rate.kind.to_owned(), quantity: 1 << 59, started_at: noon(from) });
            }
        }
        member.with_outcome(&book, &month, |outcome| {
            let Outcome::Billed(bill) = outcome else { return Ok(()) };
            let fee = model.plans[0].fee;
            prop_assert!(bill.base_amount.get() <= fee);
            for item in bill.items.iter().filter(|item| item.kind == ItemKind::Base) {
                prop_assert!(item.amount.get() >= 0);
            }
            for rate in &model.plans[0].usage {
                let of_kind = bill.items.iter().filter(|i| i.kind == ItemKind::Usage && i.code == rate.kind);
                let free: i128 = of_kind.map(|item| i128::from(item.free.unwrap())).sum();
                prop_assert!(free <= i128::from(rate.allowance));
            }
            Ok(())
        })?;
    }
}
