//! Captures of any length, made as they are read.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};
use tcpguard_kit::traffic::random::Random;

/// The traffic in a capture.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// 5,000 connections a second, each with a request and an answer in several segments.
    Benign,
    /// 19,000 SYNs a second from random sources, just below the rate from which flows are sampled, and
    /// their answers.
    Flood,
    /// Ten connections a second, one after another with each of so many servers, of which the handshakes are captured.
    Servers(u32),
}

impl Kind {
    /// The types of traffic of which packets are counted.
    pub const ALL: [Self; 2] = [Self::Benign, Self::Flood];

    /// Returns the type of traffic with this name.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "benign" => Ok(Self::Benign),
            "flood" => Ok(Self::Flood),
            _ => bail!("{name}: neither benign nor flood"),
        }
    }

    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Benign => "benign, 5,000 connections/s",
            Self::Flood => "flood, 19,000 SYN/s, all followed",
            Self::Servers(_) => "10 handshakes/s with servers in turn",
        }
    }
}

/// Packets of a connection, the client's first, and their data in bytes.
const TALK: [(bool, u8, usize); 12] = [
    (true, flags::SYN, 0),
    (false, flags::SYN | flags::ACK, 0),
    (true, flags::ACK, 0),
    (true, flags::ACK | flags::PSH, 300),
    (false, flags::ACK, 0),
    (false, flags::ACK, 1400),
    (false, flags::ACK, 1400),
    (true, flags::ACK, 0),
    (false, flags::ACK | flags::PSH, 700),
    (true, flags::ACK, 0),
    (true, flags::FIN | flags::ACK, 0),
    (false, flags::FIN | flags::ACK, 0),
];
/// Connections between two packets of one: with 5,000 a second a round trip takes 20 ms.
const LAG: u64 = 100;
/// Bytes captured of a packet, as by `tcpdump -s 128`.
const SNAP: usize = 128;
/// Seconds since 1970 at which captures begin.
const BEGIN: u64 = 1_700_000_000;

/// The first of several servers: a range for benchmarks (RFC 2544).
const SERVERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Offsets in the frames made here.
const SOURCE: usize = 26;
const DESTINATION: usize = 30;
const SOURCE_PORT: usize = 34;
const DESTINATION_PORT: usize = 36;
const SEQ: usize = 38;
const ACK: usize = 42;

/// A pcap file of so many packets.
pub struct Traffic {
    kind: Kind,
    templates: Vec<(bool, Vec<u8>, u32)>,
    number: u64,
    packets: u64,
    buffer: Vec<u8>,
    given: usize,
}

impl Traffic {
    pub fn new(kind: Kind, packets: u64) -> Self {
        let server = SocketAddr::new(Ipv4Addr::new(198, 51, 100, 1).into(), 443);
        let client = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 40_000);
        let template = |(asks, flags, data): (bool, u8, usize)| {
            let (from, to) = if asks { (client, server) } else { (server, client) };
            let mut segment = Segment::new(from, to, flags);
            segment.window = 502;
            if flags & flags::SYN != 0 && kind == Kind::Benign {
                segment.options = linux_syn_options(1460, 1);
            }
            segment.payload = vec![0; data];
            let mut frame = segment.to_frame();
            let length = frame.len() as u32;
            frame.truncate(SNAP);
            (asks, frame, length)
        };
        let talk: &[_] = match kind {
            Kind::Benign => &TALK,
            Kind::Flood => &TALK[..2],
            Kind::Servers(_) => &TALK[..3],
        };
        let templates = talk.iter().copied().map(template).collect();
        let mut buffer = Vec::new();
        // Microseconds, version 2.4, Ethernet.
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, SNAP as u32, 1] {
            buffer.extend_from_slice(&u32::to_le_bytes(word));
        }
        Self { kind, templates, number: 0, packets, buffer, given: 0 }
    }

    /// The next packet: number `n` is packet `n % length` of a connection, and each of those is of
    /// another one.
    fn packet(&mut self) {
        let length = self.templates.len() as u64;
        let (round, step) = (self.number / length, self.number % length);
        let lag = if self.kind == Kind::Benign { LAG } else { 0 };
        let connection = round.wrapping_sub(step * lag);
        let per_second = match self.kind {
            Kind::Benign => 5_000,
            Kind::Flood => 19_000,
            Kind::Servers(_) => 10,
        };
        let microseconds = self.number * 1_000_000 / (per_second * length);
        self.number += 1;
        if round < step * lag {
            return;
        }
        let mut bits = Random::new(connection);
        let (seq, isn) = (bits.bits() as u32, bits.bits() as u32);
        let (asks, frame, length) = &mut self.templates[step as usize];
        let (client, port) = match self.kind {
            Kind::Benign | Kind::Servers(_) => {
                (0x0a00_0000 + (connection % 50_000) as u32, 1024 + connection / 50_000)
            }
            Kind::Flood => (bits.bits() as u32, bits.bits()),
        };
        let (address_at, port_at, server_at) = match *asks {
            true => (SOURCE, SOURCE_PORT, DESTINATION),
            false => (DESTINATION, DESTINATION_PORT, SOURCE),
        };
        if let Kind::Servers(servers) = self.kind {
            let server = SERVERS.to_bits() + connection as u32 % servers;
            frame[server_at..server_at + 4].copy_from_slice(&server.to_be_bytes());
        }
        frame[address_at..address_at + 4].copy_from_slice(&client.to_be_bytes());
        frame[port_at..port_at + 2].copy_from_slice(&(port as u16).to_be_bytes());
        let spoken = u32::from(step > 0);
        let (from, to) = if *asks { (seq, isn) } else { (isn, seq) };
        let next = if step < 2 { from } else { from.wrapping_add(1) };
        frame[SEQ..SEQ + 4].copy_from_slice(&next.to_be_bytes());
        frame[ACK..ACK + 4].copy_from_slice(&(to.wrapping_add(1) * spoken).to_be_bytes());
        let record = [
            (BEGIN + microseconds / 1_000_000) as u32,
            (microseconds % 1_000_000) as u32,
            frame.len() as u32,
            *length,
        ];
        for word in record {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        self.buffer.extend_from_slice(frame);
    }
}

impl Read for Traffic {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.buffer.len() {
            self.buffer.clear();
            self.given = 0;
            while self.number < self.packets && self.buffer.len() < 1 << 16 {
                self.packet();
            }
        }
        let count = into.len().min(self.buffer.len() - self.given);
        into[..count].copy_from_slice(&self.buffer[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}
