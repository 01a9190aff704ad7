//! A network card's receive rings and queues, and the CPUs that process their packets.

use std::fs;
use std::path::Path;

use super::device::ethtool;
use super::{Error, Interface};

/// `ETHTOOL_GRINGPARAM`, include/uapi/linux/ethtool.h.
const ETHTOOL_GRINGPARAM: u32 = 0x10;
/// `ETHTOOL_GCHANNELS`, likewise.
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// Directory in which sysfs shows interfaces.
pub const NET_CLASS: &str = "/sys/class/net";

/// The receive ring of each queue, in packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReceiveRing {
    pub length: u32,
    /// Longest length that the driver offers.
    pub longest: u32,
}

/// Queues over which a card spreads packets, each with an interrupt of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReceiveQueues {
    /// Number of queues in use.
    pub count: u32,
    /// Largest number of queues that the driver offers.
    pub most: u32,
}

/// The receive ring of an interface; `None` where its driver has none, as virtual ones have.
pub fn receive_ring(name: &str) -> Result<Option<ReceiveRing>, Error> {
    // struct ethtool_ringparam: the maxima of four rings, then their current lengths: rx, rx_mini,
    // rx_jumbo, tx.
    let words = ask(name, ETHTOOL_GRINGPARAM, "ask for an interface's receive ring")?;
    Ok(words.map(|[_, longest, _, _, _, length, ..]| ReceiveRing { length, longest }))
}

/// The receive queues of an interface; `None` where its driver does not report them.
pub fn receive_queues(name: &str) -> Result<Option<ReceiveQueues>, Error> {
    let words = ask(name, ETHTOOL_GCHANNELS, "ask for an interface's receive queues")?;
    Ok(words.map(queues))
}

/// Reads `struct ethtool_channels`: the maxima of four kinds, then their current numbers: rx, tx, other,
/// combined. A combined channel receives and sends.
fn queues([_, most_rx, _, _, most_combined, rx, _, _, combined]: [u32; 9]) -> ReceiveQueues {
    ReceiveQueues {
        count: rx.saturating_add(combined),
        most: most_rx.max(most_combined).max(rx.saturating_add(combined)),
    }
}

fn ask(name: &str, command: u32, what: &'static str) -> Result<Option<[u32; 9]>, Error> {
    let mut words = [0; 9];
    words[0] = command;
    match ethtool(name, words) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(source) => Err(Error::Refused { what, source }),
    }
}

/// Returns whether the host spreads the packets of a queue over several CPUs in software (RPS); `None` where
/// sysfs does not show this interface. `class` is [`NET_CLASS`].
pub fn spreads_in_software(class: &Path, interface: &Interface) -> Option<bool> {
    let directory = interface.sysfs(class)?;
    let mut spreads = false;
    for queue in fs::read_dir(directory.join("queues")).ok()? {
        // A mask of CPUs, such as 00000000,0000000f.
        let mask = fs::read_to_string(queue.ok()?.path().join("rps_cpus"));
        // Queues that send have none.
        spreads |= mask.is_ok_and(|mask| mask.contains(|digit: char| ('1'..='f').contains(&digit)));
    }
    Some(spreads)
}

#[cfg(test)]
mod tests {
    use super::super::interfaces;
    use super::*;

    #[test]
    fn combined_queues_receive_too() {
        for (words, expected) in [
            ([0, 0, 0, 1, 16, 0, 0, 1, 8], ReceiveQueues { count: 8, most: 16 }),
            ([0, 4, 4, 0, 0, 2, 4, 0, 0], ReceiveQueues { count: 2, most: 4 }),
            ([0, 8, 8, 0, 8, 2, 2, 0, 4], ReceiveQueues { count: 6, most: 8 }),
            ([u32::MAX; 9], ReceiveQueues { count: u32::MAX, most: u32::MAX }),
        ] {
            assert_eq!(queues(words), expected, "{words:?}");
        }
    }

    #[test]
    fn the_loopback_interface_has_neither_ring_nor_queues() {
        assert_eq!(receive_ring("lo").expect("an answer"), None);
        assert_eq!(receive_queues("lo").expect("an answer"), None);
        for name in ["no-such-if", "a name that is longer than any interface's"] {
            let error = receive_ring(name).expect_err("no such interface").to_string();
            assert!(error.starts_with("cannot ask for an interface's receive ring: "), "{error}");
        }
    }

    #[test]
    fn one_cpu_in_one_mask_is_enough_to_spread() {
        let class = tempfile::tempdir().expect("a directory");
        let interface = Interface { name: "eth0".into(), ..interfaces::by_name("lo").expect("lo") };
        assert_eq!(spreads_in_software(class.path(), &interface), None);
        let directory = class.path().join("eth0");
        for queue in ["rx-0", "rx-1", "tx-0"] {
            fs::create_dir_all(directory.join("queues").join(queue)).expect("a directory");
        }
        fs::write(directory.join("ifindex"), format!("{}\n", interface.index)).expect("a file");
        for (mask, expected) in [("00000000,00000000\n", false), ("00000000,0000000f\n", true)] {
            fs::write(directory.join("queues/rx-1/rps_cpus"), mask).expect("a file");
            assert_eq!(spreads_in_software(class.path(), &interface), Some(expected), "{mask}");
        }
        let elsewhere = Interface { index: interface.index + 1, ..interface };
        assert_eq!(spreads_in_software(class.path(), &elsewhere), None);
    }
}
