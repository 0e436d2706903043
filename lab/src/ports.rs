//! Ports for servers that cannot be handed a listening socket.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use rand::RngExt as _;

use crate::LabError;

/// Below those that Linux gives to outgoing connections (`ip_local_port_range`, from 32768), so that no connection of
/// this machine takes one between the draw and the server's own bind.
const PORTS: Range<u16> = 12_000..32_000;
/// Draws until one is free.
const DRAWS: usize = 50;

/// A port that nobody listens on now.
///
/// Somebody else may still draw the same one: who starts a server on it tries again with another ([`LabError::is_port_taken`]).
///
/// # Errors
/// `State`: none was found.
pub(crate) fn free_port() -> Result<u16, LabError> {
    let [port] = free_ports()?;
    Ok(port)
}

/// Several that differ.
///
/// # Errors
/// As [`free_port`].
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], LabError> {
    let mut ports = [0; N];
    // Held together, so that they differ.
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let (drawn, listener) = (0..DRAWS).find_map(|_| draw()).ok_or_else(none_free)?;
        held.push(listener);
        *port = drawn;
    }
    Ok(ports)
}

fn draw() -> Option<(u16, TcpListener)> {
    let port = rand::rng().random_range(PORTS);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    Some((port, listener))
}

fn none_free() -> LabError {
    LabError::State {
        server: "lab".to_owned(),
        problem: format!("none of {DRAWS} ports drawn from {PORTS:?} is free"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_drawn_together_differ_and_can_be_listened_on() {
        let ports: [u16; 8] = free_ports().unwrap();
        let listeners: Result<Vec<_>, _> = ports
            .iter()
            .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)))
            .collect();
        assert!(listeners.is_ok(), "{listeners:?}");
        assert!(ports.iter().all(|port| PORTS.contains(port)), "{ports:?}");
    }
}
