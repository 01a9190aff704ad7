//! Signatures that other hosts report, for as long as they repeat them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpguard_engine::{IncidentClass, SharedSignature, Timestamp};

use super::hint::Hint;
use crate::document::{HostId, Id, Kind, Label, Signature, SignatureEvidence};
use crate::trust::Reason;

/// Signatures of one host. The agent has at most 4 rules against signatures at a listener.
pub const MAX_OF_PEER: usize = 8;
/// Signatures of all hosts.
pub const MAX_SIGNATURES: usize = 256;
/// Signatures at one port.
pub const MAX_AT_PORT: usize = 64;
/// Hosts that are remembered as reporters of one signature. Of all that are attacked, about 12 report within its
/// lifetime of 60 s, because three at a time silence the others.
pub const MAX_REPORTERS: usize = 16;
/// Growth of a hint's lifetime from which the agent is given it again: at most every 15 s.
const RENEWED: Duration = Duration::from_secs(15);

/// Signatures that other hosts report.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Site of this host.
    site: Option<Label>,
    signatures: BTreeMap<(u16, Id), Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    signature: SharedSignature,
    reports: BTreeMap<HostId, Report>,
    /// SYNs with it that the agent has counted.
    local_matches: u64,
    /// The hint that the agent has, and its end.
    given: Option<(Hint, Timestamp)>,
}

#[derive(Clone, Debug)]
struct Report {
    at: Timestamp,
    until: Timestamp,
    site: Option<Label>,
    class: IncidentClass,
    confidence: f64,
    clients_like_it: u64,
}

/// Change of the hints that the agent should have.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Give(Hint),
    Forget(u16, Id),
}

impl Heard {
    /// No signatures yet, at this site.
    pub fn new(site: Option<Label>) -> Self {
        Self { site, signatures: BTreeMap::new() }
    }

    /// Takes a report, and returns the changes of the hints that the agent should have.
    pub fn take(&mut self, now: Timestamp, signature: &Signature) -> Result<Vec<Change>, Reason> {
        let Signature { envelope, evidence } = signature;
        let key = (evidence.port, evidence.id);
        let known = self.signatures.get(&key);
        if known.is_some_and(|entry| entry.signature != evidence.signature) {
            // Another signature of the same name, made on purpose.
            return Err(Reason::Mismatch);
        }
        let is_known = known.is_some_and(|entry| entry.reports.contains_key(&envelope.host));
        if !is_known && self.of_peer(&envelope.host) >= MAX_OF_PEER {
            return Err(Reason::PeerSignatures);
        }
        let left = if known.is_none() { self.make_slot(evidence.port)? } else { None };
        let entry = self.signatures.entry(key).or_insert_with(|| Entry {
            signature: evidence.signature.clone(),
            reports: BTreeMap::new(),
            local_matches: 0,
            given: None,
        });
        if !is_known && entry.reports.len() >= MAX_REPORTERS {
            let first = entry.reports.iter().min_by_key(|(_, report)| report.until);
            if let Some(host) = first.map(|(host, _)| host.clone()) {
                entry.reports.remove(&host);
            }
        }
        let report = Report {
            at: now,
            until: now + envelope.ttl(Kind::Signature),
            site: envelope.site.clone(),
            class: evidence.class,
            confidence: evidence.confidence,
            clients_like_it: evidence.clients_like_it,
        };
        entry.reports.insert(envelope.host.clone(), report);
        let has_sites = self.has_sites();
        let changed =
            self.signatures.get_mut(&key).and_then(|entry| entry.change(now, key, has_sites));
        Ok(left.into_iter().chain(changed).collect())
    }

    /// Keeps the signatures at these ports only.
    pub fn keep_ports(&mut self, ports: &BTreeSet<u16>) {
        for ((port, _), entry) in &mut self.signatures {
            if !ports.contains(port) {
                entry.reports.clear();
            }
        }
    }

    /// Takes the number of SYNs that the agent has counted for a signature.
    pub fn match_locally(&mut self, port: u16, id: Id, matches: u64) {
        if let Some(entry) = self.signatures.get_mut(&(port, id)) {
            entry.local_matches = matches;
        }
    }

    /// The agent has lost all hints.
    pub fn give_again(&mut self) {
        self.signatures.values_mut().for_each(|entry| entry.given = None);
    }

