//! Copies of packets. A capture on several interfaces of a host (`tcpdump -i any` where there is a bridge, a bond or a
//! VLAN), or at a mirror of both directions, holds each packet as often as it was seen. Only the first record counts.
//!
//! No stack sends the same packet again so soon, so a copy is no retransmission. An attacker may send each SYN twice.
//! Then the second one takes no further slot in a queue, and counting the first alone is right as well. A packet has
//! few copies, so that a flood of one packet stays a flood.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::time::Duration;

use tcpguard_common::model::Recent;
use tcpguard_common::wire::Segment;
use tcpguard_engine::Timestamp;
use tcpguard_host::units::{counted, whole};

/// Longest time between the first record of a packet and a copy. Copies on one host are microseconds apart, at mirrors
/// and behind routers up to some milliseconds. No stack retransmits a segment that soon (RFC 6298 §2.4; Linux: 200 ms).
const WITHIN: Duration = Duration::from_millis(20);
/// Packets remembered: those of [`WITHIN`] at more than a million a second.
const PACKETS: usize = 65_536;
/// Records of one packet at most where no interface is named: at a port, a bond, a VLAN and a bridge.
const RECORDS: u32 = 4;
/// Interfaces of which the records of one packet are counted.
const INTERFACES: usize = 8;
/// Share of all segments by which their number may miss a multiple for "each packet": the beginning and end of a
/// capture cut some copies off, and not every segment passes every interface.
const NEARLY: f64 = 0.02;

/// The interface that recorded a packet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Interface {
    /// By its number in the capture.
    Described(u32),
    /// By its index in the kernel of the capturing host.
    Index(u32),
}

/// The records of one packet within [`WITHIN`].
#[derive(Clone, Copy, Debug)]
struct Records {
    first: Timestamp,
    /// TTL of the last one.
    ttl: u8,
    number: u32,
    /// Number of packets that they are.
    packets: u32,
    by: [Option<(Interface, u32)>; INTERFACES],
}

/// The packets of the last milliseconds, and counts of the whole capture.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    recent: Recent<u64, Records, PACKETS>,
    keyed: RandomState,
    /// The interface of the first segment, and whether there are others.
    interface: Option<Interface>,
    several: bool,
    /// Interfaces that recorded packets with copies.
    interfaces: BTreeSet<Interface>,
    segments: u64,
    copies: u64,
}

impl Records {
    fn new(first: Timestamp, ttl: u8, interface: Option<Interface>) -> Self {
        let mut by = [None; INTERFACES];
        by[0] = interface.map(|interface| (interface, 1));
        Self { first, ttl, number: 1, packets: 1, by }
    }

    /// Takes one more record, and returns whether it is of a packet that was recorded before. Where there are several
    /// interfaces, the records of one interface are as many packets.
    fn add(&mut self, interface: Option<Interface>, several: bool) -> bool {
        self.number += 1;
        let Some(interface) = interface.filter(|_| several) else {
            return self.number % RECORDS != 1;
        };
        let is_its =
            |slot: &&mut Option<(Interface, u32)>| slot.is_none_or(|(other, _)| other == interface);
        let Some(slot) = self.by.iter_mut().find(is_its) else { return true };
        let (_, count) = slot.get_or_insert((interface, 0));
        *count += 1;
        let is_copy = *count <= self.packets;
        self.packets = self.packets.max(*count);
        is_copy
    }
}

impl Copies {
    /// Takes note of a segment in `frame`, and returns whether it is a copy. A router may be between: a copy has
    /// another TTL by one at most. Neither checksum counts, because the interface before the last may not compute it.
    pub fn note(
        &mut self,
        at: Timestamp,
        frame: &[u8],
        segment: &Segment,
        interface: Option<Interface>,
    ) -> bool {
        self.segments += 1;
        self.several |= self.interface.is_some() && interface != self.interface;
        self.interface = self.interface.or(interface);
        let mut hasher = self.keyed.build_hasher();
        let Segment { flow, seq, ack, flags, window, urgent, ip_id, payload, .. } = *segment;
        (flow, seq, ack, flags, window, urgent, ip_id, payload).hash(&mut hasher);
        let options = segment.options_at.into()..segment.options_end.into();
        frame.get(options).unwrap_or_default().hash(&mut hasher);
        let packet = hasher.finish();
        if let Some(known) = self.recent.get_mut(&packet)
            && at.since(known.first) <= WITHIN
            && known.ttl.abs_diff(segment.ttl) <= 1
        {
            known.ttl = segment.ttl;
            let is_copy = known.add(interface, self.several);
            if is_copy && self.interfaces.len() < INTERFACES {
                let recorded = known.by.iter().flatten().map(|(interface, _)| *interface);
                self.interfaces.extend(recorded.chain(interface));
            }
            self.copies += u64::from(is_copy);
            return is_copy;
        }
        self.recent.insert(packet, Records::new(at, segment.ttl, interface));
        false
    }

