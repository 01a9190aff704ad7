//! Out-of-state segments: those that are counted and dropped, and those that never are.

use tcpguard_common::abi::{
    Action, Addr, Client, Config, FlowKey, ListenerEntry, ListenerKey, ListenerKind, Mode, Reason,
    SynAckRecord,
};
use tcpguard_common::fastpath::{FAILED_COOKIE_NS, KernelCookie, Origin};
use tcpguard_common::model::{Model, Packet, cookie_secret, enforcing};

const S: u64 = 1_000_000_000;
const NOW: u64 = 5_000 * S;
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT: [u8; 4] = [203, 0, 113, 9];
const SERVER: [u8; 4] = [192, 0, 2, 1];
const PORT: u16 = 443;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const OUT_OF_STATE: u8 = ListenerEntry::OUT_OF_STATE;
const COOKIES: u8 =
    ListenerEntry::OUT_OF_STATE | ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;

fn flow(port: u16) -> FlowKey {
    FlowKey {
        client: Addr::from_v4(CLIENT),
        server: Addr::from_v4(SERVER),
        client_port: port.to_be_bytes(),
        server_port: PORT.to_be_bytes(),
    }
}

/// A frame of the client with `port`, or with `leaves` of the host to it.
fn frame(leaves: bool, port: u16, flags: u8, [seq, ack]: [u32; 2], payload: &[u8]) -> Vec<u8> {
    let ends = [(CLIENT_MAC, CLIENT, port), (HOST_MAC, SERVER, PORT)];
    let [from, to] = if leaves { [ends[1], ends[0]] } else { ends };
    let mut frame = [to.0, from.0].concat();
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0x12, 0x34, 0, 0, 57, 6, 0, 0]);
    frame.extend([from.1, to.1].concat());
    frame.extend([from.2.to_be_bytes(), to.2.to_be_bytes()].concat());
    frame.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    frame.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

fn arriving(port: u16, flags: u8, numbers: [u32; 2]) -> Vec<u8> {
    frame(false, port, flags, numbers, &[])
}

/// A host under attack that drops out-of-state segments, with one listener on every address.
struct Host(Model);

impl Host {
    fn new(mitigations: u8) -> Self {
        let mut host = Model::new(Config {
            out_of_state: 1,
            drop_out_of_state: 1,
            failed_cookie_ns: FAILED_COOKIE_NS,
            ..enforcing(NOW)
        });
        host.now_ns = NOW;
        host.cookie_secret = cookie_secret(1);
        let key = ListenerKey::new(Addr::ANY_V4, PORT.to_be_bytes());
        host.add_listener(key, ListenerEntry { mitigations, ..ListenerEntry::default() });
        host.sockets.listening.insert(key);
        host.replies_by(HOST_MAC, CLIENT_MAC, 0);
        let mut host = Self(host);
        host.syn_ack(Origin::Own);
        host
    }

    /// Lets a SYN-ACK leave.
    fn syn_ack(&mut self, origin: Origin) {
        self.0.sockets.origin = origin;
        self.0.egress(&frame(true, 1, SYN | ACK, [77, 1], &[]));
    }

    fn sees(&mut self, port: u16, flags: u8) -> Reason {
        self.0.ingress(&arriving(port, flags, [1000, 2000]))
    }

    fn drops(&mut self, port: u16) -> bool {
        let reasons = [ACK, ACK | FIN, RST, RST | ACK].map(|flags| self.sees(port, flags));
        let dropped = reasons.iter().filter(|reason| matches!(reason.action(), Action::Drop));
        let dropped = dropped.count();
        assert!(dropped == 0 || dropped == reasons.len(), "{reasons:?}");
        dropped != 0
    }

    /// The numbers of the third ACK of a client that was answered with a cookie.
    fn cookie(&mut self, port: u16) -> [u32; 2] {
        let mut syn = Packet(arriving(port, SYN, [41, 0]));
        assert_eq!(self.0.ingress_packet(&mut syn), Reason::Cookie);
        let isn = u32::from_be_bytes(syn.0[38..42].try_into().unwrap());
        [42, isn.wrapping_add(1)]
    }

    fn refused(&self) -> u64 {
        self.0.listener_counters[&0].refused
    }
}

