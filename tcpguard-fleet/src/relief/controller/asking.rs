//! The routes that one host asks for, for as long as it repeats them.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_engine::Timestamp;

use crate::document::{Kind, Relief, ReliefRoute};

/// Time after which an operator has to confirm that routes are still wanted.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Time without routes after which a host asks anew. It is that of the host's own state machine, in which relief
/// that is needed again within it counts as the same.
const ANEW: Duration = Duration::from_secs(600);
/// Load of a host's link, 0 to 1, from which its silence may mean that it is cut off.
const PRESSED: f64 = 0.8;

/// The routes of one host.
#[derive(Debug)]
pub(super) struct Asking {
    /// By the number of the document's part: each part has a lifetime of its own.
    parts: BTreeMap<u8, Part>,
    /// Time at which each route was first asked for.
    first: BTreeMap<ReliefRoute, Timestamp>,
    /// Load of the host's link, 0 to 1, as it last reported.
    pressure: f64,
    /// Time since which it asks for routes, whichever they are, or at which an operator confirmed it.
    since: Timestamp,
    /// Time until which it asked for some.
    until: Timestamp,
}

#[derive(Debug)]
struct Part {
    until: Timestamp,
    routes: Vec<ReliefRoute>,
}

impl Asking {
    /// A host that asks for nothing.
    pub fn new(now: Timestamp) -> Self {
        let (parts, first) = (BTreeMap::new(), BTreeMap::new());
        Self { parts, first, pressure: 0.0, since: now, until: now }
    }

    /// Takes a document. It replaces the part that it is.
    pub fn hear(&mut self, now: Timestamp, relief: &Relief) {
        if now.since(self.until) >= ANEW {
            self.since = now;
        }
        let until = now + relief.envelope.ttl(Kind::Relief);
        self.parts.retain(|number, _| *number < relief.part.parts);
        self.parts.insert(relief.part.part, Part { until, routes: relief.wanted.clone() });
        self.pressure = relief.pressure;
        let parts = &self.parts;
        self.first.retain(|route, _| parts.values().any(|part| part.routes.contains(route)));
        for route in &relief.wanted {
            self.first.entry(*route).or_insert(now);
        }
        if !relief.wanted.is_empty() {
            self.until = until;
        }
    }

    /// Returns the routes that are wanted, with the time at which each was first asked for. Those of a host that fell
    /// silent under pressure stay for `on_silence`.
    pub fn routes(
        &self,
        now: Timestamp,
        on_silence: Option<Duration>,
    ) -> BTreeMap<ReliefRoute, Timestamp> {
        let longer = on_silence.filter(|_| self.pressure >= PRESSED).unwrap_or_default();
        let parts = self.parts.values().filter(|part| now < part.until + longer);
        let routes = parts.flat_map(|part| &part.routes);
        routes.map(|route| (*route, self.first.get(route).copied().unwrap_or(now))).collect()
    }

    /// Returns whether an operator has to confirm the routes.
    pub fn is_too_old(&self, now: Timestamp) -> bool {
        now.since(self.since) >= LONGEST
    }

    /// Takes an operator's word that the routes are still wanted.
    pub const fn confirm(&mut self, now: Timestamp) {
        self.since = now;
    }

    /// Returns whether there is nothing to remember of the host.
    pub fn is_over(&self, now: Timestamp, on_silence: Option<Duration>) -> bool {
        now.since(self.until) >= ANEW.max(on_silence.unwrap_or_default())
    }
}
