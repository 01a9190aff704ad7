//! Fingerprints of the clients of several listeners, combined as if they were clients of one.

use std::collections::BTreeMap;

use tcpguard_common::abi::{Fingerprint, Mask};

use super::clients::{Clients, PRINTS, distinguishes};
use super::known_fingerprints::KnownFingerprints;

/// Largest number of fingerprints that are known of all listeners together. That is one of each listener
/// where there are as many as the agent monitors. It is all of them at real sites, where clients have a few
/// dozen. Under the eight masks they take 2 MiB in all.
const MOST: usize = 4096;

/// The fingerprints of the clients of several listeners, at most `MOST` of the million that these may have. Each
/// failed flow is compared with them, so that they can be found under each mask.
#[derive(Clone, Debug, Default)]
pub(crate) struct JoinedClients {
    completions: u64,
    remembered: u64,
    /// Completions by the fields that each mask compares, indexed by the mask's code.
    fingerprints: [BTreeMap<Fingerprint, u64>; Mask::ALL.len()],
}

impl JoinedClients {
    /// Joins the clients of these listeners: of each as many fingerprints as of any other, the most frequent ones.
    pub fn of<'a>(all: impl Iterator<Item = &'a Clients> + Clone) -> Self {
        let counts: Vec<usize> = all.clone().map(Clients::fingerprints).collect();
        let each = fair(&counts, MOST);
        let mut joined = Self::default();
        for clients in all {
            joined.completions = joined.completions.saturating_add(clients.completions());
            for (print, completions) in clients.most_frequent(each) {
                joined.add(&print, completions);
            }
        }
        joined
    }

    fn add(&mut self, print: &Fingerprint, completions: u64) {
        self.remembered = self.remembered.saturating_add(completions);
        for mask in Mask::ALL {
            let fingerprints = &mut self.fingerprints[usize::from(mask.code())];
            let sum = fingerprints.entry(print.masked(mask)).or_default();
            *sum = sum.saturating_add(completions);
        }
    }
}

impl KnownFingerprints for JoinedClients {
    fn completions(&self) -> u64 {
        self.completions
    }

    fn remembered(&self) -> u64 {
        self.remembered
    }

    fn with_signature(&self, mask: Mask, print: &Fingerprint) -> u64 {
        let known = self.fingerprints[usize::from(mask.code())]
            .get(print)
            .filter(|_| distinguishes(mask, print));
        known.copied().unwrap_or(0)
    }
}

/// Returns the number of fingerprints to take of each listener so that they are at most `most` in all: at least one.
fn fair(counts: &[usize], most: usize) -> usize {
    let fits = |each: &usize| counts.iter().map(|count| count.min(each)).sum::<usize>() <= most;
    (1..=PRINTS).rev().find(fits).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Flow, FlowState, ListenerId, Timestamp};

    /// Returns the clients of a listener, with these fingerprints.
    fn clients(fingerprints: impl IntoIterator<Item = Fingerprint>) -> Clients {
        let at = Timestamp::from_millis(1000);
        let completed = |fingerprint| Flow {
            listener: ListenerId(0),
            client: [192, 0, 2, 1].into(),
            server: [203, 0, 113, 10].into(),
            syn_at: at,
            syn_ack_at: Some(at),
            done_at: Some(at),
            state: FlowState::Completed,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint,
        };
        let mut clients = Clients::default();
        clients.learn(at, fingerprints.into_iter().map(completed));
        clients
    }

    fn print_of(mss: u16, window: u16, ip_id: u16) -> Fingerprint {
        Fingerprint { mss, window, ip_id, ..Fingerprint::default() }
    }

    #[test]
    fn the_clients_of_several_listeners_are_known_together() {
        let all = [print_of(1460, 1000, 7), print_of(1460, 1000, 8), print_of(1460, 2000, 0)];
        let joined = JoinedClients::of(all.map(|print_of| clients([print_of])).iter());
        assert_eq!((joined.completions(), joined.remembered()), (3, 3));
        let with = |mask, print: Fingerprint| joined.with_signature(mask, &print.masked(mask));
        assert_eq!(with(Mask::Full, all[0]), 2);
        assert_eq!(with(Mask::NoWindow, all[0]), 3);
        assert_eq!(with(Mask::NoWindow, print_of(1400, 1000, 7)), 0);
        assert_eq!(joined.share(Mask::Full, &all[2].masked(Mask::Full)), 1.0 / 3.0);
        // A client that counts its packets has any identification by chance.
        assert_eq!([0, 1, 7].map(|ip_id| with(Mask::IpId, print_of(0, 0, ip_id))), [1, 0, 0]);
        assert_eq!(JoinedClients::of([].iter()).share(Mask::Full, &all[0]), 0.0);
    }

    #[test]
    fn of_any_number_of_fingerprints_a_bounded_number_is_known_with_the_commonest_of_each_listener()
    {
        let listeners: Vec<Clients> = (0..512)
            .map(|mss| {
                // One that comes twice among others.
                let rare = (1..PRINTS as u16).map(move |window| print_of(mss, window, 1));
                clients(rare.chain([print_of(mss, 0, 1), print_of(mss, 0, 1)]))
            })
            .collect();
        let joined = JoinedClients::of(listeners.iter());
        assert!(joined.fingerprints.iter().all(|fingerprints| fingerprints.len() <= MOST));
        assert_eq!(joined.completions(), 512 * (PRINTS as u64 + 1));
        for mss in 0..512 {
            let common = print_of(mss, 0, 1).masked(Mask::Full);
            assert_eq!(joined.with_signature(Mask::Full, &common), 2, "{mss}");
        }
    }

    #[test]
    fn listeners_with_few_fingerprints_leave_capacity_for_those_with_many() {
        assert_eq!(fair(&[], 100), PRINTS);
        assert_eq!(fair(&[60, 30], 100), PRINTS, "all fit");
        assert_eq!(fair(&[200, 30, 1], 100), 69);
        assert_eq!(fair(&[256; 200], 100), 1, "one each");
    }
}
