//! The way back of a reply: the host's own, whatever way the SYN came.

use tcpguard_common::abi::option::{SACK, WSCALE};
use tcpguard_common::abi::{
    ABI_VERSION, Addr, Config, ListenerEntry, ListenerKey, Mode, NextHop, NextHops, Reason,
    Unanswered,
};
use tcpguard_common::fastpath::{self, Departure, Origin};
use tcpguard_common::model::{Model, Packet, cookie_secret, hash_key};

const S: u64 = 1_000_000_000;
const NOW: u64 = 5_000 * S;
/// [`tcpguard_common::abi::moment`] goes on after at most so long.
const MOMENT: u64 = 1 << 30;
const PORT: u16 = 443;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

type Mac = [u8; 6];
const HOST: Mac = [2, 0, 0, 0, 0, 1];
/// A virtual address of VRRP, on a macvlan.
const VRRP: Mac = [0, 0, 0x5e, 0, 1, 0x33];
const BALANCER: Mac = [2, 0, 0, 0, 0, 0xa];
const ROUTER: Mac = [2, 0, 0, 0, 0, 0xb];
const SPARE: Mac = [2, 0, 0, 0, 0, 0xc];

const SERVER: [u8; 4] = [192, 0, 2, 80];
const FAR: [u8; 4] = [203, 0, 113, 9];
const NEIGHBOUR: [u8; 4] = [10, 9, 0, 5];

fn net(addr: [u8; 4], bits: u32) -> (Addr, u32) {
    (Addr::from_v4(addr), 96 + bits)
}

