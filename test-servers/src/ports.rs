//! Free TCP ports of this machine.

use std::net::TcpListener;

use anyhow::{Context as _, Result};

/// Different ports of this machine that are free now.
///
/// # Errors
/// No port is free.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // The listeners are kept until all ports are known, because a released port could be assigned
    // again.
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
    fn free_ports_are_different_and_usable() {
        let [one, other] = super::free_ports().unwrap();
        assert_ne!(one, other);
        drop(std::net::TcpListener::bind(("127.0.0.1", one)).unwrap());
    }
}
