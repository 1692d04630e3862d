//! Notices on a real PostgreSQL, each test in a database of its own: the operator's part under the operator's role, the
//! worker's and consumers' under the worker's.

#![expect(clippy::unwrap_used, reason = "in a test, a step that fails has failed the test")]

mod choosing;
mod claiming;
mod delivering;
mod ending;
mod fixture;
mod load;
mod pacing;
mod publishing;
mod reading;