#[test]
fn what_finds_no_connection_is_dropped_and_what_finds_one_never() {
    let mut host = Host::new(OUT_OF_STATE);
    host.0.sockets.connections.insert(flow(7));
    assert!(!host.drops(7));
    assert!(host.drops(8));
    assert_eq!(host.refused(), 4);
    // Also where no socket listens.
    host.0.sockets.listening.clear();
    assert!(host.drops(8));
    assert!(!host.drops(7));
    let data = frame(false, 8, ACK, [1, 2], &[9; 100]);
    assert_eq!(host.0.ingress(&data), Reason::DropOutOfState);
}

/// A change to a host.
type Change = fn(&mut Model);

#[test]
fn out_of_state_segments_are_only_counted_unless_every_condition_holds() {
    let changes: [(&str, Change, Reason); 6] = [
        ("policy", |host| host.config.drop_out_of_state = 0, Reason::OutOfState),
        ("mode", |host| host.config.mode = Mode::Observe as u8, Reason::OutOfState),
        ("agent", |host| host.now_ns += 31 * S, Reason::OutOfState),
        ("flag", |host| host.config.out_of_state = 0, Reason::Segment),
        (
            "step",
            |host| host.listener_entries.get_mut(&0).unwrap().mitigations = 0,
            Reason::Segment,
        ),
        (
            "kind",
            |host| {
                let entry = host.listener_entries.get_mut(&0).unwrap();
                entry.kind = ListenerKind::Forwarded as u8;
            },
            Reason::Segment,
        ),
    ];
    for (what, change, expected) in changes {
        let mut host = Host::new(OUT_OF_STATE);
        assert_eq!(host.sees(8, ACK), Reason::DropOutOfState);
        change(&mut host.0);
        assert_eq!(host.sees(8, ACK), expected, "{what}");
        assert_eq!(host.refused(), 1, "{what}");
    }
}

/// A forwarded or translated service has no connection in this host's table either: the naive
/// variant, which only looks there, would cut all of its connections off.
#[test]
fn what_the_host_was_not_seen_to_answer_for_is_left_alone() {
    let naive = |host: &Host| {
        let mut host = Host(host.0.clone());
        host.0.syn_acks.clear();
        host.syn_ack(Origin::Own);
        host.drops(8)
    };
    // Never seen.
    let mut host = Host::new(OUT_OF_STATE);
    host.0.syn_acks.clear();
    assert!(naive(&host) && !host.drops(8));
    // Behind a rule that translates, while a local proxy listens at the same address and port:
    // whichever is seen first, and also when the proxy answers again.
    for origins in [
        &[Origin::Own, Origin::Foreign][..],
        &[Origin::Foreign, Origin::Own],
        &[Origin::Foreign, Origin::Unknown],
        &[Origin::Own, Origin::Foreign, Origin::Own],
    ] {
        let mut host = Host::new(COOKIES);
        host.0.syn_acks.clear();
        for origin in origins {
            host.syn_ack(*origin);
        }
        assert!(naive(&host) && !host.drops(8), "{origins:?}");
        let syn = host.0.ingress(&arriving(8, SYN, [1, 0]));
        assert_eq!(syn, Reason::Syn, "nor is it answered for");
    }
    // The kernel's own cookies say nothing either way.
    let mut host = Host::new(OUT_OF_STATE);
    host.syn_ack(Origin::Unknown);
    assert!(host.drops(8));
}

#[test]
fn a_foreign_syn_ack_is_forgotten_ten_minutes_after_the_last_one() {
    let mut host = Host::new(OUT_OF_STATE);
    let stays = |host: &mut Host, seconds: u64, origin: Origin| {
        // The records in the CPUs' caches expire with the tick.
        host.0.now_ns += seconds * S;
        host.0.config.heartbeat_ns = host.0.now_ns;
        host.syn_ack(origin);
        !host.drops(8)
    };
    assert!(stays(&mut host, 1, Origin::Foreign));
    assert!(stays(&mut host, 590, Origin::Own));
    // Each counts anew.
    assert!(stays(&mut host, 5, Origin::Foreign));
    assert!(stays(&mut host, 590, Origin::Own));
    assert!(stays(&mut host, 15, Origin::Unknown), "the kernel's cookies prove nothing");
    assert!(!stays(&mut host, 1, Origin::Own), "it is its own again");
    assert!(stays(&mut host, 1, Origin::Foreign), "until the next");
}

