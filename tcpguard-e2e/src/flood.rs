//! SYN floods, always bounded in rate, number and time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::setpriority_process;

use crate::clock::boot_ns;
use crate::lab::{ATTACKER_MAC, EDGE_MAC, EDGE_PORT, INTERFACE, Lab};
use crate::live_frames::{BURST, LiveFrames};
use crate::packet::{Segment, flags, linux_syn_options, mss_option};
use crate::random::Random;
use crate::raw::{MAX_BATCH, PacketSocket};

/// The highest rate a flood may ask for, in SYNs per second.
pub const MAX_RATE: u32 = 1_000_000;
/// The longest time a flood may ask for.
pub const MAX_DURATION: Duration = Duration::from_secs(600);

/// A flood to be.
#[derive(Clone, Debug)]
pub struct Flood {
    /// Where to.
    pub target: SocketAddr,
    /// What its SYNs look like.
    pub shape: Shape,
    /// Where from.
    pub sources: Sources,
    /// SYNs per second while it is on.
    pub rate: u32,
    /// How long, pauses included. The number of SYNs never exceeds `rate × duration`.
    pub duration: Duration,
    /// Pauses, if any.
    pub pulses: Option<Pulses>,
    /// How its SYNs arrive.
    pub delivery: Delivery,
}

/// How the SYNs of a flood get to the guarded host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// One by one through the attacker's interface and the bridge, as socket buffers.
    OneByOne,
    /// In bursts of [`BURST`] and straight into the guarded host's ring, as from a network card:
    /// the means to measure what a packet costs. For [`Shape::Bare`] from [`Sources::Random`], and
    /// in a lab that is measured.
    Bursts,
}

/// What the SYNs of a flood have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// No options, window 512, TTL 64: what hping3 and most bots send.
    Bare,
    /// Like [`Shape::Bare`], but an MSS option, and MSS and window random.
    RandomWindowMss,
    /// Like [`Shape::Bare`], but with a random TTL (33 to 255).
    RandomTtl,
    /// As a Linux host sends it, so that no signature tells it from clients.
    Linux,
    /// No SYN: a segment with these flags and random numbers, of no connection.
    Stray(u8),
}

/// Where a flood's SYNs claim to come from.
#[derive(Clone, Copy, Debug)]
pub enum Sources {
    /// Another global unicast address each time, never one of the lab's.
    Random,
    /// One address; only the port changes.
    One(IpAddr),
}

/// A flood that comes and goes.
#[derive(Clone, Copy, Debug)]
pub struct Pulses {
    /// Time with SYNs.
    pub on: Duration,
    /// Time without.
    pub off: Duration,
}

/// A flood that runs. It ends by itself, when stopped, or when dropped.
#[derive(Debug)]
pub struct RunningFlood {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<FloodReport>>>,
}

/// What a flood was.
#[derive(Clone, Copy, Debug)]
pub struct FloodReport {
    /// SYNs handed to the attacker's interface.
    pub sent: u64,
    /// When the first was sent, in nanoseconds since boot.
    pub started: u64,
    /// When the last was sent, in nanoseconds since boot.
    pub ended: u64,
}

#[derive(Debug, Default)]
struct Progress {
    stop: AtomicBool,
    sent: AtomicU64,
    started: AtomicU64,
}

impl Flood {
    /// A flood of 100,000 bare SYNs per second from random sources.
    pub fn random(target: SocketAddr, duration: Duration) -> Self {
        Self {
            target,
            shape: Shape::Bare,
            sources: Sources::Random,
            rate: 100_000,
            duration,
            pulses: None,
            delivery: Delivery::OneByOne,
        }
    }

    /// Starts it and returns when the first SYN is out.
    ///
    /// # Errors
    /// When it asks for more than [`MAX_RATE`] or [`MAX_DURATION`], or for a delivery that it is
    /// not made for, or the interface cannot be opened.
    pub fn start(self, lab: &Lab) -> Result<RunningFlood> {
        ensure!(
            (1..=MAX_RATE).contains(&self.rate) && self.duration <= MAX_DURATION,
            "a flood is bounded: 1 to {MAX_RATE} SYNs per second for at most {MAX_DURATION:?}"
        );
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let thread = match self.delivery {
            Delivery::OneByOne => lab.attacker.spawn("flood", move || {
                let mut writer = SocketWriter::new(&self)?;
                self.send(&shared, 1, |count| writer.send(count))
            })?,
            Delivery::Bursts => {
                ensure!(
                    self.shape == Shape::Bare && matches!(self.sources, Sources::Random),
                    "bursts are of bare SYNs from random sources"
                );
                ensure!(lab.receiver.is_some(), "bursts are for measured labs: others do not poll");
                let mut frame = Vec::new();
                Writer::new(&self).write(&mut frame);
                let frames = LiveFrames::new(&lab.wire, EDGE_PORT, frame)?;
                lab.wire.spawn("flood", move || {
                    self.send(&shared, BURST.into(), |count| frames.send(count as u32))
                })?
            }
        };
        while progress.started.load(Ordering::Acquire) == 0 && !thread.is_finished() {
            sleep(Duration::from_micros(100));
        }
        Ok(RunningFlood { progress, thread: Some(thread) })
    }

