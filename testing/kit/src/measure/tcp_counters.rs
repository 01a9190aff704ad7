//! Counters of a host's own TCP: the figures of `netstat -s`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::net::netns::Netns;

/// All counters of `Tcp` and `TcpExt`, by name. Those that are negative are 0.
pub fn tcp_counters(host: &Netns) -> Result<BTreeMap<String, u64>> {
    let mut counters = BTreeMap::new();
    for (file, group) in [("snmp", "Tcp:"), ("netstat", "TcpExt:")] {
        // Not /proc/net, which is that of the process and not of the thread that is in the namespace.
        let path = format!("/proc/thread-self/net/{file}");
        let text = host.read(&path)?;
        counters.extend(of_group(&text, group).with_context(|| format!("{group} in {path}"))?);
    }
    Ok(counters)
}

/// A line of names, and one of values.
fn of_group(text: &str, group: &str) -> Result<Vec<(String, u64)>> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = lines.next().zip(lines.next()).context("no such lines")?;
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    let read = |(name, value): (&str, &str)| {
        let value: i64 = value.parse().with_context(|| format!("{name} is {value:?}"))?;
        // MaxConn is -1.
        Ok((name.to_owned(), value.max(0) as u64))
    };
    pairs.map(read).collect()
}

pub fn tcp_counter(host: &Netns, name: &str) -> Result<u64> {
    let counters = tcp_counters(host)?;
    counters.get(name).copied().with_context(|| format!("this kernel does not count {name}"))
}

/// SYNs that a host has sent to open connections, retransmissions included.
pub fn syns_sent(host: &Netns) -> Result<u64> {
    Ok(tcp_counter(host, "ActiveOpens")? + tcp_counter(host, "TCPSynRetrans")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_of_a_group_belong_together() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: MaxConn InSegs\nTcp: -1 42\n";
        let pair = |name: &str, value| (name.to_owned(), value);
        assert_eq!(of_group(text, "Tcp:").unwrap(), [pair("MaxConn", 0), pair("InSegs", 42)]);
        assert!(of_group(text, "TcpExt:").is_err());
        assert!(of_group("Tcp: InSegs\nTcp: many\n", "Tcp:").is_err());
    }
}
