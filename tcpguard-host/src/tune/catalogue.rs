//! Catalogue of settings, each with its effect and the risk of a change.

use super::advice::{Advice, Verdict, connection, host, listener};
use super::facts::HostFacts;

/// One sysctl of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub does: &'static str,
    /// Possible side effects of a change.
    pub risk: &'static str,
    /// Reason for which a kernel may not have it.
    pub absent: &'static str,
    rule: Rule,
}

/// Function that judges a value.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// For a value of one number.
    Number(fn(&HostFacts, u64) -> Advice),
    /// For a value of two numbers.
    Pair(fn(&HostFacts, (u64, u64)) -> Advice),
}

impl Setting {
    /// The advice for this value on this host. A value that is not understood is left alone.
    pub fn advise(&self, host: &HostFacts, value: &str) -> Advice {
        let mut numbers = value.split_whitespace().map(str::parse::<u64>);
        let numbers = (numbers.next(), numbers.next(), numbers.next());
        match (self.rule, numbers) {
            (Rule::Number(rule), (Some(Ok(number)), None, None)) => rule(host, number),
            (Rule::Pair(rule), (Some(Ok(first)), Some(Ok(second)), None)) => {
                rule(host, (first, second))
            }
            _ => Advice {
                verdict: Verdict::LeaveAlone,
                why: format!("the value {value:?} has an unexpected format"),
            },
        }
    }
}

const NOT_HERE: &str = "not present in this kernel or network namespace";
const NOT_TRACKED: &str = "connection tracking is not in use";
const NO_RISK: &str = "None known.";

const fn number(
    name: &'static str,
    does: &'static str,
    risk: &'static str,
    rule: fn(&HostFacts, u64) -> Advice,
) -> Setting {
    Setting { name, does, risk, absent: NOT_HERE, rule: Rule::Number(rule) }
}

