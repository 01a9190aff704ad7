//! Who sends SYNs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use tcpguard_common::fastpath::{Fingerprint, layout, quirk};

/// SplitMix64: the same numbers again for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// Between 0 and 1.
    pub fn share(&mut self) -> f64 {
        self.bits() as f64 / u64::MAX as f64
    }
}

/// Real clients: they connect, answer, and try again at 1, 3 and 7 s.
#[derive(Clone, Debug)]
pub struct Clients {
    pub to: usize,
    pub from: f64,
    pub until: f64,
    /// Connects per second.
    pub rate: f64,
    /// Round-trip time, s.
    pub rtt: Range<f64>,
    /// Share of clients that vanish after their SYN.
    pub lost: f64,
    /// All from this address (carrier NAT) rather than from their own.
    pub behind: Option<IpAddr>,
    /// How they look; by default a mix of systems at various distances.
    pub shape: Option<Shape>,
    pub outage: Option<Outage>,
}

/// A time in which a share of the clients gets no answer.
#[derive(Clone, Debug)]
pub struct Outage {
    pub from: f64,
    pub until: f64,
    pub share: f64,
}

impl Clients {
    /// `rate` connects a second to the first listener, for ever, 10 to 60 ms away.
    pub fn steady(rate: f64) -> Self {
        Self {
            to: 0,
            from: 0.0,
            until: f64::INFINITY,
            rate,
            rtt: 0.01..0.06,
            lost: 0.0,
            behind: None,
            shape: None,
            outage: None,
        }
    }
}

/// SYNs that are never meant to complete.
#[derive(Clone, Debug)]
pub struct Flood {
    pub to: usize,
    pub from: f64,
    pub until: f64,
    /// SYNs per second while it is on.
    pub rate: f64,
    /// Times on and off, s.
    pub pulses: Option<(f64, f64)>,
    pub sources: Sources,
    pub shape: Shape,
    /// The flooder's own kernel resets the answers.
    pub resets: bool,
}

impl Flood {
    /// A crude flood from random IPv4 addresses at the first listener.
    pub fn random(rate: f64, time: Range<f64>) -> Self {
        Self {
            to: 0,
            from: time.start,
            until: time.end,
            rate,
            pulses: None,
            sources: Sources::Random,
            shape: Shape::Bare,
            resets: false,
        }
    }

    /// Whether it is on at `t`.
    pub fn is_on(&self, t: f64) -> bool {
        let on = self.pulses.is_none_or(|(on, off)| (t - self.from).rem_euclid(on + off) < on);
        t >= self.from && t < self.until && on
    }
}

/// Where SYNs claim to come from.
#[derive(Clone, Copy, Debug)]
pub enum Sources {
    /// Any global IPv4 address.
    Random,
    /// Any global IPv6 address.
    RandomV6,
    /// One address.
    One(IpAddr),
    /// Any address within one IPv6 /64.
    Within64,
    /// Some of this many addresses, scattered.
    Pool(u64),
    /// Any address of this many /24 networks.
    Networks(u64),
}

impl Sources {
    pub fn draw(self, random: &mut Random) -> IpAddr {
        let unicast = |bits: u64| {
            let first = 1 + (bits >> 24) % 223;
            Ipv4Addr::from_bits((first as u32) << 24 | bits as u32 & 0x00ff_ffff).into()
        };
        match self {
            Self::Random => unicast(random.bits()),
            Self::RandomV6 => {
                let bits = u128::from(random.bits()) << 64 | u128::from(random.bits());
                Ipv6Addr::from_bits(0x2 << 124 | bits >> 4).into()
            }
            Self::One(addr) => addr,
            Self::Within64 => {
                let prefix = 0x2001_0db8_0bad_0001_u128 << 64;
                Ipv6Addr::from_bits(prefix | u128::from(random.bits())).into()
            }
            Self::Networks(count) => {
                let network = 0xc612_0000 + ((random.below(count) as u32) << 8);
                Ipv4Addr::from_bits(network | random.below(256) as u32).into()
            }
            Self::Pool(size) => unicast(Random::new(random.below(size)).bits()),
        }
    }
}

/// What SYNs look like.
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
    /// As clients of several systems look, from various distances, but without a single option.
    FarBare,
    /// As Linux sends it, 8 hops away.
    Linux,
    /// As Linux sends it, from various distances.
    FarLinux,
    /// As clients of several systems at various distances.
    Mix,
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
    pub fn draw(self, random: &mut Random) -> Fingerprint {
        let ip_id = random.bits() as u16;
        let bare = Fingerprint { window: 512, ttl: 244, ip_id, wscale: 255, ..Default::default() };
        let linux = Fingerprint {
            options: LINUX,
            mss: 1460,
            window: 64240,
            ip_id,
            quirks: quirk::DF,
            wscale: 7,
            ttl: 56,
            ..Default::default()
        };
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
                match random.below(10) {
                    0..6 => Fingerprint { ttl: 64 - hops, ..linux },
                    6..9 => Fingerprint {
                        options: WINDOWS,
                        window: 65535,
                        wscale: 8,
                        ttl: 128 - hops,
                        ..linux
                    },
                    _ => {
                        Fingerprint { mss: 1400, window: 65535, wscale: 6, ttl: 64 - hops, ..linux }
                    }
                }
            }
        }
    }
}
