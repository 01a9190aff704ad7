//! CPU cost of a packet on the host under test.
//!
//! On a host that receives in a kernel thread of its own, that thread's run time is exact, where
//! the softirq share of `/proc/stat` is sampled and has shown a tenth of the truth.
#![expect(unsafe_code, reason = "sched_setscheduler(2) has no safe form in rustix")]

pub mod clock;
pub mod digest;
pub mod leak;
pub mod peak;
pub mod sent_bytes;
pub mod stall;
pub mod tcp_counters;

use std::collections::BTreeSet;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::net::netns::Netns;

/// A kernel thread that receives for one interface.
#[derive(Debug)]
pub struct Receiver {
    thread: Pid,
    interface: &'static str,
}

/// The counters of a [`Receiver`] at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    cpu_ns: u64,
    packets: u64,
}

/// Work done between two readings.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time in ns.
    pub cpu_ns: u64,
    /// Packets taken from the interface.
    pub packets: u64,
}

impl Receiver {
    /// Moves reception on a virtual interface into a thread of its own, kept on one CPU.
    ///
    /// # Errors
    /// When the kernel has no threaded NAPI (it came with 5.12) or there is no such interface.
    pub fn start(host: &Netns, interface: &'static str, cpu: usize) -> Result<Self> {
        let before = receive_threads()?;
        // A virtual interface polls (NAPI) only with GRO or an XDP program.
        host.exec(&format!("ethtool -K {interface} gro on"))?;
        host.write(&format!("/sys/class/net/{interface}/threaded"), "1")?;
        let after = receive_threads()?;
        let new: Vec<_> = after.difference(&before).copied().collect();
        ensure!(
            new.len() == 1,
            "{interface} should receive in one new thread, not {}: measure one lab at a time",
            new.len()
        );
        let thread = Pid::from_raw(new[0]).context("a thread id is positive")?;
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(Some(thread), &cpus)
            .with_context(|| format!("cannot keep the receive thread on CPU {cpu}"))?;
        wait_for_no_process(thread)?;
        Ok(Self { thread, interface })
    }

    pub const fn thread(&self) -> Pid {
        self.thread
    }

    /// Reads its counters; `host` is where its interface is.
    pub fn read(&self, host: &Netns) -> Result<Reading> {
        let path = format!("/proc/{}/schedstat", self.thread.as_raw_nonzero());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // Documentation/scheduler/sched-stats.rst: run time, wait time, time slices.
        let run_time = text.split_whitespace().next().context("schedstat is empty")?;
        let packets = host.interface_counter(self.interface, "rx_packets")?;
        Ok(Reading { cpu_ns: run_time.parse()?, packets })
    }
}

impl Reading {
    /// The work done since an `earlier` reading.
    pub fn since(&self, earlier: &Self) -> Cost {
        Cost { cpu_ns: self.cpu_ns - earlier.cpu_ns, packets: self.packets - earlier.packets }
    }
}

impl Cost {
    /// CPU time per packet.
    ///
    /// # Panics
    /// Without any packet.
    pub fn ns_per_packet(&self) -> f64 {
        assert!(self.packets > 0, "nothing was received");
        self.cpu_ns as f64 / self.packets as f64
    }

    /// The share of one CPU over `time`, 0 to 1.
    pub fn load(&self, time: Duration) -> f64 {
        self.cpu_ns as f64 / time.as_nanos() as f64
    }
}

/// The middle one of some measurements, which a single disturbed one cannot move far.
///
/// # Panics
/// Without any measurement.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The lower end of the 95 % confidence interval of a share, given `successes` in `trials` (Wilson 1927): the
/// share that may be claimed, 0 to 1. Nothing may be claimed without trials.
pub fn lower_bound(successes: usize, trials: usize) -> f64 {
    const Z: f64 = 1.959_964;
    if trials == 0 {
        return 0.0;
    }
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let square = Z * Z / n;
    let spread = Z * (p * (1.0 - p) / n + square / (4.0 * n)).sqrt();
    ((p + square / 2.0 - spread) / (1.0 + square)).max(0.0)
}

/// Reception outside a thread is a softirq, which comes before every process. As a thread it needs
/// a real-time policy for that: a ring of 256 frames is full after 2.5 ms of a flood.
fn wait_for_no_process(thread: Pid) -> Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: `lowest` lives through the call, which only reads it.
    let result = unsafe {
        libc::sched_setscheduler(thread.as_raw_nonzero().get(), libc::SCHED_FIFO, &raw const lowest)
    };
    ensure!(result == 0, "cannot raise the receive thread: {}", io::Error::last_os_error());
    Ok(())
}

fn receive_threads() -> Result<BTreeSet<i32>> {
    let mut threads = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while the list is read.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with("napi/") {
            threads.insert(id);
        }
    }
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_time_by_packets() {
        let earlier = Reading { cpu_ns: 1_000, packets: 10 };
        let cost = Reading { cpu_ns: 31_000, packets: 20 }.since(&earlier);
        assert_eq!(cost.ns_per_packet(), 3_000.0);
        assert_eq!(cost.load(Duration::from_micros(60)), 0.5);
    }

    #[test]
    fn ten_thousand_successes_allow_to_claim_three_nines() {
        let bound = lower_bound(10_000, 10_000);
        assert!((0.99961..0.99963).contains(&bound), "{bound}");
        assert!((lower_bound(50, 100) - 0.4038).abs() < 0.0001);
        assert_eq!(lower_bound(0, 100), 0.0);
        assert_eq!(lower_bound(0, 0), 0.0);
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        assert_eq!(median(vec![3.0, 1_000.0, 2.0]), 3.0);
    }
}
