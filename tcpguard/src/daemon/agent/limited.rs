//! The networks of validated clients that lose SYNs to the limits of replies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tcpguard_common::abi::{PacketCounters, Reason};
use tcpguard_common::fastpath::clients;
use tcpguard_host::finding::Finding;
use tcpguard_host::linux::boot_time;

use super::Agent;
use crate::bpf::{Position, ip};

impl Agent {
    /// Returns the finding about validated clients with SYNs beyond the limits of replies, while any are dropped for
    /// these.
    pub(super) fn limited_clients(&self) -> Option<Finding> {
        let limited = |counters: &PacketCounters| -> u64 {
            let reasons = [Reason::DropReflection, Reason::DropReplyLimit];
            reasons.map(|reason| counters.reasons[reason as usize]).iter().sum()
        };
        let packets = self.readings.packets();
        let dropped: f64 = packets.iter().filter_map(|reading| reading.rate(limited)).sum();
        if dropped < 1.0 {
            return None;
        }
        let (now, mut networks) = (boot_time().as_nanos(), BTreeMap::new());
        let mut position = Position::default();
        let mut count = |addr, client| {
            if clients::is_limited(&client, now) {
                *networks.entry(network(ip(&addr))).or_default() += 1;
            }
        };
        while self.executor.dataplane.clients_from(&mut position, &mut count).unwrap_or(false) {}
        finding(dropped, &networks)
    }
}

/// The network that shares a limit with an address.
pub(super) fn network(addr: IpAddr) -> IpNet {
    let bits = if addr.is_ipv4() { 24 } else { 48 };
    IpNet::new(addr, bits).map_or(addr.into(), |net| net.trunc())
}

/// `dropped` SYNs a second are dropped beyond the limits; the number of validated clients that exceed theirs, by network.
fn finding(dropped: f64, networks: &BTreeMap<IpNet, u32>) -> Option<Finding> {
    let (most, _) = networks.iter().max_by_key(|(_, clients)| **clients)?;
    let more = match networks.len() - 1 {
        0 => String::new(),
        1 => " and of another network".to_owned(),
        more => format!(" and of {more} other networks"),
    };
    let text = format!(
        "SYNs of validated clients in {most}{more} exceed the limits of replies: of all SYNs beyond these, \
         {dropped:.0} a second are dropped"
    );
    let hint = "raise cookies.replies_per_network, then: tcpguard reload";
    Some(Finding::warning("clients_limited", text).about(most.to_string()).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_with_the_most_limited_clients_is_named() {
        let mut networks = BTreeMap::new();
        assert_eq!(finding(400.0, &networks), None, "the flood alone is limited");
        let of = |ip: &str| network(ip.parse().unwrap());
        networks.insert(of("203.0.113.7"), 1);
        let text = |networks: &BTreeMap<IpNet, u32>| finding(385.4, networks).unwrap().text;
        assert_eq!(
            text(&networks),
            "SYNs of validated clients in 203.0.113.0/24 exceed the limits of replies: of all SYNs \
             beyond these, 385 a second are dropped"
        );
        networks.insert(of("2001:db8:7:8::9"), 3);
        assert!(text(&networks).starts_with(
            "SYNs of validated clients in 2001:db8:7::/48 and of another network exceed"
        ));
    }
}
