//! SYNs at a steady, low rate to a port without a listener, in pairs: one from a source that a rule is to
//! drop, one from a source that no rule matches. A SYN that gets in is answered with a reset, and the resets
//! arrive at the sender of the SYNs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab};
use crate::net::packet::{Segment, flags};
use crate::net::raw::PacketSocket;

/// Network of the sources that a rule is to drop.
pub const DROPPED: &str = "198.51.100.0/24";
/// A port at which nothing listens. So there is no flood, and no rule of the agent's own.
const CLOSED: u16 = 9;
/// Interval between pairs: a gap of some milliseconds is seen.
const STEP: Duration = Duration::from_millis(1);
/// Time within which the last replies arrive.
const LAST: Duration = Duration::from_millis(200);

/// Pairs that are being sent. It ends when dropped.
#[derive(Debug)]
pub struct Trickle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Pairs>>>,
}

/// Outcome of the pairs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pairs {
    /// Number of pairs that were sent.
    pub sent: u64,
    /// SYNs that were to be dropped and were answered.
    pub let_in: u64,
    /// SYNs of the others that were answered.
    pub answered: u64,
}

impl Trickle {
    /// Sends a pair each millisecond from the attacker's host.
    pub fn start(lab: &Lab) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (sender, receiver) = lab
            .attacker
            .run(|| Ok((PacketSocket::send_only(INTERFACE)?, PacketSocket::open(INTERFACE)?)))?;
        let thread =
            lab.attacker.spawn("trickle", move || send_pairs(&sender, &receiver, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the SYNs and returns the outcome of all pairs.
    pub fn finish(mut self) -> Result<Pairs> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("it has been ended"))?;
        thread.join().map_err(|_| anyhow!("the sender panicked"))?
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Pairs {
    /// Returns whether no SYN got in that was to be dropped, while the others were answered: that something
    /// was let through shows that something arrived.
    pub fn are_sorted(&self) -> bool {
        self.sent > 0 && self.let_in == 0 && self.answered >= self.sent * 99 / 100
    }
}

fn send_pairs(sender: &PacketSocket, receiver: &PacketSocket, stop: &AtomicBool) -> Result<Pairs> {
    let mut pairs = Pairs::default();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let pair = [dropped(pairs.sent), other(pairs.sent)].map(syn);
        let mut unsent = &pair[..];
        while !unsent.is_empty() {
            unsent = &unsent[sender.send_batch(unsent)?..];
        }
        pairs.sent += 1;
        collect(receiver, &mut pairs)?;
        due += STEP;
        sleep(due.saturating_duration_since(Instant::now()));
    }
    sleep(LAST);
    collect(receiver, &mut pairs)?;
    Ok(pairs)
}

/// Returns the source in the `number`th pair that a rule is to drop. The sources differ, so that none is known for
/// sending often.
fn dropped(number: u64) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, number as u8)
}

fn other(number: u64) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, (number >> 8) as u8, number as u8)
}

fn syn(source: Ipv4Addr) -> Vec<u8> {
    let to = SocketAddr::new(Family::V4.edge(), CLOSED);
    let mut syn = Segment::new(SocketAddr::new(source.into(), 40_000), to, flags::SYN);
    (syn.src_mac, syn.dst_mac, syn.window) = (ATTACKER_MAC, EDGE_MAC, 64_240);
    syn.to_frame()
}

fn collect(receiver: &PacketSocket, pairs: &mut Pairs) -> Result<()> {
    let mut buffer = [0; 2048];
    while let Some(length) = receiver.try_receive(&mut buffer)? {
        let answer = Segment::parse(&buffer[..length]);
        let answer = answer.filter(|it| it.flags & flags::RST != 0 && it.src.port() == CLOSED);
        match answer.map(|it| it.dst.ip()) {
            Some(IpAddr::V4(to)) if to.octets()[..3] == [198, 51, 100] => pairs.let_in += 1,
            Some(IpAddr::V4(_)) => pairs.answered += 1,
            _ => {}
        }
    }
    Ok(())
}
