//! Listeners that an earlier agent followed.

use std::collections::BTreeMap;

use tcpguard_common::abi::{self, Addr, ListenerEntry, ListenerKey, Mask, Rate};
use tcpguard_engine::{Listener, ListenerId, ListenerKind, Timestamp};

use super::{Followed, ListenerPriority, Listeners, is_test};
use crate::bpf::{Dataplane, KernelError, ip};

/// The state of a listener that is taken over from an agent with another map layout.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// Address and port to which clients connect.
    pub listener: Listener,
    /// Kind: a local socket, or a forwarded service.
    pub kind: ListenerKind,
    /// True if IPv4 clients connect to it too, though it is an IPv6 one.
    pub dual_stack: bool,
    /// Bits of [`ListenerEntry::mitigations`].
    pub mitigations: u8,
    /// Rate of SYNs from unvalidated sources that it is given while its budget applies.
    pub budget: Rate,
}

impl From<&Followed> for Inherited {
    fn from(followed: &Followed) -> Self {
        let Followed { listener, kind, dual_stack, mitigations, budget, .. } = *followed;
        Self { listener, kind, dual_stack, mitigations, budget }
    }
}

impl Listeners {
    /// Takes over the listeners that an earlier agent left in the kernel, in their slots. Until they are found again
    /// they count as just seen. `rules` are the listener slots and the masks of the signature rules that stay.
    pub fn adopt(
        &mut self,
        now: Timestamp,
        rules: &[(u32, Mask)],
        dataplane: &Dataplane,
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
            let Some(own) = keys.last().copied() else { continue };
            let id = ListenerId(slot);
            let mut counts = [0; Mask::ALL.len()];
            for (_, mask) in rules.iter().filter(|(listener, _)| *listener == slot) {
                counts[usize::from(mask.code())] += 1;
            }
            let followed = Followed {
                id,
                listener: Listener { addr: ip(&own.addr), port: u16::from_be_bytes(own.port) },
                kind: match abi::ListenerKind::from_code(entry.kind) {
                    Some(abi::ListenerKind::Forwarded) => ListenerKind::Forwarded,
                    _ => ListenerKind::Local,
                },
                queues: None,
                mptcp: false,
                dual_stack: keys.len() > 1,
                priority: ListenerPriority::default(),
                seen: now,
                syn_acks: 0,
                rules: counts,
                // The engine decides anew whether rules for every listener exempt this one.
                mitigations: entry.mitigations & !ListenerEntry::EXEMPT,
                budget: entry.budget,
                retransmit_budget: entry.retransmit_budget,
                // The agent that wanted samples is gone.
                samples: 0,
            };
            self.keys.extend(keys.into_iter().map(|key| (key, (id, entry))));
            self.followed.insert(id, followed);
            self.uses.insert(slot, 0);
            self.next = self.next.max(slot + 1);
        }
        self.free = (0..self.next).filter(|slot| !self.uses.contains_key(slot)).collect();
        self.write(dataplane)
    }

    /// Follows listeners as an agent of another layout did, which stand in no table of this one; until
    /// they are found again as if they had just been seen.
    pub fn inherit(
        &mut self,
        now: Timestamp,
        all: impl Iterator<Item = Inherited>,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        for Inherited { listener, kind, dual_stack, mitigations, budget } in all {
            let known = self.iter().find(|followed| followed.listener == listener);
            let id = match known.map(|followed| followed.id) {
                Some(id) => Some(id),
                None => self.add(now, listener, kind, dual_stack, dataplane)?,
            };
            if let Some(followed) = id.and_then(|id| self.followed.get_mut(&id)) {
                (followed.mitigations, followed.budget) =
                    (mitigations & !ListenerEntry::EXEMPT, budget);
            }
        }
        self.write(dataplane)
    }
}
