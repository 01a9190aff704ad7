//! Health checks that end half-open: a load balancer sends a SYN to a port, and a reset once the port answers.
//! None of these handshakes completes, and none is an attack.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::net::lab::{ATTACKER_MAC, EDGE_MAC, INTERFACE, Lab};
use crate::net::packet::{Segment, flags, linux_syn_options};
use crate::net::raw::PacketSocket;

/// The highest rate that can be asked for, in checks per second.
pub const MAX_RATE: u32 = 1000;

/// Fingerprint of a check's SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// The SYN of a Linux host.
    Linux,
    /// The SYN of a [`crate::traffic::shape::Shape::Bare`] flood: no options, window 512, TTL 64.
    Bare,
}

/// Checks to be: their sources (IPv4), their rate and their SYNs.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// The first balancer is 192.0.2.x (RFC 5737), beyond the gateway of the host under test; the others
    /// follow.
    pub first: u8,
    /// Balancers, which check in turn.
    pub balancers: u8,
    /// Checks per second of all balancers together.
    pub rate: u32,
    /// Fingerprint of their SYNs.
    pub look: Look,
}

/// Result of the checks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    pub asked: u64,
    /// Checks that got a SYN-ACK, and sent a reset.
    pub answered: u64,
}

impl Checked {
    /// Checks that came later than `before`.
    pub fn since(self, before: Self) -> Self {
        Self { asked: self.asked - before.asked, answered: self.answered - before.answered }
    }

    /// The share that was answered, 0 to 1.
    ///
    /// # Panics
    /// Without any check: a share of nothing would prove nothing.
    pub fn share(self) -> f64 {
        assert!(self.asked > 0, "no check was made");
        self.answered as f64 / self.asked as f64
    }
}

/// Checks that go on until stopped or dropped.
#[derive(Debug)]
pub struct HealthChecks {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Progress {
    stop: AtomicBool,
    asked: AtomicU64,
    answered: AtomicU64,
}

impl HealthChecks {
    /// Has four balancers check `service` (IPv4) as Linux hosts, `rate` times a second in all.
    pub fn start(lab: &Lab, service: SocketAddr, rate: u32) -> Result<Self> {
        Self::of(lab, service, Checks::at(rate))
    }

    /// Has the balancers of `checks` check `service` (IPv4).
    ///
    /// # Errors
    /// For a rate of 0 or above [`MAX_RATE`], without a balancer or for more than there are addresses, or
    /// when the thread cannot be started.
    pub fn of(lab: &Lab, service: SocketAddr, checks: Checks) -> Result<Self> {
        let Checks { rate, first, balancers, .. } = checks;
        ensure!((1..=MAX_RATE).contains(&rate), "1 to {MAX_RATE} checks a second, not {rate}");
        ensure!(
            balancers > 0 && first.checked_add(balancers - 1).is_some(),
            "no {balancers} balancers from 192.0.2.{first} on"
        );
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        // The edge's default route leads there.
        let thread =
            lab.attacker.spawn("health-checks", move || check(service, checks, &shared))?;
        Ok(Self { progress, thread: Some(thread) })
    }

    /// Result of the checks so far.
    pub fn so_far(&self) -> Checked {
        self.progress.so_far()
    }

    pub fn finish(mut self) -> Result<Checked> {
        self.progress.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the checks were already finished")?;
        thread.join().map_err(|_| anyhow::anyhow!("the health checks panicked"))??;
        Ok(self.so_far())
    }
}

impl Drop for HealthChecks {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
    }
}

impl Progress {
    fn so_far(&self) -> Checked {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Checked { asked: of(&self.asked), answered: of(&self.answered) }
    }
}

fn check(service: SocketAddr, checks: Checks, progress: &Progress) -> Result<()> {
    const LOOK_UP: Duration = Duration::from_millis(20);
    let socket = PacketSocket::open(INTERFACE).context("the balancers' interface")?;
    let interval = Duration::from_secs(1) / checks.rate;
    // A SYN-ACK that the host retransmits counts once.
    let mut waiting = HashSet::new();
    let mut buffer = [0; 2048];
    let mut next = Instant::now();
    while !progress.stop.load(Ordering::Relaxed) {
        while next <= Instant::now() {
            let syn = checks.syn(service, progress.asked.load(Ordering::Relaxed));
            socket.send(&syn.to_frame())?;
            waiting.insert(syn.src);
            progress.asked.fetch_add(1, Ordering::Relaxed);
            next += interval;
        }
        while let Some(length) = socket.try_receive(&mut buffer)? {
            let answer = Segment::parse(&buffer[..length]);
            let answer = answer
                .filter(|answer| answer.src == service && answer.flags == flags::SYN | flags::ACK)
                .filter(|answer| checks.is_of(answer.dst.ip()));
            if let Some(answer) = answer {
                socket.send(&reset(&answer).to_frame())?;
                let counts = u64::from(waiting.remove(&answer.dst));
                progress.answered.fetch_add(counts, Ordering::Relaxed);
            }
        }
        let wait = LOOK_UP.min(next.saturating_duration_since(Instant::now()));
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&wait))?;
    }
    Ok(())
}

impl Checks {
    /// Checks of Linux hosts, from 192.0.2.1 to 192.0.2.4, `rate` times a second in all.
    pub fn at(rate: u32) -> Self {
        Self { first: 1, balancers: 4, rate, look: Look::Linux }
    }

    /// Returns whether this is the address of one of the balancers.
    fn is_of(self, address: IpAddr) -> bool {
        let end = self.first + (self.balancers - 1);
        (self.first..=end).any(|last| address == balancer(last))
    }

    /// The `number`th check.
    fn syn(self, service: SocketAddr, number: u64) -> Segment {
        let balancers = u64::from(self.balancers);
        let from = balancer(self.first + (number % balancers) as u8);
        let port = 32_768 + (number / balancers % 28_000) as u16;
        let mut syn = Segment::new(SocketAddr::new(from, port), service, flags::SYN);
        (syn.src_mac, syn.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
        syn.seq = (number as u32).wrapping_mul(0x9e37);
        match self.look {
            Look::Linux => {
                (syn.window, syn.dont_fragment) = (64_240, true);
                syn.ip_id = number as u16;
                syn.options = linux_syn_options(1460, number as u32);
            }
            Look::Bare => syn.window = 512,
        }
        syn
    }
}

fn balancer(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// The reset that withdraws a check.
fn reset(answer: &Segment) -> Segment {
    let mut reset = Segment::new(answer.dst, answer.src, flags::RST);
    (reset.src_mac, reset.dst_mac) = (ATTACKER_MAC, EDGE_MAC);
    reset.seq = answer.ack;
    reset
}
