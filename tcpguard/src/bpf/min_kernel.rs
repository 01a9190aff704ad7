//! The oldest kernel that is fit, asked before anything is made in it.

use tcpguard_host::linux::KernelRelease;
use tcpguard_host::linux::release::OLDEST;

use super::KernelError;

/// Refuses a kernel that is too old in one sentence, instead of the verifier's words for whichever
/// part it meets first.
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
