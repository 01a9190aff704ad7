//! Has the kernel count how often and how long BPF programs run. That costs each run some ten
//! nanoseconds, so it is off unless requested.

use std::io;
use std::os::fd::OwnedFd;

use aya::sys::{Stats, enable_stats};

/// The kernel counts while this lives.
///
/// It is bound to a descriptor (`BPF_ENABLE_STATS`, Linux 5.8) and leaves the sysctl
/// `kernel.bpf_stats_enabled` alone. When the process ends, however it ends, all is as it was before,
/// and counting that another process has switched on stays on.
#[derive(Debug)]
pub struct Counting(#[expect(dead_code, reason = "held, not used")] OwnedFd);

/// Switches the counting on for all programs of the host.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] without CAP_SYS_ADMIN; another before Linux 5.8.
pub fn count_runs() -> io::Result<Counting> {
    enable_stats(Stats::RunTime).map(Counting).map_err(|error| error.io_error)
}
