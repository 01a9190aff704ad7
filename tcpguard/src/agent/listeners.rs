//! Which listeners are followed, and under which numbers the kernel and the engine know them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tcpguard_common::abi::{self, ListenerEntry, ListenerKey, maps};
use tcpguard_common::fastpath::Mask;
use tcpguard_engine::{Listener, ListenerId, ListenerKind, Queues};

use crate::host::ListenerGroup;
use crate::kernel::{Dataplane, KernelError, ip, listener_keys};

/// One followed listener.
#[derive(Debug)]
pub struct Followed {
    /// The engine's number.
    pub id: ListenerId,
    /// Where clients connect to.
    pub listener: Listener,
    /// Where its sockets are.
    pub kind: ListenerKind,
    /// Its queues, for local ones.
    pub queues: Option<Queues>,
    keys: Vec<ListenerKey>,
    /// Number of signature rules per mask.
    rules: [u32; Mask::ALL.len()],
}

impl Followed {
    /// Its place in the kernel's tables.
    pub fn slot(&self) -> u32 {
        slot(self.id)
    }

    fn entry(&self) -> ListenerEntry {
        let kind = match self.kind {
            ListenerKind::Local => abi::ListenerKind::Local,
            ListenerKind::Forwarded => abi::ListenerKind::Forwarded,
        };
        let mut masks = 0;
        for (bit, count) in self.rules.iter().enumerate() {
            masks |= u8::from(*count > 0) << bit;
        }
        ListenerEntry { id: self.slot(), kind: kind as u8, masks, pad: [0; 2] }
    }
}

/// The engine never sees a number again, the kernel has 4,096 places: the low bits are the place.
fn slot(id: ListenerId) -> u32 {
    id.0 % maps::MAX_LISTENERS
}

/// Every followed listener.
#[derive(Debug, Default)]
pub struct Listeners {
    followed: BTreeMap<ListenerId, Followed>,
    free: BTreeSet<u32>,
    uses: BTreeMap<u32, u32>,
    next: u32,
    /// Listeners that found no place.
    pub unfollowed: usize,
}

impl Listeners {
    /// Every followed listener.
    pub fn iter(&self) -> impl Iterator<Item = &Followed> {
        self.followed.values()
    }

    /// The one with this number.
    pub fn get(&self, id: ListenerId) -> Option<&Followed> {
        self.followed.get(&id)
    }

    /// The number of the listener in this place of the kernel's tables.
    pub fn at_slot(&self, slot: u32) -> Option<ListenerId> {
        let id = ListenerId(self.uses.get(&slot)? * maps::MAX_LISTENERS + slot);
        self.followed.contains_key(&id).then_some(id)
    }

    /// Follows exactly the local listeners in `groups`, but for those on `ignored` ports, beside
    /// the forwarded ones.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn update(
        &mut self,
        groups: &[ListenerGroup],
        ignored: &[u16],
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        let wanted: BTreeMap<Listener, &ListenerGroup> = groups
            .iter()
            .filter(|group| !ignored.contains(&group.listener.port))
            .map(|group| (group.listener, group))
            .collect();
        let gone: Vec<ListenerId> = self
            .iter()
            .filter(|followed| match wanted.get(&followed.listener) {
                // A forwarded service whose address a socket now listens on becomes local.
                Some(_) => followed.kind == ListenerKind::Forwarded,
                None => followed.kind == ListenerKind::Local,
            })
            .map(|followed| followed.id)
            .collect();
        let mut changed = !gone.is_empty();
        for id in gone {
            self.remove(id, dataplane)?;
        }
        let known: BTreeMap<Listener, ListenerId> =
            self.iter().map(|followed| (followed.listener, followed.id)).collect();
        self.unfollowed = 0;
        for (listener, group) in wanted {
            if let Some(followed) = known.get(&listener).and_then(|id| self.followed.get_mut(id)) {
                followed.queues = Some(group.queues);
            } else if self.add(listener, ListenerKind::Local, group.dual_stack, dataplane)? {
                changed = true;
                if let Some(followed) = self.followed.values_mut().find(|f| f.listener == listener)
                {
                    followed.queues = Some(group.queues);
                }
            } else {
                self.unfollowed += 1;
            }
        }
        if changed { self.write_ports(dataplane) } else { Ok(()) }
    }

    /// Follows the services that answered SYNs from an address on which no socket listens here.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_forwarded(
        &mut self,
        keys: &[ListenerKey],
        ignored: &[u16],
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        let mut changed = false;
        for key in keys {
            let listener = Listener { addr: ip(&key.addr), port: u16::from_be_bytes(key.port) };
            let covered = |followed: &Followed| {
                followed.listener == listener
                    || followed.listener.port == listener.port
                        && followed.listener.addr.is_unspecified()
            };
            if ignored.contains(&listener.port) || self.iter().any(covered) {
                continue;
            }
            changed |= self.add(listener, ListenerKind::Forwarded, false, dataplane)?;
        }
        if changed { self.write_ports(dataplane) } else { Ok(()) }
    }

    /// Counts one signature rule more for a listener.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_rule(
        &mut self,
        id: ListenerId,
        mask: Mask,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        self.change_rules(id, mask, dataplane, |count| count + 1)
    }

    /// Counts one signature rule less.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_rule(
        &mut self,
        id: ListenerId,
        mask: Mask,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        self.change_rules(id, mask, dataplane, |count| count.saturating_sub(1))
    }

    fn change_rules(
        &mut self,
        id: ListenerId,
        mask: Mask,
        dataplane: &Dataplane,
        change: impl Fn(u32) -> u32,
    ) -> Result<(), KernelError> {
        let Some(followed) = self.followed.get_mut(&id) else { return Ok(()) };
        let count = &mut followed.rules[usize::from(mask.code())];
        *count = change(*count);
        let entry = followed.entry();
        followed.keys.iter().try_for_each(|key| dataplane.set_listener(key, &entry))
    }

    fn add(
        &mut self,
        listener: Listener,
        kind: ListenerKind,
        dual_stack: bool,
        dataplane: &Dataplane,
    ) -> Result<bool, KernelError> {
        let slot = match self.free.pop_first() {
            Some(slot) => slot,
            None if self.next < maps::MAX_LISTENERS => {
                self.next += 1;
                self.next - 1
            }
            None => return Ok(false),
        };
        let uses = self.uses.entry(slot).and_modify(|uses| *uses += 1).or_insert(0);
        let followed = Followed {
            id: ListenerId(*uses * maps::MAX_LISTENERS + slot),
            listener,
            kind,
            queues: None,
            keys: listener_keys(&listener, dual_stack),
            rules: [0; Mask::ALL.len()],
        };
        dataplane.reset_listener(slot)?;
        for key in &followed.keys {
            dataplane.set_listener(key, &followed.entry())?;
        }
        self.followed.insert(followed.id, followed);
        Ok(true)
    }

    fn remove(&mut self, id: ListenerId, dataplane: &Dataplane) -> Result<(), KernelError> {
        let Some(followed) = self.followed.remove(&id) else { return Ok(()) };
        for key in &followed.keys {
            dataplane.remove_listener(key)?;
        }
        self.free.insert(followed.slot());
        Ok(())
    }

    fn write_ports(&self, dataplane: &Dataplane) -> Result<(), KernelError> {
        dataplane.set_ports(self.iter().flat_map(|followed| &followed.keys))
    }

    /// Whether `local` is an address of the listener.
    pub fn covers(listener: &Listener, local: IpAddr) -> bool {
        listener.addr.is_unspecified() || listener.addr == local
    }
}
