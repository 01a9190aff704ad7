//! Headers of SYNs in the kernel and on the host: the same ones, byte for byte.

use tcpguard_common::abi::Mode;

use super::state::Differences;
use super::{LISTENERS, Pair, show};

impl Pair {
    /// Adds the differences between the headers that both kept, and between their slots.
    pub fn compare_samples(&self, found: &mut Differences) {
        let here = self.dataplane.syn_samples().unwrap().swap_remove(0);
        let model = &self.model.syn_samples;
        found.compare("headers kept", &here.written, &model.written);
        for (place, expected) in model.places.iter().enumerate() {
            found.compare(&format!("header {place}"), &here.places[place], expected);
        }
    }

    /// Has headers of one SYN in `2^(samples - 1)` kept.
    pub fn sample_syns(&mut self, id: u32, samples: u8) {
        let entry = self.model.listener_entries.get_mut(&id).unwrap();
        entry.samples = samples;
        for (key, _) in self.model.listeners.iter().filter(|(_, of)| **of == id) {
            self.dataplane.set_listener(key, entry).unwrap();
        }
    }
}

#[test]
fn headers_are_kept_alike_whatever_comes() {
    let mut kept = 0;
    for (seed, samples) in [(21, [1, 1, 1]), (22, [0, 3, 1]), (23, [6, 0, 32])] {
        let mut pair = Pair::new(Mode::Enforce, 0, true);
        for (id, samples) in (0..LISTENERS).zip(samples) {
            pair.sample_syns(id, samples);
        }
        show(&mut pair, seed, 20_000);
        let counters = &pair.model.listener_counters;
        let syns: u64 = counters.values().map(|counters| counters.syn).sum();
        let written = pair.model.syn_samples.written;
        assert_eq!(written == syns, samples == [1, 1, 1], "{written} headers of {syns} SYNs");
        kept += written;
    }
    println!("{kept} headers");
    assert!(kept > 5_000, "only {kept} headers");
}
