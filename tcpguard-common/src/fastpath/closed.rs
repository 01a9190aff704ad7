//! SYNs to closed ports: nothing listens there, and the host's own stack refuses each with a reset.
//!
//! A reset costs the stack as much as another reply, so a flood of such SYNs takes the CPU of a host although
//! it concerns none of its listeners. While there is one, the stack is given a limited number of them
//! ([`Config::closed_ports`]).
//!
//! That no listener is known at a port does not make it a closed one: it may be forwarded or translated, or
//! left out by the operator. The stack itself says which are closed, by its resets. One with ACK and sequence
//! number zero answers a SYN to a closed port and nothing else (RFC 9293 §3.10.7.1). A port is closed at the
//! address that refused, for a minute at most, if that address is delivered to this host. Where a socket listens
//! that is not monitored the port is closed nowhere ([`PortEntry::open`](crate::abi::PortEntry)): a packet filter
//! may refuse some of its clients in the same way. Where resets leave unseen, because their sources are routed
//! elsewhere, the agent knows that the stack sends as many as such SYNs come ([`Config::resets_unseen`]); then the
//! SYNs say which ports are tried. A service may be among these that is steered or forwarded, and whose SYN-ACKs leave
//! unseen as well. Its clients go on with their handshakes. So a port is open in the minute in which a segment
//! arrives of a flow whose SYN the stack was given, and in the next one. The first SYN to each port is given to it in any case.
//! An attacker can send a SYN and an ACK of one flow to a closed port. It wins that the stack refuses its SYNs there,
//! as it refuses ACKs, which are not limited: no more for each packet than by a flood of these.
//!
//! The closed ports stand in a Bloom filter of words, with bits for each address and port by keyed hash. The high
//! bits of a word say of which minute it is, so the filter needs no clearing, and each minute draws the positions
//! anew.
//!
//! *Arithmetic.* Of all ports of one address there are 4 in each of the 16,384 words. With 2 bits of 48 each, a
//! bit is set with probability 1 - (47/48)^8 = 0.155, and another port seems closed with 0.024, with the spread
//! among words 0.03. At 4 such addresses it is a fourth. A port that is wrongly taken for closed has no tracked
//! listener, and shares the limit for a minute.

use super::count::listener_at;
use super::rules::agent_gone;
use super::{PacketCtx, Tables, clients, hash, pending};
use crate::abi::{Addr, Config, FlowKey, HashKey, Mode, Reason};
use crate::wire::{Segment, flag};

/// A minute, as a power of two of ns: 69 s. Of all 65,536 ports of an address a thousand a second are so
/// refused at most beyond the limit. Its number wraps after 52 days.
const MINUTE: u32 = 36;
/// Bits of a word that are the filter.
const FILTER_BITS: u32 = 48;
/// Bits of it that an address and port set.
const BITS: u32 = 2;

/// A property of an address and port.
#[derive(Clone, Copy)]
#[repr(u64)]
enum State {
    /// The stack refuses SYNs.
    Closed = 0,
    /// A handshake went on.
    Open = 1 << 32,
}

/// The bits of an address and port in a state, and the word that they are set in.
#[derive(Clone, Copy)]
struct Mark {
    place: u64,
    /// The minute's number in the high bits.
    minute: u64,
    bits: u64,
}

impl Mark {
    #[inline(always)]
    const fn new(key: &HashKey, server: &Addr, port: [u8; 2], now_ns: u64, state: State) -> Self {
        let minute = now_ns >> MINUTE;
        let place = hash::place(key, server, port, minute | state as u64);
        let mut bits = 0;
        let mut from = 24;
        while from < 24 + 10 * BITS {
            bits |= 1 << (((place >> from & 1023) * FILTER_BITS as u64) >> 10);
            from += 10;
        }
        Self { place, minute: minute << FILTER_BITS, bits }
    }

    /// Returns whether the word is of this minute and holds it.
    #[inline(always)]
    const fn is_in(&self, word: u64) -> bool {
        word & (!0 << FILTER_BITS | self.bits) == self.minute | self.bits
    }

    /// The word with it.
    #[inline(always)]
    const fn added_to(&self, word: u64) -> u64 {
        let same = word >> FILTER_BITS == self.minute >> FILTER_BITS;
        (if same { word } else { self.minute }) | self.bits
    }
}

/// Takes note of a reset of this host's own stack that leaves a port at which no listener is known.
#[inline(never)]
pub(super) fn note<T: Tables>(config: &Config, tables: &mut T, reset: &Segment) {
    if reset.flags & flag::ACK == 0 || reset.seq != 0 {
        return;
    }
    let now = tables.now_ns();
    let FlowKey { client, client_port, .. } = &reset.flow;
    set(tables, &Mark::new(&config.hash_key, client, *client_port, now, State::Closed));
    if let Some(counters) = tables.host_counters() {
        counters.refused += 1;
    }
}

/// Sets the bits of a mark.
#[inline(always)]
fn set<T: Tables>(tables: &mut T, mark: &Mark) {
    // A word that is not written stays in every CPU's cache.
    if let Some(word) = tables.closed(mark.place)
        && !mark.is_in(*word)
    {
        *word = mark.added_to(*word);
    }
}

/// Counts a SYN to where no listener is known. `own`: it is delivered to this host itself.
#[inline(always)]
pub(super) fn count<T: Tables>(tables: &mut T, own: bool) {
    if let Some(counters) = tables.host_counters() {
        counters.no_listener += 1;
        counters.no_listener_own += u64::from(own);
    }
}

