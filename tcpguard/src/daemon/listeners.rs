//! Listeners that are monitored, and the numbers by which the kernel and the engine know them.

mod inherited;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::{self, Addr, ListenerEntry, ListenerKey, Mask, Rate, maps};
use tcpguard_engine::{Listener, ListenerId, ListenerKind, Queues, Timestamp};
use tcpguard_host::linux::ListenerGroup;

pub use self::inherited::Inherited;
use super::priority::{LeftOut, ListenerPriority, leaving, ranked, unfollowed};
use crate::bpf::{Dataplane, KernelError, TEST_LISTENER, addr, ip, listener_keys};

/// A listener whose sockets are gone is monitored for this much longer: an application that restarts
/// under a flood must neither end the incident nor lose the state about its clients.
const GONE: Duration = Duration::from_secs(60);
/// A forwarded service is followed for this long after its last SYN-ACK.
const IDLE: Duration = Duration::from_secs(600);
/// Forwarded services that are monitored at most: a host that can send SYN-ACKs through this one must not
/// take the slots of its own listeners.
const MAX_FORWARDED: usize = maps::MAX_LISTENERS as usize / 4;

#[derive(Debug)]
pub struct Followed {
    pub id: ListenerId,
    /// Address and port to which clients connect.
    pub listener: Listener,
    /// Kind: a local socket, or a forwarded service.
    pub kind: ListenerKind,
    /// Its queues, for local ones that have sockets now.
    pub queues: Option<Queues>,
    /// True if one of its sockets speaks MPTCP.
    pub mptcp: bool,
    dual_stack: bool,
    /// Its position in the order in which listeners get slots. No listener comes before a forwarded one.
    priority: ListenerPriority,
    /// Time at which it was last seen: in the list of sockets, or by a SYN-ACK.
    seen: Timestamp,
    /// Its SYN-ACKs when that was looked at last.
    syn_acks: u64,
    /// Number of signature rules per mask.
    rules: [u32; Mask::ALL.len()],
    /// Bits of [`ListenerEntry::mitigations`].
    mitigations: u8,
    /// Rate of SYNs from unvalidated sources that it is given while its budget applies.
    budget: Rate,
    /// Retransmitted SYNs under signature rules that it is given.
    retransmit_budget: Rate,
    /// Sampling of SYN headers; see [`ListenerEntry::samples`].
    samples: u8,
}

impl Followed {
    /// Bits of [`ListenerEntry::mitigations`].
    pub const fn mitigations(&self) -> u8 {
        self.mitigations
    }

    /// Its slot in the kernel's tables.
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
        ListenerEntry {
            id: self.slot(),
            kind: kind as u8,
            masks,
            mitigations: self.mitigations,
            budget: self.budget,
            retransmit_budget: self.retransmit_budget,
            samples: self.samples,
        }
    }
}

/// Slot of a listener in the kernel's tables. The engine never sees a number again, and the kernel has 4,096 slots: the
/// low bits of the number are the slot.
pub fn slot(id: ListenerId) -> u32 {
    id.0 % maps::MAX_LISTENERS
}

/// The listener of a key that another process has written.
const NO_LISTENER: ListenerId = ListenerId(u32::MAX);

#[derive(Debug, Default)]
pub struct Listeners {
    followed: BTreeMap<ListenerId, Followed>,
    /// Content of the kernel's table, with the listener of each key.
    keys: BTreeMap<ListenerKey, (ListenerId, ListenerEntry)>,
    free: BTreeSet<u32>,
    uses: BTreeMap<u32, u32>,
    next: u32,
    /// Listeners for which slots were vacated at the last update.
    expected: BTreeSet<Listener>,
    /// Listeners that found no slot.
    pub left_out: LeftOut,
    /// Ports on which sockets listen that are not followed.
    open: BTreeSet<u16>,
    /// The ports of `open` as they were last written to the kernel.
    reported_open: Option<BTreeSet<u16>>,
}

impl Listeners {
    pub fn iter(&self) -> impl Iterator<Item = &Followed> {
        self.followed.values()
    }

    /// The one with this number.
    pub fn get(&self, id: ListenerId) -> Option<&Followed> {
        self.followed.get(&id)
    }

    /// The number of the listener in this slot of the kernel's tables.
    pub fn at_slot(&self, slot: u32) -> Option<ListenerId> {
        let id = ListenerId(self.uses.get(&slot)? * maps::MAX_LISTENERS + slot);
        self.followed.contains_key(&id).then_some(id)
    }

