//! Fingerprints of the clients that completed handshakes during an attack.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask};

use super::clients::{PRINTS, memorable, shows};
use crate::input::Timestamp;

/// Time for which one completion protects its fingerprint. In a sample of one flow in 64, a listener
/// with ten clients a second shows none of them for six seconds at a time. But an attacker must not
/// be able to protect the fingerprint of a flood for its whole duration with one completed
/// handshake.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Looks that completed a handshake since an incident began. The window in which flows are judged is
/// seconds, and the sample is thin at high rates: that it holds no completion of a look is chance
/// as soon as one was seen before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admitted(BTreeMap<Fingerprint, Timestamp>);

impl Admitted {
    /// Takes note of the completed flows of a cohort: client, SYN, weight.
    pub fn note(&mut self, now: Timestamp, completed: &[(IpAddr, Fingerprint, u64)]) {
        for (_, print, _) in completed {
            self.0.insert(memorable(print), now);
        }
        self.0.retain(|_, seen| now.since(*seen) < REMEMBERED);
        while self.0.len() > PRINTS {
            let oldest = self.0.iter().min_by_key(|(_, seen)| **seen);
            let Some(oldest) = oldest.map(|(print, _)| *print) else { break };
            self.0.remove(&oldest);
        }
    }

    /// Returns the looks.
    pub fn prints(&self) -> impl Iterator<Item = &Fingerprint> {
        self.0.keys()
    }

    /// Returns whether a completed handshake had this signature; `print` is reduced to `mask`.
    pub fn has(&self, mask: Mask, print: &Fingerprint) -> bool {
        self.0.keys().any(|known| shows(known, mask, print))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn completed(window: u16, ip_id: u16) -> (IpAddr, Fingerprint, u64) {
        let print = Fingerprint { window, ip_id, ..Fingerprint::default() };
        (Ipv4Addr::new(192, 0, 2, 1).into(), print, 32)
    }

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1000 * seconds)
    }

    #[test]
    fn a_look_is_known_for_an_hour_after_its_last_completion() {
        let mut admitted = Admitted::default();
        admitted.note(seconds(1), &[completed(512, 7)]);
        let print = completed(512, 0).1;
        admitted.note(seconds(3600), &[]);
        assert!(admitted.has(Mask::NoTtl, &print.masked(Mask::NoTtl)));
        assert!(!admitted.has(Mask::NoTtl, &completed(513, 0).1.masked(Mask::NoTtl)));
        admitted.note(seconds(3601), &[]);
        assert!(!admitted.has(Mask::NoTtl, &print.masked(Mask::NoTtl)));
    }

    #[test]
    fn a_client_that_counts_its_packets_does_not_shield_a_constant_identification() {
        let mut admitted = Admitted::default();
        admitted.note(seconds(1), &[completed(512, 54321)]);
        let tool = completed(512, 54321).1;
        assert!(!admitted.has(Mask::IpId, &tool.masked(Mask::IpId)));
        assert!(admitted.has(Mask::Full, &tool.masked(Mask::Full)));
    }

    #[test]
    fn the_oldest_looks_make_room() {
        let mut admitted = Admitted::default();
        admitted.note(seconds(1), &[completed(0, 0)]);
        let many: Vec<_> = (1..=PRINTS as u16).map(|window| completed(window, 0)).collect();
        admitted.note(seconds(2), &many);
        assert_eq!(admitted.0.len(), PRINTS);
        assert!(!admitted.has(Mask::Full, &completed(0, 0).1.masked(Mask::Full)));
    }
}
