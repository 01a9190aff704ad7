//! Health checks that look and go: a balancer that asks whether a port answers, and takes its SYN back
//! by a reset once it does. No handshake of theirs completes, and none is an attack.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::{ATTACKER_MAC, EDGE_MAC, INTERFACE, Lab};
use crate::packet::{Segment, flags, linux_syn_options};
use crate::raw::PacketSocket;

/// Balancers that check: 192.0.2.1 and on (RFC 5737), beyond the guarded host's gateway.
pub const BALANCERS: u8 = 4;
/// The highest rate that can be asked for, in checks per second.
pub const MAX_RATE: u32 = 1000;

/// What came of the checks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    /// SYNs sent.
    pub asked: u64,
    /// SYN-ACKs that came back, each answered by a reset.
    pub answered: u64,
}

/// Checks that go on until stopped or dropped.
#[derive(Debug)]
pub struct HealthChecks {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Checked>>>,
}

impl HealthChecks {
    /// Has the balancers check `service` (IPv4) in turn, `rate` times a second in all.
    ///
    /// # Errors
    /// For a rate of 0 or above [`MAX_RATE`], or when the thread cannot be started.
    pub fn start(lab: &Lab, service: SocketAddr, rate: u32) -> Result<Self> {
        ensure!((1..=MAX_RATE).contains(&rate), "1 to {MAX_RATE} checks a second, not {rate}");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // The edge's default route leads there.
        let thread = lab.attacker.spawn("health-checks", move || check(service, rate, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends them.
    ///
    /// # Errors
    /// When sending or receiving failed.
    pub fn finish(mut self) -> Result<Checked> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the checks were already finished")?;
        thread.join().map_err(|_| anyhow::anyhow!("the health checks panicked"))?
    }
}

impl Drop for HealthChecks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn check(service: SocketAddr, rate: u32, stop: &AtomicBool) -> Result<Checked> {
    const LOOK_UP: Duration = Duration::from_millis(20);
    let socket = PacketSocket::open(INTERFACE).context("the balancers' interface")?;
    let interval = Duration::from_secs(1) / rate;
    let mut checked = Checked::default();
    let mut buffer = [0; 2048];
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        while next <= Instant::now() {
            socket.send(&syn(service, checked.asked).to_frame())?;
            checked.asked += 1;
            next += interval;
        }
        while let Some(length) = socket.try_receive(&mut buffer)? {
            let answer = Segment::parse(&buffer[..length]);
            let answer = answer
                .filter(|answer| answer.src == service && answer.flags == flags::SYN | flags::ACK);
            if let Some(answer) = answer {
                socket.send(&reset(&answer).to_frame())?;
                checked.answered += 1;
            }
        }
        let wait = LOOK_UP.min(next.saturating_duration_since(Instant::now()));
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&wait))?;
    }
    Ok(checked)
}

/// The `number`th check, as a Linux host sends it.
fn syn(service: SocketAddr, number: u64) -> Segment {
    let balancer = Ipv4Addr::new(192, 0, 2, 1 + (number % u64::from(BALANCERS)) as u8);
    let port = 32_768 + (number / u64::from(BALANCERS) % 28_000) as u16;
    let mut syn = Segment::new(SocketAddr::new(IpAddr::V4(balancer), port), service, flags::SYN);
    (syn.src_mac, syn.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
    (syn.window, syn.dont_fragment) = (64_240, true);
    (syn.seq, syn.ip_id) = ((number as u32).wrapping_mul(0x9e37), number as u16);
    syn.options = linux_syn_options(1460, number as u32);
    syn
}

/// What takes a check back.
fn reset(answer: &Segment) -> Segment {
    let mut reset = Segment::new(answer.dst, answer.src, flags::RST);
    (reset.src_mac, reset.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
    reset.seq = answer.ack;
    reset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balancers_take_turns_and_never_use_a_port_twice_in_a_row() {
        let service = "10.77.0.1:443".parse().unwrap();
        let sources: Vec<SocketAddr> = (0..8).map(|number| syn(service, number).src).collect();
        assert_eq!(sources[0], "192.0.2.1:32768".parse().unwrap());
        assert_eq!(sources[3], "192.0.2.4:32768".parse().unwrap());
        assert_eq!(sources[4], "192.0.2.1:32769".parse().unwrap());
        assert_eq!(syn(service, 4 * 28_000 - 1).src.port(), 60_767);
    }

    #[test]
    fn a_reset_takes_back_exactly_the_handshake_that_was_answered() {
        let syn = syn("10.77.0.1:443".parse().unwrap(), 7);
        let mut answer = Segment::new(syn.dst, syn.src, flags::SYN | flags::ACK);
        answer.ack = syn.seq.wrapping_add(1);
        let reset = reset(&answer);
        assert_eq!((reset.src, reset.dst, reset.flags), (syn.src, syn.dst, flags::RST));
        assert_eq!(reset.seq, syn.seq.wrapping_add(1), "RFC 5961 §3.2: exactly what is expected");
    }
}
