//! Listeners of the host's own addresses, in the kernel and on the host.

use tcpguard_common::abi::{ExemptEntry, Mode, Reason};

use super::{LISTENERS, Pair, show};

#[test]
fn what_is_in_transit_is_distinguished_from_what_is_the_hosts_own() {
    for resets_unseen in [0, 1] {
        let mut pair = Pair::new(Mode::Enforce, 0, true);
        pair.keep_agent();
        pair.configure(|config| config.resets_unseen = resets_unseen);
        for id in 0..LISTENERS {
            let entry = pair.model.listener_entries.get_mut(&id).unwrap();
            entry.own_only = 1;
            for (key, _) in pair.model.listeners.iter().filter(|(_, of)| **of == id) {
                pair.dataplane.set_listener(key, entry).unwrap();
            }
        }
        let own = ["192.0.2.1/32", "2001:db8:0:32::1/128"];
        pair.exempt_all(&own.map(|net| (net.parse().unwrap(), ExemptEntry::OWN)));
        show(&mut pair, 21, 6_000);
        let counted = pair.model.host;
        assert!(counted.no_listener > counted.no_listener_own, "{counted:?}");
        assert!(pair.reasons.contains_key(&Reason::Syn), "{:?}", pair.reasons);
    }
}
