//! Settings of connections: timeouts, and the state kept after them.

use super::super::facts::HostFacts;
use super::{Advice, affordable, change, good, harmful, leave, short};

/// Default of `tcp_syn_retries` (ip-sysctl.rst): about two minutes.
const SYN_RETRIES: u64 = 6;
/// Default of `tcp_fin_timeout` in seconds (ip-sysctl.rst, tcp(7)).
const FIN_TIMEOUT: u64 = 60;
/// A FIN that is lost is retransmitted after 1, 3, 7 and 15 s at the initial timeout of one second (RFC 6298): a
/// shorter wait resets peers on lossy paths.
const FIN_TIMEOUT_LEAST: u64 = 15;
/// Default of `tcp_keepalive_time` in seconds (ip-sysctl.rst).
const KEEPALIVE_TIME: u64 = 7200;
/// Default of `tcp_keepalive_intvl` in seconds (ip-sysctl.rst).
const KEEPALIVE_INTVL: u64 = 75;
/// Default of `tcp_keepalive_probes` (ip-sysctl.rst).
const KEEPALIVE_PROBES: u64 = 9;
/// Size of one TIME_WAIT entry in bytes: `slabtop` (measured on 6.18).
const TIME_WAIT_BYTES: u64 = 256;
/// Meaning of `tcp_orphan_retries` 0 (`tcp_orphan_retries`, net/ipv4/tcp_timer.c): 102 s at the shortest
/// timeout of 200 ms, as RFC 1122 4.2.3.5 wants.
const ORPHAN_RETRIES: u64 = 8;
/// 12.6 s at the shortest timeout: a peer that is still there has answered.
const ORPHAN_RETRIES_CROWDED: u64 = 5;
/// Default of `ip_local_port_range` (ip-sysctl.rst).
const PORTS: (u64, u64) = (32_768, 60_999);
/// Twice as many, above the ports that services normally have; one even and one odd, as ip-sysctl.rst advises.
const MORE_PORTS: (u64, u64) = (10_240, 65_535);

pub(in super::super) fn syn_retries(_: &HostFacts, value: u64) -> Advice {
    match value {
        0 | 1 => change(SYN_RETRIES, "outgoing connections fail when one or two packets are lost"),
        2..=SYN_RETRIES => good("affects outgoing connections only"),
        _ => change(
            SYN_RETRIES,
            "outgoing connections to a dead peer wait longer than the default of two minutes",
        ),
    }
}

pub(in super::super) fn fin_timeout(host: &HostFacts, value: u64) -> Advice {
    if value < FIN_TIMEOUT_LEAST {
        return change(
            FIN_TIMEOUT,
            format!(
                "It limits FIN_WAIT_2, not TIME_WAIT, which always lasts 60s. Below {FIN_TIMEOUT_LEAST}s, peers \
                 whose FIN was lost are reset."
            ),
        );
    }
    if crowded_by_orphans(host) && value > FIN_TIMEOUT / 2 {
        return change(
            FIN_TIMEOUT / 2,
            format!(
                "{} of {} orphans: half the timeout removes those that wait for a FIN",
                host.load.orphans, host.load.max_orphans
            ),
        );
    }
    match value {
        FIN_TIMEOUT => good("the default"),
        less if less < FIN_TIMEOUT => good("harmless, but does not shorten TIME_WAIT"),
        _ => change(FIN_TIMEOUT, "orphans wait longer for a FIN than by default"),
    }
}

/// Returns whether there are more than half as many orphans as make the kernel reset them.
fn crowded_by_orphans(host: &HostFacts) -> bool {
    host.load.max_orphans > 0 && host.load.orphans > host.load.max_orphans / 2
}

pub(in super::super) fn keepalive_time(_: &HostFacts, value: u64) -> Advice {
    match value {
        0..60 => change(
            KEEPALIVE_TIME,
            "every idle connection with keepalive is probed more than once a minute",
        ),
        60..=KEEPALIVE_TIME => good("shorter than the idle timeout of NATs (2h4m)"),
        _ => change(
            KEEPALIVE_TIME,
            "a NAT may drop an idle connection after 2h4m (RFC 5382), before the first probe",
        ),
    }
}

pub(in super::super) fn keepalive_intvl(_: &HostFacts, value: u64) -> Advice {
    match value {
        0..10 => change(KEEPALIVE_INTVL, "a short outage of the path ends live connections"),
        10..=KEEPALIVE_INTVL => good("a dead peer is detected within minutes"),
        _ => change(KEEPALIVE_INTVL, "connections to dead peers stay longer than by default"),
    }
}

pub(in super::super) fn keepalive_probes(_: &HostFacts, value: u64) -> Advice {
    match value {
        0..3 => change(KEEPALIVE_PROBES, "one or two lost packets end a live connection"),
        3..=KEEPALIVE_PROBES => good("a few lost probes end no live connection"),
        _ => change(KEEPALIVE_PROBES, "connections to dead peers stay longer than by default"),
    }
}

