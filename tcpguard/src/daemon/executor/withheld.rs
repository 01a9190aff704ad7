//! Clients who get no cookies while others do: those of a family by the listener's entry, those of a server address by
//! the record of its SYN-ACKs.

use tcpguard_common::abi::{ListenerEntry, ListenerKey, SynAckRecord};
use tcpguard_engine::{AddressReplies, Family, ListenerId, Withheld};

use super::Executor;
use crate::bpf::{Result, ip};
use crate::daemon::listeners::is_armed;

impl Executor {
    /// Answers no SYNs of these clients with cookies at a listener, and those of the others again.
    pub fn withhold_cookies(&mut self, listener: ListenerId, from: &[Withheld]) -> Result<()> {
        let bit = |whom: &Withheld| match whom {
            Withheld::Family(Family::Ipv4) => ListenerEntry::NO_V4,
            Withheld::Family(Family::Ipv6) => ListenerEntry::NO_V6,
            Withheld::Address(_) => 0,
        };
        let withheld = from.iter().map(bit).fold(0, |bits, bit| bits | bit);
        self.listeners.change(listener, |one| one.withheld = withheld, &mut self.dataplane)?;
        for (key, record) in self.dataplane.syn_acks()? {
            let wanted = from.contains(&Withheld::Address(ip(&key.addr)));
            if record.is_withheld() != wanted && self.replying(&key) == Some(listener) {
                self.dataplane.set_syn_ack(&key, &record.withheld(wanted))?;
            }
        }
        Ok(())
    }

    /// Counts the replies from these addresses anew.
    pub fn count_replies_anew(&self, records: &mut [(ListenerKey, SynAckRecord)]) -> Result<()> {
        for (key, record) in records {
            if (record.asked, record.returned) != (0, 0) {
                *record = record.withheld(record.is_withheld());
                self.dataplane.set_syn_ack(key, record)?;
            }
        }
        Ok(())
    }

    /// The replies from each address of the listeners with cookies that are bound to all.
    pub fn replies(&self) -> Result<Vec<(ListenerId, Vec<AddressReplies>)>> {
        let armed = self.listeners.iter().filter(|one| is_armed(one));
        let armed = armed.filter(|one| one.listener.addr.is_unspecified());
        let mut replies: Vec<_> = armed.map(|one| (one.id, Vec::new())).collect();
        if replies.is_empty() {
            return Ok(replies);
        }
        for (key, SynAckRecord { asked, returned, .. }) in self.dataplane.syn_acks()? {
            let id = self.replying(&key);
            if let Some((_, of)) = replies.iter_mut().find(|(listener, _)| Some(*listener) == id) {
                let (addr, returned) = (ip(&key.addr), returned != 0);
                of.push(AddressReplies { addr, asked, returned });
            }
        }
        Ok(replies)
    }

    /// The listener that replies from an address and port; `None` of those of all addresses.
    fn replying(&self, key: &ListenerKey) -> Option<ListenerId> {
        let of = |key: &ListenerKey| self.listeners.of(ip(&key.addr), u16::from_be_bytes(key.port));
        of(key).filter(|_| *key != key.of_all())
    }
}
