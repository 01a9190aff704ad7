//! Packets of a made-up host and its clients, as a capture, for classes that only the real data path shows.

use std::net::{Ipv4Addr, SocketAddrV4};

use tcpguard_sim::Random;

/// Flags of TCP (RFC 9293 §3.1).
pub mod flag {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    /// Marks the acknowledgement number as valid.
    pub const ACK: u8 = 16;
}
use flag::{ACK, FIN, RST, SYN};

/// Address and port to which the clients connect.
pub const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80);

/// Time between a SYN and its answer, in s.
const TURN: f64 = 60e-6;
/// Times at which an unacknowledged SYN or SYN-ACK is retransmitted, in s after the first one (RFC 6298 §2.1).
const AGAIN: [f64; 3] = [1.0, 3.0, 7.0];
const CLIENTS: u64 = 4000;

#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    /// See [`flag`].
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    /// Time to live, as it arrives.
    pub ttl: u8,
    pub window: u16,
    /// Options; a multiple of four bytes.
    pub options: &'a [u8],
    pub data: u16,
}

impl Tcp<'_> {
    /// A segment without options and data.
    pub const fn new(from: SocketAddrV4, to: SocketAddrV4, flags: u8, seq: u32, ack: u32) -> Self {
        Self { from, to, flags, seq, ack, ttl: 64, window: 64_240, options: &[], data: 0 }
    }

    /// Its IPv4 packet. Checksums are zero, because no reader here computes them.
    fn packet(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let length = (20 + header) as u16 + self.data;
        let mut packet = vec![0x45, 0];
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0x40, 0, self.ttl, 6, 0, 0]);
        packet.extend_from_slice(&self.from.ip().octets());
        packet.extend_from_slice(&self.to.ip().octets());
        packet.extend_from_slice(&self.from.port().to_be_bytes());
        packet.extend_from_slice(&self.to.port().to_be_bytes());
        packet.extend_from_slice(&self.seq.to_be_bytes());
        packet.extend_from_slice(&self.ack.to_be_bytes());
        packet.extend_from_slice(&[(header * 4) as u8, self.flags]);
        packet.extend_from_slice(&self.window.to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(self.options);
        packet.resize(length.into(), 0);
        packet
    }
}

/// A client of the internet: always at the same address and distance, with the same system.
#[derive(Clone, Debug)]
pub struct Client {
    pub addr: Ipv4Addr,
    /// Time to it and back, in s: 5 to 300 ms, mostly short.
    pub rtt: f64,
    /// Time to live of its packets, as they arrive.
    pub ttl: u8,
    window: u16,
    options: Vec<u8>,
}

impl Client {
    /// The client with this number.
    pub fn number(number: u64) -> Self {
        let mut random = Random::new(number.wrapping_mul(0xd134_2543_de82_ef95));
        let addr = address(&mut random);
        let share = random.share();
        let hops = 4 + random.below(21) as u8;
        let mss = [1460_u16, 1460, 1460, 1452, 1440, 1400, 1380][random.below(7) as usize];
        let [high, low] = mss.to_be_bytes();
        let mut options = vec![2, 4, high, low];
        const TIMESTAMPS: [u8; 10] = [8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
        // Linux, Windows, macOS.
        let (start, window) = match random.below(10) {
            0..4 => {
                options.extend_from_slice(&[4, 2]);
                options.extend_from_slice(&TIMESTAMPS);
                options.extend_from_slice(&[1, 3, 3, 7]);
                (64, 64_240)
            }
            4..8 => {
                options.extend_from_slice(&[1, 3, 3, 8, 1, 1, 4, 2]);
                (128, 64_240)
            }
            _ => {
                options.extend_from_slice(&[1, 3, 3, 6, 1, 1]);
                options.extend_from_slice(&TIMESTAMPS);
                options.extend_from_slice(&[4, 2, 0, 0]);
                (64, 65_535)
            }
        };
        let rtt = 0.005 + 0.295 * share * share * share;
        Self { addr, rtt, ttl: start - hops, window, options }
    }
}

/// Some IPv4 unicast address, 1.0.0.0 to 223.255.255.255.
pub fn address(random: &mut Random) -> Ipv4Addr {
    let bits = random.bits();
    let [_, b, c, d] = (bits as u32).to_be_bytes();
    Ipv4Addr::new(1 + ((bits >> 32) % 223) as u8, b, c, d)
}

/// Packets that arrive at one host and leave it.
#[derive(Debug)]
pub struct Scene {
    /// Random numbers that the scene is drawn with.
    pub random: Random,
    packets: Vec<(u64, Vec<u8>)>,
}

impl Scene {
    /// Returns a scene without packets.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), packets: Vec::new() }
    }