    /// Ends reports whose time is over, and returns the changes of the hints that the agent should have.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Change> {
        for entry in self.signatures.values_mut() {
            entry.reports.retain(|_, report| now < report.until);
        }
        let has_sites = self.has_sites();
        let mut changes = Vec::new();
        self.signatures.retain(|key, entry| {
            changes.extend(entry.change(now, *key, has_sites));
            !entry.reports.is_empty()
        });
        changes
    }

    /// Other hosts that have said the same as this one since `since`.
    pub fn same(&self, own: &SignatureEvidence, since: Timestamp) -> impl Iterator<Item = &HostId> {
        let entry = self.signatures.get(&(own.port, own.id));
        let reports = entry.into_iter().flat_map(|entry| &entry.reports);
        let same = reports.filter(move |(_, report)| {
            report.at >= since && says_the_same(own, report.confidence, report.clients_like_it)
        });
        same.map(|(host, _)| host)
    }

    /// The hints that the agent should have.
    pub fn hints(&self, now: Timestamp) -> impl Iterator<Item = Hint> {
        let has_sites = self.has_sites();
        self.signatures.iter().filter_map(move |(key, entry)| entry.hint(now, *key, has_sites))
    }

    /// Number of hints that the agent has.
    pub fn given(&self) -> usize {
        self.signatures.values().filter(|entry| entry.given.is_some()).count()
    }

    /// Returns whether the fleet has several sites, as far as it is heard.
    fn has_sites(&self) -> bool {
        let mut reports = self.signatures.values().flat_map(|entry| entry.reports.values());
        let mut first = self.site.as_ref();
        reports.any(|report| {
            let site = report.site.as_ref();
            let is_other = first.is_some() && site.is_some() && first != site;
            first = first.or(site);
            is_other
        })
    }

    /// Number of signatures of a host.
    fn of_peer(&self, host: &HostId) -> usize {
        self.signatures.values().filter(|entry| entry.reports.contains_key(host)).count()
    }

    /// Makes a slot for a signature at `port`: if there is none, the one of least value leaves. One that arrives here
    /// or that two hosts report does not.
    fn make_slot(&mut self, port: u16) -> Result<Option<Change>, Reason> {
        let at_port = self.signatures.range((port, Id::MIN)..=(port, Id::MAX)).count();
        let is_port_full = at_port >= MAX_AT_PORT;
        if !is_port_full && self.signatures.len() < MAX_SIGNATURES {
            return Ok(None);
        }
        let candidates = self.signatures.iter().filter(|((at, _), _)| !is_port_full || *at == port);
        let least = candidates.min_by_key(|(_, entry)| entry.value());
        let Some(key) = least.filter(|(_, entry)| entry.may_leave()).map(|(key, _)| *key) else {
            return Err(Reason::SignaturesFull);
        };
        let given = self.signatures.remove(&key).and_then(|entry| entry.given);
        Ok(given.map(|_| Change::Forget(key.0, key.1)))
    }
}

/// Returns whether a report says as much as the evidence of this host, so that this need not be sent. A report with
/// less confidence, or of clients with the signature that this host does not see, says less: with it hostile hosts
/// could silence others.
pub(super) fn says_the_same(
    own: &SignatureEvidence,
    confidence: f64,
    clients_like_it: u64,
) -> bool {
    confidence + 0.1 >= own.confidence && (clients_like_it == 0) == (own.clients_like_it == 0)
}

impl Entry {
    /// Value of a signature in a full table.
    fn value(&self) -> (bool, usize, Option<Timestamp>) {
        let newest = self.reports.values().map(|report| report.at).max();
        (self.local_matches > 0, self.reports.len(), newest)
    }

    fn may_leave(&self) -> bool {
        self.local_matches == 0 && self.reports.len() < 2
    }

    /// The hint that the reports make, if more of them are for it than against it: clients of the others have the
    /// signature.
    fn hint(&self, now: Timestamp, (port, id): (u16, Id), has_sites: bool) -> Option<Hint> {
        let (supporting, against): (Vec<&Report>, Vec<&Report>) =
            self.reports.values().partition(|report| report.clients_like_it == 0);
        if supporting.len() <= against.len() {
            return None;
        }
        let reporters = match has_sites {
            true => {
                // One without a site counts by itself: labels of others take no weight from it.
                let of_sites: Vec<_> =
                    supporting.iter().filter_map(|report| report.site.as_ref()).collect();
                let others = supporting.len() - of_sites.len();
                others + of_sites.into_iter().collect::<BTreeSet<_>>().len()
            }
            false => supporting.len(),
        };
        let mut confidence: Vec<f64> = supporting.iter().map(|report| report.confidence).collect();
        confidence.sort_by(f64::total_cmp);
        let reports_of =
            |class: IncidentClass| supporting.iter().filter(|report| report.class == class).count();
        let class = IncidentClass::ALL.into_iter().max_by_key(|class| reports_of(*class))?;
        let until = supporting.iter().map(|report| report.until).max()?;
        Some(Hint {
            port,
            id,
            signature: self.signature.clone(),
            class,
            reporters: u16::try_from(reporters).unwrap_or(u16::MAX),
            confidence: confidence.get((supporting.len() - 1) / 2).copied()?,
            ttl: until.since(now),
        })
    }

