//! Settings of listening sockets and their two queues.

use super::super::facts::{HostFacts, Lent};
use super::{Advice, affordable, change, doubled, good, harmful, leave, short};
use crate::listeners::limits::{for_new_clients, has_syn_backlog};

/// Default of `somaxconn` since Linux 5.4 (ip-sysctl.rst).
const SOMAXCONN: u64 = 4096;
/// The most that is ever advised: at 10,000 connections a second the last of so many waits 6.5 s,
/// and the impatient have gone by then.
const SOMAXCONN_MOST: u64 = 65_536;
/// Size of a connection in an accept queue, rounded up: 2,368 bytes for TCP and 2,496 for TCPv6
/// (`slabtop`, measured on 6.18), and a page for its first data.
const CONNECTION_BYTES: u64 = 8192;
/// Default of `tcp_synack_retries` (ip-sysctl.rst): 31 s to the last, 63 s to the end.
const SYNACK_RETRIES: u64 = 5;
/// With so many an entry is given up after 2^4 - 1 = 15 s, and a client on a path that loses one
/// packet in ten misses all four SYN-ACKs once in 10,000 times.
const SYNACK_RETRIES_CROWDED: u64 = 3;

/// SYNs to a full queue since boot up to which a burst of simultaneous clients explains them.
const CROWD: u64 = 1000;

pub(in super::super) fn syncookies(host: &HostFacts, value: u64) -> Advice {
    match value {
        0 => harmful(
            1,
            "Without cookies a few hundred spoofed SYNs per second make a listener unreachable, and \
             tcpguard cannot send cookies either. With 1 they are sent only while a queue is full.",
        ),
        1 => good("cookies are sent only while a SYN queue is full"),
        _ => match host.lent {
            Some(Lent::From(before)) => leave(format!(
                "set to 2 by the agent while the kernel's SYN cookies are active. The agent restores \
                 {before} afterwards."
            )),
            Some(Lent::InUse) => leave(
                "set to 2 by the agent while the kernel's SYN cookies are active. See tcpguard status.",
            ),
            None => harmful(
                1,
                "Every connection is then made from a cookie. Clients without timestamps lose window \
                 scaling and SACK. The value 2 is for tests.",
            ),
        },
    }
}

pub(in super::super) fn max_syn_backlog(host: &HostFacts, value: u64) -> Advice {
    if !has_syn_backlog(host.syncookies) {
        return match value {
            value if value > most_useful_syn_backlog(host) => leave(
                "It has no effect while SYN cookies are on. The backlog of the application and somaxconn \
                 limit the SYN queue.",
            ),
            _ => good("no effect while SYN cookies are on"),
        };
    }
    let (longest, needed) = needed_syn_backlog(host);
    if value >= needed {
        return good("large enough for the longest queue (somaxconn)");
    }
    let cookies = match host.syncookies {
        Some(_) => "SYN cookies are off (tcp_syncookies 0)",
        None => "this kernel has no SYN cookies",
    };
    let lost = match host.load.refused() {
        0 => String::new(),
        lost => format!(" Since boot, {lost} packets were dropped that found no full queue."),
    };
    change(
        needed,
        format!(
            "{cookies}, so new clients get at most three quarters of this value: {}. {needed} gives them all \
             {longest} slots of somaxconn.{lost}",
            for_new_clients(value)
        ),
    )
}

/// The longest SYN queue that `somaxconn` allows, and the value that leaves all of it to new clients.
fn needed_syn_backlog(host: &HostFacts) -> (u64, u64) {
    let longest = host.somaxconn.unwrap_or(SOMAXCONN);
    let needed = longest.saturating_mul(4).div_ceil(3);
    (longest, needed.checked_next_power_of_two().unwrap_or(needed))
}

/// The largest value that has ever an effect, or the kernel's own.
fn most_useful_syn_backlog(host: &HostFacts) -> u64 {
    default_syn_backlog(host.hash_entries).max(needed_syn_backlog(host).1)
}

/// The kernel's default: one for 128 slots in its table of connections, at least 128 (`tcp_set_hashinfo`,
/// net/ipv4/tcp_ipv4.c; measured: 2,048 at 262,144).
fn default_syn_backlog(hash_entries: u64) -> u64 {
    (hash_entries / 128).max(128)
}

