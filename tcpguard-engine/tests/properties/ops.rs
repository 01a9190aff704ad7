//! Random operations.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;
use tcpguard_engine::Mode;

/// Listeners in play.
pub const LISTENERS: u32 = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Op {
    /// Some polls with this traffic at one listener.
    Traffic(Traffic),
    /// Time passes without polls.
    Gap(u64),
    /// The kernel's counters start again.
    Restart,
    /// One listener's counters go backwards.
    Backwards(u32),
    /// A listener appears or goes.
    Toggle(u32),
    Protect(Option<u8>),
    Mode(Mode),
    Block {
        host: u8,
        bits: u8,
        ports: Vec<u16>,
        seconds: u64,
        force: bool,
    },
    Unblock {
        host: u8,
        bits: u8,
    },
    UnblockAll,
    Import {
        hosts: Vec<(u8, u8, Vec<u16>)>,
        seconds: u64,
        merge: bool,
        force: bool,
    },
    Allow {
        host: u8,
        bits: u8,
        seconds: u64,
    },
    Disallow {
        host: u8,
        bits: u8,
    },
    /// The agent is started again; the kernel keeps its rules.
    NewAgent,
    /// The kernel takes no rules from now on, or does again.
    Refuse(bool),
    /// Answers that nobody asked for, a poll, and closed ports tried by one source.
    Host {
        unasked: u64,
        ports: u32,
    },
}

#[derive(Clone, Debug)]
pub struct Traffic {
    pub listener: u32,
    pub polls: u32,
    /// SYNs a poll that never complete, and connects that do.
    pub forged: u64,
    pub real: u64,
    /// From this many sources.
    pub sources: u32,
    pub shape: Shape,
    /// Of the hits of a rule, one in so many comes back.
    pub returning: u64,
    pub half_open: Option<u32>,
    pub queue_drops: u64,
    pub overflows: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Constant,
    RandomTtl,
    RandomWindow,
    Clients,
}

pub fn traffic() -> impl Strategy<Value = Traffic> {
    let volumes = (prop_oneof![Just(0_u64), 1..100_u64, 1000..30_000_u64], 0..500_u64);
    let origin = (
        prop_oneof![Just(1_u32), 2..100_u32, Just(u32::MAX)],
        prop_oneof![
            Just(Shape::Constant),
            Just(Shape::RandomTtl),
            Just(Shape::RandomWindow),
            Just(Shape::Clients)
        ],
    );
    let queue = (
        proptest::option::of(0..200_u32),
        0..5000_u64,
        prop_oneof![4 => Just(0_u64), 1 => 1..9_u64],
    );
    let returning = prop_oneof![Just(u64::MAX), 20..1000_u64];
    (0..LISTENERS, 1..60_u32, volumes, origin, queue, returning).prop_map(
        |(listener, polls, (forged, real), (sources, shape), queue, returning)| {
            let (half_open, queue_drops, overflows) = queue;
            Traffic {
                listener,
                polls,
                forged,
                real,
                sources,
                shape,
                returning,
                half_open,
                queue_drops,
                overflows,
            }
        },
    )
}

/// Mostly every port.
fn ports() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(80..84_u16, 1..4)]
}

pub fn op() -> impl Strategy<Value = Op> {
    let mode = prop_oneof![Just(Mode::Off), Just(Mode::Observe), Just(Mode::Enforce)];
    prop_oneof![
        10 => traffic().prop_map(Op::Traffic),
        1 => (0..120_u64).prop_map(Op::Gap),
        1 => Just(Op::Restart),
        1 => (0..LISTENERS).prop_map(Op::Backwards),
        1 => (0..LISTENERS).prop_map(Op::Toggle),
        2 => proptest::option::of(any::<u8>()).prop_map(Op::Protect),
        2 => mode.prop_map(Op::Mode),
        3 => (any::<u8>(), 0..=32_u8, ports(), 0..200_000_u64, any::<bool>()).prop_map(
            |(host, bits, ports, seconds, force)| Op::Block { host, bits, ports, seconds, force }
        ),
        2 => (any::<u8>(), 0..=32_u8).prop_map(|(host, bits)| Op::Unblock { host, bits }),
        1 => Just(Op::UnblockAll),
        3 => (prop::collection::vec((any::<u8>(), 14..=32_u8, ports()), 0..6), 1..200_000_u64, any::<bool>(), any::<bool>())
            .prop_map(|(hosts, seconds, merge, force)| Op::Import { hosts, seconds, merge, force }),
        1 => (any::<u8>(), 0..=32_u8, 0..200_u64)
            .prop_map(|(host, bits, seconds)| Op::Allow { host, bits, seconds }),
        1 => (any::<u8>(), 0..=32_u8).prop_map(|(host, bits)| Op::Disallow { host, bits }),
        2 => Just(Op::NewAgent),
        1 => any::<bool>().prop_map(Op::Refuse),
        1 => (prop_oneof![Just(0_u64), 1..1000_u64], 0..60_u32)
            .prop_map(|(unasked, ports)| Op::Host { unasked, ports }),
    ]
}

/// Addresses of operators' blocks, protected prefixes and one-source floods meet in this network.
pub fn host(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, host)
}

pub fn net(at: u8, bits: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(host(at), bits)).trunc()
}
