//! Interfaces: packets by their outcome.

use std::collections::BTreeMap;

use tcpguard_common::abi::{self, PacketCounters, Reason};

use super::super::{Interface, InterfaceFacts, InterfaceRates, InterfaceTotals, NextProgram};
use super::number;

/// The document's form of an interface.
pub(super) fn interface(interface: &InterfaceFacts) -> Interface {
    let packets = &interface.packets;
    let rate = |counter: fn(&PacketCounters) -> u64| packets.rate(counter).map(number);
    let rates = || {
        Some(InterfaceRates {
            rx_pps: rate(|counters| counters.entry)?,
            syn_pps: rate(syns)?,
            pass_pps: rate(passed)?,
            drop_pps: rate(dropped)?,
            cookies_sent_pps: rate(cookies_sent)?,
        })
    };
    Interface {
        name: interface.name.clone(),
        ifindex: interface.ifindex,
        hook: interface.hook,
        mode: interface.mode,
        fallback: interface.fallback.clone(),
        choice: interface.choice.map(str::to_owned),
        link_id: interface.link_id,
        pinned: interface.pinned,
        attached: interface.attached,
        next_program: interface.next.as_ref().map(|next| NextProgram {
            name: next.name.clone(),
            id: next.id.as_ref().ok().copied(),
        }),
        rates: rates(),
        totals: totals(&packets.now),
    }
}

fn syns(counters: &PacketCounters) -> u64 {
    counters.classes[abi::Class::Syn as usize]
}

fn passed(counters: &PacketCounters) -> u64 {
    sum(counters, abi::Action::Pass)
}

fn dropped(counters: &PacketCounters) -> u64 {
    sum(counters, abi::Action::Drop)
}

fn cookies_sent(counters: &PacketCounters) -> u64 {
    sum(counters, abi::Action::Tx)
}

fn sum(counters: &PacketCounters, action: abi::Action) -> u64 {
    let with_it = Reason::ALL.iter().filter(|reason| reason.action() == action);
    with_it.map(|reason| counters.reasons[*reason as usize]).sum()
}

fn totals(counters: &PacketCounters) -> InterfaceTotals {
    let by_reason = |action| -> BTreeMap<String, u64> {
        Reason::ALL
            .iter()
            .filter(|reason| reason.action() == action)
            .map(|reason| (reason.name().to_owned(), counters.reasons[*reason as usize]))
            .filter(|(_, packets)| *packets > 0)
            .collect()
    };
    let (pass, drop_total) = (passed(counters), dropped(counters));
    let cookies_sent = cookies_sent(counters);
    InterfaceTotals {
        rx_packets: counters.entry,
        rx_bytes: counters.bytes,
        syn: syns(counters),
        pass,
        pass_reasons: by_reason(abi::Action::Pass),
        drop_total,
        drop: by_reason(abi::Action::Drop),
        cookies_sent,
        unaccounted: counters.entry.saturating_sub(pass + drop_total + cookies_sent),
        classes: abi::Class::ALL
            .iter()
            .map(|class| (class.name().to_owned(), counters.classes[*class as usize]))
            .filter(|(_, segments)| *segments > 0)
            .collect(),
    }
}
