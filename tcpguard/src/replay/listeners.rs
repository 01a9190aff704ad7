//! The listeners that a replay monitors: those that the capture shows, as long as they are in use.

use std::time::Duration;

use tcpguard_common::abi::ListenerKey;
use tcpguard_engine::{Listener, ListenerKind, Timestamp};

use super::sources::Sources;
use crate::bpf::{KernelError, ip};
use crate::driver::{ListenerTable, Tables};

/// Time without a SYN after which a listener gives its slot up, when all slots are taken.
const IDLE: Duration = Duration::from_secs(60);
/// Shortest time between two searches for idle listeners.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The state of a listener that the capture shows.
#[derive(Debug, Default)]
pub struct Traffic {
    /// True if a sample has held it.
    pub is_sampled: bool,
    /// The sources of its SYNs.
    pub sources: Sources,
    /// Time of its last SYN.
    pub seen: Timestamp,
}

/// The listeners of a replay.
pub type Listeners = ListenerTable<Traffic>;

/// The admission of listeners to the slots.
#[derive(Debug, Default)]
pub struct Admission {
    looked: Timestamp,
    /// Listeners that found no free slot.
    pub left_out: u64,
}

impl Admission {
    /// Monitors one more listener.
    pub fn add(
        &mut self,
        now: Timestamp,
        key: &ListenerKey,
        listeners: &mut Listeners,
        tables: &mut impl Tables,
    ) -> Result<(), KernelError> {
        if let Some(id) = listeners.under(key) {
            listeners.get_mut(id).into_iter().for_each(|known| known.own.seen = now);
            return Ok(());
        }
        let listener = Listener { addr: ip(&key.addr), port: u16::from_be_bytes(key.port) };
        let mut insert = |listeners: &mut Listeners| -> Result<_, KernelError> {
            let own = Traffic { seen: now, ..Traffic::default() };
            // A capture shows no sockets and no queues.
            let new = listeners.insert(listener, ListenerKind::Forwarded, own, tables)?;
            Ok(new.map(|new| new.id))
        };
        let mut id = insert(listeners)?;
        if id.is_none() && now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            listeners.forget(|one| now.since(one.own.seen) >= IDLE && !one.has_rules());
            id = insert(listeners)?;
            listeners.write(tables)?;
        }
        match id {
            Some(id) => listeners.write_entry(id, tables),
            None => {
                self.left_out += 1;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Addr;
    use tcpguard_common::model::Model;

    use super::*;
    use crate::driver::listeners::CAPACITY;

    fn key(number: u32) -> ListenerKey {
        ListenerKey::new(Addr::from_v4(number.to_be_bytes()), [0, 80])
    }

    #[test]
    fn when_all_slots_are_taken_idle_listeners_give_theirs_to_new_ones() {
        let (mut model, mut listeners) = (Model::default(), Listeners::default());
        let mut admission = Admission::default();
        let start = Timestamp::from_millis(1_000_000);
        for number in 0..CAPACITY + 5 {
            admission.add(start, &key(number), &mut listeners, &mut model).unwrap();
        }
        assert_eq!(listeners.iter().count(), CAPACITY as usize);
        assert_eq!(admission.left_out, 5);
        let later = start + IDLE;
        for number in [7, CAPACITY] {
            admission.add(later, &key(number), &mut listeners, &mut model).unwrap();
        }
        assert_eq!(listeners.iter().count(), 2, "one that is in use and the new one");
        let new = listeners.under(&key(CAPACITY)).unwrap();
        assert!(new.0 > CAPACITY, "the engine sees no number again");
        assert_eq!(listeners.at_slot(listeners.get(new).unwrap().slot()), Some(new));
        assert_eq!(model.listeners.len(), 2);
    }
}
