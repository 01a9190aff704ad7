//! Fields of a flood's SYNs: written one by one, or as a recipe for the generator.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use tcpguard_goals::seed;

use crate::net::lab::{ATTACKER_MAC, EDGE_MAC};
use crate::net::packet::{self, Mac, Segment, flags, linux_syn_options, mss_option};
use crate::traffic::likeness::{Likeness, option_at};
use crate::traffic::random::Random;
use crate::traffic::recipe::{self, FRAME_WORDS, Recipe};

/// Fields that the SYNs of a flood have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// No options, window 512, TTL 64: the SYNs of hping3 and of most bots.
    Bare,
    /// Like [`Shape::Bare`], but an MSS option, and MSS and window random.
    RandomWindowMss,
    /// Like [`Shape::Bare`], but with a random TTL from 33 on.
    RandomTtl,
    /// SYNs as a Linux host sends them, so that no signature distinguishes them from those of clients.
    Linux,
    /// Like [`Shape::Linux`], each in two fragments, which count as two SYNs. The first ends after the ports and
    /// the sequence number, which no stack makes. Over IPv4, one by one only.
    Fragments,
    /// Like [`Shape::Fragments`], but the first has the whole TCP header, and the second eight bytes of data.
    WholeFragments,
    /// No SYN: a segment with these flags and random numbers, of no connection. One by one only.
    OutOfState(u8),
    /// The SYN of a real client that was captured, with timestamps of many hosts and the TTLs of hosts at many
    /// distances (40 to 64, 100 to 128): nothing distinguishes it from that client.
    Copy(Likeness),
    /// One half [`Shape::Bare`], the other [`Shape::Copy`].
    BareAndCopies(Likeness),
}

/// Source addresses of a flood's SYNs.
#[derive(Clone, Copy, Debug)]
pub enum Sources {
    /// Another global unicast address each time, never one of the lab's.
    Random,
    /// One address; only the port changes.
    One(IpAddr),
    /// Any address of a network.
    Net(IpNet),
    /// One address and port: every SYN is of the same connection. One by one only.
    Socket(SocketAddr),
}

impl Shape {
    /// Returns the shapes of which it is made.
    fn parts(self) -> Vec<Self> {
        match self {
            Self::BareAndCopies(likeness) => vec![Self::Bare, Self::Copy(likeness)],
            one => vec![one],
        }
    }

    /// Bytes of the IP header's payload in the first of two fragments.
    fn cut(self) -> Option<usize> {
        match self {
            Self::Fragments => Some(8),
            Self::WholeFragments => Some(40),
            _ => None,
        }
    }

    /// Fields that vary in the generator's recipe.
    fn varies(self) -> u32 {
        match self {
            Self::Bare | Self::BareAndCopies(_) | Self::OutOfState(_) => 0,
            Self::Fragments | Self::WholeFragments => 0,
            Self::RandomWindowMss => recipe::VARY_WINDOW_MSS,
            Self::RandomTtl => recipe::VARY_TTL,
            Self::Linux => recipe::VARY_IP_ID,
            Self::Copy(_) => recipe::VARY_IP_ID | recipe::VARY_NATURAL_TTL,
        }
    }
}

/// Writes the SYNs of one flood.
pub(crate) struct Writer {
    segment: Segment,
    shapes: Vec<Shape>,
    sources: Sources,
    /// Destination ports, in turn.
    ports: Range<u16>,
    /// Network of the destination addresses; `None`: the target alone.
    across: Option<IpNet>,
    /// The remaining fragment of a SYN after its first fragment was written.
    rest: Vec<u8>,
    random: Random,
    written: usize,
}

impl Writer {
    pub(crate) fn new(target: SocketAddr, shape: Shape, sources: Sources) -> Self {
        let mut segment = Segment::new(target, target, flags::SYN);
        segment.src_mac = ATTACKER_MAC;
        segment.dst_mac = EDGE_MAC;
        // No two floods of a process are the same: the second's SYNs would be retransmissions.
        static WRITERS: AtomicU64 = AtomicU64::new(0);
        let random = draws_of(seed(), WRITERS.fetch_add(1, Ordering::Relaxed));
        let ports = target.port()..target.port() + 1;
        let (across, rest, written) = (None, Vec::new(), 0);
        Self { segment, shapes: shape.parts(), sources, ports, across, rest, random, written }
    }

    /// Sends the SYNs to the host with this Ethernet address.
    pub(crate) fn to(mut self, destination: Mac) -> Self {
        self.segment.dst_mac = destination;
        self
    }

    /// Spreads the SYNs over so many ports, from the target's on.
    pub(crate) fn over(mut self, ports: u16) -> Self {
        self.ports.end = self.ports.start + ports;
        self
    }

    /// Spreads the SYNs over the addresses of this network, if there is one.
    pub(crate) fn across(mut self, net: Option<IpNet>) -> Self {
        self.across = net;
        self
    }

