//! A month's history against an independent implementation: random data is loaded, billed,
//! corrected, taken back, billed again with each scope, rejected and rolled back. After each step
//! the tables that anyone may read are compared, row by row, with a model of the contract.

#[path = "../../../../domain/tests/domain/generate.rs"]
#[expect(dead_code, reason = "some of it is for the tests of the prices alone")]
mod generate;
#[path = "../../../../domain/tests/domain/members.rs"]
#[expect(dead_code, reason = "some of it is for the tests of the prices alone")]
mod members;
#[path = "../../../../domain/tests/domain/reference.rs"]
mod reference;

mod data;
mod model;
mod rows;
mod runs;

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio::runtime::Builder;

use self::runs::{Month, ScopeChoice};

/// More seeds, separated by commas.
const MORE_SEEDS: &str = "MONTHEND_TEST_HISTORY_SEEDS";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Load,
    /// The folder of an earlier load.
    LoadAgain,
    TakeBack,
    /// A billing, of the scope if the month is live.
    Bill(ScopeChoice),
    /// A billing whose draft is rejected.
    Reject(ScopeChoice),
    RollBack,
    /// Until nothing is live.
    RollBackAll,
    /// Requests that must change nothing.
    Refused,
}

#[test]
fn each_step_of_a_month_leaves_what_an_independent_implementation_has() {
    let more = std::env::var(MORE_SEEDS).unwrap_or_default();
    let more = more.split(',').filter(|seed| !seed.is_empty()).map(|seed| seed.parse().unwrap());
    let seeds: BTreeSet<u64> = (1..=8).chain(more).collect();
    let seeds = Mutex::new(seeds.into_iter());
    let next = || seeds.lock().unwrap().next();
    // Most of the time a thread waits for a command that it started.
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                while let Some(seed) = next() {
                    runtime.block_on(follow(seed));
                }
            });
        }
    });
}

/// Follows the history of one month, in an order that depends on the seed.
async fn follow(seed: u64) {
    let mut month = Month::new(seed).await;
    let mut steps = vec![
        Step::LoadAgain,
        Step::TakeBack,
        Step::TakeBack,
        Step::Refused,
        Step::RollBack,
        Step::RollBackAll,
        Step::Load,
        Step::Load,
    ];
    for scope in ScopeChoice::ALL {
        steps.push(Step::Bill(scope));
    }
    steps.push(Step::Reject(month.data.choose(&ScopeChoice::ALL)));
    // Where nothing is live, the month is billed for the first time, whatever the scope.
    let begin =
        [Step::Load, Step::Bill(ScopeChoice::Everyone), Step::Load, Step::Bill(ScopeChoice::Everyone)];
    let mut order = begin.to_vec();
    while !steps.is_empty() {
        let at = month.data.pick(steps.len());
        order.push(steps.swap_remove(at));
    }
    for step in order {
        match step {
            Step::Load => month.load().await,
            Step::LoadAgain => month.load_again().await,
            Step::TakeBack => month.take_back().await,
            Step::Bill(scope) => month.bill(scope, true).await,
            Step::Reject(scope) => month.bill(scope, false).await,
            Step::RollBack => month.roll_back().await,
            Step::RollBackAll => {
                while month.model.highest_live().is_some() {
                    month.roll_back().await;
                }
            }
            Step::Refused => month.refuse().await,
        }
    }
}
