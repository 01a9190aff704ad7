//! Advice about the settings of a network card. These are commands for a person: a driver may take the
//! link down for a moment.

use super::super::document::{Kind, Row, split};
use super::super::facts::{Device, HostFacts, Span};
use super::{Advice, change, good, leave};

/// The rows of one interface; no row for a value that its driver does not report.
pub(in super::super) fn rows(host: &HostFacts, device: &Device) -> Vec<Row> {
    let name = &device.name;
    let mut rows = Vec::new();
    if let Some(ring) = device.rx_ring {
        rows.push(row(
            format!("{name} rx ring"),
            ring.now.to_string(),
            rx_ring(host, ring, device.lost),
            "Packets that the card may hold until the host takes them.",
            "Some drivers take the link down for a moment; a longer ring costs memory and latency.",
            |to| format!("ethtool -G {name} rx {to}"),
        ));
    }
    if let Some(queues) = device.queues {
        rows.push(row(
            format!("{name} queues"),
            queues.now.to_string(),
            self::queues(queues, host.cpus),
            "Receive queues of the card, each served by one CPU (RSS).",
            "Most drivers take the link down for a moment; an XDP program stays attached.",
            |to| format!("ethtool -L {name} combined {to}"),
        ));
    }
    if let Some(on) = device.rps {
        let single = device.queues.is_none_or(|queues| queues.now <= 1);
        let value = if on { "on" } else { "off" };
        rows.push(row(
            format!("{name} RPS"),
            value.to_owned(),
            rps(host, on, single),
            "Spreads what one receive queue takes over CPUs, after XDP (rps_cpus).",
            "Costs an interrupt between CPUs for each batch of packets.",
            |to| {
                let mask = if to == "on" { cpu_mask(host.cpus) } else { "0".to_owned() };
                format!("echo {mask} > /sys/class/net/{name}/queues/rx-0/rps_cpus")
            },
        ));
    }
    rows
}

fn row(
    name: String,
    value: String,
    advice: Advice,
    does: &str,
    risk: &str,
    command: impl Fn(&str) -> String,
) -> Row {
    let (verdict, to) = split(advice.verdict);
    Row {
        name,
        kind: Kind::Interface,
        verdict,
        does: does.to_owned(),
        why: advice.why,
        risk: risk.to_owned(),
        command: to.as_deref().map(&command),
        undo: to.is_some().then(|| command(&value)),
        value: Some(value),
        to,
    }
}

/// A ring is worth its memory only where it overflows (ethtool(8), `-G`).
fn rx_ring(host: &HostFacts, ring: Span, lost: Option<u64>) -> Advice {
    match lost {
        None | Some(0) => good("the card has lost nothing since boot"),
        Some(lost) if host.load.is_burst(lost) => {
            good(format!("{lost} packets lost since boot: bursts"))
        }
        Some(lost) if ring.now >= ring.max => leave(format!(
            "the card has lost {lost} packets since boot, and its ring is as long as it gets: spread \
             the load over queues"
        )),
        Some(lost) => change(
            ring.now.saturating_mul(2).clamp(1, ring.max),
            format!("the card has lost {lost} packets since boot; its ring may have {}", ring.max),
        ),
    }
}

/// One queue for each CPU, if there are so many (Documentation/networking/scaling.rst, "RSS").
fn queues(queues: Span, cpus: u32) -> Advice {
    let wanted = queues.max.min(cpus.max(1));
    match queues.now {
        now if now < wanted => change(
            wanted,
            format!("a flood is received by {now} of {cpus} CPUs; the card can serve {wanted}"),
        ),
        now if now < cpus => good(format!("the card has no more, for {cpus} CPUs")),
        now => good(format!("{now} for {cpus} CPUs")),
    }
}

/// For a single queue it is worth it, beside as many queues as CPUs it is not (scaling.rst, "RPS").
fn rps(host: &HostFacts, on: bool, single: bool) -> Advice {
    let short = host.load.squeezed.saturating_mul(300) > host.load.received / 10;
    match (on, single) {
        (true, false) => change("off", "the card spreads packets over its queues by itself"),
        (true, true) => good("one queue, whose packets are spread over CPUs"),
        (false, true) if short && host.cpus > 1 => change(
            "on",
            "one queue, and its CPU leaves packets over; what the guard passes can go to others",
        ),
        (false, _) => good("the CPU that receives keeps up"),
    }
}

/// All CPUs, as `rps_cpus` takes them: hexadecimal, 32 bits a group.
fn cpu_mask(cpus: u32) -> String {
    let mut groups = Vec::new();
    let mut left = cpus.max(1);
    while left > 0 {
        let here = left.min(32);
        groups.push(if here == 32 { u32::MAX } else { (1 << here) - 1 });
        left -= here;
    }
    let mut words = groups.iter().rev();
    let first = words.next().map_or_else(String::new, |group| format!("{group:x}"));
    words.fold(first, |mask, group| format!("{mask},{group:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_a_bit_for_each_cpu() {
        for (cpus, mask) in [
            (0, "1"),
            (1, "1"),
            (4, "f"),
            (32, "ffffffff"),
            (33, "1,ffffffff"),
            (64, "ffffffff,ffffffff"),
        ] {
            assert_eq!(cpu_mask(cpus), mask, "{cpus}");
        }
    }
}
