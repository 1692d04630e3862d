//! Series with the label `month`: those of months that are no longer read would show their last value
//! until the operator restarts.

use std::collections::{BTreeSet, HashMap};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

const MONTH: &str = "month";

/// Removes the series of all months but these.
pub(super) fn keep_months<'a, B: MetricVecBuilder>(
    gauges: &MetricVec<B>,
    months: impl Iterator<Item = &'a str>,
) where
    MetricVec<B>: Collector,
{
    let kept: BTreeSet<&str> = months.collect();
    for labels in series(gauges) {
        if labels.get(MONTH).is_none_or(|month| !kept.contains(month.as_str())) {
            remove(gauges, &labels);
        }
    }
}

/// Removes the series of all months but the last ones, where not every month is read each time.
pub(super) fn keep_last_months<B: MetricVecBuilder>(gauges: &MetricVec<B>, number: usize)
where
    MetricVec<B>: Collector,
{
    let all = series(gauges);
    let months: BTreeSet<&String> = all.iter().filter_map(|labels| labels.get(MONTH)).collect();
    let kept: BTreeSet<&String> = months.into_iter().rev().take(number).collect();
    for labels in &all {
        if labels.get(MONTH).is_none_or(|month| !kept.contains(month)) {
            remove(gauges, labels);
        }
    }
}

/// The labels of each series.
fn series(gauges: &impl Collector) -> Vec<HashMap<String, String>> {
    let families = gauges.collect();
    let all = families.iter().flat_map(|family| family.get_metric());
    let labels = |metric: &prometheus::proto::Metric| {
        let pairs = metric.get_label().iter();
        pairs.map(|pair| (pair.name().to_owned(), pair.value().to_owned())).collect()
    };
    all.map(labels).collect()
}

fn remove<B: MetricVecBuilder>(gauges: &MetricVec<B>, labels: &HashMap<String, String>) {
    let labels: HashMap<&str, &str> =
        labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // Fails for a series that does not exist, which is fine.
    let _ = gauges.remove(&labels);
}

#[cfg(test)]
mod tests {
    use prometheus::{IntGaugeVec, Opts};

    use super::*;

    fn gauges() -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new("of_months", "Of months."), &["state", MONTH]).unwrap();
        for month in ["2026-08", "2026-09", "2026-10"] {
            for state in ["a", "b"] {
                gauges.with_label_values(&[state, month]).set(1);
            }
        }
        gauges
    }

    fn left(gauges: &IntGaugeVec) -> Vec<String> {
        let mut left: Vec<String> =
            series(gauges).iter().map(|labels| format!("{} {}", labels[MONTH], labels["state"])).collect();
        left.sort();
        left
    }

    #[test]
    fn months_that_are_not_named_go_with_all_their_series() {
        let gauges = gauges();
        keep_months(&gauges, ["2026-08", "2026-10", "2026-11"].into_iter());
        assert_eq!(left(&gauges), ["2026-08 a", "2026-08 b", "2026-10 a", "2026-10 b"]);
    }

    #[test]
    fn the_last_months_stay() {
        let gauges = gauges();
        keep_last_months(&gauges, 3);
        assert_eq!(left(&gauges).len(), 6);
        keep_last_months(&gauges, 1);
        assert_eq!(left(&gauges), ["2026-10 a", "2026-10 b"]);
    }
}
