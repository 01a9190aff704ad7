//! Waiting for the runs of programs that are under way.
#![expect(unsafe_code, reason = "membarrier(2) has no safe form in rustix")]

use std::time::Duration;

/// `MEMBARRIER_CMD_GLOBAL` of the kernel's `membarrier.h`.
const GLOBAL: libc::c_int = 1;
/// Pause where the kernel does not wait: a run ends within microseconds, so this is long.
const LONG: Duration = Duration::from_millis(50);

/// Returns when every run of a program that began before this call has ended, so that none goes on
/// that read the configuration as it was before. Takes some ten milliseconds.
///
/// A run is an RCU read-side section. `membarrier` waits for all of those (`synchronize_rcu` in
/// kernel/sched/membarrier.c), except on kernels with `nohz_full`, which refuse it.
pub fn wait_for_programs() {
    // SAFETY: no pointers are passed.
    let refused = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } != 0;
    if refused {
        std::thread::sleep(LONG);
    }
}
