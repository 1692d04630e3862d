//! The scenarios, in the order in which they run. Each has months, or a cohort of the members of
//! one month, to itself in the data set that they share (`e2e::data`). So no scenario depends on
//! another, and each can be run alone: `cargo xtask test e2e -- NAME`.

mod access;
mod approval;
mod billing_faults;
mod billing_happy_path;
mod chart;
mod consumers;
mod corrections;
mod dashboard;
mod deletions;
mod inputs;
mod isolation;
mod kafka_failures;
mod loading;
mod node_faults;
mod notification_happy_path;
mod plugin;
mod preconditions;
mod privacy;
mod rebilling;
mod rehearsals;
mod rollback;
mod schedule;
mod scopes;
mod smtp_failures;
mod standstill;
mod suspend_delete;
mod validation;

use std::process::ExitCode;

use e2e::installation::Installation;
use e2e::suite::Suite;

fn main() -> anyhow::Result<ExitCode> {
    let mut suite = Suite::new()?;
    billing_happy_path::add(&mut suite);
    validation::add(&mut suite);
    preconditions::add(&mut suite);
    approval::add(&mut suite);
    inputs::add(&mut suite);
    loading::add(&mut suite);
    rebilling::add(&mut suite);
    rollback::add(&mut suite);
    scopes::add(&mut suite);
    billing_faults::add(&mut suite);
    standstill::add(&mut suite);
    deletions::add(&mut suite);
    node_faults::add(&mut suite);
    notification_happy_path::add(&mut suite);
    corrections::add(&mut suite);
    rehearsals::add(&mut suite);
    smtp_failures::add(&mut suite);
    suspend_delete::add(&mut suite);
    kafka_failures::add(&mut suite);
    consumers::add(&mut suite);
    isolation::add(&mut suite);
    privacy::add(&mut suite);
    dashboard::add(&mut suite);
    plugin::add(&mut suite);
    access::add(&mut suite);
    chart::add(&mut suite);
    schedule::add(&mut suite);
    suite.scenario("every_month_is_right_in_the_end", Installation::every_month_is_right);
    Ok(suite.run())
}
