//! Incidents of a fleet: those of hosts that are the same attack.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{IncidentClass, Timestamp};
use tcpguard_host::time::Clock;

use super::event::FleetEvent;
use super::status::{FleetIncident, Member, MemberState};
use crate::document::{Envelope, HostId, Id, Incident, IncidentFacts, Kind, Label};

/// Time between two incidents of hosts within which they are one of the fleet.
const OVERLAP: Duration = Duration::from_secs(60);
/// Time for which an incident of a host that is over is listed while that of the fleet goes on.
const LISTED: Duration = Duration::from_secs(600);
/// Open incidents of one host. Hosts send as many.
const MAX_OF_HOST: usize = 8;
/// Incidents of all hosts.
const MAX_PARTS: usize = 131_072;
/// Victims and signatures by which one incident is recognised.
const MAX_LINKS: usize = 1024;
/// Closed incidents that are kept.
const MAX_PAST: usize = 64;
/// Members of an incident in a status.
const MAX_LISTED: usize = 64;
/// Victims, ports and signatures of an incident in a status, each.
const MAX_TARGETS: usize = 16;

/// Incidents of a fleet.
///
/// Two incidents of hosts are one if they have the same class, overlap within [`OVERLAP`], and have a victim or a
/// signature in common. A victim is compared only if its address is one of the Internet: private ones may be different
/// hosts at different sites.
#[derive(Clone, Debug, Default)]
pub(super) struct Incidents {
    merged: BTreeMap<Id, Merged>,
    /// The incident of the fleet to which that of a host belongs.
    parts: BTreeMap<PartKey, Id>,
    links: BTreeMap<Link, Id>,
    past: VecDeque<FleetIncident>,
}

/// An incident of a host, by its number in a run of that host.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct PartKey {
    host: HostId,
    boot: u64,
    number: u64,
}

