//! The release of the running kernel.

use std::fmt;

use super::{Error, proc_file};

const PATH: &str = "/proc/sys/kernel/osrelease";

/// The oldest release on which all programs are verified and an agent is seen to work
/// (`cargo xtask vm`). Below it there is no `bpf_xdp_get_buff_len` (5.18), no XDP program that takes
/// frames in pieces (5.18), and no cookie of a network namespace (5.14); BPF memory is charged to
/// `RLIMIT_MEMLOCK` below 5.11.
pub const OLDEST: (u32, u32) = (6, 1);

/// The release of the running kernel. Releases compare by their numbers.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KernelRelease {
    pub major: u32,
    pub minor: u32,
    /// The whole name, as `uname -r` prints it.
    pub name: String,
}

impl KernelRelease {
    /// Reads the release of the running kernel.
    pub fn running() -> Result<Self, Error> {
        proc_file::read(PATH, |text| {
            let name = text.trim_end();
            Self::parse(name).ok_or_else(|| format!("{name:?} does not start with two numbers"))
        })
    }

    /// Returns whether it is at least `major.minor`.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    fn parse(name: &str) -> Option<Self> {
        let (major, rest) = name.split_once('.')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self {
            major: major.parse().ok()?,
            minor: rest[..end].parse().ok()?,
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_numbers_count() {
        for (name, numbers) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("6.12.9", Some((6, 12))),
            ("7.2-rc1", Some((7, 2))),
            ("5.14", Some((5, 14))),
            ("", None),
            ("6", None),
            ("6.", None),
            (".1", None),
            ("six.one", None),
            ("99999999999.1", None),
        ] {
            let found = KernelRelease::parse(name).map(|release| (release.major, release.minor));
            assert_eq!(found, numbers, "{name:?}");
        }
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        let release = KernelRelease::parse("6.9.3").expect("a release");
        assert!(release.at_least(6, 9) && release.at_least(5, 15));
        assert!(!release.at_least(6, 10) && !release.at_least(7, 0));
    }

    #[test]
    fn the_running_kernel_is_understood() {
        assert!(KernelRelease::running().expect("a release").at_least(5, 0));
    }
}
