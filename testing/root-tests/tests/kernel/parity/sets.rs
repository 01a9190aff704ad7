//! Tables of sets that are full: kernel and host forget the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tcpguard::bpf::ip;
use tcpguard_common::abi::Mode;
use tcpguard_common::abi::maps::{MAX_FLOWS, MAX_SOURCES};
use tcpguard_kit::net::packet::{Segment, flags};

use super::traffic::v4;
use super::{Pair, sorted};

/// The SYN of one of many sources, every second of them over IPv6.
fn syn(number: u32) -> Segment {
    let (source, server): (IpAddr, IpAddr) = if number.is_multiple_of(2) {
        (Ipv4Addr::from_bits(0x0b00_0000 + number).into(), v4(2, 1))
    } else {
        let v6 = |bits: u128| Ipv6Addr::from_bits(0x2001_0db8 << 96 | bits).into();
        (v6(1 << 80 | u128::from(number) << 64), v6(2))
    };
    Segment::new(SocketAddr::new(source, 1024), SocketAddr::new(server, 443), flags::SYN)
}

#[test]
fn full_sets_forget_alike_and_the_agent_finds_what_they_hold() {
    let mut pair = Pair::new(Mode::Enforce, 0, false);
    pair.follow_all();
    for number in 0..3 * MAX_FLOWS {
        // A source that goes on is hardly ever forgotten for sources that send once.
        let number = if number % 64 == 1 { 1 } else { number };
        pair.ingress(&syn(number).to_frame());
    }
    let (kernel, key) = (&pair.dataplane, pair.model.config.hash_key);
    let (flows, sources) = (kernel.flows().unwrap(), kernel.sources().unwrap());
    assert!(flows.len() as u32 > MAX_FLOWS / 100 * 99, "{}", flows.len());
    assert!(sources.len() as u32 > MAX_SOURCES / 100 * 99, "{}", sources.len());
    for (flow, value) in &flows {
        assert_eq!(kernel.flow(&key, flow).unwrap(), Some(*value));
    }
    for (source, value) in &sources {
        assert_eq!(kernel.source(&key, ip(source)).unwrap(), Some(*value));
    }
    // 192 other sources came to its set. The source loses its slot only if two of them come between two of its
    // SYNs, and the first takes the marks of all.
    let goes_on = kernel.source(&key, syn(1).src.ip()).unwrap().expect("it sends one in 64");
    assert!(goes_on.syn * 2 > u64::from(3 * MAX_FLOWS / 64), "{goes_on:?}");
    assert!(sorted(flows) == pair.model.flows, "flows differ");
    assert!(sorted(sources) == pair.model.sources, "sources differ");
    pair.assert_same_state();
}
