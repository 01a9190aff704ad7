//! Advice about the settings of a network card. These are commands for a person: a driver may take the
//! link down for a moment.

use super::super::document::{Kind, Row, split};
use super::super::facts::{Device, HostFacts, Span};
use super::{Advice, change, good, short};
use crate::linux::xdp_driver::{most_queues, set_queues};

/// The rows of one interface; no row for a value that its driver does not report.
pub(in super::super) fn rows(host: &HostFacts, device: &Device) -> Vec<Row> {
    let name = &device.name;
    let mut rows = Vec::new();
    if let Some(ring) = device.rx_ring {
        rows.push(row(
            format!("{name} rx ring"),
            ring.now.to_string(),
            rx_ring(host, ring, device.lost),
            "Packets that the card holds until the host receives them.",
            "Some drivers take the link down for a moment. A longer ring costs memory and latency.",
            |to| format!("ethtool -G {name} rx {to}"),
        ));
    }
    if let Some(queues) = device.queues {
        rows.push(row(
            format!("{name} queues"),
            queues.now.to_string(),
            self::queues(queues, device.driver.as_deref(), host.cpus),
            "Receive queues of the card. Each is served by one CPU (RSS).",
            "Most drivers take the link down for a moment. An XDP program stays attached.",
            |to| set_queues(device.driver.as_deref(), name, to),
        ));
    }
    if let Some(on) = device.rps {
        let value = if on { "on" } else { "off" };
        rows.push(row(
            format!("{name} RPS"),
            value.to_owned(),
            rps(host, on, device.queues),
            "Distribution of packets over CPUs after XDP (rps_cpus).",
            "An interrupt between CPUs for each batch of packets.",
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
        place: None,
    }
}

/// A ring is worth its memory only where it overflows (ethtool(8), `-G`).
fn rx_ring(host: &HostFacts, ring: Span, lost: Option<u64>) -> Advice {
    match lost {
        None | Some(0) => good("no packet lost since boot"),
        Some(lost) if host.load.is_burst(lost) => {
            good(format!("{lost} packets lost since boot, in bursts"))
        }
        Some(lost) if ring.now >= ring.max => short(format!(
            "the card lost {lost} packets since boot, and its ring has the maximum length. Spread the \
             load over queues."
        )),
        Some(lost) => change(
            ring.now.saturating_mul(2).clamp(1, ring.max),
            format!("the card lost {lost} packets since boot; maximum ring length {}", ring.max),
        ),
    }
}

/// One queue for each CPU, if there are so many (Documentation/networking/scaling.rst, "RSS"), and no more than the
/// driver allows beside XDP.
fn queues(queues: Span, driver: Option<&str>, cpus: u32) -> Advice {
    let wanted = most_queues(driver, queues.max).min(cpus.max(1));
    match queues.now {
        now if now < wanted => change(
            wanted,
            format!("only {now} of {cpus} CPUs receive packets; the card can serve {wanted}"),
        ),
        now if now < cpus => good(format!("the card's maximum, for {cpus} CPUs")),
        now => good(format!("{now} for {cpus} CPUs")),
    }
}

/// For a single queue it is worth it, beside as many queues as CPUs it is not (scaling.rst, "RPS").
fn rps(host: &HostFacts, on: bool, queues: Option<Span>) -> Advice {
    let single = queues.is_none_or(|queues| queues.now <= 1);
    let short = host.load.squeezed.saturating_mul(300) > host.load.received / 10;
    match (on, single) {
        (true, false) => change("off", "the card already spreads packets over its queues"),
        (true, true) => good("one queue, packets are spread over CPUs"),
        (false, true) if short && host.cpus > 1 => change(
            "on",
            "the CPU of the only queue is overloaded; passed packets can go to other CPUs",
        ),
        (false, _) => good("the receiving CPU keeps up"),
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
