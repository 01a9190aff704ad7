//! Fingerprints of SYNs.

use tcpguard_common::abi::{Fingerprint, layout, quirk};

use crate::population::Population;
use crate::random::Random;

/// Fingerprints of one source's SYNs.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// No options, window 512, TTL 244.
    Bare,
    /// No options, window 0, TTL 242 or 244, ECE and CWR set: a real flood did.
    BareEcn,
    /// An MSS option; MSS and window drawn.
    RandomWindowMss,
    /// No options; TTL drawn.
    RandomTtl,
    /// The SYN of clients of several systems, from various distances, but without a single option.
    FarBare,
    /// The SYN of Linux, 8 hops away.
    Linux,
    /// The SYN of Linux, from various distances.
    FarLinux,
    /// The SYNs of clients of several systems at various distances.
    Mix,
    /// Each as the SYNs of some client of the population, its TTL included.
    Mimicking,
}

const LINUX: u64 = layout::MSS
    | layout::SACK_OK << 4
    | layout::TIMESTAMP << 8
    | layout::NOP << 12
    | layout::WSCALE << 16;
const WINDOWS: u64 = layout::MSS
    | layout::NOP << 4
    | layout::WSCALE << 8
    | layout::NOP << 12
    | layout::NOP << 16
    | layout::SACK_OK << 20;

impl Shape {
    /// One SYN. Copies need clients.
    pub(crate) fn draw(self, random: &mut Random, population: Option<&Population>) -> Fingerprint {
        let ip_id = random.bits() as u16;
        let bare = Fingerprint { window: 512, ttl: 244, ip_id, wscale: 255, ..Default::default() };
        let linux = Fingerprint { ip_id, ttl: 56, ..linux() };
        match self {
            Self::Bare => bare,
            Self::BareEcn => Fingerprint {
                window: 0,
                ttl: 242 + 2 * (random.bits() & 1) as u8,
                quirks: quirk::ECN,
                ..bare
            },
            Self::RandomWindowMss => Fingerprint {
                options: layout::MSS,
                mss: 500 + random.below(961) as u16,
                window: random.bits() as u16,
                ..bare
            },
            Self::RandomTtl => Fingerprint { ttl: 33 + random.below(223) as u8, ..bare },
            Self::FarBare => Fingerprint { ttl: 40 + random.below(20) as u8, ..bare },
            Self::Linux => linux,
            Self::FarLinux => Fingerprint { ttl: 40 + random.below(20) as u8, ..linux },
            Self::Mix => {
                let hops = 5 + random.below(20) as u8;
                Fingerprint { ip_id, ..system(hops, random) }
            }
            Self::Mimicking => {
                let population = population.expect("mimics copy clients of a population");
                Fingerprint { ip_id, ..population.draw(random).1.look }
            }
        }
    }
}

/// The SYN of Linux.
pub(crate) fn linux() -> Fingerprint {
    Fingerprint {
        options: LINUX,
        mss: 1460,
        window: 64240,
        quirks: quirk::DF,
        wscale: 7,
        ttl: 64,
        ..Default::default()
    }
}

/// The SYN of one of several systems, drawn, from this many hops away.
pub(crate) fn system(hops: u8, random: &mut Random) -> Fingerprint {
    let linux = linux();
    match random.below(10) {
        0..6 => Fingerprint { ttl: 64 - hops, ..linux },
        6..9 => {
            Fingerprint { options: WINDOWS, window: 65535, wscale: 8, ttl: 128 - hops, ..linux }
        }
        _ => Fingerprint { mss: 1400, window: 65535, wscale: 6, ttl: 64 - hops, ..linux },
    }
}
