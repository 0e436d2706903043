//! Ports for servers that cannot be handed a listening socket.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use rand::RngExt as _;

/// Below those that Linux gives to outgoing connections (`ip_local_port_range`, from 32768), so that no connection of
/// this machine takes one between the draw and the server's own bind.
const PORTS: Range<u16> = 12_000..32_000;
/// Draws until one is free.
const DRAWS: usize = 50;

/// A port that nobody listens on now; 0, which no server starts on, when none was found.
///
/// Somebody else may still draw the same one: who starts a server on it tries again with another.
pub(crate) fn free_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Several that differ.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // Held together, so that they differ.
    let mut held = Vec::with_capacity(N);
    std::array::from_fn(|_| draw(&mut held).unwrap_or_default())
}

fn draw(held: &mut Vec<TcpListener>) -> Option<u16> {
    let free = (0..DRAWS).find_map(|_| {
        let port = rand::rng().random_range(PORTS);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .ok()
            .map(|listener| (port, listener))
    });
    free.map(|(port, listener)| {
        held.push(listener);
        port
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_drawn_together_differ_and_can_be_listened_on() {
        let ports: [u16; 8] = free_ports();
        let listeners: Result<Vec<_>, _> = ports
            .iter()
            .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)))
            .collect();
        assert!(listeners.is_ok(), "{listeners:?}");
        assert!(ports.iter().all(|port| PORTS.contains(port)), "{ports:?}");
    }
}