    /// A sentence about the copies, if there are any. `name` gives interfaces their names.
    pub fn sentence(&self, name: impl Fn(Interface) -> String) -> Option<String> {
        if self.copies == 0 {
            return None;
        }
        let names: BTreeSet<String> = self.interfaces.iter().map(|one| name(*one)).collect();
        let names: Vec<String> = names.into_iter().collect();
        let on = match names.as_slice() {
            [] | [_] => String::new(),
            [all @ .., last] => format!(", on {} and {last}", all.join(", ")),
        };
        let (all, packets) = (self.segments as f64, (self.segments - self.copies) as f64);
        let times = (all / packets).round();
        Some(match (all - times * packets).abs() <= NEARLY * all {
            true if times == 2.0 => {
                format!("Each packet was recorded twice{on}: the copies are left out.")
            }
            true if times > 2.0 => {
                format!("Each packet was recorded {times} times{on}: the copies are left out.")
            }
            _ => format!(
                "Recorded more than once{on}, and left out: {} of {}.",
                whole(self.copies),
                counted(self.segments, "TCP segment"),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::{Addr, FlowKey};

    use super::Interface::{Described, Index};
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000);

    fn syn(port: u16) -> Segment {
        let flow = FlowKey {
            client: Addr::from_v4([192, 0, 2, 1]),
            server: Addr::from_v4([198, 51, 100, 1]),
            client_port: port.to_be_bytes(),
            server_port: [0, 80],
        };
        Segment { flow, seq: 7, ttl: 64, ip_id: 5, ..Segment::default() }
    }

    /// Returns whether each of these records is a copy: time in µs, and interface.
    fn copies<const N: usize>(records: [(u64, Option<Interface>); N]) -> [bool; N] {
        let mut copies = Copies::default();
        records.map(|(at, interface)| {
            copies.note(START + Duration::from_micros(at), &[], &syn(1), interface)
        })
    }

    #[test]
    fn of_the_records_of_a_packet_the_first_counts() {
        for interface in [None, Some(Described(0)), Some(Index(3))] {
            let once = |at| (at, interface);
            assert_eq!(copies([once(0), once(3)]), [false, true], "{interface:?}");
            assert_eq!(copies([once(0), once(20_000)]), [false, true]);
            assert_eq!(copies([once(0), once(20_001)]), [false, false], "too late");
            let five = [0, 1, 2, 3, 4].map(once);
            assert_eq!(copies(five), [false, true, true, true, false], "more than a host records");
        }
    }

    #[test]
    fn what_one_of_several_interfaces_records_twice_are_two_packets() {
        let [eth0, br0] = [Described(1), Described(0)].map(Some);
        let records = [(0, eth0), (1, br0), (2, eth0), (3, br0), (4, eth0), (5, eth0)];
        assert_eq!(copies(records), [false, true, false, true, false, false]);
        let batches = [(0, eth0), (1, br0), (2, eth0), (3, eth0), (4, br0), (5, br0)];
        assert_eq!(copies(batches), [false, true, false, false, true, true]);
    }

    #[test]
    fn another_packet_is_no_copy() {
        let first = syn(1);
        for (other, is_copy) in [
            (syn(2), false),
            (Segment { seq: 8, ..first }, false),
            (Segment { ip_id: 6, ..first }, false),
            (Segment { window: 1, ..first }, false),
            (Segment { ttl: 63, ..first }, true),
            (Segment { ttl: 65, ..first }, true),
            (Segment { ttl: 62, ..first }, false),
        ] {
            let mut copies = Copies::default();
            assert!(!copies.note(START, &[], &first, None));
            assert_eq!(copies.note(START, &[], &other, None), is_copy, "{other:?}");
        }
        let (mut copies, with) = (Copies::default(), Segment { options_end: 4, ..first });
        assert!(!copies.note(START, &[2, 4, 5, 180], &with, None));
        assert!(!copies.note(START, &[2, 4, 5, 100], &with, None), "other options");
    }

    #[test]
    fn copies_are_stated_as_exactly_as_the_format_allows() {
        let name = |interface| match interface {
            Described(0) => "eth0".to_owned(),
            Described(_) => "br0".to_owned(),
            Index(index) => format!("interface {index}"),
        };
        let said = |by: &[Option<Interface>], alone: u16| {
            let mut copies = Copies::default();
            for port in 0..100 + alone {
                let records = if port < 100 { by } else { &by[..1] };
                for interface in records {
                    copies.note(START, &[], &syn(port), *interface);
                }
            }
            copies.sentence(name)
        };
        let [eth0, br0] = [Described(0), Described(1)].map(Some);
        assert_eq!(said(&[eth0], 0), None);
        for (by, alone, sentence) in [
            (&[None, None][..], 0, "Each packet was recorded twice: the copies are left out."),
            (&[eth0, eth0], 0, "Each packet was recorded twice: the copies are left out."),
            (
                &[eth0, br0],
                0,
                "Each packet was recorded twice, on br0 and eth0: the copies are left out.",
            ),
            (
                &[Some(Index(2)), Some(Index(3)), Some(Index(4))],
                0,
                "Each packet was recorded 3 times, on interface 2, interface 3 and interface 4: the \
                 copies are left out.",
            ),
            (
                &[eth0, br0],
                50,
                "Recorded more than once, on br0 and eth0, and left out: 100 of 250 TCP segments.",
            ),
        ] {
            assert_eq!(said(by, alone).as_deref(), Some(sentence));
        }
    }
}
