//! Months and local dates across clock changes and skipped dates.

use domain::money::Currency;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use domain::zone::{MonthTable, Zone};
use jiff::{Timestamp, ToSpan};

use crate::members::{Member, month};

#[test]
fn a_month_begins_at_the_first_instant_of_its_first_day() {
    let cases = [
        ("Asia/Seoul", "2026-10", "2026-09-30T15:00:00Z", "2026-10-31T15:00:00Z"),
        ("Asia/Seoul", "2024-02", "2024-01-31T15:00:00Z", "2024-02-29T15:00:00Z"),
        ("UTC", "2023-02", "2023-02-01T00:00:00Z", "2023-03-01T00:00:00Z"),
        // Daylight saving ends within the month.
        ("America/New_York", "2026-11", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"),
        // Midnight of the 1st occurs twice: the first one counts, also as the end of the month before.
        ("America/Havana", "2015-11", "2015-11-01T04:00:00Z", "2015-12-01T05:00:00Z"),
        ("America/Havana", "2015-10", "2015-10-01T04:00:00Z", "2015-11-01T04:00:00Z"),
        // At 00:01 on the 1st the clock is set back to 23:01 of October 31st.
        ("America/St_Johns", "2009-11", "2009-11-01T02:30:00Z", "2009-12-01T03:30:00Z"),
        // Midnight of the 1st does not occur: the clock jumps to 01:00.
        ("America/Asuncion", "2017-10", "2017-10-01T04:00:00Z", "2017-11-01T03:00:00Z"),
        ("Asia/Amman", "2011-04", "2011-03-31T22:00:00Z", "2011-04-30T21:00:00Z"),
        // The 30th of December was skipped.
        ("Pacific/Apia", "2011-12", "2011-12-01T10:00:00Z", "2011-12-31T10:00:00Z"),
        ("Africa/Cairo", "2026-04", "2026-03-31T22:00:00Z", "2026-04-30T21:00:00Z"),
        ("America/Sao_Paulo", "2018-02", "2018-02-01T02:00:00Z", "2018-03-01T03:00:00Z"),
    ];
    for (zone, name, start, end) in cases {
        let month = month(zone, name);
        let expected: (Timestamp, Timestamp) = (start.parse().unwrap(), end.parse().unwrap());
        assert_eq!((month.start(), month.end()), expected, "{zone} {name}");
    }
}

#[test]
fn every_instant_lies_in_exactly_one_month() {
    for zone in
        ["Asia/Seoul", "America/Havana", "America/St_Johns", "America/Asuncion", "Pacific/Apia", "UTC"]
    {
        let zone = Zone::named(zone).unwrap();
        let table = MonthTable::new(&zone);
        let mut at = Some(BillingMonth::FIRST);
        let mut last_end = None;
        while let Some(name) = at {
            let month = zone.month(name);
            assert!(last_end.is_none_or(|end| end == month.start()), "{zone} {name}");
            assert_eq!(table.month_of(month.start()), Some(name));
            assert_eq!(table.month_of(month.end() - 1.microsecond()), Some(name));
            last_end = Some(month.end());
            at = name.next();
        }
        assert_eq!(table.month_of(zone.month(BillingMonth::FIRST).start() - 1.microsecond()), None);
        assert_eq!(table.month_of(zone.month(BillingMonth::LAST).end()), None);
    }
}

#[test]
fn zones_are_accepted_by_their_exact_name_only() {
    for name in ["Asia/Seoul", "ROK", "UTC", "America/Argentina/Buenos_Aires"] {
        assert_eq!(Zone::named(name).unwrap().name(), name);
    }
    for name in ["", "asia/seoul", "Asia/Soul", "KST", "+09:00", "Etc/Unknown"] {
        let error = Zone::named(name).unwrap_err().to_string();
        assert_eq!(error, format!("`{name}` is not a time zone of the IANA database, such as Asia/Seoul"));
    }
}

/// The plan that usage at each instant is charged to. The two plans have different rates, and each
/// row has quantity 1.
fn charged(zone: &str, name: &str, days: [&str; 2], instants: &[&str]) -> Vec<String> {
    let book = format!(
        r#"
version: 1
currency: USD
timeZone: {zone}
validFrom: 2000-01
usageKinds: [sms]
plans:
  - {{ code: EARLY, baseFee: 0, usage: {{ sms: {{ allowance: 0, per: 1, tiers: [ {{ rate: "1" }} ] }} }} }}
  - {{ code: LATE, baseFee: 0, usage: {{ sms: {{ allowance: 0, per: 1, tiers: [ {{ rate: "100" }} ] }} }} }}
"#
    );
    let book = PriceBook::parse(&book).unwrap();
    book.check_installation(&Zone::named(zone).unwrap(), "USD".parse::<Currency>().unwrap()).unwrap();
    let [early, late] = days;
    instants
        .iter()
        .map(|at| {
            let member = Member::on("EARLY", early, late).and_on("LATE", late, "").used("sms", 1, at);
            let priced = member.priced(&book, &month(zone, name)).join(", ");
            let plan = match priced.as_str() {
                p if p.contains("usage 1 ") => "EARLY",
                p if p.contains("usage 100 ") => "LATE",
                p if p.contains("unbillable 1") => "none",
                p => p,
            };
            plan.to_owned()
        })
        .collect()
}

#[test]
fn usage_belongs_to_the_segment_of_its_local_date() {
    // St John's, 7 November 2010: 00:00, 00:00:59.999999, then 23:01 of the 6th again, until the second
    // midnight.
    let instants = [
        "2010-11-07T02:29:59.999999Z",
        "2010-11-07T02:30:00Z",
        "2010-11-07T02:30:59.999999Z",
        "2010-11-07T02:31:00Z",
        "2010-11-07T03:29:59.999999Z",
        "2010-11-07T03:30:00Z",
    ];
    let plans = charged("America/St_Johns", "2010-11", ["2010-11-01", "2010-11-07"], &instants);
    assert_eq!(plans, ["EARLY", "LATE", "LATE", "EARLY", "EARLY", "LATE"]);

    // A year earlier the clock is set back from the 1st to October 31st, which is not a day of the
    // month.
    let instants = [
        "2009-11-01T02:29:59.999999Z",
        "2009-11-01T02:30:00Z",
        "2009-11-01T02:31:00Z",
        "2009-11-01T03:29:59.999999Z",
        "2009-11-01T03:30:00Z",
    ];
    let plans = charged("America/St_Johns", "2009-11", ["2009-11-01", "2009-11-20"], &instants);
    assert_eq!(
        plans[0],
        "1 BASE EARLY 19 0 days 19, 2 BASE LATE 11 0 days 11, base 0 usage 0 discount 0 adjustment 0 tax 0 rounding 0 total 0, rated 0 unbillable 0"
    );
    assert_eq!(plans[1..], ["EARLY", "none", "none", "EARLY"]);

    // Havana: the hour from 00:00 occurs twice on the same date.
    let instants = ["2025-11-02T03:59:59Z", "2025-11-02T04:00:00Z", "2025-11-02T05:00:00Z"];
    let plans = charged("America/Havana", "2025-11", ["2025-11-01", "2025-11-02"], &instants);
    assert_eq!(plans, ["EARLY", "LATE", "LATE"]);

    // São Paulo, 18 February 2018: the hour from 23:00 of the 17th occurs twice, and the 18th begins
    // once.
    let instants =
        ["2018-02-18T01:59:59Z", "2018-02-18T02:00:00Z", "2018-02-18T02:59:59Z", "2018-02-18T03:00:00Z"];
    let plans = charged("America/Sao_Paulo", "2018-02", ["2018-02-01", "2018-02-18"], &instants);
    assert_eq!(plans, ["EARLY", "EARLY", "EARLY", "LATE"]);

    // Cairo, 24 April 2026 begins at 01:00.
    let instants = ["2026-04-23T21:59:59.999999Z", "2026-04-23T22:00:00Z"];
    let plans = charged("Africa/Cairo", "2026-04", ["2026-04-01", "2026-04-24"], &instants);
    assert_eq!(plans, ["EARLY", "LATE"]);

    // Apia skipped from the 29th to the 31st: a change of plan on the 30th takes effect at that
    // instant.
    let instants = ["2011-12-30T09:59:59.999999Z", "2011-12-30T10:00:00Z"];
    let plans = charged("Pacific/Apia", "2011-12", ["2011-12-01", "2011-12-30"], &instants);
    assert_eq!(plans, ["EARLY", "LATE"]);
}

#[test]
fn a_skipped_date_is_still_a_day_of_the_month() {
    let book = r#"
version: 1
currency: USD
timeZone: Pacific/Apia
validFrom: 2000-01
usageKinds: []
plans: [ { code: A, baseFee: 3100 }, { code: B, baseFee: 3100 } ]
"#;
    let book = PriceBook::parse(book).unwrap();
    let priced = Member::on("A", "2011-12-30", "2011-12-31")
        .and_on("B", "2011-12-31", "")
        .priced(&book, &month("Pacific/Apia", "2011-12"));
    assert_eq!(priced[..2], ["1 BASE A 1 100 days 1", "2 BASE B 1 100 days 1"]);
}