/// Takes note of a segment that is no SYN, while resets leave unseen: if it goes on with a flow whose SYN the stack
/// was given, and no listener is known at its port, that port is open.
#[inline(always)]
pub(super) fn acknowledged<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) {
    let flow = &pkt.segment.flow;
    if listener_at(tables, flow, true).is_some() {
        return;
    }
    let (now, place) = (tables.now_ns(), pending::place(hash::flow(&config.hash_key, flow)));
    if tables.pending(place).is_some_and(|mark| pending::is_fresh(*mark, now)) {
        let (server, port) = (&flow.server, flow.server_port);
        set(tables, &Mark::new(&config.hash_key, server, port, now, State::Open));
    }
}

/// The fate of a SYN to a port without a known listener, while the stack refuses a limited number: dropped beyond
/// that. `None`: it goes to the stack. Its source exempts it only as a validated client. Any other source can be
/// spoofed, and a dropped SYN leaves its sender waiting for a reply instead of being refused.
#[inline(always)]
pub(super) fn over<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> Option<Reason> {
    if !pkt.own {
        return None;
    }
    if !is_closed(config, tables, pkt)
        || tables.closed_ports_of_cpu().take(pkt.now, config.closed_ports)
        || is_client(config, tables, pkt)
    {
        if config.resets_unseen != 0
            && let Some(mark) = tables.pending(pending::place(pkt.flow_hash))
        {
            *mark = pending::mark(pkt.now);
        }
        return None;
    }
    if let Some(counters) = tables.host_counters() {
        counters.closed_over += 1;
    }
    let enforced = config.mode == Mode::Enforce as u8 && !agent_gone(config, pkt.now);
    if enforced { Some(Reason::DropClosedPort) } else { None }
}

/// Returns whether the stack has refused a SYN there lately. Where its resets are not seen, one that comes now is held
/// to be refused, unless a handshake went on there.
#[inline(always)]
fn is_closed<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> bool {
    let flow = &pkt.segment.flow;
    if tables.port(flow.server_port).open != 0 {
        return false;
    }
    let is = |tables: &mut T, now, state| {
        let mark = Mark::new(&config.hash_key, &flow.server, flow.server_port, now, state);
        (mark, tables.closed(mark.place).is_some_and(|word| mark.is_in(*word)))
    };
    let (mark, closed) = is(tables, pkt.now, State::Closed);
    if config.resets_unseen == 0 {
        return closed;
    }
    set(tables, &mark);
    let earlier = pkt.now.saturating_sub(1 << MINUTE);
    closed && !is(tables, pkt.now, State::Open).1 && !is(tables, earlier, State::Open).1
}

/// Returns whether the sender completed a handshake before, and does not send more SYNs than a client does.
#[inline(always)]
fn is_client<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> bool {
    clients::find(config, tables, &pkt.segment.flow.client.client())
        .is_some_and(|client| clients::take(client, pkt))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::abi::maps::CLOSED_WORDS;
    use crate::model::hash_key;

    const NOW: u64 = 5 << MINUTE;

    fn mark(server: Addr, port: u16, now_ns: u64) -> Mark {
        Mark::new(&hash_key(1), &server, port.to_be_bytes(), now_ns, State::Closed)
    }

    fn word<'w>(words: &'w mut [u64], mark: &Mark) -> &'w mut u64 {
        &mut words[(mark.place % u64::from(CLOSED_WORDS)) as usize]
    }

    #[test]
    fn what_refused_is_closed_until_its_minute_ends() {
        let (v4, v6) = (Addr::from_v4([192, 0, 2, 1]), Addr::from_v6_words([0x2001_0db8, 0, 0, 1]));
        for (server, other) in [(v4, v6), (v6, v4)] {
            let mut words = std::vec![0; CLOSED_WORDS as usize];
            let first = mark(server, 9, NOW);
            assert!(!first.is_in(*word(&mut words, &first)), "nothing is, at first");
            let place = word(&mut words, &first);
            *place = first.added_to(*place);
            let is_closed = |words: &mut [u64], mark: Mark| mark.is_in(*word(words, &mark));
            let last = NOW + (1 << MINUTE) - 1;
            assert!(is_closed(&mut words, mark(server, 9, last)));
            assert!(!is_closed(&mut words, mark(server, 9, last + 1)));
            assert!(!is_closed(&mut words, mark(other, 9, last)), "the same port, elsewhere");
            assert!(!is_closed(&mut words, mark(server, 10, last)));
        }
    }

    #[test]
    fn of_what_no_reset_came_from_little_seems_closed_when_all_ports_refuse() {
        let mut words = std::vec![0; CLOSED_WORDS as usize];
        let mut seeming = Vec::new();
        for address in 1..=4 {
            let closed = Addr::from_v4([192, 0, 2, address]);
            for port in 0..=u16::MAX {
                let mark = mark(closed, port, NOW);
                let place = word(&mut words, &mark);
                *place = mark.added_to(*place);
                assert!(mark.is_in(*place));
            }
            let open = Addr::from_v4([198, 51, 100, 1]);
            let marks = (0..=u16::MAX).map(|port| mark(open, port, NOW));
            let seems = marks.filter(|mark| mark.is_in(*word(&mut words, mark))).count();
            seeming.push(seems as f64 / 65_536.0);
        }
        assert!((0.01..0.04).contains(&seeming[0]), "{seeming:?}");
        assert!(seeming[3] < 0.3, "{seeming:?}");
    }
}
