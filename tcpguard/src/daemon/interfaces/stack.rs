//! Interfaces of one stack, of which only one is attached, and the interfaces that an earlier agent attached and that
//! are no longer configured.

use tcpguard_host::linux::{Interface, interfaces};

use super::{ConfiguredInterface, Interfaces};
use crate::bpf::{Detached, KernelError, Result};

impl Interfaces {
    /// Refuses an interface that is above or below one that is configured before it.
    pub(super) fn require_apart(&self, place: usize, found: &[Interface]) -> Result<()> {
        let earlier = self.configured[..place].iter().filter_map(|one| one.present.clone());
        self.configured[place].require_apart(&earlier.collect::<Vec<_>>(), found)
    }

    /// Refuses an interface that is above or below one that is attached.
    pub(super) fn require_unstacked(&self, place: usize) -> Result<()> {
        let found = interfaces::list()?;
        self.configured[place].require_apart(&self.attached(), &found)
    }

    /// Detaches the programs that an earlier agent left above or below this interface, unless they are configured too. The
    /// kernel refuses some programs of one stack, and each packet would count twice beside the others.
    pub(super) fn detach_stacked(&self, place: usize, found: &[Interface]) {
        let Some(present) = &self.configured[place].present else { return };
        let kept = self.indices();
        let stacked = stacked(present, &kept, found);
        if stacked.is_empty() {
            return;
        }
        let detached = self.pins.detach_from(|index| stacked.contains(&index));
        log_detached(detached, "another configuration");
    }

    /// Detaches the programs that an earlier agent left on interfaces that are no longer configured.
    pub fn detach_unwanted(&self) {
        let names: Vec<String> = self.wanted.iter().map(|(name, _)| name.clone()).collect();
        let detached = self.pins.detach_unwanted(&names, &self.indices());
        log_detached(detached, "another configuration");
    }

    fn indices(&self) -> Vec<u32> {
        self.configured.iter().filter_map(ConfiguredInterface::index).collect()
    }
}

impl ConfiguredInterface {
    /// Refuses it where it is above or below one of `others`.
    fn require_apart(&self, others: &[Interface], found: &[Interface]) -> Result<()> {
        let Some(present) = &self.present else { return Ok(()) };
        if others.iter().any(|one| one.index == present.index) {
            return Ok(());
        }
        match others.iter().find(|one| one.overlaps(present, found)) {
            None => Ok(()),
            Some(other) => Err(KernelError::Stacked {
                interface: present.name.clone(),
                other: other.name.clone(),
            }),
        }
    }
}

/// Indices of the interfaces in the stack of `interface` that are not among `kept`.
fn stacked(interface: &Interface, kept: &[u32], found: &[Interface]) -> Vec<u32> {
    let others = found.iter().filter(|one| !kept.contains(&one.index));
    others.filter(|one| one.overlaps(interface, found)).map(|one| one.index).collect()
}

/// Indices of the bridges with ports of containers alone: all of them are of kind `veth`.
pub(super) fn bridges_of_containers(found: &[Interface]) -> Vec<u32> {
    let is_kind = |one: &Interface, kind| one.kind.as_deref() == Some(kind);
    let is_of_containers = |bridge: &&Interface| {
        let mut ports = found.iter().filter(|one| one.master == Some(bridge.index));
        is_kind(bridge, "bridge") && ports.all(|port| is_kind(port, "veth"))
    };
    found.iter().filter(is_of_containers).map(|bridge| bridge.index).collect()
}

/// Logs programs that an agent of another version or configuration, `of`, left and that were detached, or could not be.
pub fn log_detached(detached: Detached, of: &str) {
    if !detached.interfaces.is_empty() {
        let names = detached.interfaces.join(", ");
        log::info!("programs of {of} detached from {names}");
    }
    for error in detached.left {
        log::warn!(
            "programs of {of} still attached: {error}. Detach them: tcpguard detach --all && systemctl \
             restart tcpguard"
        );
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_host::linux::Below;

    use super::*;

    fn interface(index: u32, kind: Option<&str>, master: Option<u32>, below: Below) -> Interface {
        Interface { below, ..super::super::interface(index, kind, master) }
    }

    #[test]
    fn only_interfaces_of_the_same_stack_that_are_not_configured_are_in_the_way() {
        let nothing = Below::Nothing;
        // A bridge of 2 and 3, a VLAN upon 2, and 6 alone.
        let found = [
            interface(2, None, Some(4), nothing),
            interface(3, None, Some(4), nothing),
            interface(4, Some("bridge"), None, nothing),
            interface(5, Some("vlan"), None, Below::Here(2)),
            interface(6, None, None, nothing),
        ];
        let of = |index: usize, kept: &[u32]| stacked(&found[index - 2], kept, &found);
        assert_eq!(of(2, &[2]), [4, 5]);
        assert_eq!(of(2, &[2, 4]), [5], "the bridge is configured, too");
        assert_eq!(of(3, &[3]), [4], "another port is not of its stack");
        assert_eq!(of(4, &[4]), [2, 3]);
        assert!(of(6, &[6]).is_empty());
    }

    #[test]
    fn a_bridge_with_a_port_of_another_kind_is_not_of_containers_alone() {
        let nothing = Below::Nothing;
        let found = [
            interface(2, Some("bridge"), None, nothing),
            interface(3, Some("veth"), Some(2), nothing),
            interface(4, Some("veth"), Some(2), nothing),
            interface(5, Some("bridge"), None, nothing),
            interface(6, Some("veth"), Some(5), nothing),
            interface(7, None, Some(5), nothing),
            interface(8, Some("veth"), None, nothing),
        ];
        assert_eq!(bridges_of_containers(&found), [2]);
    }
}
