//! The scenarios. Each bills months of its own in the data set that they share (`e2e::data`), so none depends on
//! another, and each can be run alone: `cargo xtask test e2e -- NAME`.

mod access;
mod approval;
mod chart;
mod faults;
mod reading;
mod refusals;
mod starting;

use std::process::ExitCode;

use e2e::suite::Suite;

fn main() -> anyhow::Result<ExitCode> {
    let mut suite = Suite::new()?;
    reading::add(&mut suite);
    refusals::add(&mut suite);
    starting::add(&mut suite);
    approval::add(&mut suite);
    faults::add(&mut suite);
    access::add(&mut suite);
    chart::add(&mut suite);
    Ok(suite.run())
}
