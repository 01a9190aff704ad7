//! A real client made by hand: its SYN can have any fingerprint, also that of a flood.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::net::lab::{CLIENT_MAC, EDGE_MAC, Family, INTERFACE, Lab};
use crate::net::packet::{Segment, flags};
use crate::net::raw::PacketSocket;
use crate::traffic::server::{REQUEST, RESPONSE};

/// Times at which a Linux client sends its SYN: at once, and retransmitted after 1 s, 2 s more, 4 s more (RFC 6298 §2
/// and its back-off).
pub const SYN_TIMES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];

/// Outcome of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    /// Time from the first SYN to the response.
    pub took: Duration,
    /// SYNs sent, the first included.
    pub syns: u32,
}

/// A client behind the lab's client interface, at an address that no kernel owns.
#[derive(Clone, Copy, Debug)]
pub struct RawClient {
    /// IPv4 or IPv6.
    pub family: Family,
    /// The client's port; a new one for each connection.
    pub port: u16,
}

impl RawClient {
    /// The SYN of a [`crate::traffic::flood::Shape::Bare`] flood from this client.
    pub fn bare_syn(self) -> Segment {
        Segment { window: 512, seq: 0x1000_0000 + u32::from(self.port), ..self.segment(flags::SYN) }
    }

    /// Connects to the service with `syn`, sends a request and waits for the response. `None`
    /// when there is none within 10 s.
    pub fn connect(self, lab: &Lab, syn: &Segment) -> Result<Option<Connected>> {
        lab.client.run(|| self.converse(syn))
    }

    /// Sends a SYN, and acknowledges the SYN-ACK in a segment with a wrong checksum. Returns whether there was one.
    pub fn acknowledge_wrongly(self, lab: &Lab) -> Result<bool> {
        const PATIENCE: Duration = Duration::from_millis(200);
        lab.client.run(|| {
            let socket = PacketSocket::open(INTERFACE).context("the client's interface")?;
            socket.send(&self.bare_syn().to_frame())?;
            let Some(answer) = self.next_segment(&socket, PATIENCE)? else { return Ok(false) };
            let (seq, ack) = (answer.ack, answer.seq.wrapping_add(1));
            let mut frame = Segment { seq, ack, ..self.segment(flags::ACK) }.to_frame();
            // Of the header's last four bytes the first two.
            let checksum = frame.len() - 4;
            frame[checksum] ^= 0x55;
            socket.send(&frame)?;
            Ok(true)
        })
    }

    fn converse(self, syn: &Segment) -> Result<Option<Connected>> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let socket = PacketSocket::open(INTERFACE).context("the client's interface")?;
        let begun = Instant::now();
        let mut syns = 0;
        while begun.elapsed() < PATIENCE {
            let due = SYN_TIMES.get(syns as usize).copied().unwrap_or(PATIENCE);
            if begun.elapsed() >= due {
                socket.send(&syn.to_frame())?;
                syns += 1;
                continue;
            }
            let Some(answer) = self.next_segment(&socket, due.saturating_sub(begun.elapsed()))?
            else {
                continue;
            };
            if answer.flags & flags::RST != 0 {
                bail!("{} refused the connection", answer.src);
            }
            if answer.flags & (flags::SYN | flags::ACK) == flags::SYN | flags::ACK {
                // Again for each retransmitted SYN-ACK, as a kernel does: the first may have been lost.
                let (seq, ack) = (answer.ack, answer.seq.wrapping_add(1));
                let ack = Segment { seq, ack, window: 65_535, ..self.segment(flags::ACK) };
                let payload = REQUEST.to_vec();
                let request = Segment { flags: flags::ACK | flags::PSH, payload, ..ack.clone() };
                // As close together as any client's.
                socket.send_batch(&[ack.to_frame(), request.to_frame()])?;
            } else if answer.payload == RESPONSE {
                let took = begun.elapsed();
                let seq = answer.ack;
                socket.send(&Segment { seq, ..self.segment(flags::RST) }.to_frame())?;
                return Ok(Some(Connected { took, syns }));
            }
        }
        Ok(None)
    }

    /// The next segment for this client, or `None` when none came in time.
    fn next_segment(self, socket: &PacketSocket, wait: Duration) -> Result<Option<Segment>> {
        let mut buffer = [0; 2048];
        let until = Instant::now() + wait;
        loop {
            while let Some(length) = socket.try_receive(&mut buffer)? {
                if let Some(segment) = Segment::parse(&buffer[..length])
                    && segment.dst == self.addr()
                {
                    return Ok(Some(segment));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&left))?;
        }
    }

    fn addr(self) -> SocketAddr {
        SocketAddr::new(self.family.raw_client(), self.port)
    }

    fn segment(self, flags: u8) -> Segment {
        let mut segment = Segment::new(self.addr(), self.family.service(), flags);
        segment.src_mac = CLIENT_MAC;
        segment.dst_mac = EDGE_MAC;
        segment
    }
}
