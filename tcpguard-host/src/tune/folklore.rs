//! Recipes that are handed around and do harm, or nothing.

use super::Values;
use super::advice::{connection, listener};
use super::document::Refused;
use super::facts::HostFacts;

/// A recipe, and why it is not advised.
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
    recipe: "1, to be rid of TIME_WAIT",
    why: "It refused clients behind one NAT, whose clocks differ, without a trace, and is gone since \
          Linux 4.12.",
    followed: |_, value| value != 0,
};
/// Sysctl `tcp_abort_on_overflow`
pub const ABORT: Folklore = Folklore {
    name: "net.ipv4.tcp_abort_on_overflow",
    recipe: "1, to be rid of clients that wait",
    why: "It resets real clients in a burst which they would have got through: a dropped ACK is sent \
          again, a reset is an error.",
    followed: |_, value| value != 0,
};
/// `tcp_syncookies` 0
pub const NO_COOKIES: Folklore = Folklore {
    name: "net.ipv4.tcp_syncookies",
    recipe: "0, because cookies break TCP",
    why: "Without cookies a few hundred SYNs a second from nowhere shut a listener, and the guard \
          cannot answer with cookies either; with 1 they go out only when a queue is full.",
    followed: |_, value| value == 0,
};
/// `tcp_syncookies` 2
pub const ALWAYS_COOKIES: Folklore = Folklore {
    name: "net.ipv4.tcp_syncookies",
    recipe: "2 for good",
    why: "Every connection is then made from a cookie, and those of clients without timestamps lose \
          window scaling and SACK; 2 is there for tests.",
    followed: |_, value| value >= 2,
};
/// Sysctl `tcp_timestamps`
pub const NO_TIMESTAMPS: Folklore = Folklore {
    name: "net.ipv4.tcp_timestamps",
    recipe: "0, to save 12 bytes or to hide the uptime",
    why: "A kernel's cookie keeps window scaling and SACK in the timestamp; without, connections made \
          in a flood are slow. The offset is random since Linux 4.10, and tells no uptime.",
    followed: |_, value| value == 0,
};
/// Sysctl `tcp_sack`
pub const NO_SACK: Folklore = Folklore {
    name: "net.ipv4.tcp_sack",
    recipe: "0, against attacks of 2019",
    why: "Each loss then costs a round trip. The flaw (CVE-2019-11477) is mended since Linux 5.2 and in \
          all kernels that are still cared for.",
    followed: |_, value| value == 0,
};
/// Sysctl `tcp_window_scaling`
pub const NO_SCALING: Folklore = Folklore {
    name: "net.ipv4.tcp_window_scaling",
    recipe: "0, to save memory",
    why: "A window of 64KiB at most is 5 Mbit/s at 100ms; buffers grow only where they are used.",
    followed: |_, value| value == 0,
};
/// Sysctl `tcp_synack_retries`
pub const FEW_SYNACKS: Folklore = Folklore {
    name: "net.ipv4.tcp_synack_retries",
    recipe: "0 or 1, to empty the SYN queue sooner",
    why: "A client whose SYN-ACKs are lost on the way has no second chance but its own SYN; cookies \
          need no entry at all, and the guard clears a flood's entries by itself.",
    followed: |_, value| value <= 1,
};
/// Sysctl `tcp_fin_timeout`
pub const FIN_TIMEOUT: Folklore = Folklore {
    name: "net.ipv4.tcp_fin_timeout",
    recipe: "5 to 30, against TIME_WAIT",
    why: "It limits FIN_WAIT_2 and does not touch TIME_WAIT, which lasts 60s in every Linux.",
    followed: |_, value| value < 60,
};
/// Sysctl `tcp_max_tw_buckets`
pub const FEW_TW_BUCKETS: Folklore = Folklore {
    name: "net.ipv4.tcp_max_tw_buckets",
    recipe: "a few thousand, against TIME_WAIT",
    why: "Connections beyond are forgotten at once, and their late segments reach new ones; the \
          kernel's documentation forbids to lower it.",
    followed: |host, value| value < connection::default_tw_buckets(host.hash_entries),
};
/// Sysctl `tcp_max_syn_backlog`
pub const LARGE_SYN_BACKLOG: Folklore = Folklore {
    name: "net.ipv4.tcp_max_syn_backlog",
    recipe: "tens of thousands, for a longer SYN queue",
    why: "It sets nothing while SYN cookies are on: the queue ends at the application's backlog or at \
          somaxconn, whichever is less.",
    followed: |host, value| {
        host.syncookies.is_some() && value > listener::default_syn_backlog(host.hash_entries)
    },
};
/// Sysctl `tcp_tw_reuse`
pub const TW_REUSE: Folklore = Folklore {
    name: "net.ipv4.tcp_tw_reuse",
    recipe: "1, against TIME_WAIT",
    why: "It is for hosts that open very many connections to one peer, and does nothing for a server; \
          the kernel's documentation advises against a change without need.",
    followed: |_, value| value == 1,
};
/// Sysctl `tcp_low_latency`
pub const LOW_LATENCY: Folklore = Folklore {
    name: "net.ipv4.tcp_low_latency",
    recipe: "1, for speed",
    why: "What it switched off is gone since Linux 4.14; it has no effect.",
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
