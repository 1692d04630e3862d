//! The worker's commands as people and Jobs run them: the real binary against a real database, as
//! the worker's own role.

#![expect(clippy::unwrap_used, reason = "in a test, a step that fails has failed the test")]

mod explanations;
mod file_forms;
mod folders;
mod harness;
mod history;
mod interrupted_loads;
mod loads;
mod migrations;
mod month_reports;
mod notifications;
mod privacy;
mod schema_versions;
mod seeds;
mod take_backs;
mod verify;
mod wrong_uses;
