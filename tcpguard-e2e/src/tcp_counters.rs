//! What a host's own TCP has counted: the figures of `netstat -s`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::netns::Netns;

/// All counters of `Tcp` and `TcpExt`, by name. Those that are negative are 0.
///
/// # Errors
/// When the kernel does not say.
pub fn tcp_counters(host: &Netns) -> Result<BTreeMap<String, u64>> {
    let mut counters = BTreeMap::new();
    for (file, group) in [("snmp", "Tcp:"), ("netstat", "TcpExt:")] {
        // Not /proc/net, which is that of the process and not of the thread that is in the namespace.
        let text = host.read(&format!("/proc/thread-self/net/{file}"))?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
        let pair = lines.next().zip(lines.next());
        let (names, values) = pair.with_context(|| format!("no {group} in {file}"))?;
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // MaxConn is -1.
            counters.insert(name.to_owned(), value.parse().unwrap_or(0));
        }
    }
    Ok(counters)
}

/// One of them.
///
/// # Errors
/// When the kernel has no such counter.
pub fn tcp_counter(host: &Netns, name: &str) -> Result<u64> {
    let counters = tcp_counters(host)?;
    counters.get(name).copied().with_context(|| format!("this kernel does not count {name}"))
}

/// SYNs that a host has sent to open connections, the repeated ones included.
///
/// # Errors
/// When the kernel does not say.
pub fn syns_sent(host: &Netns) -> Result<u64> {
    Ok(tcp_counter(host, "ActiveOpens")? + tcp_counter(host, "TCPSynRetrans")?)
}
