//! Detector of stalls of the machine itself: threads on each CPU that do nothing but sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Short beside any noticeable stall, and long enough to cost nothing.
const NAP: Duration = Duration::from_millis(5);

/// Threads that watch for stalls. They end when this is dropped.
#[derive(Debug)]
pub struct StallWatch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Duration>>>,
}

impl StallWatch {
    /// Begins to watch each CPU that this process may use, with the priority that clients have.
    pub fn start() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("which CPUs there are")?;
        let stop = Arc::new(AtomicBool::new(false));
        let watch = |cpu| {
            let stop = Arc::clone(&stop);
            Builder::new().name(format!("stall-{cpu}")).spawn(move || {
                let mut own = CpuSet::new();
                own.set(cpu);
                sched_setaffinity(None, &own)
                    .with_context(|| format!("cannot keep a thread on CPU {cpu}"))?;
                Ok(longest(&stop))
            })
        };
        let threads = cpus(&allowed).map(watch).collect::<Result<_, _>>()?;
        Ok(Self { stop, threads })
    }

    /// Ends it, and returns the longest time for which a CPU kept a thread waiting after the end of its
    /// sleep.
    ///
    /// # Errors
    /// When a thread did not get to its CPU.
    pub fn finish(mut self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut most = Duration::ZERO;
        for thread in self.threads.drain(..) {
            let stall = thread.join().map_err(|_| anyhow::anyhow!("a watching thread panicked"))?;
            most = most.max(stall?);
        }
        Ok(most)
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn cpus(set: &CpuSet) -> impl Iterator<Item = usize> {
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu))
}

/// The longest time that a sleep took beyond its own.
fn longest(stop: &AtomicBool) -> Duration {
    let mut most = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let asleep = Instant::now();
        sleep(NAP);
        most = most.max(asleep.elapsed().saturating_sub(NAP));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_of_a_set_is_watched_and_no_other() {
        let mut set = CpuSet::new();
        set.set(1);
        set.set(70);
        assert!(cpus(&set).eq([1, 70]));
    }

    #[test]
    fn every_cpu_has_its_thread() {
        let watch = StallWatch::start().unwrap();
        let allowed = std::thread::available_parallelism().unwrap().get();
        assert!(watch.threads.len() >= allowed, "{watch:?}");
        watch.finish().unwrap();
    }
}
