//! A slow and lossy link: forwards frames between two interfaces, holds one direction back and loses some of
//! both.
//!
//! It does the same as `tc qdisc add … netem delay 100ms 20ms loss 2%`, for kernels built without netem.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::net::netns::Netns;
use crate::net::raw::PacketSocket;
use crate::traffic::random::Random;

/// Delay and loss of frames. The delay is evenly spread over `mean ± jitter`, so frames can overtake each
/// other.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    /// Mean of the delay.
    pub mean: Duration,
    /// Largest deviation from the mean, less or more; not above `mean`.
    pub jitter: Duration,
    /// Share of the frames that is lost, of either direction, each for itself; 0 to below 1.
    pub loss: f64,
}

impl Delay {
    /// A client on another continent.
    pub const FAR: Self =
        Self { mean: Duration::from_millis(100), jitter: Duration::from_millis(20), loss: 0.0 };

    /// Returns the same for `tc`, in the direction that is held back.
    pub(crate) fn as_netem(self) -> String {
        let (mean, jitter) = (self.mean.as_micros(), self.jitter.as_micros());
        format!("netem delay {mean}us {jitter}us loss {}% limit 100000", self.loss * 100.0)
    }

    /// Returns the same for `tc`, in the other direction.
    pub(crate) fn back_as_netem(self) -> String {
        format!("netem loss {}% limit 100000", self.loss * 100.0)
    }

    fn loses(self, random: &mut Random) -> bool {
        random.share() < self.loss
    }

    fn draw(self, random: &mut Random) -> Duration {
        let spread = random.between(0, 2 * self.jitter.as_nanos() as u64);
        self.mean - self.jitter + Duration::from_nanos(spread)
    }
}

/// A running link. It ends when dropped.
#[derive(Debug)]
pub struct DelayLine {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl DelayLine {
    /// Forwards frames that arrive at `near` to `far` after `delay`, and frames in the other direction at
    /// once. The lost frames are drawn from the same numbers each time.
    pub fn start(
        namespace: &Netns,
        near: &'static str,
        far: &'static str,
        delay: Delay,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = namespace.spawn("delay-line", move || forward(near, far, delay, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                failure => eprintln!("the slow link failed: {failure:?}"),
            }
        }
    }
}

fn forward(near: &str, far: &str, delay: Delay, stop: &AtomicBool) -> Result<()> {
    const LOOK_UP: Duration = Duration::from_millis(20);
    let (near, far) = (PacketSocket::open(near)?, PacketSocket::open(far)?);
    let mut random = Random::new(0x6c69_6e6b);
    let mut held = BinaryHeap::new();
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        while let Some(length) = far.try_receive(&mut buffer)? {
            if !delay.loses(&mut random) {
                near.send(&buffer[..length])?;
            }
        }
        while let Some(length) = near.try_receive(&mut buffer)? {
            if delay.loses(&mut random) {
                continue;
            }
            let due = Instant::now() + delay.draw(&mut random);
            held.push(Reverse((due, buffer[..length].to_vec())));
        }
        let now = Instant::now();
        while held.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            if let Some(Reverse((_, frame))) = held.pop() {
                far.send(&frame)?;
            }
        }
        let wait = held.peek().map_or(LOOK_UP, |Reverse((due, _))| LOOK_UP.min(*due - now));
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut sockets = [PollFd::new(&near, PollFlags::IN), PollFd::new(&far, PollFlags::IN)];
        poll(&mut sockets, Some(&wait))?;
    }
    Ok(())
}