/// Every sysctl that is looked at, listeners' first.
pub static CATALOGUE: [Setting; 24] = [
    Setting {
        absent: "this kernel was built without CONFIG_SYN_COOKIES",
        ..number(
            "net.ipv4.tcp_syncookies",
            "SYN cookies: 0 never, 1 while a SYN queue is full, 2 always.",
            "Connections from a cookie lack the TCP options that a cookie cannot hold.",
            listener::syncookies,
        )
    },
    number(
        "net.ipv4.tcp_max_syn_backlog",
        "Maximum length of a listener's SYN queue without SYN cookies.",
        "Each entry takes 304 bytes.",
        listener::max_syn_backlog,
    ),
    number(
        "net.core.somaxconn",
        "Upper limit of the backlog that an application requests with listen().",
        "Takes effect when the application calls listen() again: restart or reload it. With a longer \
         queue, clients of a slow application wait longer.",
        listener::somaxconn,
    ),
    number(
        "net.ipv4.tcp_synack_retries",
        "Number of SYN-ACK retransmissions before a half-open connection is dropped.",
        "With fewer retransmissions, clients on lossy paths fail more often.",
        listener::synack_retries,
    ),
    number(
        "net.ipv4.tcp_abort_on_overflow",
        "Whether a third ACK that finds the accept queue full is answered with a reset.",
        NO_RISK,
        listener::abort_on_overflow,
    ),
    number(
        "net.ipv4.tcp_timestamps",
        "TCP timestamps. SYN cookies encode window scaling and SACK in them.",
        NO_RISK,
        listener::timestamps,
    ),
    number("net.ipv4.tcp_sack", "Selective acknowledgements.", NO_RISK, listener::sack),
    number(
        "net.ipv4.tcp_window_scaling",
        "TCP windows larger than 64KiB.",
        NO_RISK,
        listener::window_scaling,
    ),
    number(
        "net.ipv4.tcp_syn_retries",
        "Number of retransmissions of this host's own SYNs.",
        "Outgoing connections fail sooner or later than before.",
        connection::syn_retries,
    ),
    number(
        "net.ipv4.tcp_fin_timeout",
        "Seconds that an orphaned connection waits for the peer's FIN (FIN_WAIT_2).",
        "Peers that close later are reset.",
        connection::fin_timeout,
    ),
    number(
        "net.ipv4.tcp_keepalive_time",
        "Idle seconds before the first keepalive probe, for sockets with SO_KEEPALIVE.",
        "Dead peers are detected sooner or later than before. Probes wake mobile clients.",
        connection::keepalive_time,
    ),
    number(
        "net.ipv4.tcp_keepalive_intvl",
        "Seconds between two keepalive probes.",
        "Dead peers are detected sooner or later than before.",
        connection::keepalive_intvl,
    ),
    number(
        "net.ipv4.tcp_keepalive_probes",
        "Number of unanswered keepalive probes before a peer counts as dead.",
        "Dead peers are detected sooner or later than before.",
        connection::keepalive_probes,
    ),
    number(
        "net.ipv4.tcp_tw_reuse",
        "Reuse of ports in TIME_WAIT for outgoing connections: 0 never, 1 always, 2 on loopback.",
        "With very many connections to one peer, this host may run out of ports.",
        connection::tw_reuse,
    ),
    Setting {
        absent: "removed in Linux 4.12",
        ..number(
            "net.ipv4.tcp_tw_recycle",
            "Reuse of TIME_WAIT by the timestamps of peers.",
            NO_RISK,
            connection::tw_recycle,
        )
    },
    number(
        "net.ipv4.tcp_max_tw_buckets",
        "Maximum number of connections in TIME_WAIT.",
        "Each connection takes 256 bytes.",
        connection::max_tw_buckets,
    ),
    number(
        "net.ipv4.tcp_orphan_retries",
        "Number of retransmissions after the application has closed the socket. 0 means 8.",
        "With fewer retransmissions, the last data to a peer on a lossy path may be lost.",
        connection::orphan_retries,
    ),
    number(
        "net.ipv4.tcp_max_orphans",
        "Maximum number of orphaned connections (closed by the application, data still in flight).",
        "Each connection may take up to 64KiB.",
        connection::max_orphans,
    ),
    Setting {
        name: "net.ipv4.ip_local_port_range",
        does: "Local ports of outgoing connections.",
        risk: "A service that starts later may find its port in use. Reserve such ports in \
               net.ipv4.ip_local_reserved_ports.",
        absent: NOT_HERE,
        rule: Rule::Pair(connection::local_ports),
    },
    number(
        "net.core.netdev_max_backlog",
        "Maximum length of a CPU's backlog queue (virtual interfaces and RPS).",
        "A longer queue delays packets under load.",
        host::netdev_max_backlog,
    ),
    number(
        "net.core.netdev_budget",
        "Packets that a CPU processes per NAPI polling round.",
        "Other work waits longer for the CPU. netdev_budget_usecs also limits a round.",
        host::netdev_budget,
    ),
    Setting {
        absent: NOT_TRACKED,
        ..number(
            "net.netfilter.nf_conntrack_max",
            "Maximum number of tracked connections. A passed SYN takes an entry for a minute.",
            "More memory, and slower lookups while nf_conntrack_buckets stays small.",
            host::conntrack_max,
        )
    },
    Setting {
        absent: NOT_TRACKED,
        ..number(
            "net.netfilter.nf_conntrack_tcp_loose",
            "Tracking of connections whose SYN was not seen: 0 off, 1 on.",
            "0 cuts open connections when tracking restarts. 1 lets out-of-state ACKs take entries.",
            host::conntrack_loose,
        )
    },
    number(
        "net.ipv4.conf.all.rp_filter",
        "Reverse-path filter: 0 off, 1 strict (same interface), 2 loose (any route).",
        "Strict mode drops clients on hosts with asymmetric routes.",
        host::rp_filter,
    ),
];
