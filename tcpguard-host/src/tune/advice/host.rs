//! Settings of the receive path, of connection tracking and of the reverse-path filter.

use super::super::facts::HostFacts;
use super::{Advice, affordable, change, doubled, good, leave, short};

/// Default of `netdev_max_backlog` (Documentation/admin-guide/sysctl/net.rst).
const BACKLOG: u64 = 1000;
/// The most that is ever advised: 65 ms at a million packets a second and CPU.
const BACKLOG_MOST: u64 = 65_536;
/// Bytes of the kernel's own that one waiting packet takes (`skbuff_head_cache` and `skbuff_small_head`, measured on
/// 6.18), beside a page of the card's at most.
const PACKET_BYTES: u64 = 832;
/// Default of `netdev_budget` (Documentation/admin-guide/sysctl/net.rst).
const BUDGET: u64 = 300;
/// Bytes that one tracked connection takes: 256 (`slabtop`, measured on 6.18) and its two slots in the
/// table.
const TRACKED_BYTES: u64 = 256 + 16;

pub(in super::super) fn netdev_max_backlog(host: &HostFacts, value: u64) -> Advice {
    if value < BACKLOG {
        return change(BACKLOG, format!("below the default of {BACKLOG}"));
    }
    let lost = host.load.backlog_drops;
    if lost == 0 {
        return good("no drop since boot");
    }
    if host.load.is_burst(lost) {
        return good(format!("{lost} of {} dropped since boot, in bursts", host.load.received));
    }
    let cpus = u64::from(host.cpus.max(1));
    let affordable = affordable(host.memory, (host.page + PACKET_BYTES) * cpus).min(BACKLOG_MOST);
    let to = doubled(value).min(affordable);
    if to <= value {
        return short(format!(
            "{lost} packets dropped since boot. A longer queue would not help, because one CPU does \
             not keep up. Spread the packets over CPUs (queues below)."
        ));
    }
    change(to, format!("{lost} packets dropped before the network stack since boot"))
}

pub(in super::super) fn netdev_budget(host: &HostFacts, value: u64) -> Advice {
    if value < BUDGET {
        return change(BUDGET, format!("below the default of {BUDGET}"));
    }
    let squeezed = host.load.squeezed;
    // Of a round that is squeezed, the whole budget may have been handled.
    if squeezed == 0 || squeezed.saturating_mul(value) < host.load.received / 10 {
        return good(format!("{squeezed} rounds used up the budget since boot"));
    }
    let found = format!(
        "{squeezed} rounds used up the budget since boot, for {} packets",
        host.load.received
    );
    if value >= 2 * BUDGET {
        return short(format!("{found}. A larger budget would starve other work."));
    }
    change(2 * BUDGET, found)
}

pub(in super::super) fn conntrack_max(host: &HostFacts, value: u64) -> Advice {
    let Some(conntrack) = host.conntrack else {
        return leave("the number of tracked connections cannot be read");
    };
    let (now, buckets) = (conntrack.count, conntrack.buckets);
    if value < buckets {
        return change(
            buckets,
            format!("below the {buckets} slots of the table (nf_conntrack_buckets)"),
        );
    }
    if now < value / 4 * 3 {
        return good(format!("{now} in use"));
    }
    let to = value.saturating_mul(2).min(affordable(host.memory, TRACKED_BYTES));
    let found = format!("{now} of {value} in use. With a full table, new connections are dropped.");
    if to <= value {
        return short(format!(
            "{found} More do not fit into this host's memory: track fewer connections."
        ));
    }
    change(to, found)
}

pub(in super::super) fn conntrack_loose(_: &HostFacts, value: u64) -> Advice {
    match value {
        0 => leave(
            "SYNPROXY needs this value. Connections that are open when tracking starts are cut.",
        ),
        _ => good("connections from before tracking go on"),
    }
}

pub(in super::super) fn rp_filter(host: &HostFacts, all: u64) -> Advice {
    // The larger of the two values holds for an interface (ip-sysctl.rst).
    let of = |own: u64| own.max(all);
    let open: Vec<&str> = host
        .rp_filter
        .iter()
        .filter(|(_, own)| of(*own) == 0)
        .map(|(name, _)| name.as_str())
        .collect();
    let strict = host.rp_filter.iter().any(|(_, own)| of(*own) == 1);
    if strict && host.default_routes > 1 {
        return change(
            2,
            format!(
                "{} default routes: strict mode drops clients with asymmetric paths",
                host.default_routes
            ),
        );
    }
    if open.is_empty() {
        return good("packets from sources without a route are dropped");
    }
    let names = match open.len() {
        few @ ..4 => open[..few].join(", "),
        many => format!("{} and {} more", open[..3].join(", "), many - 3),
    };
    if strict {
        return leave(format!(
            "sources are not checked on {names}. The value 2 here would weaken the strict mode of the \
             other interfaces. Set net.ipv4.conf.{}.rp_filter instead.",
            open[0].replace('.', "/")
        ));
    }
    change(2, format!("packets from sources without a route are accepted on {names}"))
}
