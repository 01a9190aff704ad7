use std::net::Ipv4Addr;

use super::*;

fn followed(slot: u32) -> Followed {
    let addr = Ipv4Addr::from_bits(0xcb00_7100 + slot).into();
    Followed {
        id: ListenerId(slot),
        listener: Listener { addr, port: 443 },
        kind: ListenerKind::Local,
        queues: None,
        mptcp: false,
        dual_stack: false,
        priority: ListenerPriority::default(),
        seen: Timestamp::default(),
        syn_acks: 0,
        rules: [0; Mask::ALL.len()],
        mitigations: 0,
        budget: Rate::default(),
        retransmit_budget: Rate::default(),
        samples: 0,
    }
}

/// As many as are followed at most, all of which the kernel knows.
fn as_many_as_there_may_be() -> Listeners {
    let mut listeners = Listeners::default();
    for one in (0..maps::MAX_LISTENERS).map(followed) {
        for key in listener_keys(&one.listener, one.dual_stack) {
            listeners.keys.insert(key, (one.id, one.entry()));
        }
        listeners.followed.insert(one.id, one);
    }
    listeners
}

#[test]
fn a_mitigation_at_a_listener_is_one_write_however_many_listeners_there_are() {
    let mut listeners = as_many_as_there_may_be();
    let id = ListenerId(7);
    assert_eq!(listeners.changed(id), Some(Vec::new()));
    listeners.followed.get_mut(&id).expect("it is followed").mitigations =
        ListenerEntry::OWN_COOKIES;
    let changed = listeners.changed(id).expect("the kernel knows it");
    let [(_, entry)] = changed[..] else { panic!("one: {changed:?}") };
    assert_eq!((entry.id, entry.mitigations), (7, ListenerEntry::OWN_COOKIES));
    assert_eq!(listeners.changed(ListenerId(8)), Some(Vec::new()));
}

#[test]
fn one_that_the_kernel_does_not_know_yet_is_written_with_all_others() {
    let mut listeners = as_many_as_there_may_be();
    assert_eq!(listeners.changed(ListenerId::HOST), None, "nobody's");
    let key = listener_keys(&followed(7).listener, false)[0];
    // Another one has its address, as a socket of one family has it beside one of both.
    listeners.keys.insert(key, (ListenerId(8), followed(8).entry()));
    assert_eq!(listeners.changed(ListenerId(7)), None);
}
