//! The engine, with the judge of its properties: whatever happens, its commands fit, and everything
//! ends.

use tcpguard_engine::{Force, Mode};
use tcpguard_sim::world::{
    LISTENERS, Op, PENDING_CONFIRMATION, Shape, Traffic, World, fleet_rule, fleet_rule_gone, hint,
};

use crate::bytes::Bytes;

/// Polls that one input may ask for: more would be slower and show no more.
const MOST_POLLS: u32 = 100;

/// The input encodes the operations of the run.
///
/// # Panics
/// When a command does not fit, or an incident or mitigation does not end.
pub fn engine(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let mut world = World::new();
    let mut polls = 0;
    while !bytes.is_empty() && polls < MOST_POLLS {
        let op = op(&mut bytes);
        if let Op::Traffic(traffic) = &op {
            polls += traffic.polls;
        }
        world.play(&op);
    }
    world.play(&Op::Host { unsolicited: 0, ports: 0 });
    world.play(&Op::calm());
    let open = world.engine.report(world.now).incidents;
    assert!(open.is_empty(), "everything ends: {open:?}");
    world.play(&Op::Gap(3700));
    world.play(&Op::calm());
    assert!(world.mitigations.is_empty(), "{:?}", world.mitigations);
}

fn op(bytes: &mut Bytes<'_>) -> Op {
    let prefix = |bytes: &mut Bytes<'_>, least: u8| (bytes.u8(), least + bytes.u8() % (33 - least));
    match bytes.u8() % 27 {
        0 => Op::Gap(bytes.below(4000).into()),
        1 => Op::Restart,
        2 => Op::Backwards(u32::from(bytes.u8()) % LISTENERS),
        3 => Op::Toggle(u32::from(bytes.u8()) % LISTENERS),
        4 => Op::Protect(bytes.bit().then(|| bytes.u8())),
        5 => Op::Mode([Mode::Off, Mode::Observe, Mode::Enforce][usize::from(bytes.u8() % 3)]),
        6 => {
            let (host, bits) = prefix(bytes, 0);
            let ports = ports(bytes);
            let seconds = u64::from(bytes.u16()) * 4;
            Op::Block { host, bits, ports, seconds, force: force(bytes) }
        }
        7 => {
            let (host, bits) = prefix(bytes, 0);
            Op::Unblock { host, bits }
        }
        8 => Op::UnblockAll,
        9 => Op::Import {
            hosts: (0..bytes.u8() % 6)
                .map(|_| {
                    let (host, bits) = prefix(bytes, 14);
                    (host, bits, ports(bytes))
                })
                .collect(),
            seconds: 1 + u64::from(bytes.u16()) * 4,
            merge: bytes.bit(),
            force: force(bytes),
        },
        10 => {
            let (host, bits) = prefix(bytes, 0);
            Op::Allow { host, bits, seconds: bytes.u8().into() }
        }
        11 => {
            let (host, bits) = prefix(bytes, 0);
            Op::Disallow { host, bits }
        }
        12 => Op::NewAgent,
        13 => Op::Refuse(bytes.bit()),
        14 => Op::Host { unsolicited: bytes.below(1000).into(), ports: bytes.below(60).into() },
        15 => {
            let (host, bits) = prefix(bytes, 0);
            Op::Confirm { host, bits }
        }
        16 => hint(bytes.bit(), bytes.u8().into(), bytes.u8().into()),
        17 => {
            let (serial, allow, at) = (bytes.u8(), bytes.bit(), prefix(bytes, 14));
            fleet_rule(serial, allow, at, &ports(bytes), u64::from(bytes.u16()) * 4)
        }
        18 => fleet_rule_gone(bytes.u8()),
        _ => Op::Traffic(traffic(bytes)),
    }
}

fn force(bytes: &mut Bytes<'_>) -> Force {
    match bytes.u8() & 3 {
        0 | 2 => Force::No,
        1 => Force::ForGood,
        _ => PENDING_CONFIRMATION,
    }
}

fn ports(bytes: &mut Bytes<'_>) -> Vec<u16> {
    let count = bytes.u8();
    if count < 128 { Vec::new() } else { (0..count % 5).map(|_| bytes.u16().max(1)).collect() }
}

fn traffic(bytes: &mut Bytes<'_>) -> Traffic {
    Traffic {
        listener: u32::from(bytes.u8()) % LISTENERS,
        polls: 1 + u32::from(bytes.u8() % 60),
        spoofed: bytes.below(30_000).into(),
        real: bytes.below(500).into(),
        sources: match bytes.u8() {
            0 => 1,
            255 => u32::MAX,
            sources => sources.into(),
        },
        shape: [Shape::Constant, Shape::RandomTtl, Shape::RandomWindow, Shape::Clients]
            [usize::from(bytes.u8() % 4)],
        returning: if bytes.bit() { 20 + u64::from(bytes.below(1000)) } else { u64::MAX },
        half_open: bytes.bit().then(|| bytes.below(200).into()),
        queue_drops: bytes.below(5000).into(),
        overflows: u64::from(bytes.u8()).saturating_sub(247),
    }
}
