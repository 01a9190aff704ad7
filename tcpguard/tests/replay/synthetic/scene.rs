//! A server, its clients and the packets between them.

use std::net::{IpAddr, SocketAddr};

use super::stack::{AGAIN, AGAIN_IN_A_HURRY, AGAIN_SLOWLY, Family, Look, host};
use crate::packets::*;

/// Packets that a capture holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum View {
    Both,
    /// Packets that arrive at the server's host.
    Arriving,
    /// Packets that leave it.
    Leaving,
}

pub const FIN: u8 = 1;

/// Outcome of a connection attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The handshake is answered, goes on, and is closed.
    Completes,
    /// The handshake is answered and never heard of again: a client that left, or a spoofed SYN.
    Vanishes,
    /// The client resets the SYN-ACK at once.
    Resets,
    /// The SYN-ACKs are lost on the way; the client retransmits its SYN.
    Unreached,
    /// The same, for a client with a first timeout of 3 s.
    UnreachedSlowly,
    /// The handshake completes, and so often the server has retransmitted its SYN-ACK before it gets the third ACK.
    Hurried(usize),
    /// The server does not reply; the client retransmits its SYN, and gets a reply to the n-th retransmission.
    Unanswered(usize),
    /// The server ignores the third ACK (its accept queue is full) and retransmits the SYN-ACK so often.
    Ignored(usize),
}

#[derive(Clone, Debug)]
pub struct Attempt {
    pub at: u64,
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub look: Look,
    /// Time from the server to the client and back.
    pub rtt: u64,
    pub fate: Fate,
}

/// The traffic of one host.
#[derive(Clone)]
pub struct Scene {
    pub family: Family,
    pub server: SocketAddr,
    pub dice: Dice,
    /// Time at which the capture ends, in ns since 1970.
    pub until: u64,
    packets: Vec<(u64, View, Vec<u8>)>,
    /// Records of each packet.
    records: u64,
    /// Slots for half-open handshakes with a retransmitted SYN-ACK. The others get a SYN cookie.
    queue: usize,
}

impl Scene {
    /// A host with one listener, of which so many seconds are captured.
    pub fn new(seed: u64, family: Family, seconds: u64) -> Self {
        let server = match family {
            Family::V4 => SERVER,
            Family::V6 => "[2001:db8:5::1]:443",
        };
        Self {
            family,
            server: addr(server),
            dice: Dice(seed),
            until: BEGIN + seconds * SECOND,
            packets: Vec::new(),
            records: 1,
            queue: 1024,
        }
    }

