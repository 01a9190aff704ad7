//! Numbers of TCP sockets of the kinds that have limits of their own, from `/proc/thread-self/net/sockstat`.

use super::{Error, proc_file};

/// File with the counts of the network namespace of this thread; `/proc/self` would show those of the main
/// thread.
const PATH: &str = "/proc/thread-self/net/sockstat";

/// The kernel's counts of TCP (`sockstat_seq_show`, net/ipv4/proc.c). A count that it does not have is
/// `None`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SockStat {
    /// Sockets that were closed while their connections go on. Of all network namespaces together, as
    /// is their limit, `net.ipv4.tcp_max_orphans`.
    pub orphans: Option<u64>,
    /// Connections in TIME_WAIT, and those in FIN_WAIT2 that are kept in the same small form, of
    /// both families. Of this namespace, as is their limit, `net.ipv4.tcp_max_tw_buckets`.
    pub time_wait: Option<u64>,
    /// Memory in TCP's queues, in pages, of all namespaces and both families.
    pub memory_pages: Option<u64>,
}

pub fn sockstat() -> Result<SockStat, Error> {
    proc_file::read(PATH, parse)
}

/// Parses `TCP: inuse 20 orphan 0 tw 12 alloc 25 mem 3`, a word before each number.
fn parse(text: &str) -> Result<SockStat, String> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"));
    let line = line.ok_or("no line that starts with TCP:")?;
    let mut found = SockStat::default();
    let mut words = line.split_whitespace();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} has no number"))?;
        let count = match name {
            "orphan" => &mut found.orphans,
            "tw" => &mut found.time_wait,
            "mem" => &mut found.memory_pages,
            _ => continue,
        };
        // A sum over CPUs may be read as slightly less than nothing.
        let value: i64 = value.parse().map_err(|_| format!("{name} is {value:?}, not a count"))?;
        *count = Some(value.try_into().unwrap_or(0));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_is_found_under_its_name() {
        let text = "sockets: used 190\nTCP: inuse 6 orphan 1 tw 12 alloc 9 mem 3\nUDP: inuse 2\n";
        let expected = SockStat { orphans: Some(1), time_wait: Some(12), memory_pages: Some(3) };
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn a_count_that_the_kernel_lacks_is_not_known() {
        let expected = SockStat { time_wait: Some(2), ..SockStat::default() };
        assert_eq!(parse("TCP: inuse 6 tw 2\n"), Ok(expected));
        assert_eq!(parse("TCP: mem -1\n").map(|found| found.memory_pages), Ok(Some(0)));
    }

    #[test]
    fn what_is_not_sockstat_is_refused() {
        for text in ["", "UDP: inuse 2\n", "TCP: inuse\n", "TCP: tw many\n", "TCP: tw 1.5\n"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let found = sockstat().expect("sockstat");
        assert!(found.orphans.is_some() && found.time_wait.is_some(), "{found:?}");
    }
}