fn segment((to, from): (Mac, Mac), ips: [[u8; 4]; 2], flags: u8, mss: u16) -> Vec<u8> {
    let ports = if flags == SYN { [4000, PORT] } else { [PORT, 4000] };
    let mut frame = [to, from].concat();
    frame.extend([8, 0, 0x45, 0, 0, 52, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(ips.concat());
    frame.extend(ports.map(u16::to_be_bytes).concat());
    frame.extend([0, 0, 0, 7, 0, 0, 0, if flags == SYN { 0 } else { 8 }]);
    frame.extend([0x80, flags, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4]);
    frame.extend(mss.to_be_bytes());
    frame.extend([1, 3, 3, 7, 1, 1, 4, 2]);
    frame
}

/// A host in cookie mode with a default route by a router and a network on its link, which has sent nothing yet.
struct Host(Model);

impl Host {
    fn new() -> Self {
        let mut host = Model::new(Config {
            abi_version: ABI_VERSION,
            mode: Mode::Enforce as u8,
            heartbeat_ns: u64::MAX,
            heartbeat_limit_ns: u64::MAX,
            hash_key: hash_key(1),
            ..Config::default()
        });
        host.now_ns = NOW;
        host.cookie_secret = cookie_secret(1);
        let mitigations = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
        let entry = ListenerEntry { mitigations, ..ListenerEntry::default() };
        host.add_listener(ListenerKey::new(Addr::ANY_V4, PORT.to_be_bytes()), entry);
        host.own_macs = [HOST, VRRP].map(NextHop::mac).into();
        host.routes = vec![
            (net([0; 4], 0), 1),
            (net([10, 9, 0, 0], 24), 2),
            (net([10, 77, 0, 0], 16), 3),
            (net([10, 9, 0, 255], 32), 0),
            (net(SERVER, 32), 0),
        ];
        host.next_hops = [
            (0, NextHops::default()),
            (1, NextHops::of(NextHops::GATEWAY)),
            (2, NextHops::of(NextHops::ON_LINK)),
            (3, NextHops::of(NextHops::GATEWAY)),
        ]
        .into();
        Self(host)
    }

    /// A SYN-ACK of the host to a client leaves by an interface, to an Ethernet address, and with an MSS.
    fn replies(&mut self, to: [u8; 4], mac: Mac, by: u32, mss: u16) {
        self.replies_from(to, mac, Departure { ifindex: by, ..Model::DEPARTURE }, mss);
    }

    fn replies_from(&mut self, to: [u8; 4], mac: Mac, departure: Departure, mss: u16) {
        let frame = segment((mac, HOST), [SERVER, to], SYN_ACK, mss);
        let (config, mut sent) = (self.0.config, Default::default());
        assert!(fastpath::egress(&frame[..], &config, &mut self.0, &mut sent, true));
        fastpath::learn(&frame[..], &sent, &departure, &mut self.0);
        // The CPU has cached none of it.
        self.0.now_ns += 1 << 24;
    }

    /// Returns the destination and the MSS of the reply to a SYN, or the reason why there is none.
    fn reply_to(&mut self, from: [u8; 4], (to, by): (Mac, Mac)) -> Result<(Mac, u16), String> {
        let before = self.0.host.unanswered;
        let mut frame = Packet(segment((to, by), [from, SERVER], SYN, 1460));
        let reason = self.0.ingress_packet(&mut frame);
        if reason == Reason::DropReflection {
            return Err("dropped".to_owned());
        }
        if reason == Reason::Cookie {
            assert_eq!(frame.0[6..12], to, "from the address that the SYN was sent to");
            let mss = u16::from_be_bytes([frame.0[56], frame.0[57]]);
            return Ok((frame.0[..6].try_into().unwrap(), mss));
        }
        let now = self.0.host.unanswered;
        let why = Unanswered::ALL.iter().find(|why| now[**why as usize] > before[**why as usize]);
        Err(why.map_or("renewed", |why| why.name()).to_owned())
    }

    fn goes_to(&mut self, from: [u8; 4], by: Mac) -> Result<Mac, String> {
        self.reply_to(from, (HOST, by)).map(|(mac, _)| mac)
    }
}

fn because<T>(why: Unanswered) -> Result<T, String> {
    Err(why.name().to_owned())
}

/// Interface of the SYNs, and another.
const HERE: u32 = Model::DEPARTURE.ifindex;
const THERE: u32 = HERE + 1;

#[test]
fn with_direct_server_return_the_reply_goes_to_the_router_that_the_host_uses() {
    let mut host = Host::new();
    assert_eq!(host.goes_to(FAR, BALANCER), because(Unanswered::NoRecord));
    host.replies(NEIGHBOUR, BALANCER, HERE, 1460);
    assert_eq!(host.goes_to(FAR, BALANCER), because(Unanswered::NoWay), "none left by that route");
    host.replies([198, 51, 100, 7], ROUTER, HERE, 1460);
    assert_eq!(host.goes_to(FAR, BALANCER), Ok(ROUTER), "any address shows the way of all");
    assert_eq!(host.goes_to(FAR, ROUTER), Ok(ROUTER));
    // A second router: each gets the replies to its own SYNs.
    host.replies(FAR, SPARE, HERE, 1460);
    assert_eq!(host.goes_to(FAR, SPARE), Ok(SPARE));
    assert_eq!(host.goes_to(FAR, ROUTER), Ok(ROUTER));
}

#[test]
fn what_a_client_of_another_route_does_changes_nothing_for_others() {
    let mut host = Host::new();
    host.replies(FAR, ROUTER, HERE, 1460);
    host.replies([10, 77, 3, 4], SPARE, THERE, 1460);
    assert_eq!(host.goes_to(FAR, ROUTER), Ok(ROUTER));
    assert_eq!(host.goes_to([10, 77, 1, 1], ROUTER), because(Unanswered::NoWay));
}

#[test]
fn a_router_that_has_failed_over_is_noticed_within_seconds() {
    let mut host = Host::new();
    host.replies(FAR, ROUTER, HERE, 1460);
    host.0.now_ns += 2 * MOMENT;
    assert_eq!(host.goes_to(FAR, SPARE), Err("renewed".to_owned()), "one SYN asks the stack");
    assert_eq!(host.goes_to(FAR, SPARE), Ok(ROUTER), "and the others do not wait for it");
    host.replies(FAR, SPARE, HERE, 1460);
    assert_eq!(host.goes_to(FAR, SPARE), Ok(SPARE));
    // The stack no longer replies.
    host.0.now_ns += 12 * MOMENT;
    assert_eq!(host.goes_to(FAR, BALANCER), Err("renewed".to_owned()));
    assert_eq!(host.goes_to(FAR, BALANCER), because(Unanswered::NoWay));
    assert_eq!(host.goes_to(FAR, SPARE), Ok(SPARE), "a router that sends SYNs takes replies");
    host.0.now_ns += 700 * S;
    assert_eq!(host.goes_to(FAR, SPARE), Err("renewed".to_owned()));
    assert_eq!(host.goes_to(FAR, SPARE), because(Unanswered::NoWay));
}

#[test]
fn cookies_of_the_kernels_making_show_the_way_and_those_that_are_forwarded_do_not() {
    let mut host = Host::new();
    host.replies(NEIGHBOUR, ROUTER, HERE, 1460);
    let origin = |origin: Origin| Departure { marks: origin.marks(), ..Model::DEPARTURE };
    host.replies_from(FAR, SPARE, origin(Origin::Foreign), 1460);
    assert_eq!(host.0.next_hops[&1], NextHops::of(NextHops::GATEWAY));
    let mut host = Host::new();
    host.replies(NEIGHBOUR, ROUTER, HERE, 1460);
    host.replies_from(FAR, ROUTER, origin(Origin::Unknown), 536);
    assert_eq!(host.reply_to(FAR, (HOST, ROUTER)), Ok((ROUTER, 1460)));
}

#[test]
fn neighbours_have_an_address_each_and_the_host_knows_better_than_a_balancer() {
    let mut host = Host::new();
    host.replies(NEIGHBOUR, SPARE, HERE, 1460);
    let other = [10, 9, 0, 6];
    assert_eq!(host.goes_to(NEIGHBOUR, SPARE), Ok(SPARE));
    assert_eq!(host.goes_to(other, ROUTER), Ok(ROUTER), "its own, as far as is known");
    assert_eq!(host.goes_to(NEIGHBOUR, BALANCER), Ok(SPARE), "not back through the balancer");
    assert_eq!(host.goes_to(other, BALANCER), because(Unanswered::NoWay), "its own is not known");
    host.replies(other, ROUTER, HERE, 1460);
    assert_eq!(host.goes_to(other, BALANCER), Ok(ROUTER));
}

#[test]
fn the_reply_comes_from_whichever_of_the_hosts_addresses_the_syn_was_sent_to() {
    let mut host = Host::new();
    host.replies(FAR, ROUTER, HERE, 1460);
    assert_eq!(host.reply_to(FAR, (VRRP, ROUTER)), Ok((ROUTER, 1460)));
    assert_eq!(host.reply_to(FAR, (SPARE, ROUTER)), because(Unanswered::OtherMac));
}

#[test]
fn no_reply_goes_to_the_host_itself_nor_to_a_group() {
    let mut host = Host::new();
    host.replies(FAR, ROUTER, HERE, 1460);
    host.replies(NEIGHBOUR, SPARE, HERE, 1460);
    for source in [SERVER, [10, 9, 0, 255], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [0; 4]] {
        assert_eq!(host.goes_to(source, ROUTER), because(Unanswered::NoReply), "{source:?}");
    }
    for mac in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        for source in [FAR, NEIGHBOUR] {
            assert_eq!(host.goes_to(source, mac), Err("dropped".to_owned()), "{mac:x?}");
        }
    }
}

#[test]
fn one_client_with_a_small_mss_does_not_set_it_for_all_and_a_route_does_for_its_own() {
    let mut host = Host::new();
    host.replies(FAR, ROUTER, HERE, 1460);
    host.replies([10, 77, 3, 4], ROUTER, HERE, 1360);
    host.replies([198, 51, 100, 66], ROUTER, HERE, 512);
    assert_eq!(host.reply_to(FAR, (HOST, ROUTER)), Ok((ROUTER, 1460)));
    assert_eq!(host.reply_to([10, 77, 1, 1], (HOST, ROUTER)), Ok((ROUTER, 1360)));
    // An MSS that was sent to no client for ten minutes is forgotten.
    host.0.now_ns += 700 * S;
    host.replies(FAR, ROUTER, HERE, 512);
    assert_eq!(host.reply_to(FAR, (HOST, ROUTER)), Ok((ROUTER, 512)));
    assert_eq!(
        host.0.syn_acks[&ListenerKey::new(Addr::from_v4(SERVER), PORT.to_be_bytes())].options,
        WSCALE | SACK
    );
}
