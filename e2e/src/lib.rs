//! Tests of the whole product on a real cluster: the chart, the operator, the workers and the
//! database together.
//!
//! The library holds what the scenarios in `tests/cluster` share: a separate installation next to
//! the one that `cargo xtask up` made, a mail server, a small data set, faults to inject, and the
//! invariants that are checked after each scenario. It sees the product from outside: resources,
//! views, logs and commands. It must not use the operator's or the worker's Rust types.

pub mod clocked_installation;
pub mod cluster;
pub mod consumers;
pub mod data;
pub mod database;
pub mod delivery_audit;
pub mod environment;
pub mod faults;
pub mod installation;
pub mod invariants;
pub mod kafka;
pub mod mail;
pub mod nodes;
pub mod notifications;
pub mod runs;
pub mod setup;
pub mod shell;
pub mod suite;
pub mod wait;
