//! Exponential back-off: how long to wait after each of several failures in a row. Pure: who waits,
//! counts the failures and decides when to give up is the caller.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

/// Enough failures for any delay to have reached its maximum.
const MAX_STEPS: usize = 128;
const HALF_A_MILLISECOND: Duration = Duration::from_micros(500);

/// Delays that grow by a constant factor from a first one to a longest one, without jitter.
#[derive(Debug, Clone, Copy)]
pub struct Backoff(ExponentialBuilder);

impl Backoff {
    /// Delays that double.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        let delays = ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest);
        Self(delays.with_factor(2.0).without_max_times())
    }

    /// Makes each delay `factor` times as long as the one before; `factor` is 1 or more.
    #[must_use]
    pub const fn with_factor(self, factor: u8) -> Self {
        Self(self.0.with_factor(factor as f32))
    }

    /// How long to wait after `failures` failures in a row, to the millisecond: the first delay
    /// after 1, nothing after 0.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        let Some(step) = failures.checked_sub(1) else { return Duration::ZERO };
        let step = usize::try_from(step).unwrap_or(MAX_STEPS).min(MAX_STEPS);
        let delay = self.0.build().nth(step).unwrap_or_default();
        // The crate computes in 32-bit floats, which are off by nanoseconds.
        let millis = delay.saturating_add(HALF_A_MILLISECOND).as_millis();
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const DOUBLING: Backoff = Backoff::new(millis(200), millis(10_000));
    const TRIPLING: Backoff = Backoff::new(millis(10_000), millis(180_000)).with_factor(3);
    const CONSTANT: Backoff = Backoff::new(millis(1000), millis(1000));
    const ODD: Backoff = Backoff::new(millis(700), millis(30_000));

    #[test]
    fn delays_grow_by_the_factor_up_to_the_longest() {
        for (name, backoff, expected) in [
            ("doubling", DOUBLING, [0, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]),
            ("tripling", TRIPLING, [0, 10_000, 30_000, 90_000, 180_000, 180_000, 180_000, 180_000, 180_000]),
            ("constant", CONSTANT, [0, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000]),
            ("not exact in floats", ODD, [0, 700, 1400, 2800, 5600, 11_200, 22_400, 30_000, 30_000]),
        ] {
            for (failures, expected) in (0..).zip(expected) {
                assert_eq!(backoff.after(failures), millis(expected), "{name} after {failures}");
            }
        }
    }

    #[test]
    fn any_number_of_failures_has_a_delay() {
        for (name, backoff, longest) in
            [("doubling", DOUBLING, 10_000), ("tripling", TRIPLING, 180_000), ("constant", CONSTANT, 1000)]
        {
            for failures in [64, 65, 1_000_000, u32::MAX] {
                assert_eq!(backoff.after(failures), millis(longest), "{name} after {failures}");
            }
        }
    }
}