    /// SYNs that are due once the flood has been running for `elapsed`.
    fn due(&self, elapsed: Duration) -> u64 {
        let elapsed = elapsed.min(self.duration);
        let on = match self.pulses {
            None => elapsed,
            Some(Pulses { on, off }) => {
                let period = on + off;
                let full = (elapsed.as_nanos() / period.as_nanos()) as u32;
                on * full + (elapsed - period * full).min(on)
            }
        };
        (on.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64
    }

    /// Sends what is due by `send` until the end, from `least` to [`MAX_BATCH`] SYNs at once.
    fn send(
        &self,
        progress: &Progress,
        least: u64,
        mut send: impl FnMut(u64) -> Result<()>,
    ) -> Result<FloodReport> {
        // At most one batch a turn keeps bursts, also those after a stall, far below the 256 places
        // of a virtual interface's ring; turns are short enough to reach twice the rate.
        let turn = Duration::from_secs(MAX_BATCH as u64 / 2) / self.rate;
        let turn = turn.min(Duration::from_micros(200));
        be_a_machine_of_its_own()?;
        let (mut sent, mut last) = (0, 0);
        let start = Instant::now();
        let started = boot_ns();
        progress.started.store(started, Ordering::Release);
        let mut next_turn = start;
        while !progress.stop.load(Ordering::Relaxed) {
            let elapsed = start.elapsed();
            let over = elapsed >= self.duration;
            let batch = (self.due(elapsed) - sent).min(MAX_BATCH as u64);
            if batch >= least || over && batch > 0 {
                send(batch)?;
                sent += batch;
                progress.sent.store(sent, Ordering::Relaxed);
                last = boot_ns();
            } else if over {
                break;
            }
            // A turn that took too long is followed by the next at once, but not by several.
            let now = Instant::now();
            next_turn = (next_turn + turn).max(now);
            sleep(next_turn - now);
        }
        Ok(FloodReport { sent, started, ended: last })
    }
}

impl RunningFlood {
    /// When the first SYN was sent, in nanoseconds since boot.
    pub fn started(&self) -> u64 {
        self.progress.started.load(Ordering::Acquire)
    }

    /// SYNs sent so far.
    pub fn sent(&self) -> u64 {
        self.progress.sent.load(Ordering::Relaxed)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When sending failed.
    pub fn wait(mut self) -> Result<FloodReport> {
        self.join()
    }

    /// Ends it now.
    ///
    /// # Errors
    /// When sending failed.
    pub fn stop(mut self) -> Result<FloodReport> {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(&mut self) -> Result<FloodReport> {
        let thread = self.thread.take().context("the flood was already waited for")?;
        thread.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?
    }
}

impl Drop for RunningFlood {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        if self.thread.is_some()
            && let Err(error) = self.join()
        {
            eprintln!("the flood failed: {error:#}");
        }
    }
}

impl FloodReport {
    /// SYNs per second over the whole time.
    pub fn rate(&self) -> f64 {
        self.sent as f64 / ((self.ended - self.started) as f64 / 1e9)
    }
}

/// Sends the SYNs of one flood through the attacker's interface.
struct SocketWriter {
    socket: PacketSocket,
    writer: Writer,
    frames: Vec<Vec<u8>>,
}

impl SocketWriter {
    fn new(flood: &Flood) -> Result<Self> {
        let socket = PacketSocket::send_only(INTERFACE).context("the attacker's interface")?;
        Ok(Self { socket, writer: Writer::new(flood), frames: vec![Vec::new(); MAX_BATCH] })
    }

    fn send(&mut self, count: u64) -> Result<()> {
        let batch = &mut self.frames[..count as usize];
        batch.iter_mut().for_each(|frame| self.writer.write(frame));
        let mut unsent = &*batch;
        while !unsent.is_empty() {
            unsent = &unsent[self.socket.send_batch(unsent)?..];
        }
        Ok(())
    }
}

/// Writes the SYNs of one flood.
struct Writer {
    segment: Segment,
    shape: Shape,
    sources: Sources,
    random: Random,
}

impl Writer {
    fn new(flood: &Flood) -> Self {
        let mut segment = Segment::new(flood.target, flood.target, flags::SYN);
        segment.src_mac = ATTACKER_MAC;
        segment.dst_mac = EDGE_MAC;
        segment.window = 512;
        if let Shape::Stray(flags) = flood.shape {
            segment.flags = flags;
        }
        if flood.shape == Shape::Linux {
            segment.window = 64_240;
            segment.dont_fragment = true;
            segment.options = linux_syn_options(1460, 0);
        }
        Self { segment, shape: flood.shape, sources: flood.sources, random: Random::new(boot_ns()) }
    }