    /// Adds a segment that arrives or leaves at this time, in s.
    pub fn put(&mut self, at: f64, segment: &Tcp<'_>) {
        self.packets.push(((at * 1e9) as u64, segment.packet()));
    }

    /// A port that a client's system would choose.
    pub fn ephemeral(&mut self) -> u16 {
        32_768 + self.random.below(28_000) as u16
    }

    /// Adds clients that connect, independently of each other, from `from` to `until` (s), `rate` a
    /// second. Three in two hundred fail as clients do: they vanish, reset, or get a reply to their
    /// retransmitted SYN only.
    pub fn clients(&mut self, from: f64, until: f64, rate: f64) {
        let mut at = from;
        loop {
            at += -(1.0 - self.random.share()).max(1e-12).ln() / rate;
            if at >= until {
                return;
            }
            let client = Client::number(self.random.below(CLIENTS));
            self.connect(at, &client);
        }
    }

    fn connect(&mut self, at: f64, client: &Client) {
        let from = SocketAddrV4::new(client.addr, self.ephemeral());
        let (seq, isn) = (self.random.bits() as u32, self.random.bits() as u32);
        let (next, ours) = (seq.wrapping_add(1), isn.wrapping_add(1));
        let Client { rtt, ttl, window, ref options, .. } = *client;
        let there = |flags, seq, ack| Tcp { ttl, ..Tcp::new(from, SERVER, flags, seq, ack) };
        let back = |flags, seq, ack| Tcp::new(SERVER, from, flags, seq, ack);
        let syn = Tcp { options, window, ..there(SYN, seq, 0) };
        let full = [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7];
        let answer = Tcp { options: &full, ..back(SYN | ACK, isn, next) };
        self.put(at, &syn);
        let mut at = at;
        match self.random.below(200) {
            0 => {
                self.put(at + TURN, &answer);
                for wait in AGAIN {
                    self.put(at + TURN + wait, &answer);
                }
                return;
            }
            1 => {
                self.put(at + TURN, &answer);
                return self.put(at + rtt, &there(RST, next, 0));
            }
            2 => {
                at += AGAIN[0];
                self.put(at, &syn);
            }
            _ => {}
        }
        self.put(at + TURN, &answer);
        // The third ACK, a request, its answer, and the end from both sides.
        let (asked, replied) = (next.wrapping_add(300), ours.wrapping_add(1200));
        let connected = at + rtt;
        self.put(connected, &there(ACK, next, ours));
        self.put(connected + 50e-6, &Tcp { data: 300, ..there(ACK, next, ours) });
        self.put(connected + 0.002, &Tcp { data: 1200, ..back(ACK, ours, asked) });
        self.put(connected + 0.06, &there(FIN | ACK, asked, replied));
        self.put(connected + 0.061, &back(FIN | ACK, replied, asked.wrapping_add(1)));
        self.put(connected + 0.12, &there(ACK, asked.wrapping_add(1), replied.wrapping_add(1)));
    }

    /// Returns the packets as a pcap file: nanoseconds, little-endian, raw IP (link type 101).
    pub fn capture(&self) -> Vec<u8> {
        /// Start of the capture, in s since 1970.
        const BEGIN: u64 = 1_700_000_000;
        let mut packets: Vec<&(u64, Vec<u8>)> = self.packets.iter().collect();
        packets.sort_by_key(|(at, _)| *at);
        let mut file = Vec::new();
        for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 101] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        for (at, packet) in packets {
            let seconds = (BEGIN + at / 1_000_000_000) as u32;
            let length = packet.len() as u32;
            for word in [seconds, (at % 1_000_000_000) as u32, length, length] {
                file.extend_from_slice(&word.to_le_bytes());
            }
            file.extend_from_slice(packet);
        }
        file
    }
}
