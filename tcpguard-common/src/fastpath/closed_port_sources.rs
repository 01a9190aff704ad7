//! Sources that try many ports or addresses without a listener: port scans.
//!
//! Each source has one cell, chosen by keyed hash, in which its ports and local addresses are
//! counted by bitmap (linear counting: Whang, Vander-Zanden, Taylor, 1990). A source that goes on
//! keeps its cell, and one that has stopped gives it up, so that a flood of single SYNs to closed
//! ports pushes no scanner out.

use super::hash;
use crate::abi::{ClosedPortSource, FlowKey, HashKey};

/// A cell starts again after this long, in s. Slower scans are not distinguished from single packets.
pub const WINDOW_S: u32 = 300;
/// A source that was silent for so long, in s, gives its cell to the next one.
pub const KEEP_S: u32 = 4;

/// Counts a SYN to where nothing listens. `cell` is that of the source.
#[inline(always)]
pub fn note(cell: &mut ClosedPortSource, key: &HashKey, flow: &FlowKey, now_ns: u64) {
    let now_s = (now_ns / 1_000_000_000) as u32;
    let source = flow.client.client();
    if cell.source != source || cell.syns == 0 {
        if cell.syns != 0 && now_s.wrapping_sub(cell.last_s) < KEEP_S {
            return;
        }
        *cell = ClosedPortSource { source, since_s: now_s, ..ClosedPortSource::default() };
    } else if now_s.wrapping_sub(cell.since_s) >= WINDOW_S {
        *cell = ClosedPortSource { source, since_s: now_s, ..ClosedPortSource::default() };
    }
    let port = u32::from_ne_bytes([flow.server_port[0], flow.server_port[1], 0, 0]);
    cell.ports |= 1 << (hash::word(key, port) >> 58);
    cell.servers |= 1 << (hash::source(key, &flow.server) >> 58);
    cell.syns = cell.syns.wrapping_add(1).max(1);
    cell.last_s = now_s;
    cell.port = flow.server_port;
    cell.server = flow.server;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Addr;
    use crate::model::hash_key;

    const S: u64 = 1_000_000_000;

    fn syn(from: u8, port: u16) -> FlowKey {
        FlowKey {
            client: Addr::from_v4([192, 0, 2, from]),
            server: Addr::from_v4([203, 0, 113, 1]),
            client_port: [4, 0],
            server_port: port.to_be_bytes(),
        }
    }

    #[test]
    fn ports_and_addresses_are_counted_once_each() {
        let mut cell = ClosedPortSource::default();
        for port in [22, 23, 25, 22, 23, 25] {
            note(&mut cell, &hash_key(1), &syn(1, port), 10 * S);
        }
        assert_eq!((cell.syns, cell.ports.count_ones(), cell.servers.count_ones()), (6, 3, 1));
        assert_eq!((cell.port, cell.server), (25_u16.to_be_bytes(), syn(1, 25).server));
    }

    #[test]
    fn a_source_that_goes_on_keeps_its_cell_and_one_that_stopped_gives_it_up() {
        let mut cell = ClosedPortSource::default();
        note(&mut cell, &hash_key(1), &syn(1, 22), 10 * S);
        note(&mut cell, &hash_key(1), &syn(2, 22), 13 * S);
        assert_eq!(cell.source, syn(1, 22).client);
        note(&mut cell, &hash_key(1), &syn(2, 22), 14 * S);
        assert_eq!((cell.source, cell.syns), (syn(2, 22).client, 1));
    }

    #[test]
    fn a_cell_starts_again_when_its_window_is_over() {
        let mut cell = ClosedPortSource::default();
        note(&mut cell, &hash_key(1), &syn(1, 22), 10 * S);
        note(&mut cell, &hash_key(1), &syn(1, 23), 309 * S);
        assert_eq!(cell.syns, 2);
        note(&mut cell, &hash_key(1), &syn(1, 24), 310 * S);
        assert_eq!((cell.syns, cell.since_s), (1, 310));
    }
}
