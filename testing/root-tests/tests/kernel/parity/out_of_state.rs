//! Out-of-state segments, in a network namespace with real sockets, which the host's plain sets
//! mirror.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::Result;
use tcpguard::bpf::addr;
use tcpguard_common::abi::{FlowKey, ListenerEntry, ListenerKey, Mode, Reason};
use tcpguard_common::fastpath::{FAILED_COOKIE_NS, KernelCookie};
use tcpguard_common::model::Packet;
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options, mss_option};

use super::cookies::v6;
use super::traffic::v4;
use super::{MS, Pair, START_NS, XDP_TX, hex, show};

const OUT_OF_STATE: u8 = ListenerEntry::OUT_OF_STATE;
const KINDS: [u8; 5] = [
    flags::ACK,
    flags::ACK | flags::PSH,
    flags::FIN | flags::ACK,
    flags::RST,
    flags::RST | flags::ACK,
];

/// Both servers, with clients that have no connection.
pub fn new_clients() -> [[SocketAddr; 2]; 2] {
    let client = |ip| SocketAddr::new(ip, 4000);
    let server = |ip| SocketAddr::new(ip, 443);
    [[client(v4(9, 9)), server(v4(2, 1))], [client(v6(9, 9)), server(v6(2, 1))]]
}

/// Services at the addresses of the servers, and connections to them: open ones, and such that wait for late
/// segments (TIME_WAIT).
pub struct Sockets {
    _listeners: Vec<TcpListener>,
    _open: Vec<[TcpStream; 2]>,
    listening: BTreeSet<ListenerKey>,
    pub connections: Vec<[SocketAddr; 2]>,
}

impl Sockets {
    fn open(host: &Netns) -> Result<Self> {
        host.ip(&[
            &format!("address add {}/32 dev lo", v4(2, 1)),
            &format!("address add {}/128 dev lo nodad", v6(2, 1)),
        ])?;
        let ports =
            [SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 443), SocketAddr::new(v4(2, 1), 80)];
        let (mut open, mut connections) = (Vec::new(), Vec::new());
        let listeners = host.run(|| Ok(ports.map(TcpListener::bind)))?;
        let listeners: Vec<TcpListener> = listeners.into_iter().collect::<Result<_, _>>()?;
        for [_, server] in new_clients() {
            for closed in [false, true] {
                let client = host.run(|| Ok(TcpStream::connect(server)?))?;
                let (accepted, from) = listeners[0].accept()?;
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                connections.push([from, server]);
                if closed {
                    drop(accepted);
                    drop(client);
                } else {
                    open.push([client, accepted]);
                }
            }
        }
        let any = [addr([0; 4].into()), addr(Ipv6Addr::UNSPECIFIED.into())];
        let mut listening: BTreeSet<_> =
            any.map(|any| ListenerKey::new(any, 443u16.to_be_bytes())).into();
        listening.insert(ListenerKey::new(addr(v4(2, 1)), 80u16.to_be_bytes()));
        Ok(Self { _listeners: listeners, _open: open, listening, connections })
    }

    fn flows(&self) -> BTreeSet<FlowKey> {
        let flow = |[client, server]: &[SocketAddr; 2]| FlowKey {
            client: addr(client.ip()),
            server: addr(server.ip()),
            client_port: client.port().to_be_bytes(),
            server_port: server.port().to_be_bytes(),
        };
        self.connections.iter().map(flow).collect()
    }
}

/// Runs `test` in a namespace with sockets.
pub fn among<T: Send>(test: impl FnOnce(&Netns, &Sockets) -> T + Send) -> T {
    let host = Netns::new("parity").unwrap();
    let there = Sockets::open(&host).unwrap();
    host.run(|| Ok(test(&host, &there))).unwrap()
}

/// Runs `test` there, on a host that drops out-of-state segments.
pub fn beside(test: impl FnOnce(&Netns, &Sockets, &mut Pair) + Send) {
    among(|host, there| {
        let mut pair = Pair::new(Mode::Enforce, 0, true);
        pair.watch_out_of_state(there);
        for [client, server] in new_clients() {
            pair.teach(server, client);
        }
        pair.keep_ways_back();
        test(host, there, &mut pair);
    });
}

pub fn segment([client, server]: [SocketAddr; 2], flags: u8, [seq, ack]: [u32; 2]) -> Segment {
    let mut segment = Segment::new(client, server, flags);
    (segment.seq, segment.ack) = (seq, ack);
    segment
}

