//! SYN-ACK cache: a CPU's memory of how listeners reply to SYNs, kept for a moment.
//!
//! The SYN-ACK records stand in a hash that all CPUs share. Under an attack every answered SYN and every
//! segment of a listener looks up one of a few of them. So each CPU caches the records of its last look-ups,
//! each in the slot that a hash of its address and port chooses.
//!
//! A host may have more addresses than there are slots for records, as with a route of type `local` for a whole
//! network (AnyIP). So the common properties of the SYN-ACKs of a listener that is bound to all addresses are
//! recorded as well, whatever address they leave from. That record stands in for an address that has none of
//! its own. It does so only for an address that the routing table delivers to this host, and only while the
//! SYN-ACKs of all addresses leave alike and are the host's own ([`super::learn`]).
//!
//! A newer record takes effect within a tick. Where that delay could cost a connection, the hash itself is
//! read: before a segment is dropped ([`super::out_of_state::judge`]), because SYN-ACKs of another host may have been
//! seen since, and when a cookie is returned ([`super::redeem_check`]), because another CPU may have promised
//! options in it that it learned of since.

use super::Tables;
use super::count::is_bound_to_all;
use super::own::is_own;
use super::sets::Key as _;
use crate::abi::maps::SYN_ACK_CACHE;
use crate::abi::{ListenerKey, SynAckRecord};

/// A record is remembered for the rest of a tick of 2^23 ns (8.4 ms).
const TICK: u32 = 23;

/// A record that was found. All-zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CachedSynAck {
    /// Time at which it was found, in ticks of boot time.
    tick: u64,
    /// Local address and port of the SYN-ACKs.
    key: ListenerKey,
    record: SynAckRecord,
}

impl CachedSynAck {
    /// Returns whether it is this key's, of this tick. Port 0 has none: an empty slot holds it, and so does the
    /// listener of the agent's self-test, which has another record with each test.
    #[inline(always)]
    fn is_of(&self, key: &ListenerKey, tick: u64) -> bool {
        self.tick == tick
            && self.key.port == key.port
            && key.port != [0; 2]
            && self.key.addr.difference(&key.addr) == 0
    }
}

/// The slot of a key (multiplicative hashing, Knuth, TAOCP 6.4). It is given by the highest bits,
/// which alone depend on all others. Only the host's own addresses and ports have records, so no
/// attacker chooses which of them share a slot.
#[inline(always)]
const fn place(key: &ListenerKey) -> usize {
    const FACTOR: u32 = 0x9e37_79b9;
    let ([a, b, c, d], port) = (*key.addr.words(), u16::from_be_bytes(key.port));
    let sum = a ^ b ^ c ^ d ^ port as u32;
    (sum.wrapping_mul(FACTOR) >> (u32::BITS - SYN_ACK_CACHE.trailing_zeros())) as usize
}

/// The properties of the last SYN-ACK from a local address and port, at the time of this call or
/// earlier in the tick of `now_ns`, boot time in ns. `None`: none was seen.
#[inline(always)]
pub(super) fn record<'t, T: Tables>(
    tables: &'t mut T,
    key: &ListenerKey,
    now_ns: u64,
) -> Option<&'t SynAckRecord> {
    let place = recall(tables, key, now_ns >> TICK)?;
    tables.cached_syn_ack(place).map(|recent| &recent.record)
}

/// Finds a record as [`record`]. An address of this host without one gets the common record of its listener's
/// SYN-ACKs.
#[inline(always)]
pub(super) fn record_of_listener<'t, T: Tables>(
    tables: &'t mut T,
    key: &ListenerKey,
    now_ns: u64,
) -> Option<&'t SynAckRecord> {
    let tick = now_ns >> TICK;
    let place = match recall(tables, key, tick) {
        Some(place) => place,
        None if has_common(tables, key) => recall(tables, &key.of_all(), tick)?,
        None => return None,
    };
    tables.cached_syn_ack(place).map(|recent| &recent.record)
}

/// Finds the latest record as [`record_of_listener`], whatever this CPU remembers.
#[inline(always)]
pub(super) fn latest_of_listener<'t, T: Tables>(
    tables: &'t mut T,
    key: &ListenerKey,
) -> Option<&'t SynAckRecord> {
    let mut key = *key;
    if tables.syn_ack_record(&key).is_none() {
        if !has_common(tables, &key) {
            return None;
        }
        key = key.of_all();
    }
    tables.syn_ack_record(&key).map(|record| &*record)
}

