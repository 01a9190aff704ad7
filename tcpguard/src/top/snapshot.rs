//! The agent's responses so far.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::growth::Growth;
use super::history::Series;
use crate::documents::{Listener, Status};

/// Number of listeners with a history. Those with the most SYNs come first.
const LISTENERS_KEPT: usize = 64;

/// The last response of the agent, and the values that need several responses.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub status: Status,
    /// Time at which the last response came.
    pub at: Duration,
    /// The whole host, or one interface of it.
    pub traffic: Traffic,
    /// SYNs per second of the busiest listeners, by their numbers.
    pub listeners: BTreeMap<u32, Series>,
    /// SYNs of the busiest sources.
    pub sources: Growth<IpAddr>,
    /// Hits of the rules, by their numbers.
    pub rules: Growth<u32>,
}

/// The curves of the host.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    pub syns: Series,
    /// Packets dropped per second.
    pub dropped: Series,
    /// Handshakes completed per second.
    pub completed: Series,
    /// SYN cookies sent per second by XDP.
    pub cookies: Series,
    /// Half-open handshakes as a share of their limit, at the fullest listener; 1 is full, and more happens.
    pub half_open: Series,
}

impl Snapshot {
    /// Starts with the first response. `interface` as for [`Self::feed`].
    pub fn first(status: Status, now: Duration, interface: Option<&str>) -> Self {
        let mut snapshot = Self {
            status: status.clone(),
            at: now,
            traffic: Traffic::default(),
            listeners: BTreeMap::new(),
            sources: Growth::default(),
            rules: Growth::default(),
        };
        snapshot.feed(status, now, interface, Duration::ZERO);
        snapshot
    }

    /// Takes another response. With an `interface`, only its packets count, while listeners are
    /// those of all interfaces. A response holds for the time since the previous one, up to
    /// `reach`.
    pub fn feed(
        &mut self,
        status: Status,
        now: Duration,
        interface: Option<&str>,
        reach: Duration,
    ) {
        if status.daemon.pid != self.status.daemon.pid {
            // Another agent numbers listeners anew.
            self.listeners.clear();
        }
        self.traffic.note(&status, now, interface, reach);
        self.note_listeners(&status.listeners, now, reach);
        self.sources.note(now, status.sources.iter().map(|source| (source.addr, source.syn)));
        self.rules.note(now, status.rules.list.iter().map(|rule| (rule.id, rule.hits)));
        self.status = status;
        self.at = now;
    }

    fn note_listeners(&mut self, listeners: &[Listener], now: Duration, reach: Duration) {
        let mut busiest: Vec<&Listener> = listeners.iter().collect();
        busiest.sort_by(|a, b| b.syn_pps.total_cmp(&a.syn_pps));
        busiest.truncate(LISTENERS_KEPT);
        for listener in busiest {
            let series = self.listeners.entry(listener.id).or_default();
            series.note(now, listener.syn_pps, reach);
        }
        self.listeners.retain(|_, series| series.peak(now).is_some());
    }
}

impl Traffic {
    fn note(&mut self, status: &Status, now: Duration, interface: Option<&str>, reach: Duration) {
        let interfaces =
            status.interfaces.iter().filter(|it| interface.is_none_or(|name| it.name == name));
        let rates: Vec<_> = interfaces.filter_map(|it| it.rates.as_ref()).collect();
        if !rates.is_empty() {
            self.syns.note(now, rates.iter().map(|it| it.syn_pps).sum(), reach);
            self.dropped.note(now, rates.iter().map(|it| it.drop_pps).sum(), reach);
        }
        let listeners = &status.listeners;
        self.completed.note(now, listeners.iter().map(|it| it.completed_pps).sum(), reach);
        self.cookies.note(now, listeners.iter().map(|it| it.cookies_pps).sum(), reach);
        let fullest = listeners.iter().filter_map(half_open_share).reduce(f64::max);
        if let Some(fullest) = fullest {
            self.half_open.note(now, fullest, reach);
        }
    }
}

/// Returns the half-open handshakes of a listener as a share of their limit; 1 is full, and more happens.
pub fn half_open_share(listener: &Listener) -> Option<f64> {
    let limit = listener.half_open_limit.filter(|limit| *limit > 0)?;
    Some(f64::from(listener.half_open?) / f64::from(limit))
}
