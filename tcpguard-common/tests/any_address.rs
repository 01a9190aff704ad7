//! A host with more addresses of its own than it has records of SYN-ACKs.

use tcpguard_common::abi::{Action, Addr, ExemptEntry, ListenerEntry, ListenerKey, Reason};
use tcpguard_common::fastpath::{self, Departure, Origin};
use tcpguard_common::model::{Model, Packet, cookie_secret, enforcing};

const S: u64 = 1_000_000_000;
const START: u64 = 5_000 * S;
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const PORT: u16 = 443;
const CLIENT: Addr = Addr::from_v4([198, 51, 100, 7]);
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// MSS 1460, window scale 7, SACK permitted.
const OPTIONS: [u8; 12] = [2, 4, 5, 180, 1, 3, 3, 7, 1, 1, 4, 2];

/// A segment to or from an address of the host.
fn segment(from: (Addr, u16), to: (Addr, u16), flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let leaves = flags == SYN | ACK;
    let (to_mac, from_mac) =
        if leaves { ([2, 0, 0, 0, 0, 9], HOST_MAC) } else { (HOST_MAC, [2, 0, 0, 0, 0, 9]) };
    let mut frame = [to_mac, from_mac].concat();
    frame.extend([8, 0, 0x45, 0, 0, 52, 0, 1, 0x40, 0, 57, 6, 0, 0]);
    frame.extend(&from.0.octets()[12..]);
    frame.extend(&to.0.octets()[12..]);
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend(ack.to_be_bytes());
    frame.extend([0x80, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    frame.extend(OPTIONS);
    frame
}

/// One of 32,768 addresses of the host.
fn own(number: u32) -> Addr {
    Addr::from_v4((0x0a09_8000 + number % 0x8000).to_be_bytes())
}

fn key(addr: Addr) -> ListenerKey {
    ListenerKey::new(addr, PORT.to_be_bytes())
}

/// A host that has a /17 for its own, answers SYNs at a port of all addresses, and was seen to reply from one.
fn host() -> Model {
    let mut host = Model::new(enforcing(START));
    host.now_ns = START;
    host.cookie_secret = cookie_secret(1);
    host.exempt.push(((own(0), 96 + 17), ExemptEntry::OWN));
    let mitigations = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
    let entry = ListenerEntry { mitigations, ..ListenerEntry::default() };
    host.add_listener(key(Addr::ANY_V4), entry);
    host.replies_by(HOST_MAC, ROUTER_MAC, 0);
    host.egress(&answer_from(own(77)));
    host
}

/// A SYN-ACK of the host's stack.
fn answer_from(addr: Addr) -> Vec<u8> {
    segment((addr, PORT), (CLIENT, 4000), SYN | ACK, 9, 8)
}

/// The XDP reply to a SYN to this address, if there is one.
fn answer(host: &mut Model, to: Addr, seq: u32) -> Option<Vec<u8>> {
    let mut packet = Packet(segment((CLIENT, 4000), (to, PORT), SYN, seq, 0));
    let reason = host.ingress_packet(&mut packet);
    match reason.action() {
        Action::Tx => Some(packet.0),
        _ => {
            assert_eq!(reason, Reason::Syn);
            None
        }
    }
}

/// Sends a SYN-ACK from `addr` that leaves otherwise than by this interface, or has another origin.
fn sent(host: &mut Model, addr: Addr, departure: Departure) {
    let config = host.config;
    let frame = answer_from(addr);
    let mut sent = Default::default();
    assert!(fastpath::egress(&frame[..], &config, host, &mut sent, true));
    fastpath::learn(&frame[..], &sent, &departure, host);
}

#[test]
fn syns_to_any_address_of_the_host_get_cookies_that_validate() {
    let mut host = host();
    for number in 0..10_000 {
        let to = own(number);
        let answer = answer(&mut host, to, number).expect("it is the host's own");
        let isn = u32::from_be_bytes(answer[38..42].try_into().unwrap());
        let (seq, ack) = (number.wrapping_add(1), isn.wrapping_add(1));
        let third = segment((CLIENT, 4000), (to, PORT), ACK, seq, ack);
        let accepted = host.redeem(&third).expect("a good cookie");
        assert_eq!((accepted.mss, accepted.host_wscale), (1460, 7), "{number}");
    }
    assert_eq!(host.syn_acks.len(), 2, "no address was added");
    assert_eq!(host.listener_counters[&0].cookies_sent, 10_000);
}

#[test]
fn a_host_behind_this_one_replies_itself() {
    let mut host = host();
    for addr in [Addr::from_v4([10, 9, 127, 255]), Addr::from_v4([172, 17, 0, 2])] {
        assert_eq!(answer(&mut host, addr, 1), None, "{addr:?} is not the host's");
    }
    // Also where it is exempt for another reason.
    let gateway = Addr::from_v4([192, 0, 2, 254]);
    host.exempt.push(((gateway, 128), ExemptEntry::STAYS));
    assert_eq!(answer(&mut host, gateway, 1), None);
}

/// A service of the same port that is behind this host, or translated: its SYN-ACKs pass here.
#[test]
fn what_is_only_forwarded_says_nothing_of_how_this_host_answers() {
    let mut host = host();
    let behind = Addr::from_v4([172, 17, 0, 2]);
    let marks = Origin::Foreign.marks();
    let elsewhere = Model::DEPARTURE.ifindex + 1;
    sent(&mut host, behind, Departure { ifindex: elsewhere, marks, ..Model::DEPARTURE });
    assert!(!host.syn_acks[&key(behind)].is_own(), "that much is known of it");
    for number in 0..100 {
        assert!(answer(&mut host, own(number), number).is_some(), "{number}");
    }
}

#[test]
fn an_address_with_a_listener_of_its_own_is_not_answered_for_by_that_of_all() {
    let mut host = host();
    let special = own(5);
    let mitigations = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
    host.add_listener(
        key(special),
        ListenerEntry { id: 1, mitigations, ..ListenerEntry::default() },
    );
    assert_eq!(answer(&mut host, special, 1), None, "nobody knows how that one answers");
    assert!(answer(&mut host, own(6), 1).is_some());
    // Nor do its SYN-ACKs say anything about the others.
    let before = host.syn_acks[&key(Addr::ANY_V4)];
    host.egress(&answer_from(special));
    assert_eq!(host.syn_acks[&key(Addr::ANY_V4)], before);
    assert!(answer(&mut host, special, 2).is_some(), "now it is known");
}

#[test]
fn where_replies_of_some_addresses_are_foreign_each_has_to_be_known() {
    let mut host = host();
    sent(&mut host, own(9), Departure { marks: Origin::Foreign.marks(), ..Model::DEPARTURE });
    assert_eq!(answer(&mut host, own(10), 1), None);
    assert!(answer(&mut host, own(77), 1).is_some(), "its own record is what it was");
    // Ten minutes without another one.
    host.now_ns += 601 * S + (1 << 31);
    host.config.heartbeat_ns = host.now_ns;
    sent(&mut host, own(77), Model::DEPARTURE);
    assert!(host.syn_acks[&key(Addr::ANY_V4)].is_own());
    assert!(answer(&mut host, own(10), 2).is_some());
}

/// Clients of another interface are answered by that one.
#[test]
fn a_reply_that_leaves_elsewhere_takes_no_cookies_from_others() {
    let mut host = host();
    let elsewhere = Departure { ifindex: Model::DEPARTURE.ifindex + 1, ..Model::DEPARTURE };
    sent(&mut host, own(9), elsewhere);
    assert!(answer(&mut host, own(10), 1).is_some());
    assert_eq!(answer(&mut host, own(9), 1), None, "none of its own left by this one");
}
