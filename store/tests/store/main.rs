//! The store on a real PostgreSQL, each test in a database of its own: the operator's part under
//! the operator's role, the worker's and consumers' parts under the worker's role.

#![expect(clippy::unwrap_used, reason = "in a test, a step that fails has failed the test")]

mod billing;
mod copy;
mod documentation;
mod invariants;
mod locales;
mod metrics;
mod notification;
mod schedule;
