//! CPU time of a process.
//!
//! The scheduler's own account (`schedstat`) is exact, where utime and stime of `/proc/PID/stat` are
//! printed in ticks of 10 ms, a tenth of the time that a poll may take in the windows here.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A process from some moment on.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    begun: Instant,
    cpu: Duration,
}

impl Watch {
    /// # Errors
    /// When there is no such process, or the kernel keeps no account (`CONFIG_SCHED_INFO`).
    pub fn start(pid: u32) -> Result<Self> {
        let cpu = cpu_time(pid)?;
        Ok(Self { pid, begun: Instant::now(), cpu })
    }

    /// CPU time since then, in user space and in the kernel.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(cpu_time(self.pid)?.saturating_sub(self.cpu))
    }

    /// The same in % of one core.
    pub fn percent(&self) -> Result<f64> {
        let cpu = self.cpu()?;
        Ok(100.0 * cpu.as_secs_f64() / self.begun.elapsed().as_secs_f64())
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// The run time of all threads of a process. The agent's threads live as long as it does.
fn cpu_time(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(&tasks).with_context(|| format!("{tasks}: has it ended?"))? {
        let path = task?.path().join("schedstat");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: this needs CONFIG_SCHED_INFO", path.display()))?;
        sum += run_time(&text).with_context(|| format!("{text:?} in {}", path.display()))?;
    }
    Ok(sum)
}

/// Of run time, waiting time and time slices (Documentation/scheduler/sched-stats.rst) the first, in
/// ns.
fn run_time(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_is_the_first_number() {
        assert_eq!(run_time("123456789 42 7\n"), Some(Duration::from_nanos(123_456_789)));
        assert_eq!(run_time(""), None);
    }

    #[test]
    fn a_process_that_computes_is_seen_to() {
        let watch = Watch::start(std::process::id()).unwrap();
        // How much of the time a thread gets a CPU is not known, so the account itself ends the loop.
        while watch.cpu().unwrap() < Duration::from_millis(5) {
            assert!(watch.elapsed() < Duration::from_secs(20), "{:?} is counted", watch.cpu());
            std::hint::black_box((0..10_000_u64).sum::<u64>());
        }
    }
}
