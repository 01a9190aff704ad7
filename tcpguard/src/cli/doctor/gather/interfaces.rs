//! Interfaces: their properties, the devices above and below them, and the programs on them.

use std::path::Path;

use tcpguard_host::doctor::facts::{InterfaceFacts, Link};
use tcpguard_host::linux::attachments::{Place, place};
use tcpguard_host::linux::device_queues::NET_CLASS;
use tcpguard_host::linux::programs::Attached;
use tcpguard_host::linux::{Error, Interface, device, interfaces, virtio};
use tcpguard_host::tune::facts;

use crate::bpf::attached_programs;

/// The facts about the interfaces of these names, and about the members of each bond among them: its program runs in
/// their drivers.
pub(super) fn of(names: &[String]) -> Vec<InterfaceFacts> {
    let all = interfaces::list().unwrap_or_default();
    // Only members and upper devices report the relation.
    let places: Vec<(&Interface, Place)> =
        all.iter().map(|link| (link, place(link.index).unwrap_or_default())).collect();
    let facts = |name: &str, bond: Option<&str>| InterfaceFacts {
        name: name.to_owned(),
        link: places
            .iter()
            .find(|(link, _)| link.name == name)
            .map(|(link, place)| self::link(link, place, &places, &all)),
        existing: all.iter().map(|link| link.name.clone()).collect(),
        bond: bond.map(str::to_owned),
    };
    with_members(names, &all).iter().map(|(name, bond)| facts(name, *bond)).collect()
}

/// These names, and after each bond the names of its members that are not among them, with that of the bond.
fn with_members<'a>(names: &'a [String], all: &'a [Interface]) -> Vec<(&'a str, Option<&'a str>)> {
    let mut found = Vec::new();
    for name in names {
        found.push((name.as_str(), None));
        let is_it = |one: &&Interface| one.name == *name && one.kind.as_deref() == Some("bond");
        if let Some(bond) = all.iter().find(is_it) {
            let members = all.iter().filter(|one| one.master == Some(bond.index));
            let unnamed = members.filter(|one| !names.contains(&one.name));
            found.extend(unnamed.map(|one| (one.name.as_str(), Some(bond.name.as_str()))));
        }
    }
    found
}

/// The hardware interfaces, where none is named.
pub(super) fn hardware() -> Vec<String> {
    let all = interfaces::list().unwrap_or_default();
    let cards = all.iter().filter(|link| link.is_hardware() && link.has_ethernet_header());
    cards.map(|link| link.name.clone()).collect()
}

fn link(
    link: &Interface,
    place: &Place,
    all: &[(&Interface, Place)],
    interfaces: &[Interface],
) -> Link {
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
        above: attached_programs::xdp_above(link, interfaces),
        device: facts::device(link),
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_host::linux::interfaces::OperState;
    use tcpguard_host::linux::{Below, Xdp};

    use super::*;

    fn interface(index: u32, name: &str, kind: Option<&str>, master: Option<u32>) -> Interface {
        Interface {
            index,
            name: name.to_owned(),
            link_type: 1,
            mtu: 1500,
            loopback: false,
            state: OperState::Up,
            kind: kind.map(str::to_owned),
            master,
            below: Below::Nothing,
            xdp: Xdp::None,
            xdp_program: None,
        }
    }

    #[test]
    fn the_members_of_a_bond_are_examined_with_it() {
        let all = [
            interface(2, "eth0", None, Some(5)),
            interface(3, "eth1", None, Some(5)),
            interface(4, "eth2", None, Some(6)),
            interface(5, "bond0", Some("bond"), None),
            interface(6, "br0", Some("bridge"), None),
        ];
        let of = |names: &[&str]| -> Vec<(String, Option<String>)> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let found = with_members(&names, &all);
            found.iter().map(|(name, bond)| ((*name).to_owned(), bond.map(str::to_owned))).collect()
        };
        let plain = |name: &str| (name.to_owned(), None);
        let member = |name: &str| (name.to_owned(), Some("bond0".to_owned()));
        assert_eq!(
            of(&["bond0", "br0"]),
            [plain("bond0"), member("eth0"), member("eth1"), plain("br0")]
        );
        assert_eq!(of(&["eth1", "bond0"]), [plain("eth1"), plain("bond0"), member("eth0")]);
    }
}