pub(in super::super) fn tw_reuse(host: &HostFacts, value: u64) -> Advice {
    match value {
        0 | 2 => good("TIME_WAIT keeps old segments out of connections"),
        _ if host.load.ports_short => {
            leave("this host runs short of ports, and the setting is made for that")
        }
        _ => change(
            2,
            "It is for hosts that open very many connections to one peer. It has no effect on a server's \
             clients.",
        ),
    }
}

pub(in super::super) fn tw_recycle(_: &HostFacts, value: u64) -> Advice {
    match value {
        0 => good("off, as recommended"),
        _ => change(
            0,
            "It silently refused clients behind a common NAT. It was removed in Linux 4.12.",
        ),
    }
}

/// The kernel's own: half of its table of connections (`tcp_set_hashinfo`, net/ipv4/tcp_ipv4.c;
/// measured: 131,072 at 262,144).
fn default_tw_buckets(hash_entries: u64) -> u64 {
    hash_entries / 2
}

pub(in super::super) fn max_tw_buckets(host: &HostFacts, value: u64) -> Advice {
    let default = default_tw_buckets(host.hash_entries);
    if value < default {
        return harmful(
            default,
            format!(
                "Connections above the limit skip TIME_WAIT, so that their late segments can reach new \
                 connections. The kernel documentation says not to lower it. The kernel's default for this \
                 host is {default}."
            ),
        );
    }
    let (now, over) = (host.load.time_wait, host.load.time_wait_overflows);
    if over == 0 && now < value / 4 * 3 {
        return good(format!("{now} in use, none refused since boot"));
    }
    let to = value.saturating_mul(2).min(affordable(host.memory, TIME_WAIT_BYTES));
    let found = format!("{now} in use and {over} refused since boot");
    if to <= value {
        return short(format!("{found}, but more do not fit into this host's memory"));
    }
    change(to, format!("{found}; each takes {TIME_WAIT_BYTES} bytes"))
}

pub(in super::super) fn orphan_retries(host: &HostFacts, value: u64) -> Advice {
    let means = if value == 0 { ORPHAN_RETRIES } else { value };
    if crowded_by_orphans(host) && means > ORPHAN_RETRIES_CROWDED {
        return change(
            ORPHAN_RETRIES_CROWDED,
            format!(
                "{} of {} orphans: those with a dead peer are removed after 13s instead of 100s",
                host.load.orphans, host.load.max_orphans
            ),
        );
    }
    match value {
        0 => good("0 means 8, about 100s, as RFC 1122 requires"),
        1 | 2 => change(0, "the last data of a closed connection are dropped after a second"),
        3..=ORPHAN_RETRIES => good("closed connections are removed in time"),
        _ => change(0, "closed connections stay for minutes"),
    }
}

/// The kernel's default is half the number of slots in its table of connections (`tcp_init`, net/ipv4/tcp.c; measured:
/// 131,072 at 262,144). It must not be lowered (ip-sysctl.rst).
pub(in super::super) fn max_orphans(host: &HostFacts, value: u64) -> Advice {
    let default = host.hash_entries / 2;
    let now = host.load.orphans;
    if value < default {
        return change(
            default,
            format!(
                "connections above it are reset. The kernel's default for this host is {default}."
            ),
        );
    }
    good(format!("{now} in use"))
}

pub(in super::super) fn local_ports(host: &HostFacts, (first, last): (u64, u64)) -> Advice {
    let width = |(first, last): (u64, u64)| last.saturating_add(1).saturating_sub(first);
    let words = |(first, last): (u64, u64)| format!("{first} {last}");
    let now = width((first, last));
    if host.load.ports_short && now < width(MORE_PORTS) {
        let taken: Vec<String> = host
            .listeners
            .iter()
            .map(|listener| u64::from(listener.at.port()))
            .filter(|port| {
                (MORE_PORTS.0..=MORE_PORTS.1).contains(port) && !(first..=last).contains(port)
            })
            .map(|port| port.to_string())
            .collect();
        let reserve = if taken.is_empty() {
            String::new()
        } else {
            let ports = taken.join(",");
            format!(
                ". Before the change, reserve the services' ports: sysctl -w net.ipv4.ip_local_reserved_ports={ports}"
            )
        };
        return change(
            words(MORE_PORTS),
            format!("more than half of the {now} ports are in use towards one peer{reserve}"),
        );
    }
    match now {
        _ if host.load.ports_short => short(
            "more than half of all ports are in use towards one peer. Let the application keep its \
             connections open.",
        ),
        few if few < width(PORTS) => change(
            words(PORTS),
            format!("{now} ports are fewer than the default of {}", width(PORTS)),
        ),
        _ => good(format!("{now} ports for connections to one peer")),
    }
}