/// A property by which incidents of a class are recognised as one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Link {
    Victim(&'static str, IpNet),
    Signature(&'static str, Id),
}

/// An incident of the fleet.
#[derive(Clone, Debug)]
struct Merged {
    class: IncidentClass,
    since: Timestamp,
    /// Time since which no part is open; `None` while one is.
    over: Option<Timestamp>,
    parts: BTreeMap<PartKey, Reported>,
    /// Number of parts that are no longer listed.
    unlisted: usize,
    links: BTreeSet<Link>,
    peak_syn_pps: f64,
}

/// An incident of a host, as it was last reported.
#[derive(Clone, Debug)]
struct Reported {
    site: Option<Label>,
    facts: IncidentFacts,
    until: Timestamp,
    state: MemberState,
    /// Time since which it is not open.
    over: Option<Timestamp>,
}

impl Incidents {
    /// Takes the report of a host. One that is beyond the limits is not listed.
    pub fn take(&mut self, now: Timestamp, incident: Incident) -> Vec<FleetEvent> {
        let Incident { envelope, facts } = incident;
        let until = now + envelope.ttl(Kind::Incident);
        let Envelope { host, boot, site, .. } = envelope;
        let key = PartKey { host, boot, number: facts.number };
        let mut events = Vec::new();
        let mut own = self.parts.get(&key).copied();
        if let Some(id) = own
            && self.merged.get(&id).is_some_and(|merged| merged.class != facts.class)
        {
            own = self.reclassify(id, &key, facts.class);
        }
        if own.is_none() && (facts.ended.is_some() || self.is_full(&key)) {
            return events;
        }
        let links = links(&facts);
        let linked = links.iter().filter_map(|link| self.links.get(link));
        let candidates = own.iter().chain(linked).copied().collect();
        let id = self.home(candidates, &key, &facts, now, &mut events);
        let (state, over) = match facts.ended {
            Some(_) => (MemberState::Ended, Some(now)),
            None => (MemberState::Open, None),
        };
        if let Some(merged) = self.merged.get_mut(&id) {
            for link in links {
                if merged.links.len() < MAX_LINKS && merged.links.insert(link) {
                    self.links.insert(link, id);
                }
            }
            merged.parts.insert(key.clone(), Reported { site, facts, until, state, over });
            if state == MemberState::Open {
                merged.over = None;
            }
        }
        self.parts.insert(key, id);
        events
    }

    /// Ends the reports that were not repeated, and closes incidents that have been over for [`OVERLAP`].
    pub fn expire(&mut self, clock: Clock) -> Vec<FleetEvent> {
        let now = clock.now;
        for merged in self.merged.values_mut() {
            for key in merged.expire(now) {
                self.parts.remove(&key);
            }
        }
        let is_closed =
            |merged: &Merged| merged.over.is_some_and(|over| now.since(over) >= OVERLAP);
        let closed = self.merged.iter().filter(|(_, merged)| is_closed(merged));
        let closed: Vec<Id> = closed.map(|(id, _)| *id).collect();
        let mut events = Vec::new();
        for id in closed {
            let Some(merged) = self.remove(id) else { continue };
            let parts = merged.count();
            events.push(FleetEvent::IncidentEnded { id, class: merged.class, parts });
            self.past.push_front(merged.list(id, clock));
            self.past.truncate(MAX_PAST);
        }
        events
    }

    /// Open incidents, oldest first.
    pub fn list(&self, clock: Clock) -> Vec<FleetIncident> {
        let mut listed: Vec<_> = self.merged.iter().collect();
        listed.sort_by_key(|(id, merged)| (merged.since, **id));
        listed.into_iter().map(|(id, merged)| merged.list(*id, clock)).collect()
    }

    /// Closed incidents, newest first.
    pub fn past(&self) -> Vec<FleetIncident> {
        self.past.iter().cloned().collect()
    }

    /// Returns whether a new incident of a host is beyond the limits.
    fn is_full(&self, key: &PartKey) -> bool {
        let first = PartKey { host: key.host.clone(), boot: 0, number: 0 };
        let last = PartKey { host: key.host.clone(), boot: u64::MAX, number: u64::MAX };
        let of_host = self.parts.range(first..=last);
        let open = of_host.filter(|(part, id)| {
            let reported = self.merged.get(id).and_then(|merged| merged.parts.get(part));
            reported.is_some_and(|reported| reported.state == MemberState::Open)
        });
        self.parts.len() >= MAX_PARTS || open.count() >= MAX_OF_HOST
    }

    /// The incident of the fleet for one of a host: its own, the one with which it has a link, or a new one. Where
    /// there are several, they are one from now on, under the name of the oldest.
    fn home(
        &mut self,
        candidates: BTreeSet<Id>,
        key: &PartKey,
        facts: &IncidentFacts,
        now: Timestamp,
        events: &mut Vec<FleetEvent>,
    ) -> Id {
        let age = |id: &Id| self.merged.get(id).map(|merged| (merged.since, *id));
        let Some(oldest) = candidates.iter().copied().min_by_key(age) else {
            let content = format!("{}|{}|{}", key.host, key.boot, key.number);
            let (id, class) = (Id::of("incident", content.as_bytes()), facts.class);
            self.merged.insert(id, Merged::new(class, now));
            events.push(FleetEvent::IncidentStarted { id, class, host: key.host.clone() });
            return id;
        };
        for younger in candidates.into_iter().filter(|id| *id != oldest) {
            self.join(oldest, younger);
            events.push(FleetEvent::IncidentsMerged { id: oldest, merged: younger });
        }
        oldest
    }

    /// Moves all of an incident into an older one.
    fn join(&mut self, into: Id, from: Id) {
        let Some(younger) = self.remove(from) else { return };
        let Some(older) = self.merged.get_mut(&into) else { return };
        for key in younger.parts.keys() {
            self.parts.insert(key.clone(), into);
        }
        for link in younger.links {
            if older.links.len() < MAX_LINKS && older.links.insert(link) {
                self.links.insert(link, into);
            }
        }
        older.parts.extend(younger.parts);
        older.unlisted += younger.unlisted;
    }

    /// Another class of a host's incident: it leaves the incident of the fleet, unless it is alone there. Returns the
    /// incident to which it still belongs.
    fn reclassify(&mut self, id: Id, key: &PartKey, class: IncidentClass) -> Option<Id> {
        let merged = self.merged.get_mut(&id)?;
        if merged.parts.len() > 1 {
            merged.parts.remove(key);
            self.parts.remove(key);
            return None;
        }
        merged.class = class;
        for link in std::mem::take(&mut merged.links) {
            self.links.remove(&link);
        }
        Some(id)
    }

    fn remove(&mut self, id: Id) -> Option<Merged> {
        let merged = self.merged.remove(&id)?;
        for key in merged.parts.keys() {
            self.parts.remove(key);
        }
        for link in &merged.links {
            self.links.remove(link);
        }
        Some(merged)
    }
}

impl Merged {
    fn new(class: IncidentClass, now: Timestamp) -> Self {
        Self {
            class,
            since: now,
            over: None,
            parts: BTreeMap::new(),
            unlisted: 0,
            links: BTreeSet::new(),
            peak_syn_pps: 0.0,
        }
    }

    /// Number of its parts so far.
    fn count(&self) -> u32 {
        count(self.parts.len() + self.unlisted)
    }

    /// Ends the reports that were not repeated, derives the state of the whole from that of its parts, and returns the
    /// parts that are no longer listed. It takes as long as there are parts, and is not for each report.
    fn expire(&mut self, now: Timestamp) -> Vec<PartKey> {
        for reported in self.parts.values_mut() {
            if reported.state == MemberState::Open && now >= reported.until {
                (reported.state, reported.over) = (MemberState::Silent, Some(now));
            }
        }
        self.peak_syn_pps = self.peak_syn_pps.max(self.syn_pps());
        if self.open().next().is_none() {
            self.over = self.over.or(Some(now));
            return Vec::new();
        }
        self.over = None;
        let is_old =
            |reported: &Reported| reported.over.is_some_and(|over| now.since(over) >= LISTED);
        let old = self.parts.iter().filter(|(_, reported)| is_old(reported));
        let old: Vec<PartKey> = old.map(|(key, _)| key.clone()).collect();
        old.iter().for_each(|key| drop(self.parts.remove(key)));
        self.unlisted += old.len();
        old
    }

    fn open(&self) -> impl Iterator<Item = &Reported> {
        self.parts.values().filter(|reported| reported.state == MemberState::Open)
    }

    fn syn_pps(&self) -> f64 {
        self.open().fold(0.0, |sum, reported| sum + reported.facts.syn_pps)
    }

    fn list(&self, id: Id, clock: Clock) -> FleetIncident {
        let facts = || self.parts.values().map(|reported| &reported.facts);
        let syn_pps = self.syn_pps();
        let dropped = self.open().map(|Reported { facts, .. }| facts.syn_pps * facts.dropped_share);
        let dropped = dropped.fold(0.0, |sum, rate| sum + rate);
        let mut members: Vec<_> = self.parts.iter().collect();
        members.sort_by(|(_, one), (_, other)| other.rate().total_cmp(&one.rate()));
        members.truncate(MAX_LISTED);
        FleetIncident {
            id,
            class: self.class,
            severity: self.class.severity(),
            since: clock.time_at(self.since),
            ended: self.over.map(|over| clock.time_at(over)),
            parts: self.count(),
            open: count(self.open().count()),
            sites: first(self.parts.values().filter_map(|reported| reported.site.clone())),
            victims: first(facts().flat_map(|facts| facts.victims.iter().copied())),
            ports: first(facts().flat_map(|facts| facts.ports.iter().copied())),
            signatures: first(facts().flat_map(|facts| facts.signatures.iter().copied())),
            syn_pps,
            peak_syn_pps: self.peak_syn_pps.max(syn_pps),
            dropped_share: if syn_pps > 0.0 { (dropped / syn_pps).min(1.0) } else { 0.0 },
            members: members.into_iter().map(|(key, reported)| reported.list(key)).collect(),
        }
    }
}

impl Reported {
    /// Rate at present.
    const fn rate(&self) -> f64 {
        match self.state {
            MemberState::Open => self.facts.syn_pps,
            MemberState::Ended | MemberState::Silent => 0.0,
        }
    }

    fn list(&self, key: &PartKey) -> Member {
        let IncidentFacts { number, since, ended, dropped_share, completion, .. } = self.facts;
        Member {
            host: key.host.clone(),
            site: self.site.clone(),
            number,
            state: self.state,
            since,
            ended,
            syn_pps: self.rate(),
            dropped_share,
            completion,
            mitigations: self.facts.mitigations.clone(),
        }
    }
}

/// The properties by which an incident is recognised elsewhere.
fn links(facts: &IncidentFacts) -> Vec<Link> {
    let class = facts.class.name();
    let victims = facts.victims.iter().filter(|victim| is_global(victim.addr()));
    let victims = victims.map(|victim| Link::Victim(class, *victim));
    victims.chain(facts.signatures.iter().map(|id| Link::Signature(class, *id))).collect()
}

/// The first different elements.
fn first<T: Ord>(elements: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = BTreeSet::new();
    for element in elements {
        if all.len() == MAX_TARGETS {
            break;
        }
        all.insert(element);
    }
    all.into_iter().collect()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Returns whether an address is one of the Internet. Others may be different hosts at different sites.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // RFC 6598: addresses behind a provider's NAT.
            let is_shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            let is_local = v4.is_private() || v4.is_loopback() || v4.is_link_local();
            !(is_local || is_shared || v4.is_unspecified())
        }
        IpAddr::V6(v6) => {
            let is_local = v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local();
            !(is_local || v6.is_unspecified())
        }
    }
}