    /// The listener that a connection to a local address and port belongs to, found as the programs
    /// find it: bound to exactly this address, else to all of its family.
    pub fn of(&self, local: IpAddr, port: u16) -> Option<ListenerId> {
        let exact = addr(local);
        let any = if exact.as_v4().is_some() { Addr::ANY_V4 } else { Addr::ANY_V6 };
        [exact, any]
            .iter()
            .find_map(|addr| self.keys.get(&ListenerKey::new(*addr, port.to_be_bytes())))
            .map(|(id, _)| *id)
    }

    /// Monitors the local listeners in `groups`, except those that are `ignored`. A listener that was
    /// monitored until now and is ignored is removed at once. `budget` returns, for a listener and the
    /// limit of its SYN queue, how many retransmitted SYNs per second its rules let through where no
    /// cookies answer them.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn update(
        &mut self,
        now: Timestamp,
        groups: &[ListenerGroup],
        ignored: impl Fn(&Listener) -> bool,
        budget: impl Fn(&Listener, u32) -> u32,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        let order = ranked(groups.iter().filter(|group| !ignored(&group.listener)));
        let wanted: BTreeMap<Listener, (ListenerPriority, &ListenerGroup)> =
            order.iter().map(|(priority, group)| (group.listener, (*priority, *group))).collect();
        for followed in self.followed.values_mut() {
            let found = wanted.get(&followed.listener);
            if followed.kind == ListenerKind::Local {
                followed.queues = found.map(|(_, group)| group.queues);
            }
            if let Some((priority, group)) = found {
                followed.dual_stack = group.dual_stack;
                followed.mptcp = group.mptcp;
                if followed.kind == ListenerKind::Local {
                    (followed.priority, followed.seen) = (*priority, now);
                }
            }
        }
        let covered = |listener: &Listener| {
            // A service that was taken for a forwarded one, before its socket was listed.
            wanted.contains_key(listener)
                || wanted.values().any(|(_, group)| covers(group, listener.addr, listener.port))
        };
        self.forget(|followed| match followed.kind {
            ListenerKind::Local => now.since(followed.seen) > GONE,
            ListenerKind::Forwarded => {
                covered(&followed.listener) || now.since(followed.seen) > IDLE
            }
        });
        let known: BTreeSet<Listener> = self.iter().map(|followed| followed.listener).collect();
        let mut new: Vec<_> =
            order.iter().filter(|(_, group)| !known.contains(&group.listener)).collect();
        // The slots vacated for these listeners are not for sockets that were opened meanwhile.
        new.sort_by_key(|(_, group)| !self.expected.contains(&group.listener));
        let mut without = Vec::new();
        for (priority, group) in new {
            let kind = ListenerKind::Local;
            match self.add(now, group.listener, kind, group.dual_stack, dataplane)? {
                Some(id) => {
                    if let Some(followed) = self.followed.get_mut(&id) {
                        followed.queues = Some(group.queues);
                        followed.mptcp = group.mptcp;
                        followed.priority = *priority;
                    }
                }
                None => without.push((*priority, group.listener)),
            }
        }
        for followed in self.followed.values_mut() {
            let backlog = followed.queues.map_or(0, |queues| queues.backlog);
            followed.retransmit_budget = so_many(budget(&followed.listener, backlog));
        }
        self.left_out = LeftOut::default();
        without.iter().for_each(|(priority, _)| self.left_out.add(priority));
        // Last, so that no listener gets the slot before the rules for the old one are gone.
        self.make_room(&without);
        self.forget(|followed| ignored(&followed.listener));
        self.open = unfollowed(groups, self.iter().map(|followed| followed.listener));
        self.write(dataplane)
    }

    /// Follows the services that answered SYNs from an address on which no socket listens here.
    pub fn add_forwarded(
        &mut self,
        now: Timestamp,
        keys: &[ListenerKey],
        ignored: impl Fn(&Listener) -> bool,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        for followed in self.followed.values_mut() {
            if followed.kind == ListenerKind::Forwarded {
                let syn_acks = dataplane.listener_counters(slot(followed.id))?.syn_ack;
                if syn_acks != followed.syn_acks {
                    (followed.syn_acks, followed.seen) = (syn_acks, now);
                }
            }
        }
        let mut forwarded =
            self.iter().filter(|followed| followed.kind == ListenerKind::Forwarded).count();
        for key in keys {
            let listener = Listener { addr: ip(&key.addr), port: u16::from_be_bytes(key.port) };
            if ignored(&listener)
                || forwarded >= MAX_FORWARDED
                || self.of(listener.addr, listener.port).is_some()
            {
                continue;
            }
            if self.add(now, listener, ListenerKind::Forwarded, false, dataplane)?.is_some() {
                forwarded += 1;
            }
        }
        self.write(dataplane)
    }

    /// Sets some of a listener's [`ListenerEntry::mitigations`] and clears others.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn change_mitigations(
        &mut self,
        id: ListenerId,
        set: u8,
        clear: u8,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        if let Some(followed) = self.followed.get_mut(&id) {
            followed.mitigations = followed.mitigations & !clear | set;
        }
        self.write_entry(id, dataplane)
    }

    /// Gives a listener so many SYNs a second of unvalidated sources while its budget applies: half of them first ones
    /// and half retransmitted ones, and a quarter of a second's worth at once. 0 leaves the rate as it is.
    pub fn set_budget(&mut self, id: ListenerId, per_second: u32) {
        if let Some(followed) = self.followed.get_mut(&id).filter(|_| per_second > 0) {
            followed.budget = so_many(per_second.div_ceil(2));
        }
    }

    /// Keeps headers of one SYN in `2^shift` to a listener; `None`: of no SYN.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn sample_syns(
        &mut self,
        id: ListenerId,
        shift: Option<u8>,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        if let Some(followed) = self.followed.get_mut(&id) {
            followed.samples = shift.map_or(0, |shift| shift.saturating_add(1));
        }
        self.write_entry(id, dataplane)
    }

    /// Returns whether headers of any listener's SYNs are kept.
    pub fn are_sampled(&self) -> bool {
        self.iter().any(|followed| followed.samples != 0)
    }

    /// Counts one signature rule more for a listener.
    pub fn add_rule(
        &mut self,
        id: ListenerId,
        mask: Mask,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        if let Some(followed) = self.followed.get_mut(&id) {
            followed.rules[usize::from(mask.code())] += 1;
        }
        self.write_entry(id, dataplane)
    }

    /// Counts one signature rule less.
    pub fn remove_rule(
        &mut self,
        id: ListenerId,
        mask: Mask,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        if let Some(followed) = self.followed.get_mut(&id) {
            let count = &mut followed.rules[usize::from(mask.code())];
            *count = count.saturating_sub(1);
        }
        self.write_entry(id, dataplane)
    }

    fn add(
        &mut self,
        now: Timestamp,
        listener: Listener,
        kind: ListenerKind,
        dual_stack: bool,
        dataplane: &Dataplane,
    ) -> Result<Option<ListenerId>, KernelError> {
        let slot = match self.free.first() {
            Some(slot) => *slot,
            None if self.next < TEST_LISTENER => self.next,
            None => return Ok(None),
        };
        dataplane.reset_listener(slot)?;
        if !self.free.remove(&slot) {
            self.next += 1;
        }
        let uses = self.uses.entry(slot).and_modify(|uses| *uses += 1).or_insert(0);
        let id = ListenerId(*uses * maps::MAX_LISTENERS + slot);
        let followed = Followed {
            id,
            listener,
            kind,
            queues: None,
            mptcp: false,
            dual_stack,
            priority: ListenerPriority::default(),
            seen: now,
            syn_acks: 0,
            rules: [0; Mask::ALL.len()],
            mitigations: 0,
            budget: Rate::default(),
            retransmit_budget: Rate::default(),
            samples: 0,
        };
        self.followed.insert(id, followed);
        Ok(Some(id))
    }

    /// Forgets the listeners that have to leave their slots to listeners that found none.
    fn make_room(&mut self, without: &[(ListenerPriority, Listener)]) {
        self.expected.clear();
        if without.is_empty() {
            return;
        }
        let locals = self.iter().filter(|followed| followed.kind == ListenerKind::Local);
        let followed = locals
            .map(|followed| (followed.priority, followed.queues.is_none(), followed.id))
            .collect();
        let places = leaving(without, followed);
        self.forget(|followed| places.contains_key(&followed.id));
        self.expected = places.into_values().collect();
    }

    fn forget(&mut self, gone: impl Fn(&Followed) -> bool) {
        let ids: Vec<ListenerId> =
            self.iter().filter(|followed| gone(followed)).map(|followed| followed.id).collect();
        for id in ids {
            self.followed.remove(&id);
            self.free.insert(slot(id));
        }
    }

    /// Compares the kernel's tables with the entries that were written there, and restores those that
    /// another process has changed. Returns the number of listeners that differed.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn repair(&mut self, dataplane: &Dataplane) -> Result<usize, KernelError> {
        let found: BTreeMap<ListenerKey, ListenerEntry> =
            dataplane.listeners()?.into_iter().filter(|(_, entry)| !is_test(entry)).collect();
        let differs = |(key, (_, entry)): (&ListenerKey, &(ListenerId, ListenerEntry))| {
            (found.get(key) != Some(entry)).then_some(*key)
        };
        let wrong: Vec<ListenerKey> = self.keys.iter().filter_map(differs).collect();
        let foreign: Vec<_> =
            found.into_iter().filter(|(key, _)| !self.keys.contains_key(key)).collect();
        let repaired = wrong.len() + foreign.len();
        // Entries that are not known to be there are written, and unwanted ones are removed.
        for key in wrong {
            self.keys.remove(&key);
        }
        for (key, entry) in foreign {
            self.keys.insert(key, (NO_LISTENER, entry));
        }
        if repaired > 0 {
            self.write(dataplane)?;
        }
        Ok(repaired)
    }

    /// Updates the kernel's entry of one listener. Only where the kernel has no such entry yet are those of all others
    /// updated too: mitigations are started at many listeners in one poll.
    fn write_entry(&mut self, id: ListenerId, dataplane: &Dataplane) -> Result<(), KernelError> {
        let Some(changed) = self.changed(id) else { return self.write(dataplane) };
        for (key, entry) in changed {
            dataplane.set_listener(&key, &entry)?;
            self.keys.insert(key, (id, entry));
        }
        Ok(())
    }

    /// The keys under which the kernel's entry of a listener differs, with the entry to write; `None`
    /// where the kernel has none.
    fn changed(&self, id: ListenerId) -> Option<Vec<(ListenerKey, ListenerEntry)>> {
        let followed = self.followed.get(&id)?;
        let (entry, mut is_there) = (followed.entry(), false);
        let mut changed = Vec::new();
        for key in listener_keys(&followed.listener, followed.dual_stack) {
            if let Some((_, known)) = self.keys.get(&key).filter(|(of, _)| *of == id) {
                is_there = true;
                changed.extend((*known != entry).then_some((key, entry)));
            }
        }
        is_there.then_some(changed)
    }

    /// Brings the kernel's table in line with the listeners. An entry that could not be written is tried
    /// again with the next call, because `keys` only holds entries that are there.
    fn write(&mut self, dataplane: &Dataplane) -> Result<(), KernelError> {
        let mut wanted = BTreeMap::new();
        // Dual-stack sockets first: a socket of the family itself takes its key over, as it takes
        // the connections.
        let mut order: Vec<&Followed> = self.followed.values().collect();
        order.sort_by_key(|followed| !followed.dual_stack);
        for followed in order {
            for key in listener_keys(&followed.listener, followed.dual_stack) {
                wanted.insert(key, (followed.id, followed.entry()));
            }
        }
        let is_reported = self.reported_open.as_ref() == Some(&self.open);
        if wanted == self.keys && is_reported {
            return Ok(());
        }
        let gone: Vec<ListenerKey> =
            self.keys.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        let mut ports_changed = !gone.is_empty() || !is_reported;
        for key in gone {
            dataplane.remove_listener(&key)?;
        }
        for (key, (id, entry)) in &wanted {
            let before = self.keys.get(key);
            if before != Some(&(*id, *entry)) {
                dataplane.set_listener(key, entry)?;
                ports_changed |= before.is_none_or(|(_, before)| before.id != entry.id);
            }
        }
        if ports_changed {
            let ids = wanted.iter().map(|(key, (_, entry))| (key, entry.id));
            dataplane.set_ports_beside(ids, &self.open)?;
            self.reported_open = Some(self.open.clone());
        }
        self.keys = wanted;
        Ok(())
    }
}

/// Returns whether this is the entry of test runs, which belongs to no monitored listener.
fn is_test(entry: &ListenerEntry) -> bool {
    entry.id == TEST_LISTENER
}

/// Returns a rate of `per_second` SYNs a second, with a burst of a quarter of a second's worth.
fn so_many(per_second: u32) -> Rate {
    per_second_of(per_second.into(), (per_second / 4).into())
}

/// Returns a rate of `per_second` events a second, with a burst of `burst` events.
pub(super) fn per_second_of(per_second: u64, burst: u64) -> Rate {
    let fit = |number: u64| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
    Rate { interval_ns: fit(1_000_000_000 / per_second.max(1)), burst: fit(burst) }
}

/// Returns whether a socket of `group` takes connections to an address and port.
fn covers(group: &ListenerGroup, local: IpAddr, port: u16) -> bool {
    let any = group.listener.addr.is_unspecified()
        && (group.listener.addr.is_ipv4() == local.is_ipv4() || group.dual_stack);
    group.listener.port == port && (group.listener.addr == local || any)
}
