//! Packets that were lost before any program could see them.

use std::path::Path;

use super::{Error, softnet};

/// Counters of a network card for packets lost to a full ring or buffer (struct rtnl_link_stats64).
const OF_INTERFACE: [&str; 2] = ["rx_missed_errors", "rx_fifo_errors"];

/// The packets that were lost on their way to `interfaces` since boot. Read several times a second:
/// unlike [`super::link_stats()`], sysfs takes no lock for it that a driver may hold for long.
pub fn lost<'a>(interfaces: impl Iterator<Item = &'a str>) -> Result<u64, Error> {
    let mut lost: u64 = softnet()?.iter().map(|cpu| cpu.dropped).sum();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_has_lost_nothing() {
        let none = lost(std::iter::empty()).expect("softnet_stat");
        let missing = lost(["no-such-interface"].into_iter()).expect("softnet_stat");
        assert!(missing >= none);
    }
}
