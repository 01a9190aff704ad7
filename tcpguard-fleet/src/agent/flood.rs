//! The report of the agent as load and floods, for relief by routers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tcpguard_engine::{FleetReport, SharedEvidence, Victim};

use crate::relief::choice::Flood;
use crate::relief::edge::Load;

/// Number of SYNs by which shares of a flood are counted.
const SAMPLE: f64 = 10_000.0;

/// Load of the links. `speed` is that of an interface in bits per second.
pub fn load(report: &FleetReport, speed: impl Fn(&str) -> Option<f64>) -> Load {
    let shares = report.links.iter().filter_map(|link| Some(link.rx_bps / speed(&link.interface)?));
    let pps = report.links.iter().fold(0.0, |sum, link| sum + link.rx_pps);
    let in_rings = report.links.iter().map(|link| loss_share(link.lost_pps, link.rx_pps));
    // The backlogs are those of the CPUs, whatever the interface.
    let in_backlogs = loss_share(report.backlog_lost_pps, pps);
    Load {
        link_share: shares.reduce(f64::max),
        loss_share: in_rings.fold(in_backlogs, f64::max),
        pps,
    }
}

/// Share of the packets that are lost, beside those that the program sees, both per second.
fn loss_share(lost: Option<f64>, seen: f64) -> f64 {
    match lost {
        Some(lost) if lost > 0.0 => lost / (lost + seen),
        _ => 0.0,
    }
}

/// The floods among open incidents, the largest first. `is_spare` holds for an address that the service can do without.
pub fn floods(incidents: &[SharedEvidence], is_spare: impl Fn(IpAddr) -> bool) -> Vec<Flood> {
    let attacks = incidents.iter().filter(|incident| incident.class.is_flood());
    let mut floods: Vec<Flood> = attacks
        .flat_map(|attack| attack.victims.iter().map(move |victim| (attack, *victim)))
        .map(|(attack, victim)| flood(attack, victim, !is_spare(victim.addr)))
        .collect();
    floods.sort_by(|one, other| other.syn_pps.total_cmp(&one.syn_pps));
    floods
}

fn flood(attack: &SharedEvidence, victim: Victim, is_last_address: bool) -> Flood {
    let Victim { addr: destination, share } = victim;
    let lengths = lengths(attack);
    let failing = attack.syn_pps * (1.0 - attack.completion.clamp(0.0, 1.0));
    Flood {
        destination,
        port: attack.listener.port,
        syn_pps: failing * share,
        client_lengths: client_lengths(attack, destination, &lengths),
        lengths,
        is_last_address,
    }
}

/// Failed SYNs by total length: those with a known signature, and all others at a length that no rule may name.
fn lengths(attack: &SharedEvidence) -> BTreeMap<u16, u64> {
    let mut lengths = BTreeMap::new();
    let mut unknown = SAMPLE;
    for found in &attack.signatures {
        if let Some(length) = found.signature.length() {
            let count = (found.share.clamp(0.0, 1.0) * SAMPLE).min(unknown);
            unknown -= count;
            *lengths.entry(length).or_default() += count as u64;
        }
    }
    if unknown >= 1.0 {
        lengths.insert(0, unknown as u64);
    }
    lengths
}

