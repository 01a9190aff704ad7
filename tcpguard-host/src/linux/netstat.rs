//! The kernel's `TcpExt` counters, from `/proc/thread-self/net/netstat`, and some of its `Tcp` counters beside them.

use tcpguard_engine::TcpExt;

use super::{Error, proc_file};

/// Of the network namespace of this thread; `/proc/self` would show that of the main thread.
const PATH: &str = "/proc/thread-self/net/netstat";
/// Likewise, of the counters that SNMP has (RFC 4022).
const SNMP: &str = "/proc/thread-self/net/snmp";
const TCP_EXT: &str = "TcpExt:";

/// The counters of this thread's network namespace.
pub fn tcp_ext() -> Result<TcpExt, Error> {
    proc_file::read(PATH, parse)
}

/// One more of these counters, by the name that the kernel has for it; `None` where it has none of
/// that name.
pub fn tcp_ext_counter(name: &str) -> Result<Option<u64>, Error> {
    proc_file::read(PATH, |text| one(text, name))
}

/// Segments that the stack counts (RFC 4022).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpSegments {
    /// Resets that it has sent (`OutRsts`).
    pub resets: u64,
    /// Segments with a wrong checksum that it has dropped (`InCsumErrors`).
    pub checksum_errors: u64,
}

/// The segments that the stack of this thread's network namespace has counted.
pub fn tcp_segments() -> Result<TcpSegments, Error> {
    proc_file::read(SNMP, segments_of)
}

fn segments_of(text: &str) -> Result<TcpSegments, String> {
    let counter = |wanted: &str| {
        let found = pairs(text, "Tcp:")?.find(|(counter, _)| *counter == wanted);
        let (name, value) = found.ok_or_else(|| format!("no {wanted}"))?;
        count(name, value)
    };
    Ok(TcpSegments { resets: counter("OutRsts")?, checksum_errors: counter("InCsumErrors")? })
}

fn one(text: &str, name: &str) -> Result<Option<u64>, String> {
    let found = pairs(text, TCP_EXT)?.find(|(counter, _)| *counter == name);
    found.map(|(name, value)| count(name, value)).transpose()
}

/// A counter that the kernel does not have is 0: it counts since boot and only differences are
/// used, so that an event which this kernel does not report is one that never happens.
fn parse(text: &str) -> Result<TcpExt, String> {
    let mut counters = TcpExt::default();
    for (name, value) in pairs(text, TCP_EXT)? {
        let counter = match name {
            "ListenOverflows" => &mut counters.listen_overflows,
            "ListenDrops" => &mut counters.listen_drops,
            "TCPReqQFullDoCookies" => &mut counters.req_q_full_do_cookies,
            "TCPReqQFullDrop" => &mut counters.req_q_full_drop,
            "SyncookiesSent" => &mut counters.syncookies_sent,
            "SyncookiesRecv" => &mut counters.syncookies_recv,
            "SyncookiesFailed" => &mut counters.syncookies_failed,
            _ => continue,
        };
        *counter = count(name, value)?;
    }
    Ok(counters)
}

/// Names and values, from a pair of lines `Group: names…` and `Group: values…`.
fn pairs<'t>(
    text: &'t str,
    group: &str,
) -> Result<impl Iterator<Item = (&'t str, &'t str)> + use<'t>, String> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return Err(format!("no pair of lines that starts with {group}"));
    };
    if names.split_whitespace().count() != values.split_whitespace().count() {
        return Err(format!("{group} has not as many values as names"));
    }
    Ok(names.split_whitespace().zip(values.split_whitespace()))
}

fn count(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name} is {value:?}, not a count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETSTAT: &str = "\
TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts ListenOverflows ListenDrops \
TCPReqQFullDoCookies TCPReqQFullDrop
TcpExt: 11 12 13 14 15 16 17 18446744073709551615
IpExt: InNoRoutes InTruncatedPkts
IpExt: 1 2
";

    #[test]
    fn every_counter_is_found_under_its_name() {
        assert_eq!(
            parse(NETSTAT),
            Ok(TcpExt {
                listen_overflows: 15,
                listen_drops: 16,
                req_q_full_do_cookies: 17,
                req_q_full_drop: u64::MAX,
                syncookies_sent: 11,
                syncookies_recv: 12,
                syncookies_failed: 13,
            })
        );
    }

    #[test]
    fn a_counter_that_the_kernel_lacks_is_zero() {
        let found = parse("TcpExt: ListenDrops\nTcpExt: 5\n");
        assert_eq!(found, Ok(TcpExt { listen_drops: 5, ..TcpExt::default() }));
    }

    #[test]
    fn a_counter_is_found_by_its_name() {
        assert_eq!(one(NETSTAT, "EmbryonicRsts"), Ok(Some(14)));
        assert_eq!(one(NETSTAT, "InNoRoutes"), Ok(None), "of another group");
        assert!(one("TcpExt: A\nTcpExt: x\n", "A").is_err());
    }

    #[test]
    fn what_is_not_netstat_is_refused() {
        for text in [
            "",
            "TcpExt: ListenDrops\n",
            "TcpExt: ListenDrops\nIpExt: 5\n",
            "TcpExt: ListenDrops\nTcpExt: 5 6\n",
            "TcpExt: ListenDrops\nTcpExt: -5\n",
            "TcpExt: ListenDrops\nTcpExt: 18446744073709551616\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_cut_file_is_refused_or_yields_what_it_says() {
        let whole = parse(NETSTAT).expect("fixture");
        for cut in 0..NETSTAT.len() {
            if let Ok(found) = parse(&NETSTAT[..cut]) {
                // Only the last number of the pair can be shorter than it was.
                let expected = TcpExt { req_q_full_drop: found.req_q_full_drop, ..whole };
                assert_eq!(found, expected, "cut at {cut}");
            }
        }
    }

    /// One of its counters may be negative.
    #[test]
    fn resets_and_wrong_checksums_are_found_among_the_counters_of_snmp() {
        let snmp = "\
IcmpMsg: OutType3
IcmpMsg: 10
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens OutSegs OutRsts InCsumErrors
Tcp: 1 200 120000 -1 17 18 19 20
Udp: InDatagrams NoPorts
Udp: 1 2
";
        assert_eq!(segments_of(snmp), Ok(TcpSegments { resets: 19, checksum_errors: 20 }));
        assert!(segments_of("Tcp: RtoMin\nTcp: 200\n").is_err());
        assert!(segments_of(NETSTAT).is_err(), "of another group");
    }

    #[test]
    fn the_running_kernel_is_understood() {
        tcp_ext().expect("TcpExt counters");
        tcp_segments().expect("the counters of segments");
    }
}