#[test]
fn what_comes_another_way_than_answers_leave_is_left_alone() {
    let key = ListenerKey::new(Addr::from_v4(SERVER), PORT.to_be_bytes());
    let elsewhere = SynAckRecord::interface(Model::DEPARTURE.ifindex + 1, 0);
    let tagged = SynAckRecord::interface(Model::DEPARTURE.ifindex, 0x1_0005);
    for interfaces in [elsewhere, tagged] {
        let mut host = Host::new(OUT_OF_STATE);
        assert!(host.drops(8));
        host.0.syn_acks.get_mut(&key).unwrap().interfaces = interfaces;
        assert!(!host.drops(8));
    }
    let mut host = Host::new(OUT_OF_STATE);
    host.0.own_macs.clear();
    assert!(!host.drops(8), "for another station");
    // Under sampling, too, a SYN-ACK of another origin is noticed while mitigations are active.
    let mut host = Host::new(OUT_OF_STATE);
    host.0.config.sample_shift = 31;
    host.syn_ack(Origin::Foreign);
    assert!(!host.drops(8));
}

/// The record of the host's replies is cached for a tick. The naive variant, which trusts the cache,
/// would cut connections off until then.
#[test]
fn nothing_is_dropped_by_what_was_right_a_moment_before() {
    let changes: [fn(&mut Host); 2] =
        [|host| host.syn_ack(Origin::Foreign), |host| host.0.syn_acks.clear()];
    for change in changes {
        let mut host = Host::new(COOKIES);
        host.0.config.sample_shift = 31;
        assert!(host.drops(8));
        let dropped = (host.refused(), host.0.returned_cookies[&0]);
        change(&mut host);
        let syn = arriving(9, SYN, [1, 0]);
        assert_eq!(host.0.ingress(&syn), Reason::Cookie, "it is remembered");
        assert!(!host.drops(8), "but nobody is dropped for it");
        assert_eq!(
            (host.refused(), host.0.returned_cookies[&0]),
            dropped,
            "nor is a guess counted"
        );
        host.0.now_ns += S;
        assert_eq!(host.0.ingress(&syn), Reason::Syn);
        assert!(!host.drops(8));
    }
}

#[test]
fn the_third_ack_of_a_cookie_and_what_follows_it_passes() {
    let mut host = Host::new(COOKIES);
    let numbers = host.cookie(8);
    let third = arriving(8, ACK, numbers);
    assert_eq!(host.0.ingress(&third), Reason::HandshakeAck, "followed: the sample is all");
    // The stack has not made the socket yet when the second half of a long request comes.
    let second = frame(false, 8, ACK, [numbers[0] + 1448, numbers[1]], &[9; 1000]);
    assert_eq!(host.0.ingress(&second), Reason::Segment);
    assert!(!host.drops(8), "nor is a reset lost that comes at once");
    assert!(host.drops(9), "another flow is another flow");
    host.0.now_ns += S;
    assert!(host.drops(8), "it has had the time to be made");

    // Not in the sample: recognised by its MAC.
    host.0.config.sample_shift = 31;
    let numbers = host.cookie(10);
    let wrong = arriving(10, ACK, [numbers[0], numbers[1] ^ 1]);
    assert_eq!(host.0.ingress(&wrong), Reason::DropOutOfState);
    assert_eq!(host.0.returned_cookies[&0].invalid, 5);
    assert_eq!(host.0.ingress(&arriving(10, ACK, numbers)), Reason::Segment);
    assert!(!host.drops(10));

    // Cookies that are not taken are none.
    let numbers = host.cookie(11);
    host.0.listener_entries.get_mut(&0).unwrap().mitigations = OUT_OF_STATE;
    assert_eq!(host.0.ingress(&arriving(11, ACK, numbers)), Reason::DropOutOfState);
}

#[test]
fn the_kernels_cookies_pass_from_any_source() {
    let mut host = Host::new(OUT_OF_STATE | ListenerEntry::KERNEL_COOKIES);
    host.0.sockets.next_cookie = Some(KernelCookie { isn: 4711, clock_ms: 1 });
    host.0.config.sample_shift = 31;
    let numbers = host.cookie(8);
    assert_eq!(numbers[1], 4712);
    assert_eq!(host.0.ingress(&arriving(8, ACK, numbers)), Reason::Segment);
    let good = |host: &Host| host.0.listener_counters[&0].cookies_redeemed;
    assert_eq!(good(&host), 1);
    // An ACK that follows at once is the same one. A client retries if the host does not complete its
    // handshake.
    assert_eq!(host.0.ingress(&arriving(8, ACK, numbers)), Reason::Segment);
    assert_eq!(good(&host), 1);
    host.0.now_ns += S;
    assert_eq!(host.0.ingress(&arriving(8, ACK, numbers)), Reason::Segment);
    assert_eq!(good(&host), 2);
    let mitigations = OUT_OF_STATE;
    *host.0.listener_entries.get_mut(&0).unwrap() =
        ListenerEntry { mitigations, ..Default::default() };
    host.0.sockets.cookies.insert((flow(9), 41, 4711));
    assert_eq!(host.0.ingress(&arriving(9, ACK, numbers)), Reason::Segment, "the stack's own");
    assert_eq!(good(&host), 2, "and none that XDP has sent");
    assert_eq!(host.0.ingress(&arriving(10, ACK, numbers)), Reason::DropOutOfState);
}

