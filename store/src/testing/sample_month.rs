//! A small month that contains one member of every kind, and its price book.

/// The price book of the pricing contract, for a zone.
#[must_use]
pub fn price_book(zone: &str) -> String {
    format!(
        r#"
version: test
currency: KRW
timeZone: {zone}
validFrom: 2000-01
usageKinds: [data, sms, voice]
plans:
  - code: LTE-33
    name: LTE 33
    baseFee: 33000
    usage:
      voice: {{ allowance: 7200, per: 1, tiers: [ {{ upTo: 36000, rate: "1.98" }}, {{ rate: "1.10" }} ], cap: 50000 }}
      data:  {{ allowance: 2147483648, per: 1048576, tiers: [ {{ rate: "22.53" }} ] }}
      sms:   {{ allowance: 100, per: 1, tiers: [ {{ rate: "22" }} ] }}
  - {{ code: UNLIMITED-89, name: Unlimited 89, baseFee: 89000, usage: {{}} }}
  - {{ code: INSURANCE, name: Phone insurance, type: addon, baseFee: 4900 }}
discounts:
  - {{ code: CONTRACT-25, name: Contract 25 %, kind: percent, value: "25", appliesTo: base, priority: 10 }}
  - {{ code: FAMILY, name: Family bundle, kind: amount, value: "5500", appliesTo: total, priority: 20, prorate: days, cap: 5500 }}
tax: {{ rate: "10", mode: inclusive }}
billRounding: {{ unit: 10, mode: down }}
"#
    )
}

/// Inserts twelve members with bills (member 1 is the contract's worked example, the last one has
/// the highest possible id), a member for each quarantine code, a member who is not eligible, and
/// usage of unknown members.
pub const EVERYTHING: &str = r"
insert into member (member_id, load, name)
    select id, 1, '\x00'::bytea
    from unnest(array[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1000000, 31, 32, 33, 34, 40, 9223372036854775807]) id;
insert into subscription (member_id, plan_code, from_date, to_date, load)
    select id, 'UNLIMITED-89', '2025-01-01', null, 1 from generate_series(2, 9) id;
insert into subscription (member_id, plan_code, from_date, to_date, load) values
    (1, 'LTE-33', '2026-10-11', null, 1),
    (2, 'INSURANCE', '2026-10-20', null, 1),
    (10, 'LTE-33', '2026-01-01', '2026-10-16', 1),
    (10, 'UNLIMITED-89', '2026-10-16', null, 1),
    (1000000, 'LTE-33', '2026-01-01', null, 1),
    (9223372036854775807, 'LTE-33', '2026-01-01', null, 1),
    (31, 'NO-SUCH-PLAN', '2026-01-01', null, 1),
    (32, 'LTE-33', '2026-01-01', null, 1),
    (32, 'UNLIMITED-89', '2026-10-31', null, 1),
    (33, 'LTE-33', '2026-01-01', null, 1),
    (34, 'LTE-33', '2026-01-01', null, 1),
    (40, 'INSURANCE', '2026-01-01', null, 1),
    (77, 'LTE-33', '2026-01-01', null, 1);
insert into discount_grant (member_id, discount_code, from_date, to_date, load) values
    (1, 'CONTRACT-25', '2026-01-01', null, 1),
    (1, 'FAMILY', '2026-10-22', null, 1),
    (33, 'NO-SUCH-DISCOUNT', '2026-10-31', null, 1);
insert into adjustment (adjustment_id, member_id, month, code, amount, reason, load) values
    (1, 3, '2026-10', 'GOODWILL', -1000, 'sorry', 1),
    (2, 3, '2026-09', 'GOODWILL', -7000, 'another month', 1);
insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
    (1, '2026-10-12T00:00:00+09:00', 4000, 1, 'voice', '2026-10', 'default', 'a'),
    (1, '2026-10-13T00:00:00+09:00', 5000, 1, 'voice', '2026-10', 'default', 'b'),
    (1, '2026-10-13T00:00:00+09:00', 3221225472, 1, 'data', '2026-10', 'default', 'c'),
    (1, '2026-10-13T00:00:00+09:00', 40, 1, 'sms', '2026-10', 'default', 'd'),
    (1, '2026-10-01T00:00:00+09:00', 99999, 1, 'voice', '2026-10', 'default', 'before the first segment'),
    (1, '2026-10-13T00:00:00+09:00', 1, 1, 'roaming', '2026-10', 'default', 'a kind that nobody declared'),
    (10, '2026-10-15T23:59:59.999999+09:00', 8000, 1, 'voice', '2026-10', 'default', 'e'),
    (10, '2026-10-16T00:00:00+09:00', 8000, 1, 'voice', '2026-10', 'default', 'f'),
    (31, '2026-10-13T00:00:00+09:00', 1, 1, 'sms', '2026-10', 'default', 'g'),
    (34, '2026-10-13T00:00:00+09:00', 9223372036854775807, 1, 'data', '2026-10', 'default', 'h'),
    (34, '2026-10-13T00:00:00+09:00', 9223372036854775807, 1, 'data', '2026-10', 'default', 'i'),
    (40, '2026-10-13T00:00:00+09:00', 1, 1, 'sms', '2026-10', 'default', 'not eligible'),
    (77, '2026-10-13T00:00:00+09:00', 1, 1, 'sms', '2026-10', 'default', 'unknown'),
    (9223372036854775806, '2026-10-13T00:00:00+09:00', 1, 1, 'sms', '2026-10', 'default', 'unknown too')";
