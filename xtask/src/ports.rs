//! Ports of this machine for servers that live as long as a command.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// Ports that nobody listens on now, all different.
pub(crate) fn free<const N: usize>() -> Result<[u16; N]> {
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

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ_and_can_be_listened_on() {
        let [one, other] = super::free().unwrap();
        assert_ne!(one, other);
        drop(std::net::TcpListener::bind(("127.0.0.1", one)).unwrap());
    }
}
