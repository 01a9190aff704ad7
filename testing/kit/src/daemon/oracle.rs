//! The kernel's own decision on which SYNs it accepts.
//!
//! A host with a listener and the programs, and a cable that carries arbitrary frames to it. With
//! `tcp_syncookies=2` the host replies to every SYN that it accepts and stores none, so a hundred thousand
//! may follow each other. No bridge lies between: it would take VLAN tags out of frames.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use tcpguard::bpf::XdpMode;

use crate::daemon::armed::{Armed, listen};
use crate::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, PORT, connect, in_words};
use crate::net::netns::Netns;
use crate::net::packet::{Mac, Segment, flags};
use crate::net::raw::{MAX_BATCH, PacketSocket};

/// No answer takes longer: they leave while the SYN is being sent.
const QUIET: Duration = Duration::from_millis(50);
/// Answers that may wait to be looked at, in bytes of the kernel's memory.
const WAITING: i32 = 64 << 20;

/// The host, its programs and the end of its cable.
pub struct Oracle {
    /// The programs on the host.
    pub armed: Armed,
    host: Netns,
    _outside: Netns,
    _listener: TcpListener,
    sender: PacketSocket,
    receiver: PacketSocket,
}

impl Oracle {
    /// Ethernet addresses of the host and of the sender, in the order of a frame.
    pub const MACS: [Mac; 2] = [EDGE_MAC, ATTACKER_MAC];

    /// Makes it.
    ///
    /// # Errors
    /// Without root, iproute2 or ethtool.
    pub fn new() -> Result<Self> {
        let (outside, host) = (Netns::new("outside")?, Netns::new("host")?);
        outside.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        for each in ["all", "default"] {
            host.sysctl(&format!("net.ipv4.conf.{each}.rp_filter"), "0")?;
        }
        connect(&outside, INTERFACE, &host, EDGE_MAC, None)?;
        let gateway = in_words(ATTACKER_MAC);
        host.ip(&[
            &format!("address add {}/24 dev {INTERFACE}", Family::V4.edge()),
            &format!("address add {}/64 dev {INTERFACE} nodad", Family::V6.edge()),
            &format!("neighbour add 10.77.0.254 lladdr {gateway} dev {INTERFACE}"),
            &format!("neighbour add fd77::fe lladdr {gateway} dev {INTERFACE}"),
            "route add default via 10.77.0.254",
            "route add default via fd77::fe",
        ])?;
        let listener = listen(&host);
        let armed = Armed::on(&host, XdpMode::Native)?;
        let (sender, receiver) = outside
            .run(|| Ok((PacketSocket::send_only(INTERFACE)?, PacketSocket::open(INTERFACE)?)))?;
        receiver.hold(WAITING)?;
        Ok(Self { armed, host, _outside: outside, _listener: listener, sender, receiver })
    }

    /// Sets the host's `net.ipv4.tcp_syncookies`.
    pub fn set_cookies(&self, value: u8) -> Result<()> {
        self.host.sysctl("net.ipv4.tcp_syncookies", &value.to_string())
    }

    /// Sends `frames`, and returns the addresses and ports to which the host sent a SYN-ACK.
    pub fn ask(&self, frames: &[Vec<u8>]) -> Result<BTreeSet<(IpAddr, u16)>> {
        let mut answered = BTreeSet::new();
        for batch in frames.chunks(MAX_BATCH) {
            let mut rest = batch;
            while !rest.is_empty() {
                rest = &rest[self.sender.send_batch(rest)?..];
            }
            self.collect(&mut answered)?;
        }
        let mut last = Instant::now();
        while last.elapsed() < QUIET {
            if self.collect(&mut answered)? {
                last = Instant::now();
            }
            sleep(Duration::from_millis(1));
        }
        Ok(answered)
    }

    /// Takes the replies that have arrived, and returns whether there were any frames.
    fn collect(&self, answered: &mut BTreeSet<(IpAddr, u16)>) -> Result<bool> {
        let mut buffer = [0; 2048];
        let mut any = false;
        while let Some(length) = self.receiver.try_receive(&mut buffer)? {
            any = true;
            let both = flags::SYN | flags::ACK;
            if let Some(reply) = Segment::parse(&buffer[..length])
                && reply.flags & both == both
                && reply.src.port() == PORT
            {
                answered.insert((reply.dst.ip(), reply.dst.port()));
            }
        }
        Ok(any)
    }
}
