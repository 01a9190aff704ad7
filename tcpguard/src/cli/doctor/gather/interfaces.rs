//! Interfaces: their properties, the devices above and below them, and the programs on them.

use std::path::Path;

use tcpguard_host::doctor::facts::{InterfaceFacts, Link};
use tcpguard_host::linux::attachments::{Place, place};
use tcpguard_host::linux::device_queues::NET_CLASS;
use tcpguard_host::linux::programs::Attached;
use tcpguard_host::linux::{Error, Interface, device, interfaces, virtio};
use tcpguard_host::tune::facts;

use crate::bpf::attached_programs;

/// The facts about the interfaces of these names.
pub(super) fn of(names: &[String]) -> Vec<InterfaceFacts> {
    let all = interfaces::list().unwrap_or_default();
    // Only members and upper devices report the relation.
    let places: Vec<(&Interface, Place)> =
        all.iter().map(|link| (link, place(link.index).unwrap_or_default())).collect();
    names
        .iter()
        .map(|name| InterfaceFacts {
            name: name.clone(),
            link: places
                .iter()
                .find(|(link, _)| link.name == *name)
                .map(|(link, place)| self::link(link, place, &places)),
            existing: all.iter().map(|link| link.name.clone()).collect(),
        })
        .collect()
}

/// The hardware interfaces, where none is named.
pub(super) fn hardware() -> Vec<String> {
    let all = interfaces::list().unwrap_or_default();
    let cards = all.iter().filter(|link| link.is_hardware() && link.has_ethernet_header());
    cards.map(|link| link.name.clone()).collect()
}

fn link(link: &Interface, place: &Place, all: &[(&Interface, Place)]) -> Link {
    let by_index =
        |index: u32| all.iter().find(|(link, _)| link.index == index).map(|(link, _)| *link);
    let upon = |kinds: &[&str]| -> Vec<String> {
        all.iter()
            .filter(|(other, place)| {
                place.below == Some(link.index)
                    && other.kind.as_deref().is_some_and(|kind| kinds.contains(&kind))
            })
            .map(|(other, _)| other.name.clone())
            .collect()
    };
    let kind = link.kind.as_deref();
    let stacked = matches!(kind, Some("vlan" | "macvlan" | "ipvlan"));
    let below = place.below.filter(|_| stacked).and_then(by_index);
    Link {
        ethernet: link.has_ethernet_header(),
        loopback: link.loopback,
        state: link.state,
        kind: link.kind.clone(),
        driver: link.driver(),
        mtu: link.mtu,
        xdp: device::xdp_features(link.index).ok().flatten(),
        fixed_offloads: virtio::has_fixed_offloads(Path::new(NET_CLASS), link),
        received: device::is_received(link),
        merges: device::merges_packets(&link.name).ok().flatten(),
        strips_vlan: device::strips_vlan_tags(&link.name).ok().flatten(),
        vlans: upon(&["vlan"]),
        master: place.master.and_then(by_index).map(|master| {
            (master.name.clone(), master.kind.clone().unwrap_or_else(|| "hardware".to_owned()))
        }),
        siblings: all
            .iter()
            .filter(|(other, _)| other.master.is_some() && other.master == link.master)
            .filter(|(other, _)| other.index != link.index)
            .map(|(other, place)| {
                let programs = attached_programs::attached(other, place.xdp).unwrap_or_default();
                let is_ours = |one: &Attached| one.hook.is_xdp() && one.is_ours();
                (other.name.clone(), programs.iter().any(is_ours))
            })
            .collect(),
        below: below.map(|below| below.name.clone()),
        members: all
            .iter()
            .filter(|(_, place)| place.master == Some(link.index))
            .map(|(member, _)| member.name.clone())
            .collect(),
        programs: attached_programs::attached(link, place.xdp).map_err(|error| match error {
            // The error's own text would send the reader to the doctor, which is this program.
            Error::Refused { what, source } => format!("cannot {what}: {source}"),
            other => other.to_string(),
        }),
        device: facts::device(link),
    }
}
