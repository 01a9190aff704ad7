//! Packets that were lost before any program could see them.

use std::path::Path;

use super::Error;

/// One line per CPU; the second column is what a full backlog dropped (net/core/net-procfs.c).
const SOFTNET: &str = "/proc/net/softnet_stat";
/// Counters of a network card whose ring was full, or whose buffer was (struct rtnl_link_stats64).
const OF_INTERFACE: [&str; 2] = ["rx_missed_errors", "rx_fifo_errors"];

/// What was lost on its way to `interfaces` since boot.
///
/// # Errors
/// [`Error::Read`] or [`Error::Malformed`], naming the file.
pub fn lost<'a>(interfaces: impl Iterator<Item = &'a str>) -> Result<u64, Error> {
    let mut lost = backlog_drops(&read(Path::new(SOFTNET))?)
        .map_err(|detail| Error::Malformed { path: SOFTNET.into(), detail })?;
    for interface in interfaces {
        for counter in OF_INTERFACE {
            let path = Path::new("/sys/class/net").join(interface).join("statistics").join(counter);
            // The interface may have gone a moment ago, and sysfs may show another namespace.
            if let Ok(text) = std::fs::read_to_string(&path) {
                lost += text.trim().parse::<u64>().unwrap_or(0);
            }
        }
    }
    Ok(lost)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })
}

fn backlog_drops(text: &str) -> Result<u64, String> {
    let dropped = |line: &str| {
        let column = line.split_whitespace().nth(1);
        let number = column.and_then(|column| u64::from_str_radix(column, 16).ok());
        number.ok_or_else(|| format!("{line:?} has no second column in hexadecimal"))
    };
    text.lines().map(dropped).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_column_of_every_cpu_counts_in_hexadecimal() {
        let text = "000f4240 0000000a 00000003 0 0 0 0 0 0 0 0 00000000\n\
                    00000001 000000ff 00000000 0 0 0 0 0 0 0 0 00000001\n";
        assert_eq!(backlog_drops(text), Ok(10 + 255));
        assert_eq!(backlog_drops(""), Ok(0));
    }

    #[test]
    fn a_line_without_it_is_an_error() {
        for text in ["0000\n", "0000 xyz\n"] {
            assert!(backlog_drops(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_has_lost_nothing() {
        let none = lost(std::iter::empty()).expect("softnet_stat");
        let missing = lost(["no-such-interface"].into_iter()).expect("softnet_stat");
        assert!(missing >= none);
    }
}
