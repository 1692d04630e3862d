//! The scenarios. Each has months, or a slice of the members of one, to itself in the data set that they share
//! (`e2e::data`), so none depends on another, and each can be run alone: `cargo xtask test e2e -- NAME`.

mod access;
mod apart;
mod approval;
mod chart;
mod faults;
mod interrupted;
mod mailboxes;
mod notices;
mod reading;
mod refusals;
mod rehearsals;
mod senders;
mod starting;
mod topics;

use std::process::ExitCode;

use e2e::suite::Suite;

fn main() -> anyhow::Result<ExitCode> {
    let mut suite = Suite::new()?;
    reading::add(&mut suite);
    refusals::add(&mut suite);
    starting::add(&mut suite);
    approval::add(&mut suite);
    faults::add(&mut suite);
    notices::add(&mut suite);
    rehearsals::add(&mut suite);
    mailboxes::add(&mut suite);
    interrupted::add(&mut suite);
    topics::add(&mut suite);
    senders::add(&mut suite);
    apart::add(&mut suite);
    access::add(&mut suite);
    chart::add(&mut suite);
    Ok(suite.run())
}
