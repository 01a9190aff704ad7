use std::net::Ipv4Addr;

use tcpguard_common::model::Model;

use super::*;

fn listener(number: u32) -> Listener {
    Listener { addr: Ipv4Addr::from_bits(0xcb00_7100 + number).into(), port: 443 }
}

/// A full table: as many listeners as are monitored at most, all of which the programs know.
fn as_many_as_there_may_be(model: &mut Model) -> ListenerTable<()> {
    let mut table = ListenerTable::default();
    for number in 0..CAPACITY {
        assert!(table.insert(listener(number), ListenerKind::Local, (), model).unwrap().is_some());
    }
    assert!(table.insert(listener(CAPACITY), ListenerKind::Local, (), model).unwrap().is_none());
    table.write(model).unwrap();
    table
}

#[test]
fn a_mitigation_at_a_listener_is_one_write_however_many_listeners_there_are() {
    let mut table = as_many_as_there_may_be(&mut Model::default());
    let id = ListenerId(7);
    assert_eq!(table.changed(id), Some(Vec::new()));
    table.get_mut(id).unwrap().mitigations = ListenerEntry::OWN_COOKIES;
    let changed = table.changed(id).unwrap();
    let [(_, entry)] = changed[..] else { panic!("one: {changed:?}") };
    assert_eq!((entry.id, entry.mitigations), (7, ListenerEntry::OWN_COOKIES));
    assert_eq!(table.changed(ListenerId(8)), Some(Vec::new()));
}

#[test]
fn one_whose_keys_are_anothers_is_written_with_all_others() {
    let mut table = as_many_as_there_may_be(&mut Model::default());
    assert_eq!(table.changed(ListenerId::HOST), None, "no listener");
    let key = listener_keys(&listener(7), false)[0];
    // Another one has its address, as a socket of one family has it beside one of both.
    let other = table.get(ListenerId(8)).unwrap().entry(false);
    table.keys.insert(key, (ListenerId(8), other));
    assert_eq!(table.changed(ListenerId(7)), None);
}

#[test]
fn a_listener_has_the_masks_of_its_rules() {
    let (mut model, mut table) = (Model::default(), ListenerTable::default());
    let new = table.insert(listener(1), ListenerKind::Local, (), &mut model).unwrap();
    let id = new.unwrap().id;
    let masks = |model: &Model| model.listener_entries[&0].masks;
    for _ in 0..2 {
        table.change(id, |one| one.add_rule(Mask::NoTtl), &mut model).unwrap();
    }
    table.change(id, |one| one.remove_rule(Mask::NoTtl), &mut model).unwrap();
    assert_eq!(masks(&model), 1 << Mask::NoTtl.code(), "one rule is left");
    table.change(id, |one| one.remove_rule(Mask::NoTtl), &mut model).unwrap();
    assert_eq!(masks(&model), 0);
}

#[test]
fn entries_that_another_process_changed_are_restored() {
    let (mut model, mut table) = (Model::default(), ListenerTable::default());
    for number in 0..3 {
        table.insert(listener(number), ListenerKind::Local, (), &mut model).unwrap();
    }
    table.write(&mut model).unwrap();
    let found = |model: &Model| -> BTreeMap<ListenerKey, ListenerEntry> {
        let entry = |(key, slot): (&ListenerKey, &u32)| (*key, model.listener_entries[slot]);
        model.listeners.iter().map(entry).collect()
    };
    let written = found(&model);
    assert_eq!(table.repair(&written, &mut model).unwrap(), 0);
    let key = |number| listener_keys(&listener(number), false)[0];
    Tables::remove_listener(&mut model, &key(0)).unwrap();
    let changed = ListenerEntry { masks: 1, ..written[&key(1)] };
    model.add_listener(key(1), changed);
    model.add_listener(key(9), ListenerEntry { id: 9, ..changed });
    assert_eq!(table.repair(&found(&model), &mut model).unwrap(), 3);
    assert_eq!(found(&model), written);
}