pub(in super::super) fn somaxconn(host: &HostFacts, value: u64) -> Advice {
    // A backlog above this value is from before it was lowered.
    let backlogs = host.listeners.iter().map(|listener| u64::from(listener.backlog));
    let longest = backlogs.max().unwrap_or(0).min(SOMAXCONN_MOST);
    let least = SOMAXCONN.max(longest);
    if value < least {
        let why = match longest > value {
            true => format!(
                "longer backlogs of applications, up to {longest}, shrink at their next restart"
            ),
            false => format!(
                "{value} limits every longer backlog that an application requests. The default since Linux 5.4 is \
                 {SOMAXCONN}."
            ),
        };
        return change(least, why);
    }
    let cut: Vec<String> = host
        .listeners
        .iter()
        // Of those that others can reach: a process beside it waits, and some runtimes ask for this very
        // limit everywhere.
        .filter(|listener| u64::from(listener.backlog) == value && !listener.at.ip().is_loopback())
        .map(|listener| listener.at.to_string())
        .collect();
    if host.load.listen_overflows == 0 || cut.is_empty() {
        return good(match host.load.listen_overflows {
            0 => "no accept queue overflowed since boot".to_owned(),
            lost => format!("{lost} lost, not by this limit"),
        });
    }
    let affordable = affordable(host.memory, CONNECTION_BYTES).min(SOMAXCONN_MOST);
    let to = doubled(value).min(affordable);
    let lost = host.load.listen_overflows;
    let at = cut.join(", ");
    if to <= value {
        return short(format!(
            "{lost} SYNs and ACKs dropped at full accept queues since boot. This limit applies to {at}, but this \
             host's memory allows only {affordable} waiting connections. Accept faster instead."
        ));
    }
    change(
        to,
        format!(
            "{lost} SYNs and ACKs dropped at full accept queues since boot. This limit applies to {at}."
        ),
    )
}

pub(in super::super) fn synack_retries(host: &HostFacts, value: u64) -> Advice {
    let refused = if has_syn_backlog(host.syncookies) { host.load.refused() } else { 0 };
    // With 2, also lent by the agent, each SYN gets a cookie and is counted like one at a full queue.
    let answered = if host.syncookies == Some(1) { host.load.queue_full_cookies } else { 0 };
    let full = answered.saturating_add(host.load.queue_full_drops).saturating_add(refused);
    let crowded = full >= CROWD;
    // Waits of 1, 2, 4 … s. The sum of more than 16 of them would only say: very long.
    let until = |retries: u64| (1u64 << retries.saturating_add(1).min(16)) - 1;
    match value {
        0 | 1 => harmful(
            SYNACK_RETRIES,
            "A client whose SYN-ACK is lost then has to retransmit its SYN. SYN cookies need no queue \
             entry, and tcpguard removes the entries of a flood.",
        ),
        SYNACK_RETRIES_CROWDED..=SYNACK_RETRIES if !crowded => {
            good(format!("a half-open connection ends after {}s", until(value)))
        }
        2 | SYNACK_RETRIES_CROWDED => {
            good(format!("a half-open connection ends after {}s", until(value)))
        }
        value if crowded => change(
            SYNACK_RETRIES_CROWDED,
            format!(
                "{full} SYNs found a full queue since boot, or came with tcp_syncookies 2. With this value, entries of a flood end \
                 after {}s instead of {}s.",
                until(SYNACK_RETRIES_CROWDED),
                until(value)
            ),
        ),
        value => change(
            SYNACK_RETRIES,
            format!(
                "each retransmission doubles the lifetime of a flood's entry: {}s now, {}s by default",
                until(value),
                until(SYNACK_RETRIES)
            ),
        ),
    }
}

pub(in super::super) fn abort_on_overflow(_: &HostFacts, value: u64) -> Advice {
    match value {
        0 => good("a full accept queue resets no client"),
        _ => harmful(
            0,
            "It resets real clients whose third ACK finds the accept queue full. Without it, the server \
             retransmits its SYN-ACK, and they connect a moment later. SYNs to a full queue are dropped \
             without a reset either way.",
        ),
    }
}

/// For the TCP options that SYN cookies depend on.
fn option(value: u64, why: &'static str) -> Advice {
    match value {
        0 => harmful(1, why),
        _ => good("on, as recommended"),
    }
}

pub(in super::super) fn timestamps(_: &HostFacts, value: u64) -> Advice {
    option(
        value,
        "SYN cookies encode window scaling and SACK in the timestamp. Without it, connections made \
         during a flood are slow. Since Linux 4.10 a random offset hides the uptime.",
    )
}

pub(in super::super) fn sack(_: &HostFacts, value: u64) -> Advice {
    option(
        value,
        "Each loss then costs a round trip. The vulnerability (CVE-2019-11477) is fixed in Linux 5.2 and \
         in all maintained kernels.",
    )
}

pub(in super::super) fn window_scaling(_: &HostFacts, value: u64) -> Advice {
    option(
        value,
        "A window of 64KiB limits a connection to 5 Mbit/s at 100ms. Buffers grow only while they are used.",
    )
}
