//! SYNs that are never meant to complete.

use std::net::{IpAddr, SocketAddr};

use super::scene::Scene;
use super::stack::{self, Look, address};
use crate::packets::*;

/// Source addresses of SYNs.
#[derive(Clone, Copy, Debug)]
pub enum From {
    Random,
    One(IpAddr),
    /// This many scattered addresses.
    Pool(u64),
    /// One network of 256 addresses.
    Network,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// No options, window 512, one TTL.
    Bare,
    /// No options, window 0, ECE and CWR set, two TTLs: a real flood did.
    EcnCwr,
    /// MSS and window drawn for each.
    RandomWindow,
    /// No options, TTL drawn for each.
    RandomTtl,
    /// Fingerprint of Linux clients, at the distances of clients.
    Linux,
    /// Fingerprints of all kinds of clients, at the distances of clients.
    Mix,
    /// One tool on hosts at various distances.
    Tool,
}

#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Begin of the flood, in s; `until` is its end.
    pub from: f64,
    pub until: f64,
    /// SYNs a second while it is on.
    pub rate: f64,
    /// Durations of a pulse and of the pause after it, in s.
    pub pulses: Option<(f64, f64)>,
    pub sources: From,
    pub shape: Shape,
    /// True if the attacker's own kernel resets the replies.
    pub resets: bool,
    /// Share of its SYNs that the server answers.
    pub answered: f64,
    /// ACKs that follow each answered SYN, for numbers that the sender does not know.
    pub guesses: usize,
}

impl Flood {
    pub fn new(from: f64, until: f64, rate: f64, sources: From, shape: Shape) -> Self {
        let (resets, answered, guesses) = (false, 1.0, 0);
        Self { from, until, rate, pulses: None, sources, shape, resets, answered, guesses }
    }
}

impl Scene {
    pub fn flood(&mut self, flood: &Flood) {
        let mut number = 0_u64;
        loop {
            let t = flood.from + number as f64 / flood.rate;
            number += 1;
            if t >= flood.until {
                return;
            }
            if let Some((on, off)) = flood.pulses
                && (t - flood.from) % (on + off) >= on
            {
                continue;
            }
            self.spoofed(BEGIN + (t * 1e9) as u64, flood);
        }
    }

    fn spoofed(&mut self, at: u64, flood: &Flood) {
        let draw = self.dice.next();
        let (ip, host) = match flood.sources {
            From::Random => (address(self.family, draw), draw),
            From::One(ip) => (ip, 7),
            From::Pool(size) => {
                let host = Dice(draw % size).next();
                (stack::host(self.family, host), host)
            }
            From::Network => (self.within_one_network(draw as u8), draw & 0xff),
        };
        // Spoofed SYNs may have the fingerprints of many hosts; those of one host never do.
        let host = if matches!(flood.sources, From::Random) { self.dice.next() } else { host };
        let (look, flags) = self.drawn(host, flood.shape);
        let source = SocketAddr::new(ip, 1024 + self.dice.below(64_000) as u16);
        let (seq, isn) = (self.dice.next() as u32, self.dice.next() as u32);
        let ip_id = self.dice.next() as u16;
        let options = look.options(at);
        let syn = Tcp {
            options: &options,
            window: look.window,
            ttl: look.ttl,
            ip_id,
            ..Tcp::new(source, self.server, flags, seq, 0)
        };
        self.arrives(at, &syn);
        if self.dice.share() >= flood.answered {
            return;
        }
        let answer = Tcp {
            options: &[2, 4, 5, 180],
            ..Tcp::new(self.server, source, SYN_ACK, isn, seq.wrapping_add(1))
        };
        self.leaves(at + 60_000, &answer);
        // Of spoofed addresses one in forty belongs to a host that resets the SYN-ACK.
        let objects = match flood.sources {
            From::Random => self.dice.below(40) == 0,
            _ => flood.resets,
        };
        if objects {
            let reset = Tcp::new(source, self.server, RST, seq.wrapping_add(1), 0);
            let (_, _, rtt) = self.client(host);
            self.arrives(at + rtt, &Tcp { ttl: look.ttl, window: 0, ..reset });
        } else {
            self.repeat_answer(at + 60_000, &answer, stack::AGAIN.len());
        }
        for _ in 0..flood.guesses {
            let (next, guessed) = (seq.wrapping_add(1), self.dice.next() as u32);
            let ack = Tcp::new(source, self.server, ACK, next, guessed);
            self.arrives(at + 30 * MS, &Tcp { ttl: look.ttl, ..ack });
        }
    }

    /// An address of one IPv4 /24, or of one IPv6 /48 that holds as many /64.
    fn within_one_network(&self, host: u8) -> IpAddr {
        match stack::host(self.family, 0xbad) {
            IpAddr::V4(net) => {
                let [a, b, c, _] = net.octets();
                [a, b, c, host].into()
            }
            IpAddr::V6(net) => {
                let mut segments = net.segments();
                segments[3] = host.into();
                segments.into()
            }
        }
    }

    fn drawn(&mut self, host: u64, shape: Shape) -> (Look, u8) {
        let mut of_host = Dice(host);
        let hops = 4 + of_host.below(21) as u8;
        match shape {
            Shape::Bare => (Look::bare(244), SYN),
            Shape::EcnCwr => {
                let ttl = 242 + 2 * self.dice.below(2) as u8;
                (Look { window: 0, ..Look::bare(ttl) }, SYN | 0xc0)
            }
            Shape::RandomWindow => {
                let [high, low] = (500 + self.dice.below(961) as u16).to_be_bytes();
                let window = self.dice.next() as u16;
                (Look { options: vec![2, 4, high, low], window, ttl: 244 }, SYN)
            }
            Shape::RandomTtl => (Look::bare(33 + self.dice.below(223) as u8), SYN),
            Shape::Linux => (Look::linux(hops, 1460), SYN),
            Shape::Mix => (Look::any(&mut of_host), SYN),
            Shape::Tool => (Look::bare(64 - hops), SYN),
        }
    }
}
