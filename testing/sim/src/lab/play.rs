//! Clients, floods and health checks at work.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use tcpguard_common::abi::Fingerprint;

use super::{Attempt, Lab, POLL_STEPS, STEP, Tally};
use crate::arrivals::{Arrivals, Stream};
use crate::kernel::{Fate, Key, Syn};
use crate::looks::{Shape, linux};
use crate::random::{Random, exp, mix};
use crate::traffic::{
    Broken, Clients, Flood, Frames, HealthCheck, HealthChecks, Persistence, Sources, Whom,
};

/// Times at which a client's ACK is retransmitted with its data, s after the one before.
const DATA_REPEATS: [f64; 3] = [1.0, 2.0, 4.0];
/// The longest life of a connection, s.
const LONGEST: f64 = 3600.0;
/// Time after which the kernel of a flooder or a checker reacts to a reply, s.
const REACTION: f64 = 0.01;
/// The first of the ports where nothing listens.
const CLOSED: u16 = 20_000;

/// Outcome that an attempt would have on a sound path to an idle host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Nature {
    Completes,
    Vanishes,
    Resets,
    /// Completes, but one packet is lost the first time.
    Loses(Broken),
}

/// A client that wants to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connecting {
    key: Key,
    to: usize,
    group: usize,
    client: IpAddr,
    print: Fingerprint,
    rtt: f64,
    /// Number of the attempt.
    attempt: u64,
    started: f64,
    nature: Nature,
    /// Number of SYNs that were sent before, in all connections of the attempt.
    repeat: usize,
    /// Number of ACKs that were sent before and got lost.
    acks: usize,
    /// True if the XDP program replied with its cookie.
    cookie: bool,
    /// Number of the client or attempt, and its provider, by which an outage selects it.
    who: u64,
    isp: usize,
}

/// Something that will happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Syn(Connecting),
    Ack(Connecting),
    Reset {
        to: usize,
        key: Key,
    },
    /// A health check or a flooder completes and closes.
    Check {
        to: usize,
        key: Key,
        client: IpAddr,
        cookie: bool,
    },
    /// A flood sends a SYN again.
    Repeat {
        wave: usize,
        syn: Syn,
    },
}

/// Clients of one kind.
#[derive(Clone)]
pub(super) struct Group {
    clients: Clients,
    stream: Stream,
    random: Random,
    /// Providers that an outage hits.
    cut: Vec<bool>,
}

impl Group {
    pub fn new(clients: Clients, seed: u64, index: usize) -> Self {
        let mut random = Random::stream(seed, 3 * index as u64);
        let stream = Stream::new(Random::new(random.bits()));
        let mut choice = Random::new(random.bits());
        let cut = match (&clients.outage, &clients.population) {
            (Some(outage), Some(population)) if outage.whom == Whom::Isps => {
                population.some_isps(outage.share, &mut choice)
            }
            _ => Vec::new(),
        };
        Self { clients, stream, random, cut }
    }

    /// The packets that are lost between the host and a client at `t`.
    fn broken(&self, client: &Connecting, t: f64) -> Option<Broken> {
        let outage = self.clients.outage.as_ref()?;
        let hit = t >= outage.from
            && t < outage.until
            && match outage.whom {
                Whom::Clients => Random::new(client.who).share() < outage.share,
                Whom::Isps => self.cut[client.isp],
                Whom::Isp(isp) => client.isp == isp,
            };
        hit.then_some(outage.what)
    }

    fn nature(&mut self) -> Nature {
        let natural = self.clients.natural;
        if natural == Default::default() {
            return Nature::Completes;
        }
        let share = self.random.share();
        let resets = natural.vanish + natural.reset;
        if share < natural.vanish {
            Nature::Vanishes
        } else if share < resets {
            Nature::Resets
        } else if share < resets + natural.loss {
            let packets = [Broken::Syn, Broken::SynAck, Broken::Ack];
            Nature::Loses(packets[self.random.below(3) as usize])
        } else {
            Nature::Completes
        }
    }
}

/// A flood and how far it has come.
#[derive(Clone)]
pub(super) struct Wave {
    flood: Flood,
    stream: Stream,
    random: Random,
}

impl Wave {
    pub fn new(flood: Flood, seed: u64, index: usize) -> Self {
        let mut random = Random::stream(seed, 3 * index as u64 + 1);
        let stream = Stream::new(Random::new(random.bits()));
        Self { flood, stream, random }
    }
}

/// Health checks and how far they have come.
#[derive(Clone)]
pub(super) struct Checker {
    checks: HealthChecks,
    stream: Stream,
    next: u32,
}

impl Checker {
    pub fn new(checks: HealthChecks, seed: u64, index: usize) -> Self {
        let stream = Stream::new(Random::stream(seed, 3 * index as u64 + 2));
        Self { checks, stream, next: 0 }
    }
}

