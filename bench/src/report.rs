//! The figures as a table, and whether the goals are met.

#![expect(clippy::float_arithmetic, reason = "ratios of measurements; nothing here is money")]
#![expect(clippy::print_stdout, reason = "the report is what this program is run for")]

use std::time::Duration;

const MOST_WALL: f64 = 0.9;
const MOST_CPU: f64 = 1.25;
const LEAST_SEED: f64 = 0.7;
/// A worker's memory at the largest size against the smallest.
const MOST_MEMORY_GROWTH: f64 = 1.25;

pub(crate) const HEAD: &str =
    "| | measured | reference | ratio | goal | |\n| --- | --- | --- | --- | --- | --- |";

/// What was measured at one size.
pub(crate) struct Figures {
    pub(crate) members: u64,
    pub(crate) usage: i64,
    pub(crate) seed_wall: Duration,
    pub(crate) raw_copy_wall: Duration,
    pub(crate) raw_copy_bytes: u64,
    /// Wall and CPU.
    pub(crate) reference: (Duration, Duration),
    pub(crate) reference_bills: u64,
    /// Wall and CPU.
    pub(crate) ours: (Duration, Duration),
    pub(crate) our_bills: i64,
    pub(crate) peak_memory: u64,
    pub(crate) verification: Duration,
    pub(crate) planning: Duration,
}

#[derive(Default)]
pub(crate) struct Report {
    sizes: Vec<Figures>,
    for_information: Vec<Figures>,
}

impl Report {
    pub(crate) fn add(&mut self, figures: Figures) {
        self.sizes.push(figures);
    }

    pub(crate) fn add_for_information(&mut self, figures: Figures) {
        self.for_information.push(figures);
    }

    /// Prints the report, and tells whether every goal is met.
    pub(crate) fn print(&self) -> bool {
        println!("{HEAD}");
        let mut met = true;
        for figures in &self.sizes {
            met &= figures.print(true);
        }
        if let (Some(smallest), Some(largest)) = (
            self.sizes.iter().min_by_key(|figures| figures.members),
            self.sizes.iter().max_by_key(|figures| figures.members),
        ) && smallest.members < largest.members
        {
            let [small, large] = [smallest, largest].map(|figures| mib(figures.peak_memory));
            let what =
                format!("peak memory of a worker, {} against {} members", largest.members, smallest.members);
            met &= row(
                &what,
                &format!("{large:.1} MiB"),
                &format!("{small:.1} MiB"),
                large / small,
                Goal::AtMost(MOST_MEMORY_GROWTH),
            );
        }
        for figures in &self.for_information {
            figures.print(false);
        }
        met
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Figures {
    fn print(&self, goals: bool) -> bool {
        let Self { members, usage, .. } = self;
        let size = format!("{members} members, {usage} usage rows");
        let goal = |goal| if goals { goal } else { Goal::None };
        let [(wall, cpu), (reference_wall, reference_cpu)] = [self.ours, self.reference];
        let rows = [
            (
                format!("{size}: billing, wall"),
                wall,
                reference_wall,
                wall,
                reference_wall,
                Goal::AtMost(MOST_WALL),
            ),
            (
                format!("{size}: billing, CPU of all processes"),
                cpu,
                reference_cpu,
                cpu,
                reference_cpu,
                Goal::AtMost(MOST_CPU),
            ),
            // The other way round, as a rate: rows a second against raw COPY's.
            (
                format!("{size}: seed, rate against raw COPY"),
                self.seed_wall,
                self.raw_copy_wall,
                self.raw_copy_wall,
                self.seed_wall,
                Goal::AtLeast(LEAST_SEED),
            ),
        ];
        let mut met = true;
        for (what, measured, reference, over, under, of) in rows {
            let ratio = over.as_secs_f64() / under.as_secs_f64();
            met &= row(&what, &seconds(measured), &seconds(reference), ratio, goal(of));
        }
        let rate = |bills: f64, wall: Duration| bills / wall.as_secs_f64();
        println!(
            "| {size}: for information | {:.0} bills/s; verification {}, planning {}; worker {:.1} MiB | {:.0} bills/s; COPY {:.0} MB/s | | | |",
            rate(count(self.our_bills.unsigned_abs()), wall),
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
        Goal::AtMost(most) => (format!("≤ {most}"), Some(ratio <= most)),
        Goal::AtLeast(least) => (format!("≥ {least}"), Some(ratio >= least)),
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
