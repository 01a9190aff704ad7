//! Common recipes that do harm or have no effect.

use super::Values;
use super::advice::{connection, listener};
use super::document::Refused;
use super::facts::HostFacts;
use crate::listeners::limits::has_syn_backlog;

/// A recipe and the reason against it.
#[derive(Clone, Copy, Debug)]
pub struct Folklore {
    pub name: &'static str,
    /// The text of the recipe.
    pub recipe: &'static str,
    /// Reason for which it is not advised.
    pub why: &'static str,
    /// Tests whether this value on such a host indicates that an administrator followed the recipe.
    pub followed: fn(&HostFacts, u64) -> bool,
}

/// Sysctl `tcp_tw_recycle`
pub const TW_RECYCLE: Folklore = Folklore {
    name: "net.ipv4.tcp_tw_recycle",
    recipe: "1, against TIME_WAIT",
    why: "It silently refused clients behind a common NAT. It was removed in Linux 4.12.",
    followed: |_, value| value != 0,
};
/// Sysctl `tcp_abort_on_overflow`
pub const ABORT: Folklore = Folklore {
    name: "net.ipv4.tcp_abort_on_overflow",
    recipe: "1, to empty the accept queue sooner",
    why: "It resets real clients whose third ACK finds the accept queue full. Without it, the server \
          retransmits its SYN-ACK, and they connect a moment later. SYNs to a full queue are dropped \
          without a reset either way.",
    followed: |_, value| value != 0,
};
/// `tcp_syncookies` 0
pub const NO_COOKIES: Folklore = Folklore {
    name: "net.ipv4.tcp_syncookies",
    recipe: "0, because cookies break TCP",
    why: "Without cookies a few hundred spoofed SYNs per second make a listener unreachable, and \
          tcpguard cannot send cookies either. With 1 they are sent only while a queue is full.",
    followed: |_, value| value == 0,
};
/// `tcp_syncookies` 2
pub const ALWAYS_COOKIES: Folklore = Folklore {
    name: "net.ipv4.tcp_syncookies",
    recipe: "2, to always send cookies",
    why: "Every connection is then made from a cookie. Clients without timestamps lose window \
          scaling and SACK. The value 2 is for tests.",
    followed: |_, value| value >= 2,
};
/// Sysctl `tcp_timestamps`
pub const NO_TIMESTAMPS: Folklore = Folklore {
    name: "net.ipv4.tcp_timestamps",
    recipe: "0, to save 12 bytes per packet or to hide the uptime",
    why: "SYN cookies encode window scaling and SACK in the timestamp. Without it, connections made \
          during a flood are slow. Since Linux 4.10 a random offset hides the uptime.",
    followed: |_, value| value == 0,
};
/// Sysctl `tcp_sack`
pub const NO_SACK: Folklore = Folklore {
    name: "net.ipv4.tcp_sack",
    recipe: "0, against SACK Panic (2019)",
    why: "Each loss then costs a round trip. The vulnerability (CVE-2019-11477) is fixed in Linux \
          5.2 and in all maintained kernels.",
    followed: |_, value| value == 0,
};
/// Sysctl `tcp_window_scaling`
pub const NO_SCALING: Folklore = Folklore {
    name: "net.ipv4.tcp_window_scaling",
    recipe: "0, to save memory",
    why: "A window of 64KiB limits a connection to 5 Mbit/s at 100ms. Buffers grow only while they \
          are used.",
    followed: |_, value| value == 0,
};
/// Sysctl `tcp_synack_retries`
pub const FEW_SYNACKS: Folklore = Folklore {
    name: "net.ipv4.tcp_synack_retries",
    recipe: "0 or 1, to empty the SYN queue sooner",
    why: "A client whose SYN-ACK is lost then has to retransmit its SYN. SYN cookies need no queue \
          entry, and tcpguard removes the entries of a flood.",
    followed: |_, value| value <= 1,
};
/// Sysctl `tcp_fin_timeout`
pub const FIN_TIMEOUT: Folklore = Folklore {
    name: "net.ipv4.tcp_fin_timeout",
    recipe: "5 to 30, against TIME_WAIT",
    why: "It limits FIN_WAIT_2, not TIME_WAIT. TIME_WAIT always lasts 60s.",
    followed: |_, value| value < 60,
};
/// Sysctl `tcp_max_tw_buckets`
pub const FEW_TW_BUCKETS: Folklore = Folklore {
    name: "net.ipv4.tcp_max_tw_buckets",
    recipe: "a few thousand, against TIME_WAIT",
    why: "Connections above the limit skip TIME_WAIT, so that their late segments can reach new \
          connections. The kernel documentation says not to lower it.",
    followed: |host, value| value < connection::default_tw_buckets(host.hash_entries),
};
/// Sysctl `tcp_max_syn_backlog`
pub const LARGE_SYN_BACKLOG: Folklore = Folklore {
    name: "net.ipv4.tcp_max_syn_backlog",
    recipe: "tens of thousands, for a longer SYN queue",
    why: "It has no effect while SYN cookies are on. The backlog of the application and somaxconn \
          limit the SYN queue.",
    followed: |host, value| {
        !has_syn_backlog(host.syncookies) && value > listener::most_useful_syn_backlog(host)
    },
};
/// Sysctl `tcp_tw_reuse`
pub const TW_REUSE: Folklore = Folklore {
    name: "net.ipv4.tcp_tw_reuse",
    recipe: "1, against TIME_WAIT",
    why: "It is for hosts that open very many connections to one peer. It has no effect on a \
          server's clients.",
    followed: |_, value| value == 1,
};
/// Sysctl `tcp_low_latency`
pub const LOW_LATENCY: Folklore = Folklore {
    name: "net.ipv4.tcp_low_latency",
    recipe: "1, for lower latency",
    why: "The kernel has ignored this setting since Linux 4.14.",
    followed: |_, value| value != 0,
};

/// All recipes that are not advised.
pub const REFUSED: [&Folklore; 13] = [
    &NO_COOKIES,
    &ALWAYS_COOKIES,
    &FEW_SYNACKS,
    &ABORT,
    &LARGE_SYN_BACKLOG,
    &NO_TIMESTAMPS,
    &NO_SACK,
    &NO_SCALING,
    &FIN_TIMEOUT,
    &FEW_TW_BUCKETS,
    &TW_REUSE,
    &TW_RECYCLE,
    &LOW_LATENCY,
];

impl Folklore {
    /// The recipe, and where it is followed.
    pub(super) fn found_in(&self, host: &HostFacts, values: &Values) -> Refused {
        let follows =
            |value: &str| value.trim().parse().is_ok_and(|value| (self.followed)(host, value));
        let mut found = Vec::new();
        if values.sysctls.get(self.name).is_some_and(|value| follows(value)) {
            found.push("running".to_owned());
        }
        let lines =
            values.files.iter().filter(|line| line.name == self.name && follows(&line.value));
        found.extend(lines.map(ToString::to_string));
        Refused {
            name: self.name.to_owned(),
            recipe: self.recipe.to_owned(),
            why: self.why.to_owned(),
            found,
        }
    }
}
