//! The data set of the scenarios. It is small and deterministic, and covers every case that billing
//! distinguishes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

pub const MEMBERS: u64 = 4000;
/// The months of the billing scenarios. Each scenario bills a month of its own.
pub const FIRST_MONTH: (u32, u32) = (2024, 7);
pub const MONTHS: u32 = 28;
pub const TIME_ZONE: &str = "Asia/Seoul";
pub const CURRENCY: &str = "KRW";
/// The months of the notification scenarios, which come before the others. Each scenario has a
/// cohort of one to itself.
pub const FIRST_NOTIFICATION_MONTH: (u32, u32) = (2024, 1);
pub const NOTIFICATION_MONTHS: u32 = 6;
/// The notification month that is corrected after its bills were sent.
pub const CORRECTED_MONTH: u32 = 4;
/// The month of the scenario that bills some members again, which comes before all others.
pub const SCOPES_MONTH: &str = "2023-12";
/// A month without usage that is never issued: each scenario that uses it leaves a rejected draft, so
/// that several can.
pub const DRAFTS_MONTH: &str = "2023-08";
/// Number of members in a cohort. Not all of them get a bill.
pub const COHORT_SIZE: u64 = 400;
/// Members without an e-mail address.
pub const MEMBERS_WITHOUT_ADDRESS: EveryNth = EveryNth { step: 100, offset: 37 };
/// The id of a member who is loaded in one scenario: without an address at first, then with
/// [`LATE_ADDRESS`].
pub const MEMBER_WITH_LATE_ADDRESS: u64 = 3;
pub const LATE_ADDRESS: &str = "late-address@example.com";
/// Members whose name is [`MARKUP_NAME`].
pub const MEMBERS_WITH_MARKUP_NAME: EveryNth = EveryNth { step: 100, offset: 44 };
/// Members whose bills of the notification months are large enough that a leaked amount is
/// unmistakable.
pub const MEMBERS_WITH_LARGE_BILL: EveryNth = EveryNth { step: COHORT_SIZE, offset: 21 };
/// In won.
pub const LARGE_ADJUSTMENT: i64 = 987_654_300;
/// A name with characters that are special in HTML, in templates and in e-mail headers.
pub const MARKUP_NAME: &str = r#"<b>Ann</b> & "Co" {{total}}"#;

pub const PRICE_BOOK: &str = r#"version: e2e-1
currency: KRW
timeZone: Asia/Seoul
validFrom: 2023-08
usageKinds: [data, sms, voice]
plans:
  - code: BASIC-33
    name: Basic 33
    baseFee: 33000
    usage:
      voice: { allowance: 600, per: 1, tiers: [ { upTo: 3600, rate: "1.98" }, { rate: "1.10" } ], cap: 50000 }
      data:  { allowance: 1073741824, per: 1048576, tiers: [ { rate: "22.53" } ] }
      sms:   { allowance: 10, per: 1, tiers: [ { rate: "22" } ] }
  - { code: FLAT-89, name: Flat 89, baseFee: 89000, usage: {} }
  - { code: INSURANCE, name: Phone insurance, type: addon, baseFee: 4900 }
discounts:
  - { code: CONTRACT-25, name: Contract 25 %, kind: percent, value: "25", appliesTo: base, priority: 10 }
  - { code: FAMILY, name: Family bundle, kind: amount, value: "5500", appliesTo: total, priority: 20, prorate: days, cap: 5500 }
tax: { rate: "10", mode: inclusive }
billRounding: { unit: 10, mode: down }
"#;

/// The n-th month of the billing scenarios, counted from 0, as `YYYY-MM`.
pub fn month(n: u32) -> String {
    month_after(FIRST_MONTH, n)
}

/// The n-th month of the notification scenarios, counted from 0, as `YYYY-MM`.
pub fn notification_month(n: u32) -> String {
    month_after(FIRST_NOTIFICATION_MONTH, n)
}

/// The month whose bills are sent through the mock transport, and never to a mail server.
pub fn mock_month() -> String {
    notification_month(NOTIFICATION_MONTHS - 1)
}

