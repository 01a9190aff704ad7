//! The busiest sources of SYNs, and the number of known addresses. They are read off the two largest tables a piece at
//! a time, so that neither a poll nor a response waits for 81,920 elements.

use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::{Addr, SourceCounters, maps};
use tcpguard_engine::Timestamp;

use crate::bpf::{BATCH, Dataplane, KernelError, Position, ip};
use crate::documents::Source;

const SHOWN: usize = 10;
/// A pass through full tables takes this long, and the next begins no sooner. The values shown are at most twice as old
/// plus one poll: 5 s at the default poll interval.
const PASS: Duration = Duration::from_millis(2250);
/// Batches that full tables have.
const BATCHES: u128 = (maps::MAX_SOURCES as u128 + maps::MAX_CLIENTS as u128) / BATCH as u128;

/// Result of one pass.
#[derive(Debug)]
pub(in crate::daemon) struct Found {
    /// Time at which the pass began.
    pub at: Timestamp,
    pub busiest: Vec<Source>,
    /// Sources that never completed a handshake.
    pub sources: usize,
    pub clients: usize,
}

/// The last pass, and the one that is on.
#[derive(Debug, Default)]
pub(in crate::daemon) struct HotSources {
    found: Option<Found>,
    pass: Option<Pass>,
}

/// A pass that is on: first the sources, then the clients.
#[derive(Debug)]
struct Pass {
    began: Timestamp,
    position: Position,
    at_clients: bool,
    sources: usize,
    clients: usize,
    busiest: Busiest,
}

impl HotSources {
    /// Goes on reading, as much as polls that are `poll` apart must.
    ///
    /// # Errors
    /// When the kernel refuses; then the next poll begins again.
    pub(in crate::daemon) fn read(
        &mut self,
        now: Timestamp,
        poll: Duration,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        let early = |found: &Found| now.since(found.at) < PASS;
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None if self.found.as_ref().is_some_and(early) => return Ok(()),
            None => Pass::begin(now),
        };
        for _ in 0..batches(poll) {
            if !pass.read(dataplane)? {
                // Without an answer it stays a source: it is only shown as one.
                let client = |addr| dataplane.client(addr).is_ok_and(|client| client.is_some());
                self.found = Some(pass.end(client));
                return Ok(());
            }
        }
        self.pass = Some(pass);
        Ok(())
    }

    /// Result of the last pass. `None` before the first has ended.
    pub(in crate::daemon) const fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }
}

/// Batches that a poll reads, so that a pass through full tables takes [`PASS`].
fn batches(poll: Duration) -> u128 {
    (BATCHES * poll.as_millis()).div_ceil(PASS.as_millis()).max(2)
}

impl Pass {
    fn begin(now: Timestamp) -> Self {
        Self {
            began: now,
            position: Position::default(),
            at_clients: false,
            sources: 0,
            clients: 0,
            busiest: Busiest::default(),
        }
    }

    /// Reads one batch. `false`: that was the last.
    fn read(&mut self, dataplane: &Dataplane) -> Result<bool, KernelError> {
        let Self { position, busiest, sources, clients, .. } = self;
        let more = if self.at_clients {
            dataplane.clients_from(position, |addr, client| {
                *clients += 1;
                busiest.offer(addr, &client.counters, true);
            })?
        } else {
            dataplane.sources_from(position, |addr, counters| {
                *sources += 1;
                busiest.offer(addr, &counters, false);
            })?
        };
        if more {
            return Ok(true);
        }
        self.position = Position::default();
        Ok(!std::mem::replace(&mut self.at_clients, true))
    }

    fn end(self, is_client: impl Fn(IpAddr) -> bool) -> Found {
        Found {
            at: self.began,
            busiest: self.busiest.sorted(is_client),
            sources: self.sources,
            clients: self.clients,
        }
    }
}

/// Entries with the most SYNs among the sources and clients offered.
#[derive(Debug, Default)]
struct Busiest {
    kept: Vec<Source>,
    /// Sources with fewer SYNs than this get no slot.
    least: u64,
}

impl Busiest {
    /// Twice as many as are shown, since one that has become a client is in both tables.
    const KEPT: usize = 2 * SHOWN;

    fn offer(&mut self, addr: Addr, counters: &SourceCounters, validated: bool) {
        if counters.syn < self.least {
            return;
        }
        self.kept.push(Source {
            addr: ip(&addr),
            syn: counters.syn,
            syn_ack: counters.syn_ack,
            ack: counters.ack,
            rst: counters.rst,
            completed: counters.completed,
            validated,
        });
        // Not each time: sorting is for many at once.
        if self.kept.len() >= 2 * Self::KEPT {
            self.sort();
            self.kept.truncate(Self::KEPT);
            self.least = self.kept.last().map_or(0, |last| last.syn);
        }
    }

    fn sort(&mut self) {
        self.kept.sort_by(|a, b| b.syn.cmp(&a.syn).then(a.addr.cmp(&b.addr)));
    }

    /// The busiest first. One that has become a client is counted there from then on.
    fn sorted(mut self, is_client: impl Fn(IpAddr) -> bool) -> Vec<Source> {
        self.kept.retain(|source| source.validated || !is_client(source.addr));
        self.sort();
        self.kept.truncate(SHOWN);
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(number: u8) -> Addr {
        Addr::from_v4([192, 0, 2, number])
    }

    fn syns(syn: u64) -> SourceCounters {
        SourceCounters { syn, ..SourceCounters::default() }
    }

    #[test]
    fn the_busiest_come_first_however_many_are_offered() {
        let mut busiest = Busiest::default();
        for number in 0..=255 {
            // In no order.
            let number = u8::reverse_bits(number);
            busiest.offer(addr(number), &syns(number.into()), false);
        }
        let found: Vec<u64> = busiest.sorted(|_| false).iter().map(|source| source.syn).collect();
        assert_eq!(found, (246..=255).rev().collect::<Vec<u64>>());
    }

    #[test]
    fn one_that_has_become_a_client_is_shown_once() {
        let mut busiest = Busiest::default();
        busiest.offer(addr(1), &syns(90), false);
        busiest.offer(addr(2), &syns(80), false);
        busiest.offer(addr(1), &syns(7), true);
        let is_client = |found: IpAddr| found == ip(&addr(1));
        let found: Vec<_> =
            busiest.sorted(is_client).iter().map(|it| (it.addr, it.syn, it.validated)).collect();
        assert_eq!(found, [(ip(&addr(2)), 80, false), (ip(&addr(1)), 7, true)]);
    }

    #[test]
    fn full_tables_are_read_in_time_at_any_pace() {
        for poll in [50, 100, 250, 1000] {
            let polls = BATCHES.div_ceil(batches(Duration::from_millis(poll)));
            assert!(polls * u128::from(poll) <= PASS.as_millis() + u128::from(poll), "{poll} ms");
        }
        assert_eq!(batches(Duration::ZERO), 2, "each table needs one");
    }
}
