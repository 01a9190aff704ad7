//! The host's memory, from `/proc/meminfo`.

use super::{Error, proc_file};

const PATH: &str = "/proc/meminfo";

/// The host's memory, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Memory {
    pub total: u64,
    /// Memory that programs could get without anything being swapped out.
    pub available: u64,
}

pub fn memory() -> Result<Memory, Error> {
    proc_file::read(PATH, parse)
}

fn parse(text: &str) -> Result<Memory, String> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let line = line.ok_or_else(|| format!("{name} is missing"))?;
        let number = line.trim().strip_suffix(" kB").and_then(|number| number.parse().ok());
        let kibibytes: u64 = number.ok_or_else(|| format!("{name} is {line:?}, not so many kB"))?;
        // "kB" are 1,024 bytes here (fs/proc/meminfo.c).
        kibibytes.checked_mul(1024).ok_or_else(|| format!("{name} is {line:?}"))
    };
    Ok(Memory { total: value("MemTotal")?, available: value("MemAvailable")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_become_bytes() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\n";
        assert_eq!(parse(text), Ok(Memory { total: 16 << 20, available: 8 << 20 }));
    }

    #[test]
    fn what_is_not_meminfo_is_refused() {
        for text in [
            "",
            "MemTotal: 16384 kB\n",
            "MemTotal: 16384\nMemAvailable: 1 kB\n",
            "MemTotal: -1 kB\nMemAvailable: 1 kB\n",
            "MemTotal: 18446744073709551615 kB\nMemAvailable: 1 kB\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let found = memory().expect("meminfo");
        assert!(found.available > 0 && found.available <= found.total, "{found:?}");
    }
}
