//! Sources of SYNs: clients, health checks and floods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use tcpguard_common::abi::Fingerprint;

use crate::arrivals::Arrivals;
use crate::looks::Shape;
use crate::population::Population;
use crate::random::Random;

/// Real clients: they connect, answer, and try again where they get no answer.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Index of the listener.
    pub to: usize,
    /// Time at which the first clients come, s.
    pub from: f64,
    /// Time at which the last clients come, s.
    pub until: f64,
    pub rate: f64,
    /// Distribution of the connects over time.
    pub arrivals: Arrivals,
    /// Round-trip time, s; of a population each client has its own. At most 4 s.
    pub rtt: Range<f64>,
    /// Share of clients that vanish after their SYN.
    pub lost: f64,
    /// Failures that occur at the best of times, beside `lost`.
    pub natural: Natural,
    /// All from this address (carrier NAT) rather than from their own.
    pub behind: Option<IpAddr>,
    /// Fingerprints of their SYNs; by default those of the population, or without one a mix of systems at various
    /// distances.
    pub shape: Option<Shape>,
    /// A time in which their path is broken.
    pub outage: Option<Outage>,
    /// Population that they are drawn from, each client as likely as the other. By default they are 20,000 customers of
    /// one network with a different fingerprint every time.
    pub population: Option<Arc<Population>>,
    /// Median life of their connections, s (log-normal, sigma 1, at most an hour); each ends with a
    /// FIN of the client. By default no end is seen.
    pub life: Option<f64>,
    /// Behaviour of the clients that get no reply.
    pub persistence: Persistence,
}

impl Clients {
    /// `rate` connects a second to the first listener, for ever, 10 to 60 ms away.
    pub fn steady(rate: f64) -> Self {
        Self {
            to: 0,
            from: 0.0,
            until: f64::INFINITY,
            rate,
            arrivals: Arrivals::Even,
            rtt: 0.01..0.06,
            lost: 0.0,
            natural: Natural::default(),
            behind: None,
            shape: None,
            outage: None,
            population: None,
            life: None,
            persistence: Persistence::default(),
        }
    }
}

/// Behaviour of a client that gets no reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Persistence {
    /// The client retransmits its SYN at these times, s after the first one. Successive times are at most 8 s apart.
    Repeats(&'static [f64]),
    /// Its application gives up and opens another connection, up to so many in all.
    Reconnects {
        /// The application's timeout, s.
        after: f64,
        /// Number of connections in all.
        times: usize,
    },
}

impl Persistence {
    /// A first timeout of 3 s, doubling (RFC 1122 §4.2.3.1): old and embedded systems.
    pub const SLOW: Self = Self::Repeats(&[3.0, 9.0]);
}

impl Default for Persistence {
    /// A first timeout of 1 s, doubling (RFC 6298 §2.1 and §5.5).
    fn default() -> Self {
        Self::Repeats(&[1.0, 3.0, 7.0])
    }
}

/// Shares of connection attempts that fail by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Natural {
    /// The client is gone before it is answered.
    pub vanish: f64,
    /// The client resets the handshake when it is answered.
    pub reset: f64,
    /// One of the three packets of the handshake is lost and retransmitted, a second later at the earliest.
    pub loss: f64,
}

impl Natural {
    /// 0.5 % each.
    pub fn normal() -> Self {
        Self { vanish: 0.005, reset: 0.005, loss: 0.005 }
    }
}

/// A time in which the path to some of the clients is broken.
#[derive(Clone, Debug)]
pub struct Outage {
    pub from: f64,
    pub until: f64,
    /// Share of the clients that it hits.
    pub share: f64,
    /// Clients that it hits.
    pub whom: Whom,
    /// Packets that are lost.
    pub what: Broken,
}

impl Outage {
    /// SYN-ACKs to this share of the clients are lost.
    pub fn of(time: Range<f64>, share: f64) -> Self {
        Self { from: time.start, until: time.end, share, whom: Whom::Clients, what: Broken::SynAck }
    }
}

/// Clients that an [`Outage`] hits. Providers are those of the clients' population.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whom {
    /// Clients here and there: always the same of a population, else by attempt.
    Clients,
    /// All clients of some providers, about the share of the outage.
    Isps,
    /// All clients of this provider, whatever the share; 0 is the largest.
    Isp(usize),
}

/// Packets of handshakes that an [`Outage`] loses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// The clients' SYNs: the host sees nothing.
    Syn,
    SynAck,
    /// The host's SYN-ACKs, which something on the way resets in the clients' names.
    Refused,
    /// The clients' ACKs: they believe that they are connected.
    Ack,
}

/// Something that looks again and again whether a listener answers.
#[derive(Clone, Copy, Debug)]
pub struct HealthChecks {
    /// Index of the listener.
    pub to: usize,
    /// Checks per second, evenly.
    pub rate: f64,
    /// Number of source addresses, 192.0.2.1 and so on.
    pub sources: u32,
    /// Reaction to a SYN-ACK.
    pub kind: HealthCheck,
}

/// Reaction of a health check to a SYN-ACK.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthCheck {
    Reset,
    Vanish,
    /// Completes the handshake and closes the connection.
    Fin,
}

