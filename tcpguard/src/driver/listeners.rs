//! The table of monitored listeners, and the numbers by which the programs and the engine know them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tcpguard_common::abi::{self, Addr, ListenerEntry, ListenerKey, Mask, Rate, maps};
use tcpguard_engine::{Listener, ListenerId, ListenerKind, ListenerSample, Queues};

use super::distinct::Estimates;
use super::tables::Tables;
use crate::bpf::{KernelError, TEST_LISTENER, addr, listener_keys};

/// Listeners monitored at most. The last slot of the tables is that of test runs.
pub const CAPACITY: u32 = TEST_LISTENER;

/// A monitored listener, with the state `S` of its driver.
#[derive(Debug)]
pub struct Monitored<S> {
    /// The engine's number for it.
    pub id: ListenerId,
    /// Address and port to which clients connect.
    pub listener: Listener,
    /// Kind: a local socket, or a forwarded service.
    pub kind: ListenerKind,
    /// True if IPv4 clients connect to it too, though it is an IPv6 one.
    pub dual_stack: bool,
    /// Bits of [`ListenerEntry::mitigations`].
    pub mitigations: u8,
    /// Bits of [`ListenerEntry::withheld`].
    pub withheld: u8,
    /// True if it answers at addresses that are not known for the host's own, where it is bound to all.
    pub everywhere: bool,
    /// Rate of first SYNs from unvalidated sources that it is given while its budget applies.
    pub budget: Rate,
    /// Rate of retransmitted SYNs under signature rules or a budget that it is given.
    pub retransmit_budget: Rate,
    /// MSS to which the packet filter lowers that of its clients; see [`ListenerEntry::mss_limit`].
    pub mss_limit: Option<u16>,
    /// State that only the driver uses.
    pub own: S,
    /// Sampling of SYN headers; see [`ListenerEntry::samples`].
    pub samples: u8,
    /// Number of signature rules per mask.
    rules: [u32; Mask::ALL.len()],
}

impl<S> Monitored<S> {
    /// A listener without rules and mitigations.
    pub fn new(id: ListenerId, listener: Listener, kind: ListenerKind, own: S) -> Self {
        Self {
            id,
            listener,
            kind,
            dual_stack: false,
            mitigations: 0,
            withheld: 0,
            everywhere: false,
            budget: Rate::default(),
            retransmit_budget: Rate::default(),
            mss_limit: None,
            own,
            samples: 0,
            rules: [0; Mask::ALL.len()],
        }
    }

    /// Its slot in the tables.
    pub const fn slot(&self) -> u32 {
        slot(self.id)
    }

    /// Returns whether a signature rule for this listener is in force.
    pub fn has_rules(&self) -> bool {
        self.rules.iter().any(|count| *count > 0)
    }

    /// Counts one signature rule more.
    pub const fn add_rule(&mut self, mask: Mask) {
        self.rules[mask.code() as usize] += 1;
    }

    /// Counts one signature rule less.
    pub const fn remove_rule(&mut self, mask: Mask) {
        let count = &mut self.rules[mask.code() as usize];
        *count = count.saturating_sub(1);
    }

    /// The reading of its tables. `is_reported` states whether the kernel reports its completed handshakes.
    pub fn sample(
        &self,
        tables: &impl Tables,
        estimates: &mut Estimates,
        queues: Option<Queues>,
        is_reported: bool,
    ) -> Result<ListenerSample, KernelError> {
        let counters = tables.counters(self.slot(), is_reported)?;
        let registers = || tables.distinct_sources(self.slot());
        Ok(ListenerSample {
            id: self.id,
            listener: self.listener,
            kind: self.kind,
            counters,
            queues,
            distinct_sources: estimates.of(self.id, counters.syn, registers)?,
        })
    }

    /// Its entry for the programs. `own_known`: see [`ListenerTable::own_known`].
    fn entry(&self, own_known: bool) -> ListenerEntry {
        let kind = match self.kind {
            ListenerKind::Local => abi::ListenerKind::Local,
            ListenerKind::Forwarded => abi::ListenerKind::Forwarded,
        };
        let masks = self.rules.iter().enumerate();
        ListenerEntry {
            id: self.slot(),
            kind: kind as u8,
            masks: masks.fold(0, |masks, (bit, count)| masks | u8::from(*count > 0) << bit),
            mitigations: self.mitigations,
            budget: self.budget,
            retransmit_budget: self.retransmit_budget,
            mss_limit: self.mss_limit.unwrap_or(0).into(),
            samples: self.samples,
            withheld: self.withheld,
            own_only: (own_known && !self.everywhere).into(),
            pad: [0; 2],
        }
    }
}

/// Slot of a listener in the tables. The engine never sees a number again, and the tables have 4,096 slots: the low
/// bits of the number are the slot.
pub const fn slot(id: ListenerId) -> u32 {
    id.0 % maps::MAX_LISTENERS
}