    fn write(&mut self, frame: &mut Vec<u8>) {
        let random = &mut self.random;
        let source = match (self.sources, self.segment.dst.ip()) {
            (Sources::One(source), _) => source,
            (Sources::Random, IpAddr::V4(_)) => random_v4(random).into(),
            (Sources::Random, IpAddr::V6(_)) => random_v6(random).into(),
        };
        let bits = random.bits();
        self.segment.src = SocketAddr::new(source, 1024 | bits as u16);
        self.segment.seq = (bits >> 16) as u32;
        let bits = random.bits();
        match self.shape {
            Shape::Bare => {}
            Shape::Stray(_) => self.segment.ack = bits as u32,
            Shape::RandomWindowMss => {
                self.segment.window = bits as u16;
                self.segment.options = mss_option(536 + (bits >> 16) as u16 % 925);
            }
            Shape::RandomTtl => self.segment.ttl = 33 + (bits % 223) as u8,
            Shape::Linux => {
                self.segment.ip_id = bits as u16;
                self.segment.options = linux_syn_options(1460, (bits >> 16) as u32);
            }
        }
        self.segment.write_frame(frame);
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

/// An attacker's machine does not wait for the guarded host's CPU: this thread gets the highest
/// ordinary priority, and its sleeps end on time rather than up to 50 µs later.
fn be_a_machine_of_its_own() -> Result<()> {
    setpriority_process(None, -20).context("cannot raise the flood's priority: run as root")?;
    // SAFETY: sets a number of the calling thread; 1 ns is the least.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    assert_eq!(result, 0, "PR_SET_TIMERSLACK cannot fail for the calling thread");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(pulses: Option<Pulses>) -> Flood {
        let target = "192.0.2.1:443".parse().unwrap();
        Flood { pulses, rate: 1000, ..Flood::random(target, Duration::from_secs(10)) }
    }

    #[test]
    fn a_flood_sends_its_rate_and_no_more_than_its_duration() {
        let flood = flood(None);
        assert_eq!(flood.due(Duration::from_millis(1500)), 1500);
        assert_eq!(flood.due(Duration::from_secs(10)), 10_000);
        assert_eq!(flood.due(Duration::from_secs(60)), 10_000);
    }

    #[test]
    fn pulses_send_nothing_while_off() {
        let flood = flood(Some(Pulses { on: Duration::from_secs(2), off: Duration::from_secs(1) }));
        for (at, due) in [(1, 1000), (2, 2000), (3, 2000), (4, 3000), (6, 4000), (10, 7000)] {
            assert_eq!(flood.due(Duration::from_secs(at)), due, "after {at} s");
        }
    }

    #[test]
    fn random_sources_are_unicast_and_never_the_labs() {
        let mut random = Random::new(1);
        for _ in 0..100_000 {
            let v4 = random_v4(&mut random);
            assert!(!v4.is_multicast() && !v4.is_loopback() && !v4.is_broadcast(), "{v4}");
            assert_ne!(v4.octets()[0], 10, "{v4} could be in a lab");
            let v6 = random_v6(&mut random);
            assert_eq!(v6.octets()[0] & 0xe0, 0x20, "{v6} is not global unicast");
        }
    }

    #[test]
    fn each_shape_keeps_what_it_promises() {
        for (shape, options, ttl, window) in [
            (Shape::Bare, 0, true, true),
            (Shape::RandomWindowMss, 4, true, false),
            (Shape::RandomTtl, 0, false, true),
            (Shape::Linux, 20, true, true),
        ] {
            let mut writer = Writer::new(&Flood { shape, ..flood(None) });
            let mut frame = Vec::new();
            let syns: Vec<_> = (0..100)
                .map(|_| {
                    writer.write(&mut frame);
                    Segment::parse(&frame).unwrap()
                })
                .collect();
            assert!(syns.iter().all(|syn| syn.flags == flags::SYN));
            assert!(syns.iter().all(|syn| syn.options.len() == options), "{shape:?}");
            assert_eq!(syns.iter().all(|syn| syn.ttl == syns[0].ttl), ttl, "{shape:?}: TTL");
            assert_eq!(
                syns.iter().all(|syn| syn.window == syns[0].window),
                window,
                "{shape:?}: window"
            );
            assert!(syns.iter().any(|syn| syn.src.ip() != syns[0].src.ip()), "{shape:?}: sources");
        }
    }
}
