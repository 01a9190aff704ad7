//! The listeners that a replay monitors.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_common::abi::maps::MAX_LISTENERS;
use tcpguard_common::abi::{self, ListenerEntry, ListenerKey, Mask};
use tcpguard_engine::{Listener, ListenerId, ListenerKind, Timestamp};

use super::backend::Backend;
use super::sources::Sources;
use crate::bpf::{KernelError, ip};

/// Time without a SYN after which a listener gives its slot up, when all slots are taken.
const IDLE: Duration = Duration::from_secs(60);
/// Shortest time between two searches for idle listeners.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A listener that is followed.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The engine's number for it.
    pub id: ListenerId,
    /// Address and port to which clients connect.
    pub listener: Listener,
    /// The values that the engine got last: number of SYNs, and number of their sources. `None`
    /// before the first sample.
    pub reported: Option<(u64, u64)>,
    /// The sources of its SYNs.
    pub sources: Sources,
    key: ListenerKey,
    seen: Timestamp,
    /// Signature rules by mask.
    rules: [u32; Mask::ALL.len()],
    /// See [`ListenerEntry::samples`].
    samples: u8,
}

impl Followed {
    /// Its slot in the tables.
    pub const fn slot(&self) -> u32 {
        slot(self.id)
    }

    fn entry(&self) -> ListenerEntry {
        let masks = self.rules.iter().enumerate();
        let masks = masks.fold(0, |masks, (bit, count)| masks | u8::from(*count > 0) << bit);
        let kind = abi::ListenerKind::Forwarded as u8;
        let (id, samples) = (self.slot(), self.samples);
        ListenerEntry { id, kind, masks, samples, ..ListenerEntry::default() }
    }
}

/// Returns the slot of a listener. The engine never gets a number twice, but the tables have 4,096 slots: the
/// low bits are the slot.
pub const fn slot(id: ListenerId) -> u32 {
    id.0 % MAX_LISTENERS
}

/// Kind of every replayed listener. A capture shows no sockets and no queues.
pub const KIND: ListenerKind = ListenerKind::Forwarded;

#[derive(Debug, Default)]
pub struct Listeners {
    places: Vec<Option<Followed>>,
    free: Vec<ListenerId>,
    by_key: BTreeMap<ListenerKey, u32>,
    looked: Timestamp,
    /// Listeners that found no free slot.
    pub unfollowed: u64,
}

