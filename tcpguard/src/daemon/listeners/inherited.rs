//! Listeners that an earlier agent left in the kernel, and their repair.

use std::collections::BTreeMap;

use tcpguard_common::abi::{self, Addr, ListenerEntry, ListenerKey, Mask};
use tcpguard_engine::{Listener, ListenerId, ListenerKind, Timestamp};

use super::Observed;
use crate::bpf::{Dataplane, KernelError, TEST_LISTENER, ip};
use crate::driver::{ListenerTable, Monitored};

impl ListenerTable<Observed> {
    /// Takes over the listeners that an earlier agent left in the kernel, in their slots. Until they are found again
    /// they count as just seen. `rules` are the listener slots and the masks of the signature rules that stay.
    pub fn adopt_all(
        &mut self,
        now: Timestamp,
        rules: &[(u32, Mask)],
        dataplane: &mut Dataplane,
    ) -> Result<(), KernelError> {
        let mut places: BTreeMap<u32, (ListenerEntry, Vec<ListenerKey>)> = BTreeMap::new();
        for (key, entry) in dataplane.listeners()? {
            if is_test(&entry) {
                dataplane.remove_listener(&key)?;
                continue;
            }
            places.entry(entry.id).or_insert((entry, Vec::new())).1.push(key);
        }
        for (slot, (entry, mut keys)) in places {
            // The wildcard of IPv6 sorts last, and is a dual-stack socket's own address.
            keys.sort_by_key(|key| key.addr == Addr::ANY_V6);
            let Some(key) = keys.last().copied() else { continue };
            let kind = match abi::ListenerKind::from_code(entry.kind) {
                Some(abi::ListenerKind::Forwarded) => ListenerKind::Forwarded,
                _ => ListenerKind::Local,
            };
            let listener = Listener { addr: ip(&key.addr), port: u16::from_be_bytes(key.port) };
            let own = Observed::of_kind(now, kind);
            let mut monitored = Monitored::new(ListenerId(slot), listener, kind, own);
            monitored.dual_stack = keys.len() > 1;
            // The engine decides anew whether rules for every listener exempt this one.
            monitored.mitigations = entry.mitigations & !ListenerEntry::EXEMPT;
            monitored.budget = entry.budget;
            monitored.retransmit_budget = entry.retransmit_budget;
            let of_it = rules.iter().filter(|(listener, _)| *listener == slot);
            of_it.for_each(|(_, mask)| monitored.add_rule(*mask));
            self.adopt(monitored, keys, entry);
        }
        self.write(dataplane)
    }

    /// Restores the entries that another process has changed. Returns the number of listeners that differed.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn repair_all(&mut self, dataplane: &mut Dataplane) -> Result<usize, KernelError> {
        let found = dataplane.listeners()?.into_iter().filter(|(_, entry)| !is_test(entry));
        self.repair(&found.collect(), dataplane)
    }
}

/// Returns whether this is the entry of test runs, which belongs to no monitored listener.
const fn is_test(entry: &ListenerEntry) -> bool {
    entry.id == TEST_LISTENER
}
