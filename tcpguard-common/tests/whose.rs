//! The owner of a service: a listener that is bound to all addresses is that of the host's own, and what comes from
//! elsewhere is noted for the agent.

use tcpguard_common::abi::{
    Addr, Config, ExemptEntry, FlowKey, ListenerEntry, ListenerKey, ListenerKind, Reason,
};
use tcpguard_common::fastpath::{self, Departure, Note, Origin};
use tcpguard_common::model::{Model, enforcing};
use tcpguard_common::wire::{self, Segment};

const S: u64 = 1_000_000_000;
const START: u64 = 5_000 * S;
const PORT: u16 = 8080;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const RST_ACK: u8 = 0x14;

/// The host, a guest, and a client, of one family.
#[derive(Clone, Copy)]
struct Net {
    host: Addr,
    guest: Addr,
    client: Addr,
}

const V4: Net = Net {
    host: Addr::from_v4([192, 0, 2, 1]),
    guest: Addr::from_v4([10, 60, 0, 2]),
    client: Addr::from_v4([198, 51, 100, 7]),
};
const V6: Net = Net {
    host: Addr::from_v6_words([0x2001_0db8, 1, 0, 1]),
    guest: Addr::from_v6_words([0x2001_0db8, 2, 0, 2]),
    client: Addr::from_v6_words([0x2001_0db8, 3, 0, 7]),
};

