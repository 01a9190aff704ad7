//! SYNs to a port without a listener, again and again from the same sources. A SYN that gets in is answered
//! with a reset.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::net::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab};
use crate::net::packet::{Segment, flags};
use crate::net::raw::PacketSocket;

const SECOND: Duration = Duration::from_secs(1);
/// Nothing listens there: no flood, and so no rule made by the agent.
const CLOSED: u16 = 9;
/// SYNs per second, a handful at a time: far below any rate at which packets could be lost on the way.
const RATE: u32 = 20_000;
const HANDFUL: u32 = 16;

/// SYNs that are being sent. It ends when dropped.
#[derive(Debug)]
pub struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Sender {
    /// Sends from these sources in turn.
    pub fn start(lab: &Lab, sources: impl Iterator<Item = IpAddr>) -> Result<Self> {
        let frame = |source: IpAddr| {
            let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
            let to = SocketAddr::new(family.edge(), CLOSED);
            let mut syn = Segment::new(SocketAddr::new(source, 40_000), to, flags::SYN);
            (syn.src_mac, syn.dst_mac, syn.window) = (ATTACKER_MAC, EDGE_MAC, 64_240);
            syn.to_frame()
        };
        let frames: Vec<Vec<u8>> = sources.map(frame).collect();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let send = move || {
            let socket = PacketSocket::send_only(INTERFACE)?;
            let mut due = Instant::now();
            for handful in frames.chunks(HANDFUL as usize).cycle() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let mut unsent = handful;
                while !unsent.is_empty() {
                    unsent = &unsent[socket.send_batch(unsent)?..];
                }
                counted.fetch_add(handful.len() as u64, Ordering::Relaxed);
                due += SECOND * HANDFUL / RATE;
                sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(())
        };
        let thread = lab.attacker.spawn("sender", send)?;
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// Ends it and returns the number of SYNs sent, once a status shows their outcome.
    pub fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it has been ended")?;
        thread.join().map_err(|_| anyhow!("the sender panicked"))??;
        // The status shows the counters of the last poll.
        sleep(SECOND);
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
