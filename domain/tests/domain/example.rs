//! The worked example of the pricing contract.

use domain::chunk_digest::{ChunkDigest, of_chunks};
use domain::digest::Sha256Digest;
use domain::ids::MemberId;
use domain::price_book::PriceBook;

use crate::members::{Member, month};

pub(crate) const BOOK: &str = r#"version: 2026-07
currency: KRW               # must be the installation's
timeZone: Asia/Seoul        # must be the installation's
validFrom: 2026-07          # months, inclusive; validTo may be left out
usageKinds: [data, sms, voice]
plans:
  - code: LTE-33
    name: LTE 33
    type: base              # base (default) or addon
    baseFee: 33000          # minor units a month
    usage:
      voice: { allowance: 7200, per: 1, tiers: [ { upTo: 36000, rate: "1.98" }, { rate: "1.10" } ], cap: 50000 }
      data:  { allowance: 2147483648, per: 1048576, tiers: [ { rate: "22.53" } ] }
      sms:   { allowance: 100, per: 1, tiers: [ { rate: "22" } ] }
  - code: UNLIMITED-89
    name: Unlimited 89
    baseFee: 89000
    usage: {}               # a kind that the plan does not list is free
  - { code: INSURANCE, name: Phone insurance, type: addon, baseFee: 4900 }
discounts:
  - { code: CONTRACT-25, name: Contract 25 %, kind: percent, value: "25", appliesTo: base, priority: 10 }
  - { code: FAMILY, name: Family bundle, kind: amount, value: "5500", appliesTo: total, priority: 20, prorate: days, cap: 5500 }
tax: { rate: "10", mode: inclusive }   # optional: inclusive or exclusive
billRounding: { unit: 10, mode: down } # optional: down or half-up
"#;

pub(crate) fn member() -> Member {
    Member::on("LTE-33", "2026-10-11", "")
        .granted("CONTRACT-25", "2026-01-01", "")
        .granted("FAMILY", "2026-10-22", "")
        .used("voice", 4_000, "2026-10-11T00:00:00+09:00")
        .used("voice", 5_000, "2026-10-31T23:59:59.999999+09:00")
        .used("data", 3_221_225_472, "2026-10-20T12:00:00Z")
        .used("sms", 40, "2026-10-20T12:00:00Z")
}

#[test]
fn the_worked_example_has_exactly_these_items() {
    let book = PriceBook::parse(BOOK).unwrap();
    book.check_month("2026-10".parse().unwrap()).unwrap();
    let priced = member().priced(&book, &month("Asia/Seoul", "2026-10"));
    assert_eq!(
        priced,
        [
            "1 BASE LTE-33 21 22355 days 21",
            "2 USAGE data 1685 37963 days 21 used 3221225472 free 1454746987",
            "3 USAGE voice 4123 8164 days 21 used 9000 free 4877",
            "4 DISCOUNT CONTRACT-25 1 -5589 days 21",
            "5 DISCOUNT FAMILY 1 -1774 days 10",
            "6 ROUNDING rounding 1 -9",
            "base 22355 usage 46127 discount 7363 adjustment 0 tax 5556 rounding -9 total 61110",
            "rated 4 unbillable 0",
        ]
    );
}

#[test]
fn the_digest_covers_everything_that_is_stored_or_counted() {
    let book = PriceBook::parse(BOOK).unwrap();
    let october = month("Asia/Seoul", "2026-10");
    let digest = |member: &Member| {
        member.with_outcome(&book, &october, |outcome| {
            let mut digest = ChunkDigest::new();
            digest.add(MemberId::FIRST, outcome);
            digest.finish()
        })
    };
    let one = digest(&member());
    assert_eq!(one, digest(&member()));
    // Stored drafts contain this digest, so it may change only if the bill changes.
    assert_eq!(one.to_string(), "829008b00d5c235b23f3a65122190091dbd3bf61c5b26d5eb08f894fe65068b2");
    let others = [
        digest(&member().used("voice", 1, "2026-10-20T12:00:00Z")),
        digest(&member().used("roaming", 1, "2026-10-20T12:00:00Z")),
        digest(&member().adjusted(1, "GOODWILL", 0)),
        digest(&member().granted("NOBODY", "2026-10-01", "")),
        digest(&Member::default()),
    ];
    assert!(others.iter().all(|other| *other != one));
    assert_ne!(of_chunks([one, others[0]]), of_chunks([others[0], one]));
    assert_eq!(Sha256Digest::from_bytes(*one.as_bytes()), one);
}

#[test]
#[should_panic(expected = "by ascending id")]
fn a_chunk_digest_rejects_members_out_of_order() {
    let book = PriceBook::parse(BOOK).unwrap();
    Member::default().with_outcome(&book, &month("Asia/Seoul", "2026-10"), |outcome| {
        let mut digest = ChunkDigest::new();
        digest.add(MemberId::LAST, outcome);
        digest.add(MemberId::FIRST, outcome);
    });
}
