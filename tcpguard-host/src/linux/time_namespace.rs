//! Offset of this process's boot clock to the host's.
//!
//! In a time namespace `CLOCK_BOOTTIME` is shifted, and the clock of BPF programs is not
//! (time_namespaces(7)): heartbeat and ends of rules would lie where the programs never look.

use std::path::Path;

const OFFSETS: &str = "/proc/self/timens_offsets";

/// The offset of this namespace to the host's boot time, in ns; 0 outside one, and on kernels without.
pub fn boottime_offset() -> i128 {
    offset_in(Path::new(OFFSETS))
}

fn offset_in(path: &Path) -> i128 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(boottime).unwrap_or(0)
}

/// Parses the line `boottime SECONDS NANOSECONDS`, of which only the seconds may be negative.
fn boottime(line: &str) -> Option<i128> {
    let mut words = line.split_whitespace();
    if words.next() != Some("boottime") {
        return None;
    }
    let seconds: i128 = words.next()?.parse().ok()?;
    let nanos: i128 = words.next()?.parse().ok()?;
    Some(seconds * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_that_of_the_boot_clock() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("timens_offsets");
        for (text, expected) in [
            ("monotonic           0         0\nboottime            0         0\n", 0),
            (
                "monotonic       50000         0\nboottime       100000         7\n",
                100_000_000_000_007,
            ),
            ("boottime -2 500000000\n", -1_500_000_000),
            ("boottime soon\n", 0),
            ("", 0),
        ] {
            std::fs::write(&path, text).expect("file");
            assert_eq!(offset_in(&path), expected, "{text}");
        }
        assert_eq!(offset_in(&dir.path().join("nothing")), 0);
    }
}
