//! Tests of the whole product on a real cluster: the chart, the operator, the workers and the database together.
//!
//! The library owns what the scenarios in `tests/cluster` stand on: an installation of their own beside the one that
//! `cargo xtask up` made, a mail server, a small data set, the faults, and the invariants that hold after each. It knows the product
//! by what anyone sees: resources, views, logs and commands, never by its Rust types.

pub mod cluster;
pub mod data;
pub mod database;
pub mod environment;
pub mod faults;
pub mod installation;
pub mod invariants;
pub mod kafka;
pub mod mail;
pub mod notices;
pub mod runs;
pub mod shell;
pub mod sink;
pub mod suite;
pub mod wait;