    /// Writes the next SYN over `frame`, or the remaining fragment of the previous one.
    pub(crate) fn write(&mut self, frame: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            std::mem::swap(frame, &mut self.rest);
            self.rest.clear();
            return;
        }
        let (random, segment) = (&mut self.random, &mut self.segment);
        if let Some(net) = self.across {
            segment.dst.set_ip(random_of(net, random));
        }
        segment.dst.set_port(self.ports.start + (self.written % self.ports.len()) as u16);
        let source = match (self.sources, segment.dst.ip()) {
            (Sources::One(source), _) => source,
            (Sources::Socket(source), _) => source.ip(),
            (Sources::Net(net), _) => random_of(net, random),
            (Sources::Random, IpAddr::V4(_)) => random_v4(random).into(),
            (Sources::Random, IpAddr::V6(_)) => random_v6(random).into(),
        };
        let bits = random.bits();
        let port = match self.sources {
            Sources::Socket(source) => source.port(),
            _ => 1024 | bits as u16,
        };
        segment.src = SocketAddr::new(source, port);
        segment.seq = (bits >> 16) as u32;
        let bits = random.bits();
        (segment.window, segment.ttl, segment.ip_id, segment.dont_fragment) = (512, 64, 0, false);
        segment.options.clear();
        let shape = self.shapes[self.written % self.shapes.len()];
        match shape {
            Shape::Bare | Shape::BareAndCopies(_) => {}
            Shape::OutOfState(flags) => (segment.flags, segment.ack) = (flags, bits as u32),
            Shape::RandomWindowMss => {
                segment.window = bits as u16;
                segment.options = mss_option(536 + (bits >> 16) as u16 % 925);
            }
            Shape::RandomTtl => segment.ttl = 33 + (bits % 223) as u8,
            Shape::Linux | Shape::Fragments | Shape::WholeFragments => {
                (segment.window, segment.dont_fragment) = (64_240, true);
                segment.ip_id = bits as u16;
                segment.options = linux_syn_options(1460, (bits >> 16) as u32);
                let data = if shape == Shape::WholeFragments { 8 } else { 0 };
                segment.payload.resize(data, 0);
            }
            Shape::Copy(likeness) => {
                segment.window = likeness.window;
                segment.dont_fragment = likeness.dont_fragment;
                segment.ip_id = bits as u16;
                segment.options = likeness.options_at((bits >> 16) as u32);
                segment.ttl = natural_ttl(random);
            }
        }
        self.written += 1;
        segment.write_frame(frame);
        if let Some(at) = shape.cut() {
            cut(frame, at, &mut self.rest);
        }
    }
}

