//! Prints the figures as a table, and checks them against the goals.

#![expect(clippy::float_arithmetic, reason = "ratios of measurements; nothing here is money")]
#![expect(clippy::print_stdout, reason = "the report is what this program is run for")]

use std::time::Duration;

use super::compose::Composing;
use super::consume::Consuming;
use super::publish::Publishing;
use crate::report::{Goal, HEAD, count, mib, row, seconds};

/// Publishing against the load tool.
const MIN_PUBLISHING: f64 = 0.7;
/// Consuming against composing in memory.
const MIN_CONSUMING: f64 = 0.4;
/// The memory of a process at the largest size against the smallest.
const MAX_MEMORY_GROWTH: f64 = 1.25;

/// The measurements at one size.
pub(crate) struct Figures {
    pub(crate) bills: u64,
    pub(crate) selection: Duration,
    pub(crate) publishing: Publishing,
    pub(crate) composing: Composing,
    pub(crate) consuming: Consuming,
}

#[derive(Default)]
pub(crate) struct Report(Vec<Figures>);

impl Report {
    pub(crate) fn add(&mut self, figures: Figures) {
        self.0.push(figures);
    }

    /// Prints the report. True if every goal is met.
    pub(crate) fn print(&self) -> bool {
        println!("{HEAD}");
        let mut met = true;
        for figures in &self.0 {
            met &= figures.print();
        }
        let smallest = self.0.iter().min_by_key(|figures| figures.bills);
        let largest = self.0.iter().max_by_key(|figures| figures.bills);
        if let (Some(smallest), Some(largest)) = (smallest, largest)
            && smallest.bills < largest.bills
        {
            let peaks =
                |figures: &Figures| [figures.consuming.peak_memory, figures.publishing.took.peak_memory];
            for (process, (large, small)) in ["a consumer", "the publisher"]
                .into_iter()
                .zip(peaks(largest).into_iter().zip(peaks(smallest)))
            {
                let what =
                    format!("peak memory of {process}, {} against {} bills", largest.bills, smallest.bills);
                let [large, small] = [large, small].map(mib);
                let goal = Goal::AtMost(MAX_MEMORY_GROWTH);
                met &=
                    row(&what, &format!("{large:.1} MiB"), &format!("{small:.1} MiB"), large / small, goal);
            }
        }
        met
    }
}

impl Figures {
    fn print(&self) -> bool {
        let Self { bills, selection, publishing, composing, consuming } = self;
        let published = rate(publishing.messages, publishing.took.wall);
        let reference = rate(publishing.messages, publishing.reference);
        let mut met = row(
            &format!("{bills} bills: publishing"),
            &per_second(published),
            &per_second(reference),
            published / reference,
            Goal::AtLeast(MIN_PUBLISHING),
        );
        let consumed = rate(consuming.outcomes, consuming.span);
        let composed = rate(composing.bills, composing.took);
        met &= row(
            &format!("{bills} bills: consuming"),
            &per_second(consumed),
            &per_second(composed),
            consumed / composed,
            Goal::AtLeast(MIN_CONSUMING),
        );
        println!(
            "| {bills} bills: for information | targets selected in {}, published in {} (peak memory {:.1} MiB); first outcomes after {}, consumed in {}, {} sent, CPU time: consumer {}, database {}, broker {} (peak memory {:.1} MiB) | messages of {} bytes; emails of {:.1} kB | | | |",
            seconds(*selection),
            seconds(publishing.took.wall),
            mib(publishing.took.peak_memory),
            seconds(consuming.first),
            seconds(consuming.wall),
            consuming.sent,
            seconds(consuming.cpu),
            seconds(consuming.server_cpu),
            seconds(consuming.broker_cpu),
            mib(consuming.peak_memory),
            publishing.size,
            count(composing.bytes) / count(composing.emails.max(1)) / 1e3,
        );
        met
    }
}

fn rate(number: u64, time: Duration) -> f64 {
    count(number) / time.as_secs_f64()
}

fn per_second(rate: f64) -> String {
    format!("{rate:.0}/s")
}
