//! Private servers on this machine, for tests and measurements: a PostgreSQL of the machine's packages, and a Kafka broker
//! of its jars. Each in a temporary folder, on free ports, ended and removed with its value.

mod kafka;
mod postgres;

use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

pub use self::kafka::{Broker, Java};
pub use self::postgres::Postgres;

/// Ports of this machine that nobody listens on now, all different.
///
/// # Errors
/// No port is free.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // Held until all are known: one that is let go could be given again.
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
        *port = listener.local_addr().context("no port is free")?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Runs a program to its end; its complaints are this program's.
fn run(command: &mut Command) -> Result<()> {
    // A server that it starts would keep a pipe open for ever.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ_and_can_be_listened_on() {
        let [one, other] = super::free_ports().unwrap();
        assert_ne!(one, other);
        drop(std::net::TcpListener::bind(("127.0.0.1", one)).unwrap());
    }
}