/// Returns whether the common record of a listener's SYN-ACKs stands for those from this address.
#[inline(always)]
fn has_common<T: Tables>(tables: &T, key: &ListenerKey) -> bool {
    is_own(tables, &key.addr) && is_bound_to_all(tables, key)
}

/// Returns the slot that remembers the record of an address and port, from this call on at the latest. `None`:
/// there is no record.
#[inline(always)]
fn recall<T: Tables>(tables: &mut T, key: &ListenerKey, tick: u64) -> Option<usize> {
    let place = place(key);
    if !tables.cached_syn_ack(place)?.is_of(key, tick) {
        let record = *tables.syn_ack_record(key)?;
        *tables.cached_syn_ack(place)? = CachedSynAck { tick, key: *key, record };
    }
    Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Addr, Config};
    use crate::model::Model;

    const START: u64 = 5_000 << TICK;

    fn key(last: u8, port: u16) -> ListenerKey {
        ListenerKey::new(Addr::from_v4([192, 0, 2, last]), port.to_be_bytes())
    }

    /// Records that differ by their MSS.
    fn host(records: &[(ListenerKey, u16)]) -> Model {
        let mut host = Model::new(Config::default());
        host.syn_acks = records
            .iter()
            .map(|(key, mss)| (*key, SynAckRecord { mss: *mss, ..SynAckRecord::default() }))
            .collect();
        host
    }

    fn mss(host: &mut Model, key: &ListenerKey, now_ns: u64) -> Option<u16> {
        record(host, key, now_ns).map(|record| record.mss)
    }

    #[test]
    fn what_was_found_is_good_for_the_rest_of_its_tick() {
        let of = key(1, 443);
        let mut host = host(&[(of, 1460)]);
        assert_eq!(mss(&mut host, &of, START + 1), Some(1460));
        host.syn_acks.get_mut(&of).unwrap().mss = 536;
        let last = START + (1 << TICK) - 1;
        assert_eq!(mss(&mut host, &of, last), Some(1460));
        assert_eq!(mss(&mut host, &of, last + 1), Some(536));
        host.syn_acks.clear();
        assert_eq!(mss(&mut host, &of, last + 1), Some(536));
        assert_eq!(mss(&mut host, &of, START), None, "nor of a tick before");
    }

    #[test]
    fn what_was_not_found_is_asked_for_again() {
        let of = key(1, 443);
        let mut host = host(&[]);
        assert_eq!(mss(&mut host, &of, START), None);
        host.syn_acks.insert(of, SynAckRecord::default());
        assert_eq!(mss(&mut host, &of, START), Some(0));
    }

    #[test]
    fn port_0_is_never_remembered_nor_what_an_empty_place_holds() {
        let no_listener = ListenerKey::default();
        let mut host = host(&[]);
        assert_eq!(mss(&mut host, &no_listener, 0), None);
        for of in [no_listener, key(1, 0)] {
            for mss_now in [1460, 536] {
                host.syn_acks.insert(of, SynAckRecord { mss: mss_now, ..SynAckRecord::default() });
                assert_eq!(mss(&mut host, &of, START), Some(mss_now));
            }
        }
    }

    #[test]
    fn colliding_listeners_get_their_own_values() {
        let one = key(1, 443);
        let other = (2..=255).map(|last| key(last, 443)).find(|other| place(other) == place(&one));
        let other = other.expect("of 254 addresses one in sixteen");
        let port = (1..443).map(|port| key(1, port)).find(|other| place(other) == place(&one));
        let port = port.expect("of 442 ports likewise");
        let mut host = host(&[(one, 1), (other, 2), (port, 3)]);
        for _ in 0..2 {
            for (of, expected) in [(one, 1), (other, 2), (port, 3)] {
                assert_eq!(mss(&mut host, &of, START), Some(expected));
            }
        }
    }

    /// A host has few addresses and ports under attack at once, and mostly neighbouring ones.
    #[test]
    fn neighbours_are_spread_over_the_places() {
        let taken = |keys: &mut dyn Iterator<Item = ListenerKey>| {
            keys.fold(0_u32, |taken, key| taken | 1 << place(&key)).count_ones()
        };
        let addresses = taken(&mut (0..16).map(|last| key(last, 443)));
        let ports = taken(&mut (8000..8016).map(|port| key(1, port)));
        let v6 = |last| Addr::from_v6_words([0x2001_0db8, 1, 0, last]);
        let v6 = taken(&mut (0..16).map(|last| ListenerKey::new(v6(last), 443_u16.to_be_bytes())));
        assert!(addresses.min(ports).min(v6) >= 8, "{addresses}, {ports}, {v6} of 16");
    }
}
