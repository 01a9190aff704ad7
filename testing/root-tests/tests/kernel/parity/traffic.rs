//! Generated frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};
use tcpguard_kit::traffic::random::Random;

pub fn v4(a: u8, b: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, a, b).into()
}

fn v6(host: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, host / 4, 0, 0, 0, host).into()
}

/// Frames that a host with tcpguard sees, good and bad, over few enough addresses that they meet.
pub struct Traffic {
    random: Random,
    /// SYNs sent. A later ACK, RST or retransmission refers to one of them.
    sent: Vec<Segment>,
    /// SYN-ACKs that answered them.
    answered: Vec<(Segment, u32)>,
}

pub enum Frame {
    In(Vec<u8>),
    Out(Vec<u8>),
}

impl Traffic {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), sent: Vec::new(), answered: Vec::new() }
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.random.between(0, limit - 1)
    }

    fn ends(&mut self) -> (SocketAddr, SocketAddr) {
        let port = [80, 443, 443, 443, 8080][self.below(5) as usize];
        let source_port = 1024 + self.below(64) as u16;
        if self.below(3) == 0 {
            let client = v6(self.below(64) as u16);
            return (SocketAddr::new(client, source_port), SocketAddr::new(v6(200), port));
        }
        let client = if self.below(2) == 0 {
            IpAddr::V4(Ipv4Addr::new(203, 0, 113, self.below(128) as u8))
        } else {
            v4(7, self.below(200) as u8)
        };
        let server = v4(2, 1 + self.below(2) as u8);
        (SocketAddr::new(client, source_port), SocketAddr::new(server, port))
    }

    fn syn(&mut self) -> Segment {
        let (src, dst) = self.ends();
        let mut syn = Segment::new(src, dst, flags::SYN);
        syn.seq = self.random.bits() as u32;
        match self.below(4) {
            0 | 1 => {
                syn.window = 512;
                syn.ttl = 200 + self.below(40) as u8;
            }
            2 => {
                syn.window = 64_240;
                syn.dont_fragment = true;
                syn.options = linux_syn_options(1460, self.random.bits() as u32);
            }
            _ => {
                syn.window = self.below(65_536) as u16;
                syn.ip_id = self.below(65_536) as u16;
                syn.urgent = self.below(2) as u16;
                syn.ack = self.below(2) as u32;
                syn.options = (0..self.below(41)).map(|_| self.random.bits() as u8).collect();
                syn.payload = vec![0; self.below(20) as usize];
                syn.flags |=
                    [0, flags::ECE | flags::CWR, flags::PSH, flags::URG][self.below(4) as usize];
            }
        }
        if self.below(8) == 0 {
            syn.vlans = (0..self.below(4)).map(|_| (0x8100, 5)).collect();
        }
        self.sent.push(syn.clone());
        // Old SYNs no longer match new segments, and the flow table stays far from full.
        if self.sent.len() > 4000 {
            self.sent.drain(..2000);
            self.answered.clear();
        }
        syn
    }

    fn earlier_syn(&mut self) -> Segment {
        if self.sent.is_empty() {
            return self.syn();
        }
        let place = self.below(self.sent.len() as u64) as usize;
        self.sent[place].clone()
    }

    pub fn next(&mut self) -> Frame {
        match self.below(20) {
            0..6 => Frame::In(self.syn().to_frame()),
            6 | 7 => Frame::In(self.earlier_syn().to_frame()),
            8..11 => {
                let syn = self.earlier_syn();
                let mut reply = Segment::new(syn.dst, syn.src, flags::SYN | flags::ACK);
                reply.seq = self.random.bits() as u32;
                reply.ack = syn.seq.wrapping_add(1 + u32::from(self.below(8) == 0));
                self.answered.push((syn, reply.seq));
                Frame::Out(reply.to_frame())
            }
            11..14 if !self.answered.is_empty() => {
                let place = self.below(self.answered.len() as u64) as usize;
                let (syn, isn) = self.answered[place].clone();
                let kind =
                    [flags::ACK, flags::ACK | flags::PSH, flags::RST, flags::FIN | flags::ACK];
                let mut ack = Segment::new(syn.src, syn.dst, kind[self.below(4) as usize]);
                ack.seq = syn.seq.wrapping_add(1);
                ack.ack = isn.wrapping_add(1 + u32::from(self.below(6) == 0));
                Frame::In(ack.to_frame())
            }
            14 => {
                let (src, dst) = self.ends();
                match self.below(4) {
                    0 => {
                        let kinds = [flags::SYN | flags::ACK, flags::RST | flags::ACK];
                        let kind = kinds[self.below(2) as usize];
                        Frame::In(Segment::new(src, dst, kind).to_frame())
                    }
                    1 => Frame::Out(Segment::new(dst, src, flags::SYN).to_frame()),
                    _ => Frame::Out(Segment::new(dst, src, flags::RST | flags::ACK).to_frame()),
                }
            }
            15 => {
                let (src, dst) = self.ends();
                Frame::In(Segment::new(src, dst, self.random.bits() as u8).to_frame())
            }
            16 => {
                let mut frame = self.syn().to_frame();
                let keep = self.below(frame.len() as u64 + 1) as usize;
                frame.truncate(keep);
                Frame::In(frame)
            }
            17 if self.below(2) == 0 => Frame::In(self.first_fragment()),
            17 => Frame::In(self.with_extension_headers()),
            _ => {
                let mut frame = self.earlier_syn().to_frame();
                for _ in 0..1 + self.below(4) {
                    let place = self.below(frame.len() as u64) as usize;
                    frame[place] = self.random.bits() as u8;
                }
                if self.below(2) == 0 { Frame::In(frame) } else { Frame::Out(frame) }
            }
        }
    }

    /// An IPv4 fragment that begins with the TCP header, of any length.
    fn first_fragment(&mut self) -> Vec<u8> {
        let client = SocketAddr::new(v4(7, self.below(200) as u8), 3000);
        let mut syn = Segment::new(client, SocketAddr::new(v4(2, 1), 443), flags::SYN);
        syn.options = linux_syn_options(1460, 7);
        let mut frame = syn.to_frame();
        frame[20] |= 0x20;
        let length = 20 + self.below(frame.len() as u64 - 33) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame
    }

    fn with_extension_headers(&mut self) -> Vec<u8> {
        let client = SocketAddr::new(v6(self.below(64) as u16), 2000);
        let mut syn = Segment::new(client, SocketAddr::new(v6(200), 443), flags::SYN);
        syn.window = 512;
        let frame = syn.to_frame();
        let kinds = [0u8, 43, 44, 60, 59, 51];
        let mut headers = Vec::new();
        let chain: Vec<u8> =
            (0..self.below(11)).map(|_| kinds[self.below(kinds.len() as u64) as usize]).collect();
        for place in 0..chain.len() {
            let next = chain.get(place + 1).copied().unwrap_or(6);
            let length =
                if chain[place] == 44 { 0 } else { [0, 0, 1, 2, 30][self.below(5) as usize] };
            let mut header = vec![0; (usize::from(length) + 1) * 8];
            header[0] = next;
            header[1] = length;
            if chain[place] == 44 {
                header[3] = [0, 1, 8][self.below(3) as usize];
            }
            headers.extend(header);
        }
        let mut with = frame[..54].to_vec();
        with[20] = chain.first().copied().unwrap_or(6);
        let length = (headers.len() + frame.len() - 54) as u16;
        with[18..20].copy_from_slice(&length.to_be_bytes());
        with.extend(headers);
        with.extend(&frame[54..]);
        with
    }
}