impl Listeners {
    pub fn iter(&self) -> impl Iterator<Item = &Followed> {
        self.places.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Followed> {
        self.places.iter_mut().flatten()
    }

    /// The engine's number of the listener in a slot of the tables.
    pub fn at(&self, slot: u32) -> Option<ListenerId> {
        self.places.get(slot as usize)?.as_ref().map(|followed| followed.id)
    }

    /// The listener with this number.
    pub fn find(&mut self, id: ListenerId) -> Option<&mut Followed> {
        let place = self.places.get_mut(slot(id) as usize)?.as_mut();
        place.filter(|followed| followed.id == id)
    }

    /// The listener there, if it is followed; then it counts as seen now.
    pub fn see(&mut self, now: Timestamp, key: &ListenerKey) -> Option<&mut Followed> {
        let slot = self.by_key.get(key)?;
        let followed = self.places.get_mut(*slot as usize)?.as_mut()?;
        followed.seen = now;
        Some(followed)
    }

    /// Monitors one more listener.
    pub fn add(
        &mut self,
        now: Timestamp,
        key: ListenerKey,
        backend: &mut dyn Backend,
    ) -> Result<(), KernelError> {
        if self.see(now, &key).is_some() {
            return Ok(());
        }
        if self.places.len() >= MAX_LISTENERS as usize && self.free.is_empty() {
            self.forget_idle(now, backend)?;
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.places.len() < MAX_LISTENERS as usize => {
                self.places.push(None);
                ListenerId(self.places.len() as u32 - 1)
            }
            None => {
                self.unfollowed += 1;
                return Ok(());
            }
        };
        let listener = Listener { addr: ip(&key.addr), port: u16::from_be_bytes(key.port) };
        let (rules, sources) = ([0; Mask::ALL.len()], Sources::default());
        let followed =
            Followed { id, listener, reported: None, sources, key, seen: now, rules, samples: 0 };
        backend.set_listener(&key, &followed.entry())?;
        self.by_key.insert(key, followed.slot());
        self.places[slot(id) as usize] = Some(followed);
        Ok(())
    }

    /// Lets headers of one SYN in `2^shift` to a listener be kept; `None` ends that.
    pub fn sample_syns(
        &mut self,
        id: ListenerId,
        shift: Option<u8>,
        backend: &mut dyn Backend,
    ) -> Result<(), KernelError> {
        let Some(followed) = self.find(id) else { return Ok(()) };
        followed.samples = shift.map_or(0, |shift| shift.saturating_add(1));
        backend.set_listener(&followed.key, &followed.entry())
    }

    /// Returns whether headers of any listener's SYNs are kept.
    pub fn are_sampled(&self) -> bool {
        self.iter().any(|followed| followed.samples != 0)
    }

    /// Counts a signature rule of a listener.
    pub fn add_rule(
        &mut self,
        id: ListenerId,
        mask: Mask,
        backend: &mut dyn Backend,
    ) -> Result<(), KernelError> {
        self.change_rules(id, mask, |count| count + 1, backend)
    }

    /// Removes one signature rule from the count of a listener.
    pub fn remove_rule(
        &mut self,
        id: ListenerId,
        mask: Mask,
        backend: &mut dyn Backend,
    ) -> Result<(), KernelError> {
        self.change_rules(id, mask, |count| count.saturating_sub(1), backend)
    }

    fn change_rules(
        &mut self,
        id: ListenerId,
        mask: Mask,
        change: impl Fn(u32) -> u32,
        backend: &mut dyn Backend,
    ) -> Result<(), KernelError> {
        let Some(followed) = self.find(id) else { return Ok(()) };
        let count = &mut followed.rules[usize::from(mask.code())];
        *count = change(*count);
        backend.set_listener(&followed.key, &followed.entry())
    }

    fn forget_idle(
        &mut self,
        now: Timestamp,
        backend: &mut dyn Backend,
    ) -> Result<(), KernelError> {
        if now.since(self.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.looked = now;
        for place in &mut self.places {
            let idle = |followed: &mut Followed| {
                now.since(followed.seen) >= IDLE && followed.rules.iter().all(|count| *count == 0)
            };
            if let Some(gone) = place.take_if(idle) {
                backend.remove_listener(&gone.key, gone.slot())?;
                self.by_key.remove(&gone.key);
                self.free.push(ListenerId(gone.id.0.wrapping_add(MAX_LISTENERS)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Addr;
    use tcpguard_common::model::Model;

    use super::*;

    fn key(number: u32) -> ListenerKey {
        ListenerKey::new(Addr::from_v4(number.to_be_bytes()), [0, 80])
    }

    #[test]
    fn when_all_places_are_taken_idle_listeners_give_theirs_to_new_ones() {
        let mut model = Model::default();
        let mut listeners = Listeners::default();
        let start = Timestamp::from_millis(1_000_000);
        for number in 0..MAX_LISTENERS + 5 {
            listeners.add(start, key(number), &mut model).unwrap();
        }
        assert_eq!(listeners.iter().count(), MAX_LISTENERS as usize);
        assert_eq!(listeners.unfollowed, 5);
        let later = start + IDLE;
        assert!(listeners.see(later, &key(7)).is_some());
        listeners.add(later, key(MAX_LISTENERS), &mut model).unwrap();
        let followed: Vec<&Followed> = listeners.iter().collect();
        assert_eq!(followed.len(), 2, "one that is in use and the new one");
        let new = followed.iter().find(|f| f.key == key(MAX_LISTENERS)).unwrap();
        assert!(new.id.0 >= MAX_LISTENERS, "the engine sees no number again");
        assert_eq!(listeners.at(new.slot()), Some(new.id));
        assert_eq!(model.listeners.len(), 2);
    }

    #[test]
    fn a_listener_has_the_masks_of_its_rules() {
        let mut model = Model::default();
        let mut listeners = Listeners::default();
        listeners.add(Timestamp::default(), key(1), &mut model).unwrap();
        let id = listeners.iter().next().unwrap().id;
        let masks = |model: &Model| model.listener_entries[&0].masks;
        for _ in 0..2 {
            listeners.add_rule(id, Mask::NoTtl, &mut model).unwrap();
        }
        listeners.remove_rule(id, Mask::NoTtl, &mut model).unwrap();
        assert_eq!(masks(&model), 1 << Mask::NoTtl.code(), "one rule is left");
        listeners.remove_rule(id, Mask::NoTtl, &mut model).unwrap();
        assert_eq!(masks(&model), 0);
    }
}