    fn change(&mut self, now: Timestamp, key: (u16, Id), has_sites: bool) -> Option<Change> {
        let Some(hint) = self.hint(now, key, has_sites) else {
            return self.given.take().map(|_| Change::Forget(key.0, key.1));
        };
        let until = now + hint.ttl;
        let is_known = self
            .given
            .as_ref()
            .is_some_and(|(given, end)| !hint.differs_from(given) && until.since(*end) < RENEWED);
        if is_known {
            return None;
        }
        self.given = Some((hint.clone(), until));
        Some(Change::Give(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Envelope;
    use crate::document::tests::{envelope, evidence, host};

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    fn report(number: u32, port: u16, window: u16) -> Signature {
        Signature { envelope: envelope(number, 1), evidence: evidence(port, window) }
    }

    fn of_site(number: u32, site: &str) -> Signature {
        let site = Some(site.parse().expect("a site"));
        let report = report(number, 443, 512);
        Signature { envelope: Envelope { site, ..report.envelope }, ..report }
    }

    fn like_clients(number: u32) -> Signature {
        let report = report(number, 443, 512);
        let evidence = SignatureEvidence { clients_like_it: 3, ..report.evidence };
        Signature { evidence, ..report }
    }

    fn given(changes: &[Change]) -> Option<&Hint> {
        match changes {
            [Change::Give(hint)] => Some(hint),
            _ => None,
        }
    }

    #[test]
    fn a_signature_is_a_hint_for_as_long_as_hosts_repeat_it() {
        let mut heard = Heard::default();
        let report = report(7, 443, 512);
        let changes = heard.take(START, &report).expect("taken");
        let hint = given(&changes).expect("given");
        assert_eq!((hint.reporters, hint.ttl.as_secs()), (1, 60));
        assert!(heard.expire(after(59)).is_empty());
        let forget = Change::Forget(443, report.evidence.id);
        assert_eq!(heard.expire(after(60)), vec![forget]);
        assert_eq!((heard.given(), heard.signatures.len()), (0, 0));
    }

    #[test]
    fn the_agent_has_a_hint_again_only_when_it_matters() {
        let mut heard = Heard::default();
        let mut given = 0;
        for second in 0..300 {
            let number = second as u32 % 3;
            let changes = heard.take(after(second), &report(7 + number, 443, 512)).expect("taken");
            given += changes.len();
            assert!(heard.expire(after(second)).is_empty());
        }
        // The first, the second host, and then every 15 s.
        assert!((20..=22).contains(&given), "{given} of 300");
    }

    #[test]
    fn hosts_of_one_site_count_once_where_there_are_several_sites() {
        let reporters = |own: Option<&str>, sites: &[&str]| {
            let mut heard = Heard::new(own.map(|site| site.parse().expect("a site")));
            for (number, site) in (7..).zip(sites) {
                heard.take(START, &of_site(number, site)).expect("taken");
            }
            heard.hints(START).map(|hint| hint.reporters).collect::<Vec<_>>()
        };
        assert_eq!(reporters(None, &["fra", "fra"]), [2], "there is one site");
        assert_eq!(reporters(Some("fra"), &["fra", "fra"]), [2]);
        assert_eq!(reporters(Some("ams"), &["fra", "fra"]), [1]);
        assert_eq!(reporters(Some("ams"), &["fra", "fra", "ams"]), [2]);
        assert_eq!(reporters(None, &["fra", "ams", "ams"]), [2]);
    }

    #[test]
    fn hosts_without_a_site_count_each_whatever_sites_others_name() {
        let mut heard = Heard::default();
        for number in 7..10 {
            heard.take(START, &report(number, 443, 512)).expect("taken");
        }
        for (number, site) in [(10, "fra"), (11, "ams")] {
            heard.take(START, &of_site(number, site)).expect("taken");
        }
        assert_eq!(heard.hints(START).map(|hint| hint.reporters).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_signature_of_clients_elsewhere_is_no_hint() {
        let mut heard = Heard::default();
        assert_eq!(heard.take(START, &like_clients(7)), Ok(vec![]));
        assert_eq!(heard.take(START, &report(8, 443, 512)), Ok(vec![]), "one against one");
        let changes = heard.take(START, &report(9, 443, 512)).expect("taken");
        assert_eq!(given(&changes).map(|hint| hint.reporters), Some(2));
        // Two hosts see clients now.
        let changes = heard.take(START, &like_clients(8)).expect("taken");
        assert!(matches!(changes[..], [Change::Forget(443, _)]), "{changes:?}");
    }

    #[test]
    fn one_host_takes_no_more_than_its_part() {
        let mut heard = Heard::default();
        for window in 0..MAX_OF_PEER as u16 {
            heard.take(START, &report(7, 443, window)).expect("taken");
        }
        let refused = heard.take(START, &report(7, 443, 999));
        assert_eq!(refused, Err(Reason::PeerSignatures));
        heard.take(START, &report(7, 443, 0)).expect("one that it has");
        heard.take(START, &report(8, 443, 999)).expect("another host's");
    }

    #[test]
    fn a_full_table_keeps_what_arrives_here_and_what_two_hosts_report() {
        let mut heard = Heard::default();
        let of = |number: u16| report(100 + u32::from(number), 443, number);
        for number in 0..MAX_AT_PORT as u16 {
            heard.take(after(number.into()), &of(number)).expect("taken");
        }
        heard.match_locally(443, of(0).evidence.id, 5);
        heard.take(after(64), &report(500, 443, 1)).expect("a second host");
        let changes = heard.take(after(65), &of(999)).expect("taken");
        let oldest = of(2).evidence.id;
        assert!(changes.contains(&Change::Forget(443, oldest)), "{changes:?}");
        assert_eq!(heard.signatures.len(), MAX_AT_PORT);
        heard.take(after(65), &report(600, 80, 1)).expect("another port has its own part");

        // All that is left is of value.
        let mut heard = Heard::default();
        for number in 0..MAX_AT_PORT as u16 {
            heard.take(START, &of(number)).expect("taken");
            heard.match_locally(443, of(number).evidence.id, 1);
        }
        assert_eq!(heard.take(START, &of(999)), Err(Reason::SignaturesFull));
    }

    #[test]
    fn memory_is_bounded_however_many_hosts_report() {
        let mut heard = Heard::default();
        for number in 0..10_000_u32 {
            let (port, window) = (number % 100 + 1, number / 100);
            let report = report(number, port as u16, window as u16);
            let _ = heard.take(START, &report);
        }
        assert_eq!(heard.signatures.len(), MAX_SIGNATURES);
        for number in 0..1000 {
            let _ = heard.take(START, &report(20_000 + number, 100, 99));
        }
        let most = heard.signatures.values().map(|entry| entry.reports.len()).max();
        assert_eq!(most, Some(MAX_REPORTERS));
    }

    #[test]
    fn a_signature_of_the_same_name_is_refused() {
        let mut heard = Heard::default();
        let report = report(7, 443, 512);
        heard.take(START, &report).expect("taken");
        let signature = SharedSignature { window: Some(513), ..report.evidence.signature.clone() };
        let evidence = SignatureEvidence { signature, ..report.evidence.clone() };
        let other = Signature { evidence, ..report };
        assert_eq!(heard.take(START, &other), Err(Reason::Mismatch));
    }

    #[test]
    fn ports_without_a_listener_are_dropped() {
        let mut heard = Heard::default();
        heard.take(START, &report(7, 443, 512)).expect("taken");
        heard.take(START, &report(7, 80, 512)).expect("taken");
        heard.keep_ports(&BTreeSet::from([443]));
        let changes = heard.expire(START);
        assert!(matches!(changes[..], [Change::Forget(80, _)]), "{changes:?}");
        assert_eq!(heard.hints(START).map(|hint| hint.port).collect::<Vec<_>>(), [443]);
    }

    #[test]
    fn only_a_report_that_says_as_much_counts() {
        let mut heard = Heard::default();
        heard.take(START, &report(7, 443, 512)).expect("taken");
        heard.take(after(5), &report(8, 443, 512)).expect("taken");
        heard.take(after(5), &like_clients(9)).expect("taken");
        let mut weak = report(10, 443, 512);
        weak.evidence.confidence = 0.25;
        heard.take(after(5), &weak).expect("taken");
        let own = evidence(443, 512);
        let hosts = |since| heard.same(&own, since).cloned().collect::<Vec<_>>();
        assert_eq!(hosts(START), [host(7), host(8)]);
        assert_eq!(hosts(after(5)), [host(8)]);
    }
}
