//! Settings of the way that packets take through the host.

use super::super::facts::HostFacts;
use super::{Advice, affordable, change, doubled, good, leave};

/// Default of `netdev_max_backlog` (Documentation/admin-guide/sysctl/net.rst).
const BACKLOG: u64 = 1000;
/// The most that is ever advised: 65 ms at a million packets a second and CPU.
const BACKLOG_MOST: u64 = 65_536;
/// Most bytes that one waiting packet takes: a page of the card's, beside 832 bytes of the kernel's own
/// (`skbuff_head_cache` and `skbuff_small_head`, measured on 6.18).
const PACKET_BYTES: u64 = 4096 + 832;
/// Default of `netdev_budget` (Documentation/admin-guide/sysctl/net.rst).
const BUDGET: u64 = 300;
/// Bytes that one tracked connection takes: 256 (`slabtop`, measured on 6.18) and its two slots in the
/// table.
const TRACKED_BYTES: u64 = 256 + 16;

pub(in super::super) fn netdev_max_backlog(host: &HostFacts, value: u64) -> Advice {
    if value < BACKLOG {
        return change(BACKLOG, format!("below the kernel's own {BACKLOG}"));
    }
    let lost = host.load.backlog_drops;
    if lost == 0 {
        return good("nothing was dropped there since boot");
    }
    if host.load.is_burst(lost) {
        return good(format!("{lost} dropped there since boot, of {}: bursts", host.load.received));
    }
    let cpus = u64::from(host.cpus.max(1));
    let affordable = affordable(host.memory, PACKET_BYTES * cpus).min(BACKLOG_MOST);
    let to = doubled(value).min(affordable);
    if to <= value {
        return leave(format!(
            "{lost} packets were dropped there since boot, and a longer queue would not help: one \
             CPU does not keep up; spread the packets over CPUs (rings and queues below)"
        ));
    }
    change(to, format!("{lost} packets were dropped there since boot, before the stack saw them"))
}

pub(in super::super) fn netdev_budget(host: &HostFacts, value: u64) -> Advice {
    if value < BUDGET {
        return change(BUDGET, format!("below the kernel's own {BUDGET}"));
    }
    let squeezed = host.load.squeezed;
    // Of a round that is squeezed, the whole budget may have been handled.
    if squeezed == 0 || squeezed.saturating_mul(value) < host.load.received / 10 {
        return good(format!("{squeezed} rounds ended with packets left over since boot"));
    }
    let found = format!(
        "{squeezed} rounds ended with packets left over, of {} packets since boot",
        host.load.received
    );
    if value >= 2 * BUDGET {
        return leave(format!("{found}; more would keep others off the CPU"));
    }
    change(2 * BUDGET, found)
}

pub(in super::super) fn conntrack_max(host: &HostFacts, value: u64) -> Advice {
    let Some(conntrack) = host.conntrack else {
        return leave("how many connections are tracked cannot be read");
    };
    let (now, buckets) = (conntrack.count, conntrack.buckets);
    if value < buckets {
        return change(
            buckets,
            format!("the table has {buckets} places (nf_conntrack_buckets) and may use {value}"),
        );
    }
    if now < value / 4 * 3 {
        return good(format!("{now} in use"));
    }
    let to = value.saturating_mul(2).min(affordable(host.memory, TRACKED_BYTES));
    let found = format!("{now} of {value} in use; when none is left nobody gets a new connection");
    if to <= value {
        return leave(format!("{found}, and more is not what this memory affords: track less"));
    }
    change(to, found)
}

pub(in super::super) fn conntrack_loose(_: &HostFacts, value: u64) -> Advice {
    match value {
        0 => leave(
            "somebody wants only connections whose SYN was seen, as SYNPROXY needs; those that are \
             open when tracking starts are cut",
        ),
        _ => good("connections that were open before tracking began go on"),
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
                "{} default routes, and strict mode drops clients whose packets come by another \
                 way than the answers go",
                host.default_routes
            ),
        );
    }
    if open.is_empty() {
        return good("sources that no route leads back to are dropped");
    }
    let names = match open.len() {
        few @ ..4 => open[..few].join(", "),
        many => format!("{} and {} more", open[..3].join(", "), many - 3),
    };
    if strict {
        return leave(format!(
            "{names}: sources are not checked, and elsewhere strictly, which 2 here would weaken; set \
             net.ipv4.conf.{}.rp_filter instead",
            open[0].replace('.', "/")
        ));
    }
    change(2, format!("{names}: packets from sources that no route leads back to are taken"))
}