impl Lab {
    /// One step, which ends at `t`.
    pub(super) fn play(&mut self, t: f64) {
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            let clients = &group.clients;
            if t < clients.from || t >= clients.until {
                continue;
            }
            let (arrivals, rate, since) = (clients.arrivals, clients.rate, t - clients.from);
            for _ in 0..group.stream.arrive(arrivals, rate, since, STEP) {
                self.connect(t, index);
            }
        }
        for index in 0..self.checkers.len() {
            let checker = &mut self.checkers[index];
            let rate = checker.checks.rate;
            for _ in 0..checker.stream.arrive(Arrivals::Even, rate, t, STEP) {
                self.check(t, index);
            }
        }
        for index in 0..self.waves.len() {
            let wave = &mut self.waves[index];
            let rate = wave.flood.rate_at(t);
            if rate > 0.0 {
                let count = wave.stream.arrive(Arrivals::Even, rate, t, STEP);
                self.strike(t, index, count);
            }
        }
        let due = self.events.take(self.step);
        for event in &due {
            self.handle(t, *event);
        }
        self.events.give_back(due);
    }

    fn connect(&mut self, t: f64, index: usize) {
        let key = self.key();
        let group = &mut self.groups[index];
        let attempt = self.attempted;
        self.attempted += 1;
        let (addr, print, rtt, who, isp) = if let Some(population) = &group.clients.population {
            let (number, client) = population.draw(&mut group.random);
            let look = Fingerprint { ip_id: group.random.bits() as u16, ..client.look };
            (client.addr, look, client.rtt, mix(self.seed) ^ number as u64, client.isp)
        } else {
            // 20,000 customers of one large network.
            let host = group.random.below(20_000) as u32;
            let look = Shape::Mix.draw(&mut group.random, None);
            let Range { start, end } = group.clients.rtt;
            let rtt = start + (end - start) * group.random.share();
            (Ipv4Addr::from_bits(0x6440_0000 + host).into(), look, rtt, attempt, 0)
        };
        let print = match group.clients.shape {
            Some(shape) => shape.draw(&mut group.random, self.population.as_deref()),
            None => print,
        };
        let clients = &group.clients;
        let lost = clients.lost > 0.0 && Random::new(!key).share() < clients.lost;
        let (to, client) = (clients.to, clients.behind.unwrap_or(addr));
        let nature = if lost { Nature::Vanishes } else { group.nature() };
        self.tally.attempts += u64::from(!matches!(nature, Nature::Vanishes | Nature::Resets));
        if let Some(attempts) = &mut self.attempts {
            attempts.push(Attempt { to, group: index, started: t, connected: None });
        }
        self.send(
            t,
            Connecting {
                key,
                to,
                group: index,
                client,
                print,
                rtt,
                attempt,
                started: t,
                nature,
                repeat: 0,
                acks: 0,
                cookie: false,
                who,
                isp,
            },
        );
    }

    fn handle(&mut self, t: f64, event: Event) {
        match event {
            Event::Syn(client) => self.send(t, client),
            Event::Ack(client) => self.acknowledge(t, client),
            Event::Reset { to, key } => self.kernel.reset(to, key),
            Event::Repeat { wave, syn } => self.hit(t, wave, &syn),
            Event::Check { to, key, client, cookie } => {
                if self.kernel.ack(to, key, client, cookie) {
                    self.tap.fin(to, 0);
                }
            }
        }
    }

    /// A client sends its SYN.
    fn send(&mut self, t: f64, client: Connecting) {
        let broken = self.groups[client.group].broken(&client, t);
        let first = client.repeat == 0;
        let loses = |what| broken == Some(what) || first && client.nature == Nature::Loses(what);
        let reset = Event::Reset { to: client.to, key: client.key };
        let mut answered = false;
        let mut cookie = false;
        if !loses(Broken::Syn) {
            let fate = self.submit(&client);
            let refused = broken == Some(Broken::Refused);
            if fate.is_answered() && refused {
                self.schedule(t + client.rtt / 2.0, reset);
            }
            answered = fate.is_answered() && !refused && !loses(Broken::SynAck);
            cookie = fate == Fate::Cookie;
        }
        match client.nature {
            Nature::Vanishes => {}
            Nature::Resets if answered => self.schedule(t + client.rtt, reset),
            _ if answered => {
                self.schedule(t + client.rtt, Event::Ack(Connecting { cookie, ..client }));
            }
            _ => self.try_again(t, client),
        }
    }

    /// A client waits for an answer to the SYN that it has sent at `t`, and gets none.
    fn try_again(&mut self, t: f64, client: Connecting) {
        let again = Connecting { repeat: client.repeat + 1, ..client };
        match self.groups[client.group].clients.persistence {
            Persistence::Repeats(times) => {
                if let Some(wait) = times.get(client.repeat) {
                    self.schedule(client.started + wait, Event::Syn(again));
                }
            }
            Persistence::Reconnects { after, times } => {
                if again.repeat < times {
                    let key = self.key();
                    self.schedule(t + after, Event::Syn(Connecting { key, ..again }));
                }
            }
        }
    }

    /// A client's SYN arrives at the host.
    fn submit(&mut self, client: &Connecting) -> Fate {
        let validated = u64::from(self.kernel.is_validated(client.client));
        let matched = self.kernel.matched(client.to);
        let fate = self.kernel.syn(&Syn {
            key: client.key,
            seq: client.key,
            to: client.to,
            client: client.client,
            print: client.print,
            returns: true,
        });
        let dropped = u64::from(fate == Fate::Dropped);
        self.tally.syns += 1;
        self.tally.dropped += dropped;
        self.tally.matched += self.kernel.matched(client.to) - matched;
        self.tally.validated_syns += validated;
        self.tally.validated_dropped += validated * dropped;
        fate
    }

    /// A client sends its third ACK.
    fn acknowledge(&mut self, t: f64, client: Connecting) {
        let group = &mut self.groups[client.group];
        let lost = client.acks == 0 && client.nature == Nature::Loses(Broken::Ack);
        if lost || group.broken(&client, t) == Some(Broken::Ack) {
            if let Some(wait) = DATA_REPEATS.get(client.acks) {
                let again = Connecting { acks: client.acks + 1, ..client };
                self.schedule(t + wait, Event::Ack(again));
            }
            return;
        }
        if !self.kernel.ack(client.to, client.key, client.client, client.cookie) {
            return;
        }
        if let Some(life) = group.clients.life {
            let life = (life * exp(group.random.normal())).min(LONGEST);
            let steps = (life / STEP) as u64 + self.step.saturating_sub(1) % POLL_STEPS;
            self.tap.fin(client.to, (steps / POLL_STEPS) as usize);
        }
        if client.started >= self.tallied {
            self.tally.connected += 1;
            self.tally.connected_1s += u64::from(t - client.started <= 1.0);
        }
        if let Some(attempts) = &mut self.attempts {
            attempts[client.attempt as usize].connected.get_or_insert(t);
        }
    }

    /// `count` SYNs of a flood.
    fn strike(&mut self, t: f64, index: usize, count: u64) {
        for _ in 0..count {
            self.keys += 1;
            let seq = self.keys;
            let wave = &mut self.waves[index];
            let flood = &wave.flood;
            let (client, print) = flood.draw(&mut wave.random, self.population.as_deref());
            if let Some(ports) = flood.closed {
                let port = CLOSED + wave.random.below(ports.into()) as u16;
                self.kernel.knock(client, port);
                continue;
            }
            let to = match flood.across {
                0 | 1 => flood.to,
                across => flood.to + wave.random.below(across as u64) as usize,
            };
            let key = match flood.sources {
                // It has no more ports than these.
                Sources::One(_) => (1 << 48) + ((index as u64) << 16) + (seq & 0xffff),
                _ => seq,
            };
            let frames = flood.frames;
            let returns = flood.repeated > 0.0 && Random::new(!seq).share() < flood.repeated;
            let syn = Syn { key, seq, to, client, print, returns };
            if frames != Frames::Whole {
                self.kernel.evade(&syn, frames);
                continue;
            }
            if returns {
                for wait in flood.again {
                    let again = Event::Repeat { wave: index, syn };
                    self.events.note(self.step, step_at(t + wait), again);
                }
            }
            self.hit(t, index, &syn);
        }
    }

    /// A SYN of a flood arrives at the host; its sender may react to the answer.
    fn hit(&mut self, t: f64, wave: usize, syn: &Syn) {
        let fate = self.kernel.syn(syn);
        if !fate.is_answered() {
            return;
        }
        let Syn { key, seq, to, client, .. } = *syn;
        let flood = &self.waves[wave].flood;
        if flood.completes > 0.0 && Random::new(seq).share() < flood.completes {
            let cookie = fate == Fate::Cookie;
            self.schedule(t + REACTION, Event::Check { to, key, client, cookie });
        } else if flood.resets {
            self.schedule(t + REACTION, Event::Reset { to, key });
        }
    }

    fn check(&mut self, t: f64, index: usize) {
        let key = self.key();
        let checker = &mut self.checkers[index];
        let HealthChecks { to, sources, kind, .. } = checker.checks;
        let client = Ipv4Addr::from_bits(0xc000_0201 + checker.next).into();
        checker.next = (checker.next + 1) % sources.max(1);
        let print = Fingerprint { ttl: 63, ip_id: key as u16, ..linux() };
        let fate = self.kernel.syn(&Syn { key, seq: key, to, client, print, returns: false });
        if !fate.is_answered() {
            return;
        }
        let cookie = fate == Fate::Cookie;
        match kind {
            HealthCheck::Vanish => {}
            HealthCheck::Reset => self.schedule(t + REACTION, Event::Reset { to, key }),
            HealthCheck::Fin => {
                self.schedule(t + REACTION, Event::Check { to, key, client, cookie })
            }
        }
    }

    fn schedule(&mut self, t: f64, event: Event) {
        self.events.note(self.step, step_at(t), event);
    }

    fn key(&mut self) -> Key {
        self.keys += 1;
        self.keys
    }

    /// The tally of the clients.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Counts only clients that begin from now on.
    pub fn clear_tally(&mut self) {
        self.tally = Tally::default();
        self.tallied = self.time() + STEP / 2.0;
    }
}

/// The first step that ends at `t` or later.
fn step_at(t: f64) -> u64 {
    (t / STEP - 1e-6).ceil() as u64
}
