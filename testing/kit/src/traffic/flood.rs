//! SYN floods, always bounded in rate, number and time.
#![expect(unsafe_code, reason = "prctl(PR_SET_TIMERSLACK) of the sending thread")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use rustix::process::setpriority_process;

use crate::measure::clock::{between, boot_ns};
use crate::net::lab::{EDGE_MAC, EDGE_PORT, INTERFACE, Lab};
use crate::net::live_frames::{BURST, LiveFrames};
use crate::net::packet::Mac;
use crate::net::raw::{MAX_BATCH, PacketSocket};
pub use crate::traffic::shape::{Shape, Sources};
use crate::traffic::shape::{Writer, recipes};

/// The highest rate a flood may ask for, in SYNs per second.
pub const MAX_RATE: u32 = 1_000_000;
/// The longest time a flood may ask for.
pub const MAX_DURATION: Duration = Duration::from_secs(600);

/// A flood to be. Its random fields are drawn from the run's seed, and another flood of the process draws
/// other numbers.
#[derive(Clone, Debug)]
pub struct Flood {
    /// Target address and port of its SYNs.
    pub target: SocketAddr,
    /// Fields of its SYNs.
    pub shape: Shape,
    /// Source addresses of its SYNs.
    pub sources: Sources,
    /// SYNs per second while it is on.
    pub rate: u32,
    /// Length of the flood, pauses included. The number of SYNs never exceeds `rate × duration`.
    pub duration: Duration,
    pub pulses: Option<Pulses>,
    /// Way of its SYNs to the host under test.
    pub delivery: Delivery,
    /// Number of SYNs of which one is retransmitted, beyond the rate; 0: none is. Only of a flood that is
    /// delivered one by one.
    pub repeated: u32,
    /// Times from a SYN to its retransmissions, one for each; zero: at once. Not after the flood's end.
    pub again: &'static [Duration],
    /// Number of ports over which it is spread in turn, from the target's on. Only of a flood that is delivered
    /// one by one.
    pub ports: u16,
    /// The network over which it is spread, address by address, instead of the target's address. Likewise.
    pub across: Option<IpNet>,
    /// Binary logarithm of the number of different SYNs, if it is bounded. Each has a source and port of its own,
    /// all have one sequence number, and a SYN returns when it is drawn again. Only of a flood in bursts.
    pub distinct: Option<u32>,
}

/// Time after which a client's kernel retransmits its SYN (RFC 6298 §2.1).
const AGAIN: Duration = Duration::from_secs(1);

/// Way of a flood's SYNs to the host under test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// Single SYNs through the attacker's interface and the bridge, as socket buffers.
    OneByOne,
    /// Bursts of [`BURST`] SYNs straight into the ring of the host under test, as from a network card. This is
    /// the way to measure the cost of a packet, in a lab that is measured.
    Bursts,
    /// Bursts as long as the ring, as many as the machine can make; the flood's rate is ignored.
    Unpaced,
}

/// A flood that comes and goes.
#[derive(Clone, Copy, Debug)]
pub struct Pulses {
    pub on: Duration,
    pub off: Duration,
}

/// A flood that runs. It ends after its time, when stopped, or when dropped.
#[derive(Debug)]
pub struct RunningFlood {
    progress: Arc<Progress>,
    duration: Duration,
    thread: Option<JoinHandle<Result<FloodReport>>>,
}

