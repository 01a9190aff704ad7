//! The SYN-ACKs of all listeners, read once in a poll: mitigations are started at many listeners in one.

use std::collections::BTreeMap;

use tcpguard_common::abi::{ListenerKey, NextHop, SynAckRecord};
use tcpguard_engine::{ListenerId, Timestamp};
use tcpguard_host::linux::{CookieSettings, Interface, Xdp, device};

/// The last SYN-ACK from a local address and port.
pub(super) type SynAckEntry = (ListenerKey, SynAckRecord);

/// Settings, next hops and SYN-ACKs as read of the kernel.
pub(super) struct Read {
    pub settings: CookieSettings,
    pub hops: Vec<NextHop>,
    pub records: Vec<SynAckEntry>,
    pub devices: Vec<Device>,
}

/// An attached interface, as far as replies from XDP depend on it.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub index: u32,
    pub name: String,
    /// See [`super::obstacles::Way`].
    pub native: bool,
    pub transmits: Option<bool>,
    pub received: Option<bool>,
    pub strips_vlan: Option<bool>,
    pub in_vrf: bool,
}

impl Device {
    /// Asks the driver. Missing information is no obstacle. `all` are the interfaces that exist.
    pub fn of(interface: &Interface, all: &[Interface]) -> Self {
        Self {
            index: interface.index,
            name: interface.name.clone(),
            native: interface.xdp == Xdp::Native,
            transmits: device::transmits_natively(interface.index).unwrap_or(None),
            received: device::is_received(interface),
            strips_vlan: device::strips_vlan_tags(&interface.name).unwrap_or(None),
            in_vrf: interface.is_in_vrf(all),
        }
    }
}

/// The SYN-ACKs read in a poll.
#[derive(Default)]
pub(super) struct SynAckRecords {
    read: Option<Timestamp>,
    /// Settings of the host at that time.
    pub settings: CookieSettings,
    /// Next hops of SYN-ACKs that were seen.
    pub hops: Vec<NextHop>,
    /// The attached interfaces.
    pub devices: Vec<Device>,
    by_listener: BTreeMap<ListenerId, Vec<SynAckEntry>>,
}

impl SynAckRecords {
    /// Reads the host's settings and all SYN-ACKs, unless that was done in the poll of `now`. `whose`
    /// returns the listener that replies from an address and port.
    pub fn update<E>(
        &mut self,
        now: Timestamp,
        read: impl FnOnce() -> Result<Read, E>,
        whose: impl Fn(&ListenerKey) -> Option<ListenerId>,
    ) -> Result<(), E> {
        if self.read == Some(now) {
            return Ok(());
        }
        let Read { settings, hops, records, devices } = read()?;
        let mut by_listener = BTreeMap::<ListenerId, Vec<SynAckEntry>>::new();
        for syn_ack in records {
            if let Some(id) = whose(&syn_ack.0) {
                by_listener.entry(id).or_default().push(syn_ack);
            }
        }
        *self = Self { read: Some(now), settings, hops, devices, by_listener };
        Ok(())
    }

    /// Returns the SYN-ACKs of a listener, which may reply from many addresses.
    pub fn of(&self, id: ListenerId) -> &[SynAckEntry] {
        self.by_listener.get(&id).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use tcpguard_common::abi::Addr;

    use super::*;

    #[test]
    fn they_are_read_once_in_a_poll_for_however_many_listeners() {
        let reads = Cell::new(0);
        let key = |port: u16| ListenerKey::new(Addr::from_v4([192, 0, 2, 1]), port.to_be_bytes());
        let id = |key: &ListenerKey| ListenerId(u16::from_be_bytes(key.port).into());
        let mut syn_ack_records = SynAckRecords::default();
        for poll in 1..=3 {
            for listener in 0..100 {
                let read = || {
                    reads.set(reads.get() + 1);
                    let all = (0..100).map(|port| (key(port), SynAckRecord::default()));
                    let (settings, hops) = (CookieSettings::default(), Vec::new());
                    let (records, devices) = (all.collect(), Vec::new());
                    Ok::<_, Infallible>(Read { settings, hops, records, devices })
                };
                let whose = |key: &ListenerKey| Some(id(key)).filter(|id| id.0 < 50);
                let Ok(()) =
                    syn_ack_records.update(Timestamp::from_millis(250 * poll), read, whose);
                let found = syn_ack_records.of(ListenerId(listener)).len();
                assert_eq!(found, usize::from(listener < 50), "{listener}");
            }
        }
        assert_eq!(reads.get(), 3);
    }
}
