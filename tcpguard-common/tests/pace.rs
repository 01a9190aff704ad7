//! Work that a CPU does for fewer packets when it sees too many to do it for each.

use tcpguard_common::abi::{ABI_VERSION, Addr, Config, FlowState, ListenerEntry, ListenerKey};
use tcpguard_common::model::{Model, hash_key};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const START: u64 = 5_000 * S;
/// Of the segments' sender.
const CLIENT: u32 = 0xc633_6407;

fn host() -> Model {
    let mut host = Model::new(Config {
        abi_version: ABI_VERSION,
        hash_key: hash_key(1),
        tracked_bits: Config::tracked_bits(20_000),
        ..Config::default()
    });
    host.now_ns = START;
    let key = ListenerKey::new(Addr::ANY_V4, 443_u16.to_be_bytes());
    host.add_listener(key, ListenerEntry::default());
    host
}

fn segment(client: u32, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
    frame.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 57, 6, 0, 0]);
    frame.extend(client.to_be_bytes());
    frame.extend([192, 0, 2, 1]);
    frame.extend(50_000_u16.to_be_bytes());
    frame.extend(443_u16.to_be_bytes());
    frame.extend([1, 2, 3, 4, 0, 0, 0, 0, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    frame
}

/// `count` segments, evenly over `ns`.
fn send(host: &mut Model, count: u64, ns: u64, flags: u8, client: impl Fn(u64) -> u32) {
    let start = host.now_ns;
    for number in 0..count {
        host.now_ns = start + number * ns / count;
        host.ingress(&segment(client(number), flags));
    }
    host.now_ns = start + ns;
}

/// Any address but the same each time.
fn any_source(number: u64) -> u32 {
    0x0b00_0000 + (number as u32).wrapping_mul(0x9e37_79b9) % 0x7000_0000
}

#[test]
fn in_a_flash_crowd_a_cpu_tracks_as_many_flows_as_it_can_and_they_stand_for_all() {
    for (per_second, least, most) in
        [(20_000, 2000, 2000), (200_000, 1500, 3600), (2_000_000, 1200, 5400)]
    {
        let mut host = host();
        let syns = per_second / 10;
        send(&mut host, syns, S / 10, 0x02, any_source);
        let flows: Vec<_> = host.flows.iter().map(|(_, flow)| flow).collect();
        assert!(flows.iter().all(|flow| flow.state == FlowState::Syn as u8));
        let tracked = flows.len();
        assert!((least..=most).contains(&tracked), "{tracked} at {per_second}");
        let estimate: u64 = flows.iter().map(|flow| 1 << flow.sample_shift).sum();
        assert!((syns * 8 / 10..=syns * 12 / 10).contains(&estimate), "{estimate} of {syns}");
        assert_eq!(host.listener_counters[&0].syn, syns, "all of them are counted");
    }
}

#[test]
fn segments_are_counted_for_their_source_each_or_by_sample() {
    for (per_second, exact) in [(3_000, true), (30_000, false), (3_000_000, false)] {
        let mut host = host();
        send(&mut host, per_second / 10, S / 10, 0x10, |_| CLIENT);
        let counted: u64 = host.sources.iter().map(|(_, counters)| counters.ack).sum();
        let sent = per_second / 10;
        if exact {
            assert_eq!(counted, sent);
        } else {
            assert!((sent * 9 / 10..=sent * 11 / 10).contains(&counted), "{counted} of {sent}");
        }
    }
}

#[test]
fn a_burst_that_is_over_leaves_nothing_out() {
    let mut host = host();
    send(&mut host, 200_000, S / 10, 0x02, any_source);
    send(&mut host, 200_000, S / 10, 0x10, |_| CLIENT);
    host.now_ns += S;
    let before: u64 = host.sources.iter().map(|(_, counters)| counters.ack).sum();
    send(&mut host, 10, S / 10, 0x10, |_| CLIENT);
    let after: u64 = host.sources.iter().map(|(_, counters)| counters.ack).sum();
    assert_eq!(after - before, 10);
    let unknown = 0x0a00_0001;
    send(&mut host, 1, S, 0x02, |_| unknown);
    let is_it = |key: &Addr| *key == Addr::from_v4(unknown.to_be_bytes());
    assert!(host.flows.iter().any(|(key, flow)| is_it(&key.client) && flow.sample_shift == 0));
}