/// Leaves the first fragment of an IPv4 packet in `frame`, with so many bytes behind the IP header, and puts the
/// second into `rest`. "Don't fragment" stays as it is: Linux puts them together all the same.
fn cut(frame: &mut Vec<u8>, at: usize, rest: &mut Vec<u8>) {
    const MORE: u16 = 0x2000;
    let (ip, data) = (14..34, 34);
    rest.extend_from_slice(&frame[..data]);
    rest.extend_from_slice(&frame[data + at..]);
    frame.truncate(data + at);
    for (fragment, bits) in [(frame, MORE), (rest, at as u16 / 8)] {
        let length = (fragment.len() - ip.start) as u16;
        let flags = u16::from_be_bytes([fragment[20], fragment[21]]) | bits;
        fragment[16..18].copy_from_slice(&length.to_be_bytes());
        fragment[20..22].copy_from_slice(&flags.to_be_bytes());
        fragment[24..26].fill(0);
        let checksum = packet::fold(packet::sum(&fragment[ip.clone()]));
        fragment[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Random numbers of the `number`th flood of a run: different for each flood, and the same again for the same
/// seed.
fn draws_of(seed: u64, number: u64) -> Random {
    Random::new(Random::new(seed).bits().wrapping_add(number))
}

/// The recipes by which the generator makes the same SYNs, to be used in turn. `distinct`: see
/// [`crate::traffic::flood::Flood::distinct`].
///
/// # Errors
/// When a frame is too long, or has a field at an odd offset that must vary.
pub(crate) fn recipes(
    target: SocketAddr,
    shape: Shape,
    sources: Sources,
    distinct: Option<u32>,
) -> Result<Vec<Recipe>> {
    let recipe = |part: Shape| {
        let mut frame = Vec::new();
        ensure!(!matches!(part, Shape::OutOfState(_)), "the generator makes SYNs only");
        ensure!(part.cut().is_none(), "the generator makes whole SYNs only");
        ensure!(!matches!(sources, Sources::Socket(_)), "the generator varies the port");
        let mut writer = Writer::new(target, part, sources);
        writer.write(&mut frame);
        let (sequence, distinct) = match distinct {
            None => (recipe::VARY_SEQUENCE, u64::MAX),
            Some(bits) => (0, (1 << bits) - 1),
        };
        let recipe = write_recipe(frame, part.varies() | sequence, sources)?;
        Ok(Recipe { seed: writer.random.bits(), distinct, ..recipe })
    };
    shape.parts().into_iter().map(recipe).collect()
}

fn write_recipe(mut frame: Vec<u8>, vary: u32, sources: Sources) -> Result<Recipe> {
    let length = frame.len();
    let ipv6 = frame[12..14] == [0x86, 0xdd];
    let tcp = 14 + if ipv6 { 40 } else { 20 };
    let destination = if ipv6 { 38..54 } else { 30..34 };
    let in_frame = |kind| option_at(&frame[tcp + 20..], kind).map_or(0, |at| tcp + 20 + at + 2);
    let (mss_at, timestamp_at) = (in_frame(2), in_frame(8));
    ensure!(
        length <= 8 * FRAME_WORDS && (length | mss_at | timestamp_at).is_multiple_of(2),
        "the generator cannot make SYNs from {frame:02x?}"
    );
    let ttl = u32::from(frame[if ipv6 { 21 } else { 22 }]);
    let mut varying = vec![tcp..tcp + 2, tcp + 16..tcp + 18];
    if vary & recipe::VARY_SEQUENCE != 0 {
        varying.push(tcp + 4..tcp + 8);
    }
    varying.push(if ipv6 { 22..38 } else { 26..30 });
    if !ipv6 {
        varying.push(24..26);
    }
    if vary & recipe::VARY_IP_ID != 0 && !ipv6 {
        varying.push(18..20);
    }
    if timestamp_at != 0 {
        varying.push(timestamp_at..timestamp_at + 4);
    }
    if vary & recipe::VARY_WINDOW_MSS != 0 {
        varying.push(tcp + 14..tcp + 16);
        varying.extend((mss_at != 0).then_some(mss_at..mss_at + 2));
    }
    varying.into_iter().for_each(|bytes| frame[bytes].fill(0));
    // The TTL's word is added by the generator, whether it varies or not.
    let ip_sum = if ipv6 { 0 } else { sum(&frame[14..22]) + sum(&frame[24..34]) };
    let pseudo_header = sum(&frame[destination]) + sum(&[0, 6]) + sum_of((length - tcp) as u16);
    let tcp_sum = pseudo_header + sum(&frame[tcp..]);
    frame.resize(8 * FRAME_WORDS, 0);
    let mut made = Recipe {
        length: length as u32,
        ipv6: ipv6.into(),
        ip_sum,
        tcp_sum,
        vary,
        ttl,
        ..Recipe::NONE
    };
    (made.mss_at, made.timestamp_at) = (mss_at as u32, timestamp_at as u32);
    for (word, bytes) in made.frame.iter_mut().zip(frame.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into()?);
    }
    let (source, drawn) = match (sources, ipv6) {
        (Sources::One(source), _) => (octets(source), vec![0; 16]),
        (Sources::Socket(source), _) => (octets(source.ip()), vec![0; 16]),
        (Sources::Net(net), _) => (octets(net.network()), octets(net.hostmask())),
        (Sources::Random, true) => {
            let host: IpAddr = Ipv6Addr::from(u128::MAX >> 3).into();
            (octets(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0).into()), octets(host))
        }
        (Sources::Random, false) => {
            made.vary |= recipe::UNICAST;
            (vec![0; 4], vec![0xff; 4])
        }
    };
    let words = |bytes: &[u8]| {
        let mut words = [0; 8];
        let pairs = bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
        words.iter_mut().zip(pairs).for_each(|(word, pair)| *word = pair);
        words
    };
    (made.source, made.source_drawn) = (words(&source), words(&drawn));
    Ok(made)
}

/// Sum of 16-bit words as they lie in memory: a checksum does not mind, as long as all are taken so.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum()
}

fn sum_of(number: u16) -> u32 {
    u32::from(number.to_be())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A TTL as a packet arrives with it: hosts begin at 64 or 128, few are more than 28 routers away.
fn natural_ttl(random: &mut Random) -> u8 {
    let first: [u64; 2] = if random.bits() & 1 == 0 { [40, 64] } else { [100, 128] };
    random.between(first[0], first[1]) as u8
}

fn random_of(net: IpNet, random: &mut Random) -> IpAddr {
    match net {
        IpNet::V4(v4) => {
            let host = random.bits() as u32 & u32::from(v4.hostmask());
            Ipv4Addr::from(u32::from(v4.network()) | host).into()
        }
        IpNet::V6(v6) => {
            let bits = u128::from(random.bits()) << 64 | u128::from(random.bits());
            let host = bits & u128::from(v6.hostmask());
            Ipv6Addr::from(u128::from(v6.network()) | host).into()
        }
    }
}

/// A unicast address that Linux accepts as a source and that no lab uses.
fn random_v4(random: &mut Random) -> Ipv4Addr {
    loop {
        let octets = (random.bits() as u32).to_be_bytes();
        if !matches!(octets[0], 0 | 10 | 127 | 224..) {
            return octets.into();
        }
    }
}

/// An address of the global unicast space, 2000::/3.
fn random_v6(random: &mut Random) -> Ipv6Addr {
    let mut octets = (u128::from(random.bits()) << 64 | u128::from(random.bits())).to_be_bytes();
    octets[0] = 0x20 | octets[0] & 0x1f;
    octets.into()
}