#[test]
fn segments_with_and_without_a_socket_are_distinguished_alike() {
    beside(|_, sockets, pair| {
        pair.arm_with(OUT_OF_STATE);
        for (ends, dropped) in sockets
            .connections
            .iter()
            .map(|ends| (*ends, false))
            .chain(new_clients().map(|ends| (ends, true)))
        {
            for kind in KINDS {
                let before = pair.reasons.get(&Reason::DropOutOfState).copied().unwrap_or(0);
                pair.ingress(&segment(ends, kind, [7, 8]).to_frame());
                let mut with_data = segment(ends, kind, [7, 8]);
                with_data.payload = vec![1; 1000];
                pair.ingress(&with_data.to_frame());
                let after = pair.reasons.get(&Reason::DropOutOfState).copied().unwrap_or(0);
                assert_eq!(after - before, if dropped { 2 } else { 0 }, "{ends:?} {kind:#x}");
                // Segments that arrive by another path than the replies leave are never dropped.
                with_data.vlans = vec![(0x8100, 7)];
                pair.ingress(&with_data.to_frame());
                with_data.dst_mac = [2; 6];
                pair.ingress(&with_data.to_frame());
                assert_eq!(pair.reasons.get(&Reason::DropOutOfState).copied().unwrap_or(0), after);
            }
        }
        let mut fragment = segment(new_clients()[0], flags::ACK, [7, 8]).to_frame();
        fragment[20] |= 0x20;
        pair.ingress(&fragment);
        fragment[21] = 9;
        pair.ingress(&fragment);
        pair.assert_same_state();
    });
}

#[test]
fn random_traffic_at_listeners_under_attack_is_judged_alike() {
    for drop_out_of_state in [0, 1] {
        beside(|_, _, pair| {
            pair.model.config.drop_out_of_state = drop_out_of_state;
            pair.dataplane.set_config(&pair.model.config).unwrap();
            pair.arm_with(OUT_OF_STATE | ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT);
            show(pair, 78 + u64::from(drop_out_of_state), 10_000);
            let unmatched =
                if drop_out_of_state == 0 { Reason::OutOfState } else { Reason::DropOutOfState };
            for reason in [Reason::Cookie, Reason::HandshakeAck, unmatched] {
                assert!(pair.reasons[&reason] > 100, "{:?}", pair.reasons);
            }
        });
    }
}

#[test]
fn third_acks_of_cookies_are_distinguished_from_wrong_ones_alike_up_to_the_limit() {
    beside(|_, _, pair| {
        pair.arm_with(OUT_OF_STATE | ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT);
        // Not in the sample, so that only the cookie decides.
        pair.model.config.sample_shift = 31;
        pair.model.config.drop_out_of_state = 0;
        pair.dataplane.set_config(&pair.model.config).unwrap();
        for (number, [mut client, server]) in (0..32).flat_map(|n| new_clients().map(|e| (n, e))) {
            client.set_port(5000 + number);
            let mut syn = segment([client, server], flags::SYN, [41, 0]);
            let stamped = number % 2 == 0;
            syn.options = if stamped { linux_syn_options(1460, 9) } else { mss_option(1460) };
            let answer = pair.ingress(&syn.to_frame());
            let answer = Segment::parse(&answer).expect("an answer");
            let mut ack = segment([client, server], flags::ACK, [42, answer.seq.wrapping_add(1)]);
            if stamped {
                let stamp = answer.options.windows(2).position(|two| two == [8, 10]).unwrap();
                let echo = &answer.options[stamp + 2..stamp + 6];
                ack.options = [&[1, 1, 8, 10, 0, 0, 0, 10], echo].concat();
            }
            let mut wrong = ack.clone();
            wrong.ack ^= 0x10_0000;
            let out_of_state =
                |pair: &Pair| pair.reasons.get(&Reason::OutOfState).copied().unwrap_or(0);
            let before = out_of_state(pair);
            pair.ingress(&wrong.to_frame());
            assert_eq!(out_of_state(pair), before + 1);
            pair.ingress(&ack.to_frame());
            // A segment that follows the third ACK before the socket is made.
            let followed = segment([client, server], flags::RST, [4711, 0]);
            pair.ingress(&followed.to_frame());
            assert_eq!(out_of_state(pair), before + 1);
            pair.set_clock(START_NS + u64::from(number) * 300 * MS);
        }
        pair.assert_same_state();
        let [ends, _] = new_clients();
        for guess in 0..20_000 {
            pair.ingress(&segment(ends, flags::ACK, [guess, 7]).to_frame());
        }
        assert!(pair.reasons[&Reason::DropOutOfState] > 3000, "{:?}", pair.reasons);
        pair.assert_same_state();
    });
}

