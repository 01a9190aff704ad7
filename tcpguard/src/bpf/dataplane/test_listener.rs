//! The listener of a self-test, which no packet of a client is for.

use tcpguard_common::abi::{FlowKey, ListenerEntry, ListenerKey, PortEntry, SynAckRecord};
use tcpguard_common::fastpath::hash;

use super::Dataplane;
use crate::bpf::Result;

impl Dataplane {
    /// Makes the listener known under `key`, and how it answers.
    pub(in crate::bpf) fn place_test_listener(
        &self,
        key: &ListenerKey,
        entry: &ListenerEntry,
        record: &SynAckRecord,
    ) -> Result<()> {
        self.set_syn_ack(key, record)?;
        self.set_listener(key, entry)?;
        self.change_port(key, PortEntry { exact: 1, ..PortEntry::default() })
    }

    /// Removes it, and the entries of `flows`.
    pub(in crate::bpf) fn remove_test_listener(
        &self,
        key: &ListenerKey,
        flows: &[FlowKey],
    ) -> Result<()> {
        self.change_port(key, PortEntry::default())?;
        self.remove_listener(key)?;
        self.syn_acks.remove(key)?;
        let key = self.config()?.hash_key;
        for flow in flows {
            self.flows.remove(hash::flow(&key, flow), flow)?;
            let source = flow.client.client();
            self.sources.remove(hash::source(&key, &source), &source)?;
        }
        Ok(())
    }

    /// Changes the entry of one port; all others are written as they are.
    fn change_port(&self, key: &ListenerKey, entry: PortEntry) -> Result<()> {
        let port = usize::from(u16::from_be_bytes(key.port));
        let Some(mut ports) = self.ports.get_boxed(&0)? else { return Ok(()) };
        ports[port] = entry;
        self.ports.set(&0, &ports)
    }
}
