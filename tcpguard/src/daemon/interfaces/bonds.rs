//! Bonds: a packet may arrive by one member and be answered by another.

use std::collections::BTreeMap;

use tcpguard_common::abi::maps::MAX_INTERFACES;
use tcpguard_host::finding::Finding;
use tcpguard_host::linux::Interface;

use super::{ConfiguredInterface, Interfaces};

/// Position of an interface among bonds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Bonding {
    /// Members of the bond that it is. Its native program runs on them, and sees each packet as the member's.
    pub(super) members: Vec<u32>,
    /// Index of the interface that stands for its path: of a bond the bond itself, of members the first attached one. 0 for
    /// an interface that belongs to no bond.
    pub(super) path: u32,
    /// Of a member: the bond with members that are not attached.
    pub(super) partial: Option<Partial>,
}

/// A bond of which some members are attached and others are not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Partial {
    /// Name of the bond.
    bond: String,
    /// Names of the members that are not attached.
    missing: Vec<String>,
}

impl Bonding {
    /// Finds the position of the interface `index`, where those of `attached` are attached and `found` are all.
    pub(super) fn of(index: u32, attached: &[u32], found: &[Interface]) -> Self {
        let Some(interface) = found.iter().find(|one| one.index == index) else {
            return Self::default();
        };
        let parts = |bond: u32| found.iter().filter(move |one| one.master == Some(bond));
        if is_bond(interface) {
            let members = parts(index).map(|part| part.index).collect();
            return Self { members, path: index, partial: None };
        }
        let bond = found.iter().find(|one| is_bond(one) && interface.master == Some(one.index));
        let Some(bond) = bond else { return Self::default() };
        let (on, off): (Vec<&Interface>, Vec<&Interface>) =
            parts(bond.index).partition(|part| attached.contains(&part.index));
        let missing: Vec<String> = off.iter().map(|part| part.name.clone()).collect();
        let partial = (!missing.is_empty()).then(|| Partial { bond: bond.name.clone(), missing });
        Self { members: Vec::new(), path: on.first().map_or(0, |part| part.index), partial }
    }
}

impl Interfaces {
    /// Finds the bonds among the attached interfaces. Returns whether they are others than before.
    pub(super) fn find_bonds(&mut self, found: &[Interface]) -> bool {
        let attached: Vec<u32> =
            self.configured.iter().filter_map(ConfiguredInterface::index).collect();
        let mut differs = false;
        for configured in &mut self.configured {
            let bonding = configured.index().map(|index| Bonding::of(index, &attached, found));
            let before = std::mem::replace(&mut configured.bonding, bonding.unwrap_or_default());
            differs |= before != configured.bonding;
        }
        differs
    }

    /// The findings about bonds of which some members are attached and others are not.
    pub fn partial_bonds(&self) -> Vec<Finding> {
        let partial = self.configured.iter().filter_map(|one| one.bonding.partial.as_ref());
        findings(partial)
    }

    /// Index of the interface that stands for the path of each slot.
    pub(super) fn paths(&self) -> [u32; MAX_INTERFACES as usize] {
        let mut paths = [0; MAX_INTERFACES as usize];
        for configured in &self.configured {
            paths[usize::from(configured.slot)] = configured.bonding.path;
        }
        paths
    }
}

/// One finding for each bond.
fn findings<'a>(partial: impl Iterator<Item = &'a Partial>) -> Vec<Finding> {
    let bonds: BTreeMap<&str, &Partial> = partial.map(|one| (one.bond.as_str(), one)).collect();
    let finding = |Partial { bond, missing }: &Partial| {
        let members = match missing.as_slice() {
            [one] => format!("its member {one} is not attached"),
            all => format!("its members {} are not attached", all.join(", ")),
        };
        let text = format!("{bond}: {members}. SYNs that arrive there are not seen");
        let hint = format!(
            "name {bond} in place of its members under [interfaces] (see: ip -details link)"
        );
        Finding::warning("bond_partial", text).about(bond).hint(hint)
    };
    bonds.into_values().map(finding).collect()
}

fn is_bond(interface: &Interface) -> bool {
    interface.kind.as_deref() == Some("bond")
}

#[cfg(test)]
pub mod tests {
    use tcpguard_host::linux::interfaces::OperState;
    use tcpguard_host::linux::{Below, Xdp};

    use super::*;

    /// An interface that is up, with a name by its index.
    pub fn interface(index: u32, kind: Option<&str>, master: Option<u32>) -> Interface {
        Interface {
            index,
            name: format!("eth{index}"),
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

    /// A bond of 2 and 3, a bridge of 5 and 6, and 8 alone.
    fn found() -> Vec<Interface> {
        vec![
            interface(2, None, Some(4)),
            interface(3, None, Some(4)),
            interface(4, Some("bond"), None),
            interface(5, None, Some(7)),
            interface(6, None, Some(7)),
            interface(7, Some("bridge"), None),
            interface(8, None, None),
        ]
    }

    #[test]
    fn a_bond_and_its_members_are_one_path() {
        let bond = Bonding { members: vec![2, 3], path: 4, partial: None };
        assert_eq!(Bonding::of(4, &[4], &found()), bond);
        let path = |index, attached: &[u32]| Bonding::of(index, attached, &found()).path;
        assert_eq!([2, 3].map(|index| path(index, &[2, 3])), [2, 2]);
        assert_eq!(path(3, &[3]), 3, "its path does not go by a member that is not attached");
    }

    #[test]
    fn a_bond_with_a_member_that_is_not_attached_is_named_once() {
        let mut found = found();
        found.push(interface(9, None, Some(4)));
        let partial = |attached: &[u32]| {
            let all = attached.iter().map(|index| Bonding::of(*index, attached, &found));
            let partial: Vec<Partial> = all.filter_map(|bonding| bonding.partial).collect();
            let texts = findings(partial.iter()).into_iter().map(|finding| finding.text);
            texts.collect::<Vec<_>>()
        };
        let unseen = "SYNs that arrive there are not seen";
        assert_eq!(partial(&[2, 3]), [format!("eth4: its member eth9 is not attached. {unseen}")]);
        let both = format!("eth4: its members eth3, eth9 are not attached. {unseen}");
        assert_eq!(partial(&[2, 5]), [both]);
        assert!(partial(&[2, 3, 9]).is_empty() && partial(&[4]).is_empty());
        assert!(partial(&[5]).is_empty(), "another port of a bridge may have no clients");
    }

    #[test]
    fn other_interfaces_are_paths_of_their_own() {
        for index in [5, 6, 7, 8, 9] {
            let bonding = Bonding::of(index, &[5, 6, 7, 8], &found());
            assert_eq!(bonding, Bonding::default(), "{index}");
        }
    }
}