/// Segments with flags that no TCP sends are not dropped either. Only guesses at cookies are
/// limited whatever their source: a good guess with a trusted address would be worth more.
#[test]
fn nothing_of_a_protected_address_is_dropped_but_syns_and_guesses() {
    let null = arriving(8, 0, [7, 7]);
    for (net, expected) in [
        ([CLIENT, [203, 0, 113, 10]], [Reason::Illegal, Reason::OutOfState]),
        ([[203, 0, 113, 10]; 2], [Reason::DropIllegal, Reason::DropOutOfState]),
    ] {
        let mut host = Host::new(OUT_OF_STATE);
        host.0.config.drop_illegal = 1;
        host.0.exempt = net.map(|addr| ((Addr::from_v4(addr), 128), (NOW / S) as u32 + 1)).into();
        assert_eq!([host.0.ingress(&null), host.sees(8, ACK)], expected);
        // An exemption ends.
        host.0.now_ns += 2 * S;
        let ended = [host.0.ingress(&null), host.sees(9, ACK)];
        assert_eq!(ended, [Reason::DropIllegal, Reason::DropOutOfState]);
    }
    let mut host = Host::new(COOKIES);
    host.0.config.sample_shift = 31;
    host.0.exempt = vec![((Addr::from_v4(CLIENT), 128), u32::MAX)];
    let guesses: Vec<_> =
        (0..20_000).map(|guess| host.0.ingress(&arriving(7, ACK, [guess, 7]))).collect();
    assert_eq!((guesses[0], guesses[19_999]), (Reason::OutOfState, Reason::DropOutOfState));
}

/// No cookie of an unvalidated source is checked beyond the limit, so that an attacker's chances do not grow
/// with its rate. A client that completed a handshake before still connects.
#[test]
fn wrong_cookies_are_limited_but_not_a_clients() {
    const RATE: u64 = S / FAILED_COOKIE_NS as u64;
    let mut host = Host::new(COOKIES);
    host.0.config.sample_shift = 31;
    host.0.config.drop_out_of_state = 0;
    let good = [host.cookie(8), host.cookie(9)];
    let mut checked = 0;
    let mut dropped = 0;
    // A second, at twice the rate.
    for guess in 0..2 * RATE {
        host.0.now_ns = NOW + guess * S / (2 * RATE);
        match host.0.ingress(&arriving(7, ACK, [guess as u32, 7])) {
            Reason::OutOfState => checked += 1,
            Reason::DropOutOfState => dropped += 1,
            reason => panic!("{reason:?}"),
        }
    }
    let burst = 16_384;
    assert!((RATE..=RATE + burst + 1).contains(&checked), "{checked} of {RATE}");
    assert_eq!(host.0.returned_cookies[&0].invalid, checked);
    assert_eq!(host.refused(), dropped);
    let good =
        good.map(|numbers| arriving(if numbers[1] == good[0][1] { 8 } else { 9 }, ACK, numbers));
    assert_eq!(host.0.ingress(&good[0]), Reason::DropOutOfState, "an unvalidated source waits");
    assert_eq!(host.sees(7, RST), Reason::OutOfState, "resets are none");
    let client = Addr::from_v4(CLIENT);
    host.0.clients.insert(client, Client::default());
    host.0.client_filter.insert(tcpguard_common::fastpath::clients::mark(&client));
    assert_eq!(host.0.ingress(&good[0]), Reason::Segment);
    host.0.client_filter.clear();
    host.0.now_ns += S;
    assert_eq!(host.0.ingress(&good[1]), Reason::Segment, "and not for long");
    // Nothing is dropped in observe mode.
    host.0.returned_cookies.entry(0).or_default().bucket = Default::default();
    host.0.config.mode = Mode::Observe as u8;
    for guess in 0..2 * burst as u32 {
        assert_eq!(host.0.ingress(&arriving(7, ACK, [guess, 7])), Reason::OutOfState);
    }
}
