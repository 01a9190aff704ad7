//! The catalogue of settings, each with its effect and the risk of a change.

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
                why: format!("{value:?} is not what this version of tcpguard knows it to be"),
            },
        }
    }
}

const NOT_HERE: &str =
    "not visible here: this kernel has no such setting, or not in this network namespace";
const NOT_TRACKED: &str = "connections are not tracked on this host, which is well: a flood cannot \
                           fill that table";
const NO_RISK: &str = "None is known.";

const fn number(
    name: &'static str,
    does: &'static str,
    risk: &'static str,
    rule: fn(&HostFacts, u64) -> Advice,
) -> Setting {
    Setting { name, does, risk, absent: NOT_HERE, rule: Rule::Number(rule) }
}

/// Every sysctl that is looked at, listeners' first.
pub static CATALOGUE: [Setting; 23] = [
    Setting {
        absent: "this kernel was built without CONFIG_SYN_COOKIES",
        ..number(
            "net.ipv4.tcp_syncookies",
            "Answers SYNs without remembering them when a SYN queue is full (1), never (0), always \
             (2).",
            "Connections made from a cookie lack what the cookie cannot hold, while a queue is full.",
            listener::syncookies,
        )
    },
    number(
        "net.ipv4.tcp_max_syn_backlog",
        "Half-open connections that a listener remembers, where there are no SYN cookies.",
        "Each takes 304 bytes.",
        listener::max_syn_backlog,
    ),
    number(
        "net.core.somaxconn",
        "The most that an application gets of the backlog it asks for with listen().",
        "Applications get it when they listen again: restart or reload them. A longer queue makes \
         clients of a slow application wait instead of trying again.",
        listener::somaxconn,
    ),
    number(
        "net.ipv4.tcp_synack_retries",
        "How often a SYN-ACK is sent again before a half-open connection is given up.",
        "With fewer, clients on lossy paths fail more often.",
        listener::synack_retries,
    ),
    number(
        "net.ipv4.tcp_abort_on_overflow",
        "Resets clients that find the accept queue full, instead of leaving them to try again.",
        NO_RISK,
        listener::abort_on_overflow,
    ),
    number(
        "net.ipv4.tcp_timestamps",
        "The TCP option in which cookies keep window scaling and SACK.",
        NO_RISK,
        listener::timestamps,
    ),
    number("net.ipv4.tcp_sack", "Selective acknowledgements.", NO_RISK, listener::sack),
    number(
        "net.ipv4.tcp_window_scaling",
        "Windows of more than 64KiB.",
        NO_RISK,
        listener::window_scaling,
    ),
    number(
        "net.ipv4.tcp_syn_retries",
        "How often this host sends its own SYNs again.",
        "Its own connections fail sooner, or later.",
        connection::syn_retries,
    ),
    number(
        "net.ipv4.tcp_fin_timeout",
        "Seconds that a closed connection waits for the peer's FIN (FIN_WAIT_2).",
        "Peers that close later than that are reset.",
        connection::fin_timeout,
    ),
    number(
        "net.ipv4.tcp_keepalive_time",
        "Seconds of silence before a peer is asked whether it is there, where an application wants \
         that.",
        "Dead peers are noticed sooner, or later; probes wake mobile clients.",
        connection::keepalive_time,
    ),
    number(
        "net.ipv4.tcp_keepalive_intvl",
        "Seconds between two such questions.",
        "Dead peers are noticed sooner, or later.",
        connection::keepalive_intvl,
    ),
    number(
        "net.ipv4.tcp_keepalive_probes",
        "Questions without an answer after which a peer is dead.",
        "Dead peers are noticed sooner, or later.",
        connection::keepalive_probes,
    ),
    number(
        "net.ipv4.tcp_tw_reuse",
        "Lets own connections take the ports of those in TIME_WAIT: 0 no, 1 yes, 2 on loopback.",
        "Where this host opens very many connections to one peer, it may run out of ports.",
        connection::tw_reuse,
    ),
    number(
        "net.ipv4.tcp_max_tw_buckets",
        "The most connections in TIME_WAIT.",
        "Each takes 256 bytes.",
        connection::max_tw_buckets,
    ),
    number(
        "net.ipv4.tcp_orphan_retries",
        "How often data are sent again after the application has closed; 0 means 8.",
        "With fewer, the last data to a peer on a bad path may be lost.",
        connection::orphan_retries,
    ),
    number(
        "net.ipv4.tcp_max_orphans",
        "The most closed connections whose data are still on their way.",
        "Each may hold up to 64KiB.",
        connection::max_orphans,
    ),
    Setting {
        name: "net.ipv4.ip_local_port_range",
        does: "Ports from which this host opens connections.",
        risk: "A service that starts later and has its port in the range may find it taken: name such \
               ports in net.ipv4.ip_local_reserved_ports.",
        absent: NOT_HERE,
        rule: Rule::Pair(connection::local_ports),
    },
    number(
        "net.core.netdev_max_backlog",
        "Packets that wait for each CPU, of virtual interfaces and with RPS.",
        "A longer queue delays packets under load.",
        host::netdev_max_backlog,
    ),
    number(
        "net.core.netdev_budget",
        "Packets that a CPU takes from its cards in one round.",
        "Other work waits longer for the CPU; netdev_budget_usecs limits a round too.",
        host::netdev_budget,
    ),
    Setting {
        absent: NOT_TRACKED,
        ..number(
            "net.netfilter.nf_conntrack_max",
            "The most connections that netfilter tracks. A SYN that the guard passes takes a place \
             for a minute.",
            "Memory, and longer searches where nf_conntrack_buckets stays small.",
            host::conntrack_max,
        )
    },
    Setting {
        absent: NOT_TRACKED,
        ..number(
            "net.netfilter.nf_conntrack_tcp_loose",
            "Whether netfilter takes up connections whose beginning it has not seen.",
            "Without, connections are cut when tracking begins anew; with, stray ACKs take places.",
            host::conntrack_loose,
        )
    },
    number(
        "net.ipv4.conf.all.rp_filter",
        "Drops packets whose source has no route back (2), or none by the same interface (1).",
        "Strict mode (1) drops clients of hosts with several ways out.",
        host::rp_filter,
    ),
];
