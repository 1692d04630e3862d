//! Decides whether and when an email is tried again that the mail server deferred, by a 4xx reply
//! from RCPT on or by closing the connection before the content was complete. Pure; the sender
//! asks, and the retry queue holds the email meanwhile.

use std::time::Duration;

use domain::backoff::Backoff;

/// How often, and for how long, a deferred email is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPolicy {
    /// The first try included.
    pub(crate) max_tries: i32,
    /// Since the first try.
    pub(crate) max_age: Duration,
    /// After the first try. Each further delay is three times as long.
    pub(crate) first_delay: Duration,
    pub(crate) max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_tries: 5,
            max_age: Duration::from_secs(600),
            first_delay: Duration::from_secs(10),
            max_delay: Duration::from_secs(180),
        }
    }
}

impl RetryPolicy {
    /// The delay before the next try after `tries` tries, the first of them `age` ago. None: the
    /// delivery has failed.
    pub(crate) fn next_delay(&self, tries: i32, age: Duration) -> Option<Duration> {
        let backoff = Backoff::new(self.first_delay, self.max_delay).with_factor(3);
        let delay = backoff.after(tries.max(1).unsigned_abs());
        (tries < self.max_tries && age + delay <= self.max_age).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deferred_email_is_tried_five_times_within_ten_minutes() {
        let policy = RetryPolicy::default();
        let mut age = Duration::ZERO;
        let mut delays = Vec::new();
        let mut tries = 1;
        while let Some(delay) = policy.next_delay(tries, age) {
            delays.push(delay.as_secs());
            age += delay;
            tries += 1;
        }
        assert_eq!((tries, delays), (5, vec![10, 30, 90, 180]));
        assert!(age < policy.max_age);
        assert_eq!(policy.next_delay(2, Duration::from_secs(590)), None);
        assert_eq!(policy.next_delay(i32::MAX, Duration::ZERO), None);
    }
}