fn month_after((year, first): (u32, u32), n: u32) -> String {
    let months = first - 1 + n;
    format!("{:04}-{:02}", year + months / 12, months % 12 + 1)
}

/// The members of one month that a single scenario sends to.
#[derive(Clone, Debug)]
pub struct Cohort {
    pub month: String,
    /// As positions in the data set, not as ids.
    pub members: std::ops::Range<u64>,
}

impl Cohort {
    /// The n-th cohort, counted over all notification months.
    pub fn of(n: u32) -> Self {
        let cohorts = u32::try_from(MEMBERS / COHORT_SIZE).unwrap_or(1);
        let first = u64::from(n % cohorts) * COHORT_SIZE;
        Self { month: notification_month(n / cohorts), members: first..first + COHORT_SIZE }
    }

    /// All members of a notification month.
    pub fn whole(n: u32) -> Self {
        Self { month: notification_month(n), members: 0..MEMBERS }
    }

    /// The first and the last member id.
    pub fn ids(&self) -> (u64, u64) {
        (member_id(self.members.start), member_id(self.members.end - 1))
    }

    pub fn scope(&self) -> serde_json::Value {
        let (from, to) = self.ids();
        serde_json::json!({"memberRange": {"from": from, "to": to}})
    }
}

/// Every `step`-th position of the data set, starting at `offset`.
#[derive(Clone, Copy, Debug)]
pub struct EveryNth {
    pub step: u64,
    pub offset: u64,
}

impl EveryNth {
    pub const fn contains(self, n: u64) -> bool {
        n % self.step == self.offset
    }
}

pub fn email(n: u64) -> String {
    if MEMBERS_WITHOUT_ADDRESS.contains(n) { String::new() } else { format!("m{n}@example.com") }
}

pub fn prefers_english(n: u64) -> bool {
    n.is_multiple_of(4)
}

/// The member id at a position. Ids have gaps of different sizes, and the last one is the highest
/// possible id.
pub fn member_id(n: u64) -> u64 {
    if n + 1 == MEMBERS { i64::MAX.unsigned_abs() } else { 1 + n * 7 + n / 500 * 1_000_003 }
}

