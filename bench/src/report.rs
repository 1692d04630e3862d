//! Prints the measurements of billing as a table, and decides whether the goals are met.

#![expect(clippy::float_arithmetic, reason = "ratios of measurements; nothing here is money")]
#![expect(clippy::print_stdout, reason = "the report is the output of this program")]

use std::time::Duration;

use crate::issuing::{Cost, Issuing};

const MAX_WALL_RATIO: f64 = 0.9;
const MAX_CPU_RATIO: f64 = 1.25;
/// Of billing a month again when 1 % of its bills change, relative to billing it first.
const MAX_REBILLING_RATIO: f64 = 1.1;
/// Of issuing a revision or rolling it back, whatever its size.
const MAX_ISSUING: Duration = Duration::from_secs(2);
const MAX_ISSUING_LOG: u64 = 10_000_000;
const MIN_SEED_RATE_RATIO: f64 = 0.7;
/// A worker's peak memory at the largest size, relative to the smallest size.
const MAX_MEMORY_GROWTH: f64 = 1.25;

pub(crate) const HEAD: &str =
    "| | measured | reference | ratio | goal | |\n| --- | --- | --- | --- | --- | --- |";

/// The measurements at one size.
pub(crate) struct Measurement {
    pub(crate) members: u64,
    pub(crate) usage: i64,
    pub(crate) seed_wall: Duration,
    pub(crate) raw_copy_wall: Duration,
    pub(crate) raw_copy_bytes: u64,
    /// Wall and CPU time.
    pub(crate) reference: (Duration, Duration),
    pub(crate) reference_bills: u64,
    /// Wall and CPU time.
    pub(crate) workers: (Duration, Duration),
    pub(crate) bills: i64,
    pub(crate) peak_memory: u64,
    pub(crate) verification: Duration,
    pub(crate) planning: Duration,
    /// Wall and CPU time of billing the month again, by how many percent of the bills change.
    pub(crate) rebillings: Vec<(i64, Duration)>,
}

#[derive(Default)]
pub(crate) struct Report {
    sizes: Vec<Measurement>,
    without_goals: Vec<Measurement>,
    /// With a few bills, and with many.
    pub(crate) issuing: Option<[Issuing; 2]>,
}

impl Report {
    pub(crate) fn add(&mut self, measurement: Measurement) {
        self.sizes.push(measurement);
    }

    pub(crate) fn add_without_goals(&mut self, measurement: Measurement) {
        self.without_goals.push(measurement);
    }

    /// Prints the report. Returns whether every goal is met.
    pub(crate) fn print(&self) -> bool {
        println!("{HEAD}");
        let mut met = true;
        for measurement in &self.sizes {
            met &= measurement.print(true);
        }
        if let (Some(smallest), Some(largest)) = (
            self.sizes.iter().min_by_key(|measurement| measurement.members),
            self.sizes.iter().max_by_key(|measurement| measurement.members),
        ) && smallest.members < largest.members
        {
            let [small, large] = [smallest, largest].map(|measurement| mib(measurement.peak_memory));
            let what = format!(
                "peak memory of a worker, {} compared with {} members",
                largest.members, smallest.members
            );
            met &= row(
                &what,
                &format!("{large:.1} MiB"),
                &format!("{small:.1} MiB"),
                large / small,
                Goal::AtMost(MAX_MEMORY_GROWTH),
            );
        }
        for measurement in &self.without_goals {
            measurement.print(false);
        }
        if let Some(issuing) = &self.issuing {
            met &= print_issuing(issuing);
        }
        met
    }
}

fn print_issuing([few, many]: &[Issuing; 2]) -> bool {
    let mut met = true;
    for (what, measured, reference) in
        [("issuing", many.issuing, few.issuing), ("rolling back", many.rolling_back, few.rolling_back)]
    {
        let within = measured.wall <= MAX_ISSUING && measured.log <= MAX_ISSUING_LOG;
        println!(
            "| {what} {} bills, compared with {} | {} | {} | {:.2} | ≤ {}, {} kB of log | {} |",
            many.bills,
            few.bills,
            issuing_cost(measured),
            issuing_cost(reference),
            measured.wall.as_secs_f64() / reference.wall.as_secs_f64(),
            seconds(MAX_ISSUING),
            MAX_ISSUING_LOG / 1000,
            if within { "met" } else { "**missed**" },
        );
        met &= within;
    }
    met
}

fn issuing_cost(cost: Cost) -> String {
    format!("{:.1} ms, {:.0} kB of log", cost.wall.as_secs_f64() * 1e3, count(cost.log) / 1e3)
}

#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Measurement {
    fn print(&self, goals: bool) -> bool {
        let Self { members, usage, .. } = self;
        let size = format!("{members} members, {usage} usage rows");
        let goal = |goal| if goals { goal } else { Goal::None };
        let [(wall, cpu), (reference_wall, reference_cpu)] = [self.workers, self.reference];
        let rows = [
            (
                format!("{size}: billing, wall"),
                wall,
                reference_wall,
                wall,
                reference_wall,
                Goal::AtMost(MAX_WALL_RATIO),
            ),
            (
                format!("{size}: billing, CPU of all processes"),
                cpu,
                reference_cpu,
                cpu,
                reference_cpu,
                Goal::AtMost(MAX_CPU_RATIO),
            ),
            // The inverse ratio of the times is the ratio of the rates in rows per second.
            (
                format!("{size}: seeding, rate compared with raw COPY"),
                self.seed_wall,
                self.raw_copy_wall,
                self.raw_copy_wall,
                self.seed_wall,
                Goal::AtLeast(MIN_SEED_RATE_RATIO),
            ),
        ];
        let mut met = true;
        for (what, measured, reference, over, under, of) in rows {
            let ratio = over.as_secs_f64() / under.as_secs_f64();
            met &= row(&what, &seconds(measured), &seconds(reference), ratio, goal(of));
        }
        for (percent, again) in &self.rebillings {
            met &= row(
                &format!(
                    "{size}: billing again when {percent} % of the bills change, wall compared with billing first"
                ),
                &seconds(*again),
                &seconds(wall),
                again.as_secs_f64() / wall.as_secs_f64(),
                goal(if *percent == 1 { Goal::AtMost(MAX_REBILLING_RATIO) } else { Goal::None }),
            );
        }
        let rate = |bills: f64, wall: Duration| bills / wall.as_secs_f64();
        println!(
            "| {size}: for information | {:.0} bills/s; verification {}, planning {}; worker {:.1} MiB | {:.0} bills/s; COPY {:.0} MB/s | | | |",
            rate(count(self.bills.unsigned_abs()), wall),
            seconds(self.verification),
            seconds(self.planning),
            mib(self.peak_memory),
            rate(count(self.reference_bills), reference_wall),
            count(self.raw_copy_bytes) / 1e6 / self.raw_copy_wall.as_secs_f64(),
        );
        met
    }
}

pub(crate) fn row(what: &str, measured: &str, reference: &str, ratio: f64, goal: Goal) -> bool {
    let (goal, met) = match goal {
        Goal::AtMost(limit) => (format!("≤ {limit}"), Some(ratio <= limit)),
        Goal::AtLeast(limit) => (format!("≥ {limit}"), Some(ratio >= limit)),
        Goal::None => (String::new(), None),
    };
    let verdict = match met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "",
    };
    println!("| {what} | {measured} | {reference} | {ratio:.2} | {goal} | {verdict} |");
    met.unwrap_or(true)
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

pub(crate) fn mib(bytes: u64) -> f64 {
    count(bytes) / 1_048_576.0
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(crate) fn count(number: u64) -> f64 {
    number as f64
}