/// Nothing but the kernel knows its cookie and its clock; everything else in the answer is ours.
#[test]
fn answers_with_the_kernels_cookies_are_alike_but_for_the_cookie() {
    beside(|host, sockets, pair| {
        pair.arm_with(OUT_OF_STATE | ListenerEntry::KERNEL_COOKIES);
        let syn = |ends, options: &[u8]| {
            let mut syn = segment(ends, flags::SYN | flags::ECE | flags::CWR, [41, 0]);
            syn.options = options.to_vec();
            syn
        };
        // Where the kernel makes no cookie, the SYN goes on to the stack.
        for ends in new_clients() {
            pair.ingress(&syn(ends, &mss_option(1300)).to_frame());
        }
        assert!(!pair.reasons.contains_key(&Reason::Cookie));
        host.sysctl("net.ipv4.tcp_syncookies", "2").unwrap();
        // Nor where there is a connection already.
        for ends in &sockets.connections {
            pair.ingress(&syn(*ends, &mss_option(1300)).to_frame());
        }
        assert!(!pair.reasons.contains_key(&Reason::Cookie));
        let linux = linux_syn_options(1460, 9);
        let shapes: [&[u8]; 4] =
            [&linux, &linux[..4], &[], &[3, 3, 200, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0]];
        let mut answered = 0;
        for stamped in [0, 1] {
            pair.model.config.kernel_timestamps = stamped;
            pair.dataplane.set_config(&pair.model.config).unwrap();
            for (number, options) in (0u16..).zip(shapes) {
                for [mut client, server] in new_clients() {
                    client.set_port(5000 + 100 * u16::from(stamped) + number);
                    let ends = [client, server];
                    let isn = pair.answered_by_the_kernel(&syn(ends, options).to_frame());
                    answered += 1;
                    let ack =
                        |wrong: u32| segment(ends, flags::ACK, [42, isn.wrapping_add(1 + wrong)]);
                    let out_of_state =
                        |pair: &Pair| pair.reasons.get(&Reason::DropOutOfState).copied();
                    let before = out_of_state(pair).unwrap_or(0);
                    pair.ingress(&ack(0x1000).to_frame());
                    assert_eq!(out_of_state(pair), Some(before + 1));
                    pair.ingress(&ack(0).to_frame());
                    assert_eq!(out_of_state(pair), Some(before + 1), "the kernel knows it again");
                }
            }
        }
        let counters = &pair.model.listener_counters;
        let sent: u64 = counters.values().map(|counters| counters.cookies_sent).sum();
        assert_eq!(sent, answered);
        pair.assert_same_state();
    });
}

impl Pair {
    /// Has out-of-state segments dropped on a host that has these sockets, where a listener's mitigations say so.
    pub fn watch_out_of_state(&mut self, sockets: &Sockets) {
        self.model.sockets.listening.clone_from(&sockets.listening);
        self.model.sockets.connections = sockets.flows();
        self.keep_agent();
        self.configure(|config| {
            (config.out_of_state, config.drop_out_of_state) = (1, 1);
            config.failed_cookie_ns = FAILED_COOKIE_NS;
        });
    }

    /// Runs [`Pair::ingress`] for a SYN that gets a reply. The host is given the cookie that the
    /// kernel chose. Returns the sequence number of the reply.
    fn answered_by_the_kernel(&mut self, frame: &[u8]) -> u32 {
        let (action, _, after) = self.object.test_ingress_frame(frame, 1).expect("a test run");
        assert_eq!(action, XDP_TX, "{}", hex(frame));
        let answer = Segment::parse(&after).unwrap();
        let stamp = answer.options.windows(2).position(|two| two == [8, 10]);
        let stamp = stamp
            .map_or(0, |at| u32::from_be_bytes(answer.options[at + 2..at + 6].try_into().unwrap()));
        // The last moment at which the kernel's clock may have shown it.
        self.model.sockets.next_cookie =
            Some(KernelCookie { isn: answer.seq, clock_ms: stamp | 0x3f });
        let mut packet = Packet(frame.to_vec());
        assert_eq!(self.model.ingress_packet(&mut packet), Reason::Cookie);
        assert_eq!(hex(&after), hex(&packet.0), "what became of {}", hex(frame));
        *self.reasons.entry(Reason::Cookie).or_default() += 1;
        answer.seq
    }
}
