//! Captures, written in every format.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::FrameEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::packets::{SECOND, Stamped};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    Little,
    Big,
}

impl Order {
    pub const BOTH: [Self; 2] = [Self::Little, Self::Big];

    pub fn u16(self, value: u16) -> [u8; 2] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    pub fn u32(self, value: u32) -> [u8; 4] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }
}

pub const ETHERNET: u16 = 1;

/// An IP packet behind the header of a link type.
pub fn on_link(link: u16, order: Order, packet: &[u8]) -> Vec<u8> {
    let v6 = packet[0] >> 4 == 6;
    let protocol: [u8; 2] = if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    // The number of FreeBSD for IPv6.
    let family = if v6 { 28 } else { 2 };
    let mut frame = match link {
        0 => order.u32(family).to_vec(),
        1 => vec![0; 12],
        12 | 14 | 101 | 228 | 229 => Vec::new(),
        108 => family.to_be_bytes().to_vec(),
        113 => vec![0; 14],
        276 => protocol.to_vec(),
        other => unreachable!("link type {other}"),
    };
    match link {
        1 | 113 => frame.extend_from_slice(&protocol),
        276 => frame.resize(20, 0),
        _ => {}
    }
    frame.extend_from_slice(packet);
    frame
}

/// Format of a pcap file.
#[derive(Clone, Copy, Debug)]
pub struct Pcap {
    pub order: Order,
    pub nanoseconds: bool,
    pub link: u16,
    /// Bytes captured of each packet at most.
    pub snap: usize,
}

pub const PCAP: Pcap =
    Pcap { order: Order::Little, nanoseconds: false, link: ETHERNET, snap: 262_144 };

impl Pcap {
    pub fn write(&self, packets: &[Stamped]) -> Vec<u8> {
        let order = self.order;
        let (magic, unit) = if self.nanoseconds { (0xa1b2_3c4d, 1) } else { (0xa1b2_c3d4, 1000) };
        let mut file = Vec::new();
        file.extend_from_slice(&order.u32(magic));
        file.extend_from_slice(&order.u16(2));
        file.extend_from_slice(&order.u16(4));
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&order.u32(self.snap as u32));
        file.extend_from_slice(&order.u32(self.link.into()));
        for (at, packet) in packets {
            let frame = on_link(self.link, order, packet);
            let captured = frame.len().min(self.snap);
            file.extend_from_slice(&order.u32((at / SECOND) as u32));
            file.extend_from_slice(&order.u32((at % SECOND / unit) as u32));
            file.extend_from_slice(&order.u32(captured as u32));
            file.extend_from_slice(&order.u32(frame.len() as u32));
            file.extend_from_slice(&frame[..captured]);
        }
        file
    }
}

/// A pcapng file that grows block by block.
#[derive(Clone, Debug)]
pub struct PcapNg {
    pub order: Order,
    pub bytes: Vec<u8>,
}

/// `if_tsresol` for nanoseconds, and for 2^-20 s.
pub const NANOSECONDS: u8 = 9;
pub const TWO_TO_MINUS_20: u8 = 0x80 | 20;

/// A timestamp in the unit of an `if_tsresol`.
pub fn in_units(resolution: Option<u8>, at: u64) -> u64 {
    let second = match resolution {
        None => 1_000_000,
        Some(NANOSECONDS) => SECOND,
        Some(TWO_TO_MINUS_20) => 1 << 20,
        Some(other) => unreachable!("resolution {other}"),
    };
    (u128::from(at) * second as u128 / u128::from(SECOND)) as u64
}

impl PcapNg {
    /// A file with its first section.
    pub fn new(order: Order) -> Self {
        let mut file = Self { order, bytes: Vec::new() };
        file.section();
        file
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        let length = self.order.u32(padded as u32 + 12);
        self.bytes.extend_from_slice(&self.order.u32(kind));
        self.bytes.extend_from_slice(&length);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend_from_slice(&length);
    }

    pub fn section(&mut self) {
        let mut body = self.order.u32(0x1a2b_3c4d).to_vec();
        body.extend_from_slice(&self.order.u16(1));
        body.extend_from_slice(&self.order.u16(0));
        body.extend_from_slice(&[0xff; 8]);
        self.block(0x0a0d_0d0a, &body);
    }

    pub fn interface(&mut self, link: u16, snap: u32, resolution: Option<u8>) {
        self.described("wlan0", link, snap, resolution);
    }

    /// An interface with this name, and timestamps in microseconds.
    pub fn named(&mut self, link: u16, name: &str) {
        self.described(name, link, 0, None);
    }

    fn described(&mut self, name: &str, link: u16, snap: u32, resolution: Option<u8>) {
        let mut body = self.order.u16(link).to_vec();
        body.extend_from_slice(&[0; 2]);
        body.extend_from_slice(&self.order.u32(snap));
        // A name before the option in question, mostly of a length that needs padding.
        body.extend_from_slice(&self.order.u16(2));
        body.extend_from_slice(&self.order.u16(name.len() as u16));
        body.extend_from_slice(name.as_bytes());
        body.resize(body.len().next_multiple_of(4), 0);
        if let Some(resolution) = resolution {
            body.extend_from_slice(&self.order.u16(9));
            body.extend_from_slice(&self.order.u16(1));
            body.extend_from_slice(&[resolution, 0, 0, 0]);
        }
        body.extend_from_slice(&[0; 4]);
        self.block(1, &body);
    }

    fn timed(&self, units: u64, frame: &[u8]) -> Vec<u8> {
        let mut body = self.order.u32((units >> 32) as u32).to_vec();
        body.extend_from_slice(&self.order.u32(units as u32));
        body.extend_from_slice(&self.order.u32(frame.len() as u32));
        body.extend_from_slice(&self.order.u32(frame.len() as u32));
        body.extend_from_slice(frame);
        body
    }

    pub fn enhanced(&mut self, interface: u32, units: u64, frame: &[u8]) {
        let mut body = self.order.u32(interface).to_vec();
        body.extend_from_slice(&self.timed(units, frame));
        // A comment.
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend_from_slice(&self.order.u16(1));
        body.extend_from_slice(&self.order.u16(4));
        body.extend_from_slice(b"seen\0\0\0\0");
        self.block(6, &body);
    }

    pub fn obsolete(&mut self, interface: u16, units: u64, frame: &[u8]) {
        let mut body = self.order.u16(interface).to_vec();
        body.extend_from_slice(&self.order.u16(u16::MAX));
        body.extend_from_slice(&self.timed(units, frame));
        self.block(2, &body);
    }

    pub fn simple(&mut self, frame: &[u8], snap: usize) {
        let mut body = self.order.u32(frame.len() as u32).to_vec();
        body.extend_from_slice(&frame[..frame.len().min(snap)]);
        self.block(3, &body);
    }
}

type Compressor = fn(&[u8]) -> Vec<u8>;

/// Compression of a capture that is read as it is.
pub const COMPRESSIONS: [Compressor; 3] = [gzip, zstd, lz4];

/// A frame that is passed over, as pzstd writes it, and a frame.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    [&skipped[..], &compress_to_vec(bytes, CompressionLevel::Fastest)].concat()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
