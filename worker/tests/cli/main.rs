//! The worker's commands as people and Jobs run them: the real binary against a real database, as the worker's own role.

mod faults;
mod folders;
mod harness;
mod loads;
mod migrations;
mod privacy;
mod seeds;
