//! Every counter and every table of both sides, the unexpected ones as well.

use std::collections::BTreeSet;
use std::fmt::Debug;

use tcpguard_common::abi::maps::CLIENT_MARKS;
use tcpguard_common::fastpath::clients;

use super::{LISTENERS, Pair, RULES, sorted};

/// Differences between the state of the kernel and that of the host.
#[derive(Default)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Records `what` if the two are not the same.
    pub fn compare<K, H>(&mut self, what: &str, kernel: &K, host: &H)
    where
        K: Debug + PartialEq<H> + ?Sized,
        H: Debug + ?Sized,
    {
        if kernel != host {
            self.0.push(format!("{what}: kernel {kernel:?}, host {host:?}"));
        }
    }
}

impl Pair {
    pub fn assert_same_state(&self) {
        let differences = self.differences();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    /// One line for each counter and table that is not the same on both sides.
    pub fn differences(&self) -> Vec<String> {
        let (kernel, model) = (&self.dataplane, &self.model);
        let mut found = Differences::default();
        found.compare("packets", &kernel.packets(0).unwrap(), &model.packets);
        let reasons: u64 = model.packets.reasons.iter().sum();
        found.compare("packets with a reason", &model.packets.entry, &reasons);
        for id in 0..LISTENERS {
            let name = |what: &str| format!("{what} of listener {id}");
            let expected = model.listener_counters.get(&id).copied().unwrap_or_default();
            found.compare(&name("counters"), &kernel.listener_counters(id).unwrap(), &expected);
            let late = model.late.get(&id).copied().unwrap_or_default();
            found.compare(&name("late"), &kernel.late(id).unwrap(), &late);
            let failed = model.returned_cookies.get(&id).copied().unwrap_or_default();
            found.compare(&name("failed cookies"), &kernel.returned_cookies(id).unwrap(), &failed);
            let registers = model.distinct_sources.get(&id).map_or([0; 1024], |r| **r);
            found.compare(&name("sources"), &kernel.distinct_sources(id).unwrap(), &registers);
        }
        for slot in 0..RULES {
            let expected = model.rule_hits.get(&slot).copied().unwrap_or_default();
            let hits = kernel.rule_hits(slot).unwrap();
            found.compare(&format!("hits of rule {slot}"), &hits, &expected);
        }
        found.compare("flows", &sorted(kernel.flows().unwrap()), &model.flows);
        found.compare("sources", &sorted(kernel.sources().unwrap()), &model.sources);
        found.compare("clients", &sorted(kernel.clients().unwrap()), &model.clients);
        for filter in 0..2 {
            let marks = marks(&kernel.client_filter(filter).unwrap());
            found.compare("client filter", &marks, &model.client_filter);
        }
        found.compare("host", &kernel.host_counters().unwrap(), &model.host);
        let cells =
            kernel.closed_port_sources().unwrap().into_iter().filter(|(_, cell)| cell.syns != 0);
        found.compare("probes", &sorted(cells.collect()), &model.closed_port_sources);
        let words = kernel.closed_ports().unwrap().into_iter().filter(|(_, word)| *word != 0);
        let expected = model.closed.iter().filter(|(_, word)| **word != 0);
        let expected = expected.map(|(place, word)| (*place, *word)).collect();
        found.compare("closed ports", &sorted(words.collect()), &sorted(expected));
        found.compare("SYN-ACKs", &sorted(kernel.syn_acks().unwrap()), &model.syn_acks);
        found.compare("next hops", &sorted(kernel.next_hops().unwrap()), &model.next_hops);
        found.compare("neighbours", &sorted(kernel.neighbours().unwrap()), &model.neighbours);
        self.compare_ladder(&mut found);
        self.compare_samples(&mut found);
        let noted = sorted(kernel.take_unknown_listeners().unwrap());
        found.compare("unknown listeners", &noted, &model.unknown_listeners);
        found.0
    }
}

fn marks(filter: &clients::Marks) -> BTreeSet<usize> {
    (0..CLIENT_MARKS).filter(|mark| clients::is_marked(filter, *mark)).collect()
}
