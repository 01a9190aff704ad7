//! The oldest kernel that is fit, asked before anything is made in it.

use super::KernelError;
use crate::host::KernelRelease;

/// The oldest release on which all programs are verified and an agent is seen to work
/// (`cargo xtask vm`). Below it there is no `bpf_xdp_get_buff_len` (5.18), no XDP program that takes
/// frames in pieces (5.18), and no cookie of a network namespace (5.14); BPF memory is charged to
/// `RLIMIT_MEMLOCK` below 5.11.
pub const OLDEST: (u32, u32) = (6, 1);

/// Refuses a kernel that is too old in one sentence, instead of the verifier's words for whichever
/// part it meets first.
///
/// # Errors
/// [`KernelError::TooOld`], or [`KernelError::Host`] where the kernel does not say its release.
pub fn require_release() -> Result<(), KernelError> {
    fit(KernelRelease::running()?)
}

fn fit(release: KernelRelease) -> Result<(), KernelError> {
    let (major, minor) = OLDEST;
    if release.at_least(major, minor) {
        return Ok(());
    }
    Err(KernelError::TooOld { release: release.name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(major: u32, minor: u32) -> KernelRelease {
        KernelRelease { major, minor, name: format!("{major}.{minor}.0-44-cloud-amd64") }
    }

    #[test]
    fn the_oldest_is_fit_and_what_came_before_it_is_refused_by_name() {
        for (major, minor) in [(6, 1), (6, 18), (7, 0)] {
            fit(release(major, minor)).unwrap();
        }
        for (major, minor) in [(6, 0), (5, 15), (5, 10), (4, 19)] {
            let error = fit(release(major, minor)).unwrap_err().to_string();
            assert!(error.contains(&format!("{major}.{minor}.0-44-cloud-amd64")), "{error}");
            assert!(error.contains("6.1"), "{error}");
        }
    }
}
