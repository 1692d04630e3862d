//! Decides which sends of the mock transport fail. The decision is deterministic, so tests know the
//! failures in advance.

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;

const MILLION: u64 = 1_000_000;

/// Whether this attempt fails, where `per_million` is the failure rate in attempts per million.
#[must_use]
pub fn fails(
    per_million: u32,
    month: BillingMonth,
    member: MemberId,
    revision: Revision,
    attempt: i32,
) -> bool {
    let month = month.first_day();
    let mut hash = mix(member.get().cast_unsigned());
    for part in [i64::from(month.year()), month.month().into(), revision.get().into(), attempt.into()] {
        hash = mix(hash ^ part.cast_unsigned());
    }
    hash % MILLION < per_million.into()
}

/// The finalizer of splitmix64: each bit of the input changes on average half of the bits of the
/// output.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(per_million: u32, revision: i64, attempt: i32) -> Vec<i64> {
        let month = "2026-10".parse().unwrap();
        let revision = Revision::try_from(revision).unwrap();
        let fails = |id: &i64| fails(per_million, month, MemberId::try_from(*id).unwrap(), revision, attempt);
        (1..=100_000).filter(fails).collect()
    }

    #[test]
    fn fails_at_the_given_rate_and_always_for_the_same_members() {
        for per_million in [1_000, 50_000, 500_000] {
            let found = failures(per_million, 1, 1);
            let expected = usize::try_from(per_million / 10).unwrap();
            // Within five standard deviations.
            assert!(found.len().abs_diff(expected).pow(2) < 25 * expected, "{per_million}: {}", found.len());
            assert_eq!(found, failures(per_million, 1, 1));
        }
        assert!(failures(0, 1, 1).is_empty());
        assert_eq!(failures(1_000_000, 1, 1).len(), 100_000);
    }

    #[test]
    fn another_attempt_or_revision_fails_for_other_members() {
        let first = failures(50_000, 1, 1);
        for other in [failures(50_000, 1, 2), failures(50_000, 2, 1)] {
            let both = first.iter().filter(|id| other.binary_search(id).is_ok()).count();
            // By chance 1 of 20 fails again.
            assert!((100..450).contains(&both), "{both} of {}", first.len());
        }
    }
}