/// The listener of a key that another process has written.
const NO_LISTENER: ListenerId = ListenerId(u32::MAX);

/// The monitored listeners, each in its slot. Changes of many listeners reach the programs with
/// [`Self::write`], those of one at once.
#[derive(Debug)]
pub struct ListenerTable<S> {
    slots: Vec<Option<Monitored<S>>>,
    /// The free ones of these slots, each with the number of its next listener.
    free: BTreeMap<u32, ListenerId>,
    /// Content of the programs' table, with the listener of each key.
    keys: BTreeMap<ListenerKey, (ListenerId, ListenerEntry)>,
    /// Ports on which sockets listen that are not monitored.
    pub open: BTreeSet<u16>,
    /// True if the programs know all addresses that are the host's own. Those listeners that are bound to all
    /// addresses are then of these alone.
    pub own_known: bool,
    /// Listeners that are new, or of which anything may have changed, since this was last emptied.
    pub touched: BTreeSet<ListenerId>,
    /// Listeners that were forgotten since this was last emptied.
    pub gone: Vec<ListenerId>,
    /// The ports of `open` as they were last written.
    reported_open: Option<BTreeSet<u16>>,
}

impl<S> Default for ListenerTable<S> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: BTreeMap::new(),
            keys: BTreeMap::new(),
            open: BTreeSet::new(),
            own_known: false,
            touched: BTreeSet::new(),
            gone: Vec::new(),
            reported_open: None,
        }
    }
}

impl<S> ListenerTable<S> {
    /// All listeners, by their slots.
    pub fn iter(&self) -> impl Iterator<Item = &Monitored<S>> {
        self.slots.iter().flatten()
    }