/// Writes the folder that `monthend load` takes.
pub fn write(folder: &Path) -> Result<()> {
    let mut members = String::from("member_id,name,email,phone,locale\n");
    let mut subscriptions = String::from("member_id,plan_code,from,to\n");
    let mut grants = String::from("member_id,discount_code,from,to\n");
    let mut adjustments = String::from("adjustment_id,member_id,month,code,amount,reason\n");
    let mut usage = String::from("usage_id,member_id,kind,quantity,started_at\n");

    for n in 0..MEMBERS {
        let id = member_id(n);
        let locale = if prefers_english(n) { "en" } else { "ko" };
        let name = if MEMBERS_WITH_MARKUP_NAME.contains(n) {
            format!("\"{}\"", MARKUP_NAME.replace('"', "\"\""))
        } else {
            format!("Member {n}")
        };
        let email = email(n);
        writeln!(members, "{id},{name},{email},010-{:04}-{:04},{locale}", n % 10_000, n * 3 % 10_000)?;
        write_subscriptions(&mut subscriptions, n, id)?;
        if n.is_multiple_of(3) {
            writeln!(grants, "{id},CONTRACT-25,2024-01-01,")?;
        }
        if n.is_multiple_of(5) {
            writeln!(grants, "{id},FAMILY,2025-02-11,2025-09-20")?;
        }
        if n % 500 == 9 {
            writeln!(grants, "{id},NO-SUCH-DISCOUNT,2024-01-01,")?;
        }
    }
    for m in 0..=MONTHS + NOTIFICATION_MONTHS {
        let month = match m {
            0..MONTHS => month(m),
            _ if m < MONTHS + NOTIFICATION_MONTHS => notification_month(m - MONTHS),
            _ => SCOPES_MONTH.to_owned(),
        };
        for n in (0..MEMBERS).step_by(50) {
            let adjustment = u64::from(m) * MEMBERS + n + 1;
            let amount = if n.is_multiple_of(100) { "1200" } else { "-700" };
            writeln!(adjustments, "{adjustment},{},{month},GOODWILL,{amount},e2e", member_id(n))?;
        }
        for n in (0..MEMBERS).filter(|n| m >= MONTHS && MEMBERS_WITH_LARGE_BILL.contains(*n)) {
            let adjustment = u64::from(m) * MEMBERS + n + 1;
            writeln!(
                adjustments,
                "{adjustment},{},{month},ROAMING-ABROAD,{LARGE_ADJUSTMENT},e2e",
                member_id(n)
            )?;
        }
        for n in 0..MEMBERS {
            write_usage(&mut usage, &month, n, member_id(n))?;
        }
        // Usage of a member id that does not exist is counted and not charged.
        writeln!(usage, "{month}-nobody,3,voice,60,{month}-05T10:00:00+09:00")?;
    }
    for (name, text) in [
        ("members.csv", members),
        ("subscriptions.csv", subscriptions),
        ("grants.csv", grants),
        ("adjustments.csv", adjustments),
        ("usage.csv", usage),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn write_subscriptions(out: &mut String, n: u64, id: u64) -> Result<()> {
    match n % 500 {
        7 => writeln!(out, "{id},NO-SUCH-PLAN,2023-01-01,")?,
        8 => writeln!(out, "{id},BASIC-33,2023-01-01,\n{id},FLAT-89,2023-06-01,")?,
        _ => match n % 10 {
            0 => writeln!(out, "{id},FLAT-89,2023-01-01,")?,
            // Leaves and returns within one month.
            1 => writeln!(out, "{id},BASIC-33,2023-01-01,2025-06-10\n{id},BASIC-33,2025-06-20,")?,
            // Changes the plan in the middle of a month.
            2 => writeln!(out, "{id},BASIC-33,2023-01-01,2025-03-15\n{id},FLAT-89,2025-03-15,")?,
            // Joins late.
            3 => writeln!(out, "{id},BASIC-33,2024-11-21,")?,
            _ => writeln!(out, "{id},BASIC-33,2023-01-01,")?,
        },
    }
    if n.is_multiple_of(23) {
        writeln!(out, "{id},INSURANCE,2024-02-10,")?;
    }
    Ok(())
}

fn write_usage(out: &mut String, month: &str, n: u64, id: u64) -> Result<()> {
    let (day, hour) = (n % 28 + 1, n % 24);
    writeln!(out, "{month}-{n}-v,{id},voice,{},{month}-{day:02}T{hour:02}:15:00+09:00", 300 + n * 37 % 9000)?;
    if n.is_multiple_of(2) {
        let bytes = n * 1_234_567 % 6_000_000_000;
        writeln!(out, "{month}-{n}-d,{id},data,{bytes},{month}-{day:02}T{hour:02}:20:00.5+09:00")?;
    }
    if n.is_multiple_of(40) {
        writeln!(out, "{month}-{n}-r,{id},roaming,1,{month}-{day:02}T{hour:02}:30:00+09:00")?;
    }
    Ok(())
}

/// Writes a folder that is loaded while a run of the month is in progress: usage of known members,
/// a new add-on and a new member. Everything is in that month, because other months are billed by
/// later scenarios. Returns the number of usage rows.
pub fn write_late_load(folder: &Path, month: &str) -> Result<u64> {
    let rows = 200;
    let mut usage = String::from("usage_id,member_id,kind,quantity,started_at\n");
    for n in 0..rows {
        writeln!(usage, "{month}-late-{n},{},voice,5000,{month}-10T12:00:00+09:00", member_id(n))?;
    }
    fs::write(folder.join("usage.csv"), usage).context("write usage.csv")?;
    fs::write(
        folder.join("members.csv"),
        "member_id,name,email,phone\n5,Late Comer,late@example.com,010-1111-2222\n",
    )
    .context("write members.csv")?;
    let subscriptions = format!(
        "member_id,plan_code,from,to\n5,BASIC-33,{month}-01,{month}-28\n{},INSURANCE,{month}-01,{month}-28\n",
        member_id(4)
    );
    fs::write(folder.join("subscriptions.csv"), subscriptions).context("write subscriptions.csv")?;
    Ok(rows)
}