/// Facts about a flood that has ended.
#[derive(Clone, Copy, Debug)]
pub struct FloodReport {
    /// SYNs handed to the attacker's interface.
    pub sent: u64,
    /// Time of the first SYN, in nanoseconds since boot.
    pub started: u64,
    /// Time of the last SYN, in nanoseconds since boot.
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
            repeated: 0,
            again: &[AGAIN],
            ports: 1,
            across: None,
            distinct: None,
        }
    }

    /// Starts it and returns when the first SYN is out.
    ///
    /// # Errors
    /// When it asks for more than [`MAX_RATE`] or [`MAX_DURATION`], or for bursts in a lab that is
    /// not measured, or the interface cannot be opened.
    pub fn start(self, lab: &Lab) -> Result<RunningFlood> {
        self.check_bounds()?;
        let (progress, duration) = (Arc::new(Progress::default()), self.duration);
        let shared = Arc::clone(&progress);
        let thread = match self.delivery {
            Delivery::OneByOne => lab.attacker.spawn("flood", move || {
                ensure!(self.distinct.is_none(), "only the generator bounds the number of SYNs");
                let mut writer = SocketWriter::new(&self, INTERFACE, EDGE_MAC)?;
                self.send(&shared, 1, MAX_BATCH as u64, |count| writer.send(count))
            })?,
            Delivery::Bursts | Delivery::Unpaced => {
                ensure!(lab.receiver.is_some(), "bursts are for measured labs: others do not poll");
                let mut generators = Generators::new(&self, lab)?;
                lab.wire.spawn("flood", move || match self.delivery {
                    Delivery::Unpaced => self.send_unpaced(&shared, |count| generators.send(count)),
                    _ => {
                        let least = self.burst();
                        self.send(&shared, least, least, |count| generators.send(count))
                    }
                })?
            }
        };
        while progress.started.load(Ordering::Acquire) == 0 && !thread.is_finished() {
            sleep(Duration::from_micros(100));
        }
        Ok(RunningFlood { progress, duration, thread: Some(thread) })
    }

    /// Sends it one by one through an interface of the calling thread's network namespace, to the host with this
    /// Ethernet address, and returns when it is over. No lab is required.
    ///
    /// # Errors
    /// When it asks for more than [`MAX_RATE`] or [`MAX_DURATION`], or the interface cannot be opened.
    pub fn send_through(self, interface: &str, destination: Mac) -> Result<FloodReport> {
        self.check_bounds()?;
        let mut writer = SocketWriter::new(&self, interface, destination)?;
        self.send(&Progress::default(), 1, MAX_BATCH as u64, |count| writer.send(count))
    }

    fn check_bounds(&self) -> Result<()> {
        ensure!(
            (1..=MAX_RATE).contains(&self.rate) && self.duration <= MAX_DURATION,
            "a flood is bounded: 1 to {MAX_RATE} SYNs per second for at most {MAX_DURATION:?}"
        );
        Ok(())
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

    /// SYNs that the generator makes at once. A call costs the kernel some 10 µs, so there are fewer
    /// of them where there are many SYNs, in bursts of three times the length, which still fit into a virtual
    /// interface's ring.
    fn burst(&self) -> u64 {
        u64::from(if self.rate > 200_000 { 3 * BURST } else { BURST })
    }

    /// Sends the SYNs that are due by `send` until the end, from `least` to `most` SYNs at once.
    fn send(
        &self,
        progress: &Progress,
        least: u64,
        most: u64,
        mut send: impl FnMut(u64) -> Result<()>,
    ) -> Result<FloodReport> {
        // At most one batch a turn keeps bursts, also those after a stall, below the 256 slots of a virtual
        // interface's ring. Turns are short enough to make up for a stall, and long enough that meanwhile no
        // more than 4/3 of the rate arrives.
        let turn = Duration::from_secs(3 * most) / (4 * self.rate);
        let turn = turn.min(Duration::from_micros(300));
        be_a_machine_of_its_own()?;
        let (mut sent, mut last) = (0, 0);
        let start = Instant::now();
        let started = boot_ns();
        progress.started.store(started, Ordering::Release);
        let mut next_turn = start;
        while !progress.stop.load(Ordering::Relaxed) {
            let elapsed = start.elapsed();
            let over = elapsed >= self.duration;
            let batch = (self.due(elapsed) - sent).min(most);
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

impl Flood {
    /// Sends as fast as `send` can, pauses apart. The kernel's set-up for a call costs as much as some hundred
    /// SYNs, so calls are long: some milliseconds.
    fn send_unpaced(
        &self,
        progress: &Progress,
        mut send: impl FnMut(u64) -> Result<()>,
    ) -> Result<FloodReport> {
        const CALL: u64 = 1 << 15;
        let (mut sent, start, started) = (0, Instant::now(), boot_ns());
        let mut last = started;
        progress.started.store(started, Ordering::Release);
        // Gives way to clients and services, which stand for machines of their own.
        setpriority_process(None, 0).context("cannot set the flood's priority")?;
        while !progress.stop.load(Ordering::Relaxed) && start.elapsed() < self.duration {
            let pause = self.pulses.map_or(Duration::ZERO, |p| p.left_of_pause(start.elapsed()));
            if pause > Duration::ZERO {
                sleep(pause.min(Duration::from_millis(20)));
                continue;
            }
            send(CALL)?;
            sent += CALL;
            progress.sent.store(sent, Ordering::Relaxed);
            last = boot_ns();
        }
        Ok(FloodReport { sent, started, ended: last })
    }
}

impl Pulses {
    /// Returns the rest of the pause that a flood is in after `elapsed`; zero while it sends.
    fn left_of_pause(self, elapsed: Duration) -> Duration {
        let period = (self.on + self.off).as_nanos();
        let within = Duration::from_nanos((elapsed.as_nanos() % period) as u64);
        if within < self.on { Duration::ZERO } else { self.on + self.off - within }
    }
}

/// The generators of a flood's shapes, each in its turn.
struct Generators {
    frames: Vec<LiveFrames>,
    calls: usize,
}

impl Generators {
    fn new(flood: &Flood, lab: &Lab) -> Result<Self> {
        let recipes = recipes(flood.target, flood.shape, flood.sources, flood.distinct)?;
        let frames = recipes.iter().map(|recipe| LiveFrames::new(&lab.wire, EDGE_PORT, recipe));
        Ok(Self { frames: frames.collect::<Result<_>>()?, calls: 0 })
    }

    fn send(&mut self, count: u64) -> Result<()> {
        self.calls += 1;
        self.frames[self.calls % self.frames.len()].send(count as u32)
    }
}

impl RunningFlood {
    /// Returns the time of the first SYN, in nanoseconds since boot.
    pub fn started(&self) -> u64 {
        self.progress.started.load(Ordering::Acquire)
    }

    /// SYNs sent so far.
    pub fn sent(&self) -> u64 {
        self.progress.sent.load(Ordering::Relaxed)
    }

    /// Makes sure that it is going on: waits for another SYN of it.
    ///
    /// # Errors
    /// When there is none within a second, as when its time is over.
    pub fn goes_on(&self) -> Result<()> {
        let (sent, begun) = (self.sent(), Instant::now());
        while self.sent() == sent {
            ensure!(
                begun.elapsed() < Duration::from_secs(1),
                "the flood is over after {sent} SYNs"
            );
            sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Waits until a second before its end.
    pub fn nears_its_end(&self) {
        let passed = between(self.started(), boot_ns()) + Duration::from_secs(1);
        sleep(self.duration.saturating_sub(passed));
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<FloodReport> {
        self.join()
    }

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

/// Time until the next attempt at a full ring: one slow CPU that sends and receives gets to receive.
const FULL_RING_WAIT: Duration = Duration::from_millis(1);
/// Attempts at one batch after which a receiver counts as hung.
const MOST_WAITS: u32 = 1000;

/// Sends the SYNs of one flood through the attacker's interface.
struct SocketWriter {
    socket: PacketSocket,
    writer: Writer,
    frames: Vec<Vec<u8>>,
    repeats: Repeats,
}

impl SocketWriter {
    fn new(flood: &Flood, interface: &str, destination: Mac) -> Result<Self> {
        let socket = PacketSocket::send_only(interface)
            .with_context(|| format!("the attacker's interface {interface}"))?;
        let writer = Writer::new(flood.target, flood.shape, flood.sources);
        let writer = writer.to(destination).over(flood.ports).across(flood.across);
        let (frames, repeats) = (vec![Vec::new(); MAX_BATCH], Repeats::of(flood));
        Ok(Self { socket, writer, frames, repeats })
    }

    fn send(&mut self, count: u64) -> Result<()> {
        let batch = &mut self.frames[..count as usize];
        let now = Instant::now();
        for frame in batch.iter_mut() {
            self.writer.write(frame);
            self.repeats.note(frame, now);
        }
        Self::send_all(&self.socket, batch)?;
        Self::send_all(&self.socket, &self.repeats.due(now))
    }

    /// Sends all of them, and waits for the receiver's ring while it is full.
    fn send_all(socket: &PacketSocket, mut unsent: &[Vec<u8>]) -> Result<()> {
        let mut waits = 0;
        while !unsent.is_empty() {
            match socket.send_batch(unsent) {
                Ok(sent) => unsent = &unsent[sent..],
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && waits < MOST_WAITS => {
                    waits += 1;
                    sleep(FULL_RING_WAIT);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The SYNs of a flood that are still to be retransmitted.
struct Repeats {
    /// See [`Flood::repeated`].
    one_in: u64,
    written: u64,
    /// SYNs for each time of [`Flood::again`].
    waiting: Vec<Waiting>,
}

/// SYNs that wait equally long, and when each is retransmitted.
struct Waiting {
    time: Duration,
    syns: VecDeque<(Instant, Vec<u8>)>,
}

impl Repeats {
    fn of(flood: &Flood) -> Self {
        let waiting = |time: &Duration| Waiting { time: *time, syns: VecDeque::new() };
        let waiting = flood.again.iter().map(waiting).collect();
        Self { one_in: flood.repeated.into(), written: 0, waiting }
    }

    /// Takes note of a SYN that is sent now.
    fn note(&mut self, frame: &[u8], now: Instant) {
        self.written += 1;
        if self.one_in > 0 && self.written.is_multiple_of(self.one_in) {
            for Waiting { time, syns } in &mut self.waiting {
                syns.push_back((now + *time, frame.to_vec()));
            }
        }
    }

    /// SYNs that are due.
    fn due(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut due = Vec::new();
        for Waiting { syns, .. } in &mut self.waiting {
            let count = syns.partition_point(|(at, _)| *at <= now);
            due.extend(syns.drain(..count).map(|(_, frame)| frame));
        }
        due
    }
}

/// An attacker's machine does not wait for the CPU of the host under test: this thread gets the highest
/// ordinary priority, and its sleeps end on time rather than up to 50 µs later.
pub(crate) fn be_a_machine_of_its_own() -> Result<()> {
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
    fn a_flood_without_bounds_is_refused_before_anything_is_opened() {
        let unbounded = Flood { rate: MAX_RATE + 1, ..flood(None) };
        let endless = Flood { duration: MAX_DURATION * 2, ..flood(None) };
        for flood in [unbounded, endless] {
            let error = flood.send_through("absent", EDGE_MAC).unwrap_err().to_string();
            assert!(error.starts_with("a flood is bounded"), "{error}");
        }
        let error = flood(None).send_through("absent", EDGE_MAC).unwrap_err().to_string();
        assert_eq!(error, "the attacker's interface absent");
    }

    #[test]
    fn a_syn_is_sent_again_when_its_time_has_come_and_as_often_as_it_should() {
        const AGAIN: &[Duration] =
            &[Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
        let begun = Instant::now();
        let mut repeats = Repeats::of(&Flood { repeated: 2, again: AGAIN, ..flood(None) });
        for number in 1..=4 {
            repeats.note(&[number], begun + Duration::from_millis(number.into()));
        }
        let mut sent = |after| repeats.due(begun + Duration::from_millis(after)).concat();
        assert_eq!(sent(4), [2_u8, 4], "at once");
        assert!(sent(1001).is_empty());
        assert_eq!(sent(1002), [2_u8]);
        assert_eq!(sent(2000), [4_u8]);
        assert_eq!(sent(3004), [2_u8, 4]);
        assert!(sent(60_000).is_empty());
        let mut never = Repeats::of(&flood(None));
        never.note(&[1], begun);
        assert!(never.due(begun + Duration::from_secs(60)).is_empty());
    }

    #[test]
    fn a_pause_lasts_until_the_next_pulse() {
        let pulses = Pulses { on: Duration::from_millis(500), off: Duration::from_millis(2750) };
        for (at, left) in [(0, 0), (499, 0), (500, 2750), (3249, 1), (3250, 0), (3800, 2700)] {
            let left = Duration::from_millis(left);
            assert_eq!(pulses.left_of_pause(Duration::from_millis(at)), left, "after {at} ms");
        }
    }

    #[test]
    fn pulses_send_nothing_while_off() {
        let flood = flood(Some(Pulses { on: Duration::from_secs(2), off: Duration::from_secs(1) }));
        for (at, due) in [(1, 1000), (2, 2000), (3, 2000), (4, 3000), (6, 4000), (10, 7000)] {
            assert_eq!(flood.due(Duration::from_secs(at)), due, "after {at} s");
        }
    }
}
