//! Random operations.

use proptest::prelude::*;
use tcpguard_engine::{Force, Mode};
use tcpguard_sim::world::{
    LISTENERS, Op, PENDING_CONFIRMATION, Shape, Traffic, fleet_rule, fleet_rule_gone, hint,
};

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
        |(listener, polls, (spoofed, real), (sources, shape), queue, returning)| {
            let (half_open, queue_drops, overflows) = queue;
            Traffic {
                listener,
                polls,
                spoofed,
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

fn force() -> impl Strategy<Value = Force> {
    prop_oneof![Just(Force::No), Just(PENDING_CONFIRMATION), Just(Force::ForGood)]
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
        3 => (any::<u8>(), 0..=32_u8, ports(), 0..200_000_u64, force()).prop_map(
            |(host, bits, ports, seconds, force)| Op::Block { host, bits, ports, seconds, force }
        ),
        2 => (any::<u8>(), 0..=32_u8).prop_map(|(host, bits)| Op::Unblock { host, bits }),
        1 => Just(Op::UnblockAll),
        3 => (prop::collection::vec((any::<u8>(), 14..=32_u8, ports()), 0..6), 1..200_000_u64, any::<bool>(), force())
            .prop_map(|(hosts, seconds, merge, force)| Op::Import { hosts, seconds, merge, force }),
        1 => (any::<u8>(), 0..=32_u8).prop_map(|(host, bits)| Op::Confirm { host, bits }),
        1 => (any::<u8>(), 0..=32_u8, 0..200_u64)
            .prop_map(|(host, bits, seconds)| Op::Allow { host, bits, seconds }),
        1 => (any::<u8>(), 0..=32_u8).prop_map(|(host, bits)| Op::Disallow { host, bits }),
        2 => (any::<bool>(), 0..4_u16, 0..90_u16)
            .prop_map(|(of_clients, reporters, ttl_s)| hint(of_clients, reporters, ttl_s)),
        3 => (any::<u8>(), any::<bool>(), (any::<u8>(), 14..=32_u8), ports(), 0..200_000_u64)
            .prop_map(|(serial, allow, at, ports, seconds)| {
                fleet_rule(serial, allow, at, &ports, seconds)
            }),
        1 => any::<u8>().prop_map(fleet_rule_gone),
        2 => Just(Op::NewAgent),
        1 => any::<bool>().prop_map(Op::Refuse),
        1 => (prop_oneof![Just(0_u64), 1..1000_u64], 0..60_u32)
            .prop_map(|(unsolicited, ports)| Op::Host { unsolicited, ports }),
    ]
}