/// SYNs that are never meant to complete.
#[derive(Clone, Debug)]
pub struct Flood {
    /// Index of the listener.
    pub to: usize,
    pub from: f64,
    pub until: f64,
    /// SYNs per second while it is on.
    pub rate: f64,
    /// Time in which it grows to that rate, s.
    pub ramp: Option<f64>,
    /// Times on and off, s.
    pub pulses: Option<(f64, f64)>,
    /// Source addresses of the SYNs.
    pub sources: Sources,
    /// Fingerprint of the SYNs.
    pub shape: Shape,
    /// The flooder's own kernel resets the answers.
    pub resets: bool,
    /// Share of the SYNs that are retransmitted.
    pub repeated: f64,
    /// Times at which these are retransmitted, s after the first time and at most 8.
    pub again: &'static [f64],
    /// Share of the SYNs with a handshake that is completed, which only real hosts can do.
    pub completes: f64,
    /// Number of listeners over which it is spread, from the named one on.
    pub across: usize,
    /// Number of ports at which nothing listens and to which it goes, rather than to a listener. These SYNs are not
    /// retransmitted.
    pub closed: Option<u16>,
    /// Frames of its SYNs. SYNs that the XDP program cannot parse are not retransmitted.
    pub frames: Frames,
}

/// Frames that SYNs arrive in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Frames {
    /// Frames that the XDP program can parse.
    #[default]
    Whole,
    /// Fragments, of which the first ends before the TCP flags.
    Fragments,
    /// Frames with more headers before the TCP header than the XDP program reads.
    Deep,
}

impl Flood {
    /// A fixed-fingerprint flood from random IPv4 addresses at the first listener.
    pub fn random(rate: f64, time: Range<f64>) -> Self {
        Self {
            to: 0,
            from: time.start,
            until: time.end,
            rate,
            ramp: None,
            pulses: None,
            sources: Sources::Random,
            shape: Shape::Bare,
            resets: false,
            repeated: 0.0,
            again: &[1.0],
            completes: 0.0,
            across: 1,
            closed: None,
            frames: Frames::Whole,
        }
    }

    /// Returns whether it is on at `t`.
    pub fn is_on(&self, t: f64) -> bool {
        let on = self.pulses.is_none_or(|(on, off)| (t - self.from).rem_euclid(on + off) < on);
        t >= self.from && t < self.until && on
    }

    /// SYNs a second at `t`.
    pub fn rate_at(&self, t: f64) -> f64 {
        if !self.is_on(t) {
            return 0.0;
        }
        let grown = self.ramp.map_or(1.0, |ramp| ((t - self.from) / ramp).min(1.0));
        self.rate * grown
    }

    /// One SYN of it: its source and its fingerprint.
    pub(crate) fn draw(
        &self,
        random: &mut Random,
        population: Option<&Population>,
    ) -> (IpAddr, Fingerprint) {
        let Sources::Bots(count) = self.sources else {
            let addr = self.sources.draw(random, population);
            return (addr, self.shape.draw(random, population));
        };
        let mut bot = Random::new(random.below(count));
        let addr = unicast(bot.bits());
        let look = self.shape.draw(&mut bot, population);
        (addr, Fingerprint { ip_id: random.bits() as u16, ..look })
    }
}

/// Source addresses of SYNs.
#[derive(Clone, Copy, Debug)]
pub enum Sources {
    /// Any IPv4 unicast address, 1.0.0.0 to 223.255.255.255.
    Random,
    /// Any of all 2^32 IPv4 addresses, those included that no host can have.
    Anywhere,
    /// Any global IPv6 address.
    RandomV6,
    One(IpAddr),
    /// Any address within one IPv6 /64.
    Within64,
    /// Any address within one IPv6 /48.
    Within48,
    /// Any address within this network.
    Within(IpNet),
    /// Some of this many addresses, scattered.
    Pool(u64),
    /// This many hosts, scattered, each always with the same fingerprint and at the same distance.
    Bots(u64),
    /// Any address of this many /24 networks.
    Networks(u64),
    /// The addresses of the population's clients.
    Clients,
}

impl Sources {
    fn draw(self, random: &mut Random, population: Option<&Population>) -> IpAddr {
        match self {
            Self::Random => unicast(random.bits()),
            Self::Anywhere => Ipv4Addr::from_bits(random.bits() as u32).into(),
            Self::RandomV6 => {
                let bits = u128::from(random.bits()) << 64 | u128::from(random.bits());
                Ipv6Addr::from_bits(0x2 << 124 | bits >> 4).into()
            }
            Self::One(addr) => addr,
            Self::Within64 => {
                let prefix = 0x2001_0db8_0bad_0001_u128 << 64;
                Ipv6Addr::from_bits(prefix | u128::from(random.bits())).into()
            }
            Self::Within48 => {
                let (subnet, host) = (u128::from(random.bits() as u16), random.bits());
                Ipv6Addr::from_bits(0x2001_0db8_0bad_u128 << 80 | subnet << 64 | u128::from(host))
                    .into()
            }
            Self::Within(IpNet::V4(net)) => {
                let host = random.bits() as u32 & net.hostmask().to_bits();
                Ipv4Addr::from_bits(net.network().to_bits() | host).into()
            }
            Self::Within(IpNet::V6(net)) => {
                let bits = u128::from(random.bits()) << 64 | u128::from(random.bits());
                let host = bits & net.hostmask().to_bits();
                Ipv6Addr::from_bits(net.network().to_bits() | host).into()
            }
            Self::Networks(count) => {
                let network = 0xc612_0000 + ((random.below(count) as u32) << 8);
                Ipv4Addr::from_bits(network | random.below(256) as u32).into()
            }
            Self::Pool(size) | Self::Bots(size) => unicast(Random::new(random.below(size)).bits()),
            Self::Clients => {
                let population = population.expect("clients' addresses are a population's");
                population.draw(random).1.addr
            }
        }
    }
}

fn unicast(bits: u64) -> IpAddr {
    let first = 1 + (bits >> 24) % 223;
    Ipv4Addr::from_bits((first as u32) << 24 | bits as u32 & 0x00ff_ffff).into()
}
