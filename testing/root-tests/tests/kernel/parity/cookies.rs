//! Cookies in the kernel and on the host: the same answers, byte by byte.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tcpguard_common::abi::{ListenerEntry, Mode, Rate, Reason};
use tcpguard_common::model::cookie_secret;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};

use super::traffic::v4;
use super::{LISTENERS, MS, Pair, START_NS, show};

pub fn v6(a: u16, b: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, a, b).into()
}

impl Pair {
    /// Puts every listener into cookie mode.
    pub fn arm(&mut self) {
        self.configure(|config| (config.marks_segments, config.netns_cookie) = (1, 0x0102_0304));
        self.arm_with(ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT);
    }

    /// Starts these mitigations at every listener.
    pub fn arm_with(&mut self, mitigations: u8) {
        for id in 0..LISTENERS {
            self.set_mitigation_bits(id, mitigations, Rate::default());
        }
    }

    /// Starts these mitigations for a listener.
    pub fn set_mitigation_bits(&mut self, id: u32, mitigations: u8, budget: Rate) {
        self.model.cookie_secret = cookie_secret(3);
        self.dataplane.set_cookie_secret(&self.model.cookie_secret).unwrap();
        let entry = self.model.listener_entries.get_mut(&id).unwrap();
        (entry.mitigations, entry.budget, entry.retransmit_budget) = (mitigations, budget, budget);
        let keys = self.model.listeners.iter().filter(|(_, of)| **of == id);
        for (key, _) in keys {
            self.dataplane.set_listener(key, entry).unwrap();
        }
    }

    /// Lets a SYN-ACK of `server` leave, from which its answers are learned.
    pub fn teach(&mut self, server: SocketAddr, client: SocketAddr) {
        self.teach_tagged(server, client, &[]);
    }

    fn teach_tagged(&mut self, server: SocketAddr, client: SocketAddr, vlans: &[(u16, u16)]) {
        let mut reply = Segment::new(server, client, flags::SYN | flags::ACK | flags::ECE);
        reply.vlans = vlans.to_vec();
        (reply.seq, reply.ack, reply.window, reply.ttl) = (77, 1, 65_160, 61);
        reply.options = linux_syn_options(1460, 1);
        self.egress(&reply.to_frame());
    }
}

#[test]
fn syns_are_answered_alike_whatever_they_look_like() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    pair.arm();
    let client_v6 = SocketAddr::new(v6(9, 9), 4000);
    let ends = [
        (SocketAddr::new(v4(9, 9), 4000), SocketAddr::new(v4(2, 1), 443)),
        (client_v6, SocketAddr::new(v6(2, 1), 443)),
    ];
    let parts: [&[u8]; 6] =
        [&[2, 4, 5, 120], &[3, 3, 9], &[4, 2], &[8, 10, 0, 0, 0, 9, 0, 0, 0, 0], &[34, 2], &[1, 1]];
    let layouts = 1 << parts.len();
    for tags in 0..=2 {
        let vlans = vec![(0x8100, 7); tags];
        for (client, server) in ends {
            pair.teach_tagged(server, client, &vlans);
        }
        pair.keep_ways_back();
        for chosen in 0..layouts {
            // A learned SYN-ACK counts from the next tick on.
            pair.set_clock(START_NS + (tags * layouts + chosen + 1) as u64 * 29 * MS);
            let chosen_parts = parts.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
            let options: Vec<u8> = chosen_parts.flat_map(|(_, part)| part.to_vec()).collect();
            for (place, (client, server)) in ends.into_iter().enumerate() {
                for ecn in [0, flags::ECE | flags::CWR] {
                    let mut syn = Segment::new(client, server, flags::SYN | ecn);
                    (syn.seq, syn.window, syn.dont_fragment) = (chosen as u32, 64_240, true);
                    syn.options.clone_from(&options);
                    syn.vlans.clone_from(&vlans);
                    syn.payload = vec![9; (chosen % 3) * 400 * place];
                    pair.ingress(&syn.to_frame());
                }
            }
        }
    }
    let answered = pair.reasons[&Reason::Cookie];
    assert_eq!(answered, 64 * 2 * 2 * 3);
    pair.assert_same_state();
}

#[test]
fn segments_are_marked_alike_unless_they_bring_a_cookie() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    pair.arm();
    let ends = [
        (SocketAddr::new(v4(9, 9), 4000), SocketAddr::new(v4(2, 1), 443)),
        (SocketAddr::new(v6(9, 9), 4000), SocketAddr::new(v6(2, 1), 443)),
    ];
    for (client, server) in ends {
        pair.teach(server, client);
    }
    pair.set_clock(START_NS + 29 * MS);
    for (client, server) in ends {
        let mut syn = Segment::new(client, server, flags::SYN);
        syn.options = vec![2, 4, 5, 120];
        let answer = pair.ingress(&syn.to_frame());
        let tcp = if client.is_ipv4() { 34 } else { 54 };
        let cookie = u32::from_be_bytes(answer[tcp + 4..tcp + 8].try_into().unwrap());
        let mut marked = |flags, ack, options: &[u8]| {
            let mut segment = Segment::new(client, server, flags);
            (segment.seq, segment.ack, segment.options) = (1, ack, options.to_vec());
            pair.ingress(&segment.to_frame());
            pair.model.marked
        };
        let good = cookie.wrapping_add(1);
        assert!(!marked(flags::ACK, good, &[]));
        let (sorted, other) =
            ([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], [8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1]);
        assert!(marked(flags::ACK, good.wrapping_add(1), &[]));
        assert!(marked(flags::ACK | flags::FIN, 7, &sorted));
        assert!(!marked(flags::ACK, 7, &other));
        assert!(!marked(flags::RST, 0, &[]));
    }
    pair.assert_same_state();
}

#[test]
fn random_traffic_is_answered_alike() {
    let mut pair = Pair::new(Mode::Enforce, 0, true);
    pair.keep_agent();
    pair.arm();
    show(&mut pair, 77, 20_000);
    let answered = pair.reasons.get(&Reason::Cookie).copied().unwrap_or(0);
    assert!(answered > 1_000, "{:?}", pair.reasons);
}