    /// All listeners, by their slots.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Monitored<S>> {
        self.slots.iter_mut().flatten()
    }

    /// The listener with this number.
    pub fn get(&self, id: ListenerId) -> Option<&Monitored<S>> {
        self.slots.get(slot(id) as usize)?.as_ref().filter(|monitored| monitored.id == id)
    }

    /// The listener with this number.
    pub fn get_mut(&mut self, id: ListenerId) -> Option<&mut Monitored<S>> {
        self.slots.get_mut(slot(id) as usize)?.as_mut().filter(|monitored| monitored.id == id)
    }

    /// The number of slots of which any have been taken.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The number of the listener in this slot.
    pub fn at_slot(&self, slot: u32) -> Option<ListenerId> {
        self.slots.get(slot as usize)?.as_ref().map(|monitored| monitored.id)
    }

    /// The number of the listener under exactly this key.
    pub fn under(&self, key: &ListenerKey) -> Option<ListenerId> {
        self.keys.get(key).map(|(id, _)| *id)
    }

    /// The listener that a connection to a local address and port belongs to, found as the programs
    /// find it: bound to exactly this address, else to all of its family.
    pub fn of(&self, local: IpAddr, port: u16) -> Option<ListenerId> {
        let exact = addr(local);
        let any = if exact.as_v4().is_some() { Addr::ANY_V4 } else { Addr::ANY_V6 };
        let key = |addr| ListenerKey::new(addr, port.to_be_bytes());
        self.under(&key(exact)).or_else(|| self.under(&key(any)))
    }

    /// Gives a listener a free slot, whose counters start from zero; `None` where there is none.
    ///
    /// # Errors
    /// When the kernel refuses; then the slot stays free.
    pub fn insert(
        &mut self,
        listener: Listener,
        kind: ListenerKind,
        own: S,
        tables: &mut impl Tables,
    ) -> Result<Option<&mut Monitored<S>>, KernelError> {
        let (slot, id) = match self.free.first_key_value() {
            Some((slot, id)) => (*slot, *id),
            None if self.slots.len() < CAPACITY as usize => {
                let slot = self.slots.len() as u32;
                (slot, ListenerId(slot))
            }
            None => return Ok(None),
        };
        tables.reset_listener(slot)?;
        if self.free.remove(&slot).is_none() {
            self.slots.push(None);
        }
        self.touched.insert(id);
        let place = self.slots.get_mut(slot as usize);
        Ok(place.map(|place| place.insert(Monitored::new(id, listener, kind, own))))
    }

    /// Takes over a listener that is in its slot of the tables already, under these keys.
    pub fn adopt(&mut self, monitored: Monitored<S>, keys: Vec<ListenerKey>, entry: ListenerEntry) {
        let (slot, id) = (monitored.slot(), monitored.id);
        while self.slots.len() <= slot as usize {
            let free = self.slots.len() as u32;
            self.slots.push(None);
            self.free.insert(free, ListenerId(free));
        }
        self.free.remove(&slot);
        self.touched.insert(id);
        self.slots[slot as usize] = Some(monitored);
        self.keys.extend(keys.into_iter().map(|key| (key, (id, entry))));
    }

    /// Forgets listeners, whose slots become free.
    pub fn forget(&mut self, gone: impl Fn(&Monitored<S>) -> bool) {
        for place in &mut self.slots {
            if let Some(monitored) = place.take_if(|monitored| gone(monitored)) {
                let next = ListenerId(monitored.id.0.wrapping_add(maps::MAX_LISTENERS));
                self.free.insert(monitored.slot(), next);
                self.gone.push(monitored.id);
            }
        }
    }

    /// Returns whether headers of any listener's SYNs are kept.
    pub fn are_sampled(&self) -> bool {
        self.iter().any(|monitored| monitored.samples != 0)
    }

    /// Changes one listener.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn change(
        &mut self,
        id: ListenerId,
        change: impl FnOnce(&mut Monitored<S>),
        tables: &mut impl Tables,
    ) -> Result<(), KernelError> {
        self.get_mut(id).map(change);
        self.write_entry(id, tables)
    }

    /// Compares the entries that were `found` in the programs' table with those that were written there, and restores
    /// those that another process has changed. Returns the number of listeners that differed.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn repair(
        &mut self,
        found: &BTreeMap<ListenerKey, ListenerEntry>,
        tables: &mut impl Tables,
    ) -> Result<usize, KernelError> {
        let keys: BTreeSet<ListenerKey> = self.keys.keys().chain(found.keys()).copied().collect();
        let mut repaired = 0;
        for key in keys {
            let (known, found) = (self.keys.get(&key).map(|(_, entry)| entry), found.get(&key));
            if known == found {
                continue;
            }
            repaired += 1;
            // Entries that are not known to be there are written, and unwanted ones are removed.
            match (known, found) {
                (None, Some(foreign)) => drop(self.keys.insert(key, (NO_LISTENER, *foreign))),
                _ => drop(self.keys.remove(&key)),
            }
        }
        if repaired > 0 {
            self.write(tables)?;
        }
        Ok(repaired)
    }

    /// Writes the entry of one listener for the programs. Only where its keys are another's are the entries of all
    /// others written too: mitigations are started at many listeners in one poll.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn write_entry(
        &mut self,
        id: ListenerId,
        tables: &mut impl Tables,
    ) -> Result<(), KernelError> {
        let Some(changed) = self.changed(id) else { return self.write(tables) };
        let known = self.keys.len();
        for (key, entry) in changed {
            tables.set_listener(&key, &entry)?;
            self.keys.insert(key, (id, entry));
        }
        if self.keys.len() > known { self.write_ports(tables) } else { Ok(()) }
    }

    /// The keys under which the programs' entry of a listener differs, with the entry to write; `None`
    /// where each of its keys is another's.
    fn changed(&self, id: ListenerId) -> Option<Vec<(ListenerKey, ListenerEntry)>> {
        let monitored = self.get(id)?;
        let (entry, mut is_there) = (monitored.entry(self.own_known), false);
        let mut changed = Vec::new();
        for key in listener_keys(&monitored.listener, monitored.dual_stack) {
            let known = self.keys.get(&key);
            if known.is_none_or(|(of, _)| *of == id) {
                is_there = true;
                changed.extend((known != Some(&(id, entry))).then_some((key, entry)));
            }
        }
        is_there.then_some(changed)
    }

    /// Brings the programs' table in line with the listeners. An entry that could not be written is tried
    /// again with the next call, because `keys` only holds entries that are there.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn write(&mut self, tables: &mut impl Tables) -> Result<(), KernelError> {
        let mut wanted = BTreeMap::new();
        // Dual-stack sockets first: a socket of the family itself takes its key over, as it takes
        // the connections.
        let mut order: Vec<&Monitored<S>> = self.iter().collect();
        order.sort_by_key(|monitored| !monitored.dual_stack);
        for monitored in order {
            for key in listener_keys(&monitored.listener, monitored.dual_stack) {
                wanted.insert(key, (monitored.id, monitored.entry(self.own_known)));
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
            tables.remove_listener(&key)?;
        }
        for (key, (id, entry)) in &wanted {
            let before = self.keys.get(key);
            if before != Some(&(*id, *entry)) {
                tables.set_listener(key, entry)?;
                ports_changed |= before.is_none_or(|(_, before)| before.id != entry.id);
            }
        }
        self.keys = wanted;
        if ports_changed { self.write_ports(tables) } else { Ok(()) }
    }

    fn write_ports(&mut self, tables: &mut impl Tables) -> Result<(), KernelError> {
        // If this fails, the next call tries again.
        self.reported_open = None;
        let slots = self.keys.iter().map(|(key, (_, entry))| (key, entry.id));
        tables.set_ports(slots, &self.open)?;
        self.reported_open = Some(self.open.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