fn segment(from: (Addr, u16), to: (Addr, u16), flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
    if from.0.as_v4().is_some() {
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 57, 6, 0, 0]);
        frame.extend(&from.0.octets()[12..]);
        frame.extend(&to.0.octets()[12..]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 57]);
        frame.extend(from.0.octets());
        frame.extend(to.0.octets());
    }
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend([0, 0, 0, 7, 0, 0, 0, 8, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    frame
}

fn key(addr: Addr) -> ListenerKey {
    ListenerKey::new(addr, PORT.to_be_bytes())
}

/// A host with a socket at a port of all addresses, of both families.
fn host() -> Model {
    let mut host = Model::new(Config { established_seen: 1, ..enforcing(START) });
    host.now_ns = START;
    for (id, any) in [(0, Addr::ANY_V4), (1, Addr::ANY_V6)] {
        host.add_listener(key(any), ListenerEntry { id, own_only: 1, ..ListenerEntry::default() });
    }
    for net in [V4, V6] {
        host.exempt.push(((net.host, 128), ExemptEntry::OWN));
    }
    host
}

fn syn(host: &mut Model, net: Net, to: Addr) -> Reason {
    host.ingress(&segment((net.client, 4000), (to, PORT), SYN))
}

fn forwarded(host: &mut Model, addr: Addr, id: u32) {
    let kind = ListenerKind::Forwarded as u8;
    host.add_listener(key(addr), ListenerEntry { id, kind, ..ListenerEntry::default() });
}

/// The origins that were noted for an address, which are forgotten.
fn noted(host: &mut Model, addr: Addr) -> u64 {
    host.unknown_listeners.remove(&key(addr)).unwrap_or_default().0
}

fn total(host: &Model) -> (u64, u64, u64) {
    host.listener_counters
        .values()
        .fold((0, 0, 0), |sum, one| (sum.0 + one.syn, sum.1 + one.syn_ack, sum.2 + one.refused))
}

#[test]
fn a_socket_of_all_addresses_is_the_listener_of_the_hosts_own() {
    for net in [V4, V6] {
        let mut host = host();
        let loopback = match net.host.as_v4() {
            Some(_) => Addr::from_v4([127, 0, 0, 1]),
            None => Addr::from_v6_words([0, 0, 0, 1]),
        };
        for own in [net.host, loopback, net.host] {
            assert_eq!(syn(&mut host, net, own), Reason::Syn, "{own:?}");
        }
        for _ in 0..3 {
            assert_eq!(syn(&mut host, net, net.guest), Reason::NoListener, "in transit");
        }
        assert_eq!(total(&host), (3, 0, 0));
        assert_eq!((host.host.no_listener, host.host.no_listener_own), (3, 0));
    }
}

#[test]
fn where_own_addresses_are_not_known_it_is_the_listener_of_every_address() {
    let mut host = host();
    for entry in host.listener_entries.values_mut() {
        entry.own_only = 0;
    }
    for net in [V4, V6] {
        assert_eq!(syn(&mut host, net, net.guest), Reason::Syn);
    }
}

#[test]
fn an_address_that_comes_and_goes_is_own_within_a_tick() {
    for net in [V4, V6] {
        let mut host = host();
        assert_eq!(syn(&mut host, net, net.guest), Reason::NoListener);
        host.exempt.push(((net.guest, 128), ExemptEntry::OWN));
        host.now_ns += S / 100;
        assert_eq!(syn(&mut host, net, net.guest), Reason::Syn);
        host.exempt.pop();
        host.now_ns += S / 100;
        assert_eq!(syn(&mut host, net, net.guest), Reason::NoListener);
    }
}

#[test]
fn what_a_guest_answers_is_no_matter_of_the_hosts_listener_and_noted_as_foreign() {
    for net in [V4, V6] {
        let mut host = host();
        let answer = |flags| segment((net.guest, PORT), (net.client, 4000), flags);
        for _ in 0..3 {
            syn(&mut host, net, net.guest);
            host.forward(&answer(SYN_ACK));
            host.forward(&answer(RST_ACK));
        }
        assert_eq!(total(&host), (0, 0, 0));
        assert_eq!(noted(&mut host, net.guest), Origin::Foreign.bit());
        assert_eq!(host.host.refused, 0);
        // Once it is known it has its own counters.
        forwarded(&mut host, net.guest, 7);
        assert_eq!(syn(&mut host, net, net.guest), Reason::Syn);
        host.forward(&answer(SYN_ACK));
        assert_eq!(host.listener_counters[&7].syn_ack, 1);
        assert_eq!(noted(&mut host, net.guest), 0);
    }
}

/// A container's port is published at the host's own address, and a process of the runtime listens there too.
#[test]
fn what_does_not_fit_the_listener_at_an_own_address_is_noted_with_its_origin() {
    for net in [V4, V6] {
        let mut host = host();
        let answer = segment((net.host, PORT), (net.client, 4000), SYN_ACK);
        let shown = |host: &mut Model, origin| {
            match origin {
                Origin::Foreign => host.forward(&answer),
                origin => {
                    host.sockets.origin = origin;
                    host.egress(&answer);
                }
            }
            noted(host, net.host)
        };
        assert_eq!(shown(&mut host, Origin::Own), 0);
        assert_eq!(shown(&mut host, Origin::Unknown), 0);
        assert_eq!(shown(&mut host, Origin::Foreign), Origin::Foreign.bit());
        forwarded(&mut host, net.host, 7);
        assert_eq!(shown(&mut host, Origin::Foreign), 0);
        assert_eq!(shown(&mut host, Origin::Unknown), 0, "a cookie proves nothing");
        assert_eq!(shown(&mut host, Origin::Own), Origin::Own.bit(), "the host answers itself");
        // Translated by the host to another port of its own.
        host.add_listener(key(net.host), ListenerEntry { id: 8, ..ListenerEntry::default() });
        host.sockets.origin = Origin::Foreign;
        host.egress(&answer);
        assert_eq!(noted(&mut host, net.host), Origin::Foreign.bit());
    }
}

/// Packets for the port are steered to a socket elsewhere (sk_lookup, TPROXY).
#[test]
fn an_own_answer_without_a_listener_is_noted_and_so_is_a_handshake_that_the_kernel_completed() {
    const STEERED: u16 = 7000;
    for net in [V4, V6] {
        let mut host = host();
        let steered = ListenerKey::new(net.host, STEERED.to_be_bytes());
        let answer = segment((net.host, STEERED), (net.client, 4000), SYN_ACK);
        for origin in [Origin::Own, Origin::Unknown] {
            host.sockets.origin = origin;
            host.egress(&answer);
            assert_eq!(host.unknown_listeners.remove(&steered), Some(Note::new(origin, 0)));
            assert!(host.syn_acks.is_empty(), "records are those of listeners");
        }
        let flow = FlowKey {
            client: net.client,
            server: net.host,
            client_port: 4000_u16.to_be_bytes(),
            server_port: STEERED.to_be_bytes(),
        };
        let config = host.config;
        fastpath::established(&config, &mut host, &flow);
        assert_eq!(host.unknown_listeners.remove(&steered), Some(Note::new(Origin::Own, 0)));
    }
}

/// NAT has given the SYN-ACK another port than its socket has.
#[test]
fn the_port_of_the_socket_behind_a_translated_port_is_noted_each_time_it_is_seen() {
    const SOCKETS: [u16; 2] = [8080, 8443];
    for net in [V4, V6] {
        let mut host = host();
        forwarded(&mut host, net.guest, 9);
        let answer = segment((net.guest, PORT), (net.client, 4000), SYN_ACK);
        let mut sent = Segment::default();
        wire::parse_into(answer.as_slice(), &mut sent).unwrap();
        let leave = |host: &mut Model, port| {
            let marks = Origin::Foreign.marks();
            let departure = Departure { marks, port, ..Model::DEPARTURE };
            fastpath::learn(answer.as_slice(), &sent, &departure, host);
            host.unknown_listeners.get(&key(net.guest)).copied()
        };
        assert_eq!(leave(&mut host, 0), None, "nothing new");
        for port in SOCKETS {
            assert_eq!(leave(&mut host, port), Some(Note::new(Origin::Foreign, port)));
        }
        // The kernel's cookie has no socket.
        host.sockets.origin = Origin::Unknown;
        host.unknown_listeners.insert(key(net.guest), Note::new(Origin::Foreign, SOCKETS[0]));
        host.egress(&answer);
        let noted = host.unknown_listeners[&key(net.guest)];
        assert_eq!((noted.port(), noted.has(Origin::Own)), (SOCKETS[0], false));
    }
}
