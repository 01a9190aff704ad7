//! IP packets, and the traffic that they make up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const SYN_ACK: u8 = SYN | ACK;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;
/// Time at which the captures begin, in ns since 1970.
pub const BEGIN: u64 = 1_700_000_000 * SECOND;

/// Time of capture, in ns since 1970, and the IP packet.
pub type Stamped = (u64, Vec<u8>);

pub const SERVER: &str = "198.51.100.1:80";

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A TCP segment in its IP packet.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub ttl: u8,
    pub window: u16,
    pub ip_id: u16,
    pub options: &'a [u8],
    pub data: usize,
}

/// Options of a Linux SYN: MSS 1460, SACK permitted, timestamps, no-operation, window scale 7.
pub const LINUX: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];

impl Tcp<'_> {
    pub fn new(from: SocketAddr, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Self {
        let (ttl, window) = (64, 0xfaf0);
        Self { from, to, seq, ack, flags, ttl, window, ip_id: 0, options: &[], data: 0 }
    }

    pub fn packet(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&self.from.port().to_be_bytes());
        tcp.extend_from_slice(&self.to.port().to_be_bytes());
        tcp.extend_from_slice(&self.seq.to_be_bytes());
        tcp.extend_from_slice(&self.ack.to_be_bytes());
        let words = 5 + self.options.len() / 4;
        tcp.extend_from_slice(&[(words << 4) as u8, self.flags]);
        tcp.extend_from_slice(&self.window.to_be_bytes());
        tcp.extend_from_slice(&[0; 4]);
        tcp.extend_from_slice(self.options);
        tcp.resize(tcp.len() + self.data, b'x');
        let mut packet = Vec::new();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                packet.extend_from_slice(&[0x45, 0]);
                packet.extend_from_slice(&(20 + tcp.len() as u16).to_be_bytes());
                packet.extend_from_slice(&self.ip_id.to_be_bytes());
                packet.extend_from_slice(&[0x40, 0, self.ttl, 6, 0, 0]);
                packet.extend_from_slice(&from.octets());
                packet.extend_from_slice(&to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                packet.extend_from_slice(&[0x60, 0, 0, 0]);
                packet.extend_from_slice(&(tcp.len() as u16).to_be_bytes());
                packet.extend_from_slice(&[6, self.ttl]);
                packet.extend_from_slice(&from.octets());
                packet.extend_from_slice(&to.octets());
            }
            _ => unreachable!("one family"),
        }
        packet.extend_from_slice(&tcp);
        packet
    }
}

/// An IP packet in another one that carries this protocol, behind its header.
pub fn tunnelled(protocol: u8, header: &[u8], packet: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + header.len() as u16 + packet.len() as u16).to_be_bytes();
    let outer = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    [&outer[..], &[192, 0, 2, 1, 192, 0, 2, 2], header, packet].concat()
}

/// The same as if it were encrypted (RFC 4303): a packet does not show that it is not.
pub fn in_esp((at, packet): &Stamped) -> Stamped {
    (*at, tunnelled(50, &[0, 0, 0, 1, 0, 0, 0, 1], packet))
}

/// A generator of numbers that are always the same (SplitMix64).
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns a number from 0 to 1.
    pub fn share(&mut self) -> f64 {
        self.next() as f64 / u64::MAX as f64
    }
}

/// The packets of a connection that a capture shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shows {
    Both,
    /// Packets that arrive at the server.
    Arriving,
}

/// A client that connects, sends a request and gets an answer, 20 ms away.
pub fn connection(at: u64, client: SocketAddr, server: SocketAddr, shows: Shows) -> Vec<Stamped> {
    let seq = u32::from(client.port()) << 8;
    let isn = seq ^ 0x5555_5555;
    let (next, ours) = (seq.wrapping_add(1), isn.wrapping_add(1));
    let syn = Tcp { options: &LINUX, ..Tcp::new(client, server, SYN, seq, 0) };
    let request = Tcp { data: 100, ..Tcp::new(client, server, ACK, next, ours) };
    let answer = Tcp { data: 1000, ..Tcp::new(server, client, ACK, ours, next + 100) };
    let all = [
        (at, syn),
        (at + MS / 10, Tcp { options: &LINUX, ..Tcp::new(server, client, SYN_ACK, isn, next) }),
        (at + 20 * MS, Tcp::new(client, server, ACK, next, ours)),
        (at + 20 * MS + 1000, request),
        (at + 21 * MS, answer),
    ];
    all.into_iter()
        .filter(|(_, tcp)| shows == Shows::Both || tcp.from == client)
        .map(|(at, tcp)| (at, tcp.packet()))
        .collect()
}

/// A client by number.
pub fn client(number: u32) -> SocketAddr {
    let host = Ipv4Addr::from(0x0a00_0000 + number / 50_000);
    SocketAddr::new(host.into(), 10_000 + (number % 50_000) as u16)
}

/// An IPv6 client by number.
pub fn client_v6(number: u16) -> SocketAddr {
    let host = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, 7);
    SocketAddr::new(host.into(), 10_000 + number)
}

/// SYNs of one fingerprint at an even pace, from the addresses that `source` makes, and the answers
/// of the server, if the capture shows them.
pub fn flood(
    from: u64,
    seconds: u64,
    per_second: u64,
    shows: Shows,
    source: impl FnMut(u64) -> Ipv4Addr,
) -> Vec<Stamped> {
    flood_of(&[], from, seconds, per_second, shows, source)
}

/// The same of SYNs with these options.
pub fn flood_of(
    options: &[u8],
    from: u64,
    seconds: u64,
    per_second: u64,
    shows: Shows,
    mut source: impl FnMut(u64) -> Ipv4Addr,
) -> Vec<Stamped> {
    let mut dice = Dice(from);
    let server = addr(SERVER);
    let mut packets = Vec::new();
    for number in 0..seconds * per_second {
        let at = from + number * SECOND / per_second;
        let port = 1024 + (dice.next() % 60_000) as u16;
        let bot = SocketAddr::new(source(dice.next()).into(), port);
        let seq = dice.next() as u32;
        let syn = Tcp { ttl: 242, options, ..Tcp::new(bot, server, SYN, seq, 0) };
        packets.push((at, syn.packet()));
        if shows == Shows::Both {
            let isn = dice.next() as u32;
            let answer = Tcp::new(server, bot, SYN_ACK, isn, seq.wrapping_add(1));
            packets.push((at + 1000, answer.packet()));
        }
    }
    packets
}

/// An address like the spoofed ones of a flood from random sources.
pub fn any_address(dice: u64) -> Ipv4Addr {
    Ipv4Addr::new(1 + (dice % 223) as u8, (dice >> 8) as u8, (dice >> 16) as u8, (dice >> 24) as u8)
}

/// Sorts packets by time, as a capture holds them.
pub fn in_order(mut packets: Vec<Stamped>) -> Vec<Stamped> {
    packets.sort_by_key(|(at, _)| *at);
    packets
}