/// SYNs of the clients of a destination by total length. Those without a fixed length may have each length of the flood
/// but that of a SYN without options.
fn client_lengths(
    attack: &SharedEvidence,
    destination: IpAddr,
    of_flood: &BTreeMap<u16, u64>,
) -> BTreeMap<u16, u64> {
    let ipv6 = destination.is_ipv6();
    let bare = if ipv6 { 60 } else { 40 };
    let mut lengths = BTreeMap::new();
    for clients in attack.client_lengths.iter().filter(|clients| clients.ipv6 == ipv6) {
        match clients.length {
            Some(length) => *lengths.entry(length).or_default() += clients.completions,
            None => {
                let longer = of_flood.keys().filter(|length| **length > bare);
                longer.for_each(|length| _ = lengths.entry(*length).or_insert(1));
            }
        }
    }
    for found in &attack.signatures {
        if let Some(length) = found.signature.length() {
            *lengths.entry(length).or_default() += found.clients;
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::{Fingerprint, Mask, layout};
    use tcpguard_engine::{ClientLength, IncidentClass, LinkPressure, SharedSignature};

    use super::super::tests::{flood as attack, report};
    use super::*;
    use crate::relief::choice::{Breadth, Policy, choose};

    #[test]
    fn the_load_is_that_of_the_fullest_link() {
        let link = |interface: &str, rx_bps, lost_pps| LinkPressure {
            interface: interface.to_owned(),
            rx_pps: 9_000.0,
            rx_bps,
            lost_pps,
        };
        let links = vec![
            link("eth0", 9e8, Some(1_000.0)),
            link("eth1", 9e8, None),
            link("veth0", 9e9, Some(0.0)),
        ];
        let report = FleetReport { links, ..report() };
        let speed = |name: &str| match name {
            "eth0" => Some(1e9),
            "eth1" => Some(1e10),
            _ => None,
        };
        let load = load(&report, speed);
        assert_eq!(load, Load { link_share: Some(0.9), loss_share: 0.1, pps: 27_000.0 });
        let dropping = FleetReport { backlog_lost_pps: Some(27_000.0), ..report.clone() };
        assert_eq!(super::load(&dropping, speed).loss_share, 0.5);
        let unknown = super::load(&report, |_| None);
        assert_eq!(unknown.link_share, None);
    }

    #[test]
    fn a_flood_is_narrowed_by_a_length_that_no_client_has() {
        let chosen = |attack: SharedEvidence| {
            let floods = floods(&[attack], |_| false);
            assert_eq!(floods.len(), 1);
            choose(&floods[0], &Policy::default(), Breadth::Narrow)
        };
        assert_eq!(chosen(attack(1)).len(), 1, "of 3,000 clients none has a SYN of 40 bytes");
        let with = |ipv6, length, completions| {
            let clients = ClientLength { ipv6, length, completions };
            let client_lengths = [attack(1).client_lengths, vec![clients]].concat();
            SharedEvidence { client_lengths, ..attack(1) }
        };
        assert_eq!(chosen(with(false, Some(40), 1)), [], "a client has such a SYN");
        assert_eq!(chosen(with(true, Some(40), 1)).len(), 1, "over IPv6 it is another");
        assert_eq!(chosen(with(false, None, 9)).len(), 1, "a SYN with data is longer");
        let over_ipv6 = ClientLength { ipv6: true, length: Some(80), completions: 3_000 };
        let few = SharedEvidence { client_lengths: vec![over_ipv6], ..attack(1) };
        assert_eq!(chosen(few), [], "no client over IPv4 is known");
        let mut of_clients = attack(1);
        of_clients.signatures[0].clients = 500;
        assert_eq!(chosen(of_clients), [], "clients have it too");
        let mut partial = attack(1);
        partial.signatures[0].share = 0.9;
        assert_eq!(chosen(partial), [], "a tenth of it is of another length");

        // The SYN of Linux.
        let print = Fingerprint {
            options: layout::MSS
                | layout::SACK_OK << 4
                | layout::TIMESTAMP << 8
                | layout::NOP << 12
                | layout::WSCALE << 16,
            mss: 1460,
            window: 1,
            wscale: 7,
            ..Fingerprint::default()
        };
        let mut copies = attack(1);
        copies.signatures[0].signature = SharedSignature::of(Mask::NoTtl, &print);
        assert_eq!(chosen(copies.clone()), [], "clients have its length");
        copies.client_lengths[0].length = Some(52);
        assert_eq!(chosen(copies.clone()).len(), 1, "all clients have Windows");
        copies.client_lengths.push(ClientLength { ipv6: false, length: None, completions: 1 });
        assert_eq!(chosen(copies), [], "a SYN with data may have it");
    }

    #[test]
    fn each_victim_of_a_flood_is_a_flood_and_other_incidents_are_none() {
        let victims = ["192.0.2.10", "2001:db8::10"].map(|text| text.parse().expect("an address"));
        let shares = [0.9, 0.1];
        let two = victims.into_iter().zip(shares).map(|(addr, share)| Victim { addr, share });
        let two = SharedEvidence { victims: two.collect(), ..attack(1) };
        let larger = SharedEvidence { syn_pps: 1e6, ..attack(2) };
        let crowd = SharedEvidence { class: IncidentClass::FlashCrowd, ..attack(3) };
        let floods = floods(&[two, larger, crowd], |address| address.is_ipv6());
        let found: Vec<_> =
            floods.iter().map(|flood| (flood.destination, flood.is_last_address)).collect();
        assert_eq!(found, [(victims[0], true), (victims[0], true), (victims[1], false)]);
        let rates: Vec<_> = floods.iter().map(|flood| flood.syn_pps.round()).collect();
        assert_eq!(rates, [999_000.0, 89_910.0, 9_990.0]);
    }
}