    /// Another port of the server.
    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.ip(), port)
    }

    /// Another address on the server's side.
    pub fn neighbour(&self, number: u8) -> IpAddr {
        match self.server.ip() {
            IpAddr::V4(addr) => {
                let [a, b, c, _] = addr.octets();
                [a, b, c, number].into()
            }
            IpAddr::V6(addr) => {
                let mut segments = addr.segments();
                segments[7] = number.into();
                segments.into()
            }
        }
    }

    /// Adds a segment that arrives, if its time is within the capture.
    pub fn arrives(&mut self, at: u64, tcp: &Tcp<'_>) {
        self.put(at, View::Arriving, tcp);
    }

    /// Adds a segment that leaves, if its time is within the capture.
    pub fn leaves(&mut self, at: u64, tcp: &Tcp<'_>) {
        self.put(at, View::Leaving, tcp);
    }

    fn put(&mut self, at: u64, way: View, tcp: &Tcp<'_>) {
        if at < self.until {
            self.packets.push((at, way, tcp.packet()));
        }
    }

    /// The capture, as far as it can be seen from there.
    pub fn capture(&self, view: View) -> Vec<u8> {
        let seen = self.packets.iter().filter(|(_, way, _)| view == View::Both || *way == view);
        let packets = seen.map(|(at, _, packet)| (*at, packet.clone())).collect();
        super::super::files::PCAP.write(&in_order(packets))
    }

    /// Removes the packets that go this way to one in `share` clients, as if they were not captured.
    pub fn lose(&mut self, way: View, share: u8) {
        let port_at = if self.family == Family::V4 { 23 } else { 43 };
        self.packets.retain(|(_, its, packet)| *its != way || packet[port_at] % share != 0);
    }

    /// Removes the packets of the first `lost` ns of every `every` ns, in both directions, as if they were not
    /// captured.
    pub fn lose_bursts(&mut self, lost: u64, every: u64) {
        self.packets.retain(|(at, ..)| at % every >= lost);
    }

    /// Removes this share of all packets, drawn for each, as if they were not captured.
    pub fn lose_some(&mut self, share: f64) {
        let mut dice = Dice(self.dice.next());
        self.packets.retain(|_| dice.share() >= share);
    }

    /// Adds a copy of each packet `after` ns later, as captured at a mirror port that copies incoming and
    /// outgoing packets. `routed`: a router is between.
    pub fn mirror(&mut self, after: u64, routed: bool) {
        let ttl_at = if self.family == Family::V4 { 8 } else { 7 };
        let copy = |(at, way, packet): &(u64, View, Vec<u8>)| {
            let mut packet = packet.clone();
            packet[ttl_at] -= u8::from(routed);
            (at + after, *way, packet)
        };
        let copies: Vec<_> = self.packets.iter().map(copy).collect();
        self.packets.extend(copies);
        self.records += 1;
    }

    /// A SYN to a port where nothing listens, which the host refuses (RFC 9293 §3.10.7.1).
    pub fn refuse(&mut self, at: u64, client: SocketAddr, server: SocketAddr, look: &Look) {
        let seq = self.dice.next() as u32;
        let options = look.options(at);
        let syn = Tcp::new(client, server, SYN, seq, 0);
        self.arrives(at, &Tcp { options: &options, ttl: look.ttl, ..syn });
        let no = Tcp::new(server, client, RST | ACK, 0, seq.wrapping_add(1));
        self.leaves(at + 50_000, &no);
    }

    /// SYNs that can be seen from `view`, retransmissions included and each once.
    pub fn syns(&self, view: View) -> u64 {
        let flags_at = if self.family == Family::V4 { 33 } else { 53 };
        let is_syn = |packet: &[u8]| packet[flags_at] & (SYN | ACK | RST | FIN) == SYN;
        let seen = self.packets.iter().filter(|(_, way, _)| view == View::Both || *way == view);
        seen.filter(|(.., packet)| is_syn(packet)).count() as u64 / self.records
    }

    /// A port that a client's system would choose.
    pub fn ephemeral(&mut self) -> u16 {
        32_768 + self.dice.below(28_000) as u16
    }

    /// A connection from a client to a server on this side.
    pub fn connect(&mut self, attempt: &Attempt) {
        let Attempt { at, client, server, look, rtt, fate } = attempt;
        let (at, half, rtt) = (*at, rtt / 2, *rtt);
        let (seq, isn) = (self.dice.next() as u32, self.dice.next() as u32);
        let (next, ours) = (seq.wrapping_add(1), isn.wrapping_add(1));
        let ip_id = self.dice.next() as u16;
        let from_client = |flags, seq, ack| Tcp {
            ttl: look.ttl,
            window: 502,
            ip_id,
            ..Tcp::new(*client, *server, flags, seq, ack)
        };
        let syn = |scene: &mut Self, at| {
            let options = look.options(at);
            let syn = from_client(SYN, seq, 0);
            scene.arrives(at, &Tcp { options: &options, window: look.window, ..syn });
        };
        // A bare SYN gets an answer with nothing but an MSS.
        let full = [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7];
        let options: &[u8] = if look.options.is_empty() { &full[..4] } else { &full };
        let answer = Tcp { options, ..Tcp::new(*server, *client, SYN_ACK, isn, next) };
        let turn = 60_000;
        match fate {
            Fate::Completes => {
                syn(self, at);
                self.leaves(at + turn, &answer);
                self.talk(at + rtt, *client, *server, (next, ours), look.ttl);
            }
            Fate::Vanishes => {
                syn(self, at);
                self.leaves(at + turn, &answer);
                self.repeat_answer(at + turn, &answer, AGAIN.len());
            }
            Fate::Resets => {
                syn(self, at);
                self.leaves(at + turn, &answer);
                self.arrives(at + rtt, &Tcp { window: 0, ..from_client(RST, next, 0) });
            }
            Fate::Unreached | Fate::UnreachedSlowly => {
                let slowly = *fate == Fate::UnreachedSlowly;
                let again: &[u64] = if slowly { &AGAIN_SLOWLY } else { &AGAIN };
                // Each repetition is answered again, beside the server's own repetitions.
                for wait in std::iter::once(0).chain(again.iter().copied()) {
                    syn(self, at + wait);
                    self.leaves(at + wait + turn, &answer);
                }
            }
            Fate::Hurried(times) => {
                syn(self, at);
                self.leaves(at + turn, &answer);
                self.arrives(at + rtt, &from_client(ACK, next, ours));
                let mut last = 0;
                for wait in AGAIN_IN_A_HURRY.into_iter().take(*times) {
                    last = wait;
                    self.leaves(at + rtt + wait, &answer);
                    self.arrives(at + rtt + wait + MS, &from_client(ACK, next, ours));
                }
                self.talk(at + rtt + last + 2 * MS, *client, *server, (next, ours), look.ttl);
            }
            Fate::Unanswered(times) => {
                let waits = std::iter::once(0).chain(AGAIN).take(times + 1);
                let mut last = 0;
                for wait in waits {
                    syn(self, at + wait);
                    last = wait;
                }
                if *times < AGAIN.len() {
                    self.leaves(at + last + turn, &answer);
                    self.talk(at + last + rtt, *client, *server, (next, ours), look.ttl);
                }
            }
            Fate::Ignored(times) => {
                syn(self, at);
                self.leaves(at + turn, &answer);
                self.arrives(at + rtt, &from_client(ACK, next, ours));
                // The client believes that it is connected, and retransmits its request meanwhile.
                for wait in [0, 250 * MS, 750 * MS] {
                    let request = Tcp { data: 200, ..from_client(ACK, next, ours) };
                    self.arrives(at + rtt + half + wait, &request);
                }
                let mut last = at;
                for wait in AGAIN.into_iter().take(*times) {
                    last = at + wait;
                    self.leaves(last + turn, &answer);
                    self.arrives(last + rtt, &from_client(ACK, next, ours));
                }
                let request = Tcp { data: 200, ..from_client(ACK, next, ours) };
                self.arrives(last + rtt + half, &request);
                let reply = Tcp { data: 1200, ..Tcp::new(*server, *client, ACK, ours, next + 200) };
                self.leaves(last + rtt + half + turn, &reply);
            }
        }
    }

    /// The SYN-ACKs that the kernel retransmits while no third ACK arrives.
    pub fn repeat_answer(&mut self, first: u64, answer: &Tcp<'_>, times: usize) {
        let Some(left) = self.queue.checked_sub(1) else { return };
        self.queue = left;
        for wait in AGAIN.into_iter().take(times) {
            self.leaves(first + wait, answer);
        }
    }

    /// The third ACK, a request, its answer, and the end.
    fn talk(
        &mut self,
        at: u64,
        client: SocketAddr,
        server: SocketAddr,
        (next, ours): (u32, u32),
        ttl: u8,
    ) {
        let there = |flags, seq, ack| Tcp { ttl, ..Tcp::new(client, server, flags, seq, ack) };
        let back = |flags, seq, ack| Tcp::new(server, client, flags, seq, ack);
        let (asked, replied) = (next.wrapping_add(300), ours.wrapping_add(1200));
        self.arrives(at, &there(ACK, next, ours));
        self.arrives(at + 50_000, &Tcp { data: 300, ..there(ACK, next, ours) });
        self.leaves(at + 2 * MS, &Tcp { data: 1200, ..back(ACK, ours, asked) });
        self.arrives(at + 60 * MS, &there(FIN | ACK, asked, replied));
        self.leaves(at + 60 * MS + 60_000, &back(FIN | ACK, replied, asked.wrapping_add(1)));
        self.arrives(at + 120 * MS, &there(ACK, asked.wrapping_add(1), replied.wrapping_add(1)));
    }

    /// A client of the internet by number: always with the same address, fingerprint and round-trip time.
    pub fn client(&self, number: u64) -> (IpAddr, Look, u64) {
        let mut dice = Dice(number.wrapping_mul(0xd134_2543_de82_ef95));
        let share = dice.share();
        let rtt = 5 * MS + (295.0 * share * share * share) as u64 * MS;
        (host(self.family, dice.next()), Look::any(&mut dice), rtt)
    }

    /// Clients that connect from `from` to `until` (seconds), so many a second, of whom three in two
    /// hundred fail as clients do: they vanish, reset, or lose a packet.
    pub fn clients(&mut self, from: f64, until: f64, rate: f64) {
        let server = self.server;
        self.clients_of(from, until, rate, server, |_, _| None);
    }

    /// Clients for which `fate` may decide the outcome of an attempt, by time (s) and client
    /// number.
    pub fn clients_of(
        &mut self,
        from: f64,
        until: f64,
        rate: f64,
        server: SocketAddr,
        fate: impl Fn(f64, u64) -> Option<Fate>,
    ) {
        let mut t = from;
        loop {
            // Clients come independently of each other.
            t += -(1.0 - self.dice.share()).max(1e-12).ln() / rate;
            if t >= until {
                return;
            }
            let number = self.dice.below(4000);
            let (ip, look, rtt) = self.client(number);
            let common = match self.dice.below(200) {
                0 => Fate::Vanishes,
                1 => Fate::Resets,
                2 => Fate::Unanswered(1),
                _ => Fate::Completes,
            };
            let client = SocketAddr::new(ip, self.ephemeral());
            let at = BEGIN + (t * 1e9) as u64;
            let fate = fate(t, number).unwrap_or(common);
            self.connect(&Attempt { at, client, server, look, rtt, fate });
        }
    }
}
