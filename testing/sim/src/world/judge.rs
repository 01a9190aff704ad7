//! Rules that the engine must keep whatever happens.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use tcpguard_engine::{
    IncidentReport, Limits, ListenerId, Matcher, Origin, Rule, RuleCounters, RuleId, RuleOrigin,
};

use super::World;

impl World {
    pub(super) fn check_automatic(&self, rule: &Rule) {
        if let Matcher::Source(net, ports) = rule.matcher {
            assert!(ports.is_every(), "only operators name ports");
            let touches = |p: &IpNet| p.contains(&net) || net.contains(p);
            assert!(!self.protected.iter().any(touches), "{net} is protected");
            assert!(!self.allowed.iter().any(|(p, _)| touches(p)), "{net} is allowed");
            assert!(net.prefix_len() >= 24, "an automatic rule against many networks: {net}");
            let clients: IpNet = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 16).into();
            assert!(!clients.contains(&net), "{net} is where clients are");
        }
    }

    /// Checks a rule of the fleet against the word of operators of this host.
    fn check_fleet(&self, rule: &Rule, operators: &BTreeSet<&IpNet>) {
        let Matcher::Source(net, _) = rule.matcher else { panic!("no rule on sources: {rule:?}") };
        let touches = |p: &IpNet| p.contains(&net) || net.contains(p);
        assert!(!rule.forced && net.prefix_len() >= Limits::MIN_PREFIX_V4, "{rule:?}");
        assert!(!self.protected.iter().any(touches), "{net} is protected");
        assert!(!self.allowed.iter().any(|(p, _)| touches(p)), "{net} is allowed");
        assert!(!operators.contains(&net), "an operator of this host said something else of {net}");
    }

    /// Checks that neither a signature rule nor a mitigation is in force.
    pub(super) fn check_held_back(&self) {
        let signature =
            |(rule, _): &&(Rule, RuleCounters)| matches!(rule.matcher, Matcher::Signature { .. });
        assert_eq!(self.rules.values().filter(signature).count(), 0, "{:?}", self.rules);
        assert!(self.mitigations.is_empty(), "{:?}", self.mitigations);
    }

    pub(super) fn check(&self) {
        let report = self.engine.report(self.now);
        let wanted: Vec<RuleId> = report.rules.iter().map(|rule| rule.id).collect();
        let alive = self.rules.values().filter(|(rule, _)| rule.expires > self.now);
        let kernel: Vec<RuleId> = alive.map(|(rule, _)| rule.id).collect();
        assert_eq!(wanted, kernel, "status and kernel agree");
        assert_eq!(self.installed - self.removed, self.rules.len() as u64);
        let operators: Vec<IpNet> = report
            .rules
            .iter()
            .filter(|rule| rule.origin == RuleOrigin::Operator)
            .map(|rule| rule.matches.parse().expect("a prefix"))
            .collect();
        let prefixes: BTreeSet<&IpNet> = operators.iter().collect();
        assert_eq!(prefixes.len(), operators.len(), "one word of operators a prefix");
        for (rule, _) in self.rules.values() {
            if matches!(rule.origin, Origin::Incident(_)) {
                self.check_automatic(rule);
            }
        }
        let of_fleet = |rule: &&Rule| matches!(rule.origin, Origin::Fleet(_));
        for rule in self.engine.rules(self.now).filter(of_fleet) {
            self.check_fleet(rule, &prefixes);
        }
        let of_host = |incident: &IncidentReport| incident.listener_id == ListenerId::HOST;
        let places: BTreeSet<(ListenerId, Option<&str>)> = report
            .incidents
            .iter()
            .map(|open| (open.listener_id, of_host(open).then(|| open.class.name())))
            .collect();
        assert_eq!(places.len(), report.incidents.len(), "one open incident a listener");
        assert!(report.past.len() <= Limits::PAST_INCIDENTS);
        for incident in report.incidents.iter().chain(&report.past) {
            assert!(incident.started <= incident.detected);
            assert!(incident.counts.dropped <= incident.counts.syns);
            let evidence = &incident.evidence;
            assert!(evidence.top_sources.len() <= 8 && evidence.signatures.len() <= 4);
            assert!(evidence.top_networks.len() <= 8 && evidence.ttls.len() <= 8);
            let record = &incident.record;
            assert!(record.rules.len() <= 16 && record.lines.len() <= 12, "{record:?}");
            assert!(record.lines.last().is_some_and(|line| line.holds), "{record:?}");
            assert_eq!(record.after.is_some(), incident.ended.is_some() && !of_host(incident));
            for share in [
                evidence.completion,
                evidence.singleton_share,
                evidence.top_source_share,
                evidence.top2_ttl_share,
            ] {
                assert!((0.0..=1.0 + 1e-9).contains(&share), "{incident:?}");
            }
        }
    }
}
