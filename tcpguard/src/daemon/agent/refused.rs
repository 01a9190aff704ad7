//! Clients that a port refuses, because no socket listens there any longer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tcpguard_engine::{Listener, Timestamp};
use tcpguard_host::finding::Finding;
use tcpguard_host::units::short;

use super::Agent;
use crate::daemon::listeners::MonitoredListener;
use crate::documents::{AgentEvent, NOTHING_LISTENS};

/// A restart of the application takes less time than this, and is no outage.
const RESTART: Duration = Duration::from_secs(5);

/// The listeners without a socket whose clients were refused: the time since which they are, and whether that was
/// reported.
#[derive(Debug, Default)]
pub(super) struct Outages(BTreeMap<Listener, (Timestamp, bool)>);

impl Outages {
    /// Takes note of the listeners without a socket, each with the SYNs of clients per second that are refused, and of
    /// those for which `listens` returns true. Returns the outages that last, and those that are over.
    fn note(
        &mut self,
        now: Timestamp,
        closed: &BTreeMap<Listener, f64>,
        listens: impl Fn(&Listener) -> bool,
    ) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        self.0.retain(|&listener, (since, is_reported)| {
            let lasts = closed.contains_key(&listener);
            if !lasts && *is_reported {
                let (listens, lasted_s) = (listens(&listener), now.since(*since).as_secs());
                events.push(AgentEvent::NothingListensOver { listener, listens, lasted_s });
            }
            lasts
        });
        for (&listener, &syn_pps) in closed.iter().filter(|(_, refused)| **refused > 0.0) {
            let (since, is_reported) = self.0.entry(listener).or_insert((now, false));
            if !*is_reported && now.since(*since) >= RESTART {
                *is_reported = true;
                events.push(AgentEvent::NothingListens { listener, syn_pps });
            }
        }
        events
    }
}

impl Agent {
    /// The listeners without a socket, each with the SYNs per second that are refused there while clients try to connect.
    pub(super) fn closed(&self) -> BTreeMap<Listener, f64> {
        let closed = self.executor.listeners.iter().filter(|one| one.own.is_closed());
        let closed = closed.filter_map(|monitored: &MonitoredListener| {
            let report = self.engine.listener(&monitored.listener)?;
            let fail = report.completions.failed.is_some_and(|failed| failed > 0.0);
            Some((monitored.listener, if fail { report.syn_rate } else { 0.0 }))
        });
        closed.collect()
    }

    /// Reports outages of applications.
    pub(super) fn follow_outages(&mut self, now: Timestamp) {
        let closed = self.closed();
        let listeners = &self.executor.listeners;
        let listens = |asked: &Listener| listeners.iter().any(|one| one.listener == *asked);
        for event in self.outages.note(now, &closed, listens) {
            self.raise_own(event);
        }
    }
}

/// The finding about a listener that refuses so many SYNs of clients per second.
pub(super) fn finding(listener: &Listener, refused: f64) -> Finding {
    let at = SocketAddr::new(listener.addr, listener.port);
    let text = format!("{at}: no socket listens, {} SYN/s are refused", short(refused));
    let hint =
        format!("start the application; see what listens: ss -ltnp 'sport = :{}'", at.port());
    Finding::critical(NOTHING_LISTENS, text).about(at.to_string()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In each second: the SYNs per second that are refused, `None` while a socket listens.
    fn seen(refused: &[Option<f64>], listens: bool) -> Vec<(u64, AgentEvent)> {
        let listener = Listener { addr: [0; 4].into(), port: 80 };
        let (mut outages, mut seen) = (Outages::default(), Vec::new());
        for (second, refused) in (0..).zip(refused) {
            let closed = refused.iter().map(|refused| (listener, *refused)).collect();
            let now = Timestamp::from_millis(second * 1000);
            let events = outages.note(now, &closed, |_| listens);
            seen.extend(events.into_iter().map(|event| (second, event)));
        }
        seen
    }

    #[test]
    fn an_outage_is_reported_once_with_its_end_and_a_restart_is_not() {
        let listener = Listener { addr: [0; 4].into(), port: 80 };
        let restart = [&[Some(40.0); 5][..], &[None; 5]].concat();
        assert_eq!(seen(&restart, true), []);
        assert_eq!(seen(&[Some(0.0); 60], true), [], "it has no clients");
        let outage = [&[None; 3][..], &[Some(40.0); 8], &[Some(0.0); 4], &[None; 3]].concat();
        for listens in [true, false] {
            let over = AgentEvent::NothingListensOver { listener, listens, lasted_s: 12 };
            let begun = AgentEvent::NothingListens { listener, syn_pps: 40.0 };
            assert_eq!(seen(&outage, listens), [(8, begun), (15, over)]);
        }
    }
}
