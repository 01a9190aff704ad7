//! Rules against one source or a few.
//!
//! A SYN proves nothing about its source, however many there are: any host can send SYNs with the address of
//! a client. So a source is not dropped while the host can reply, with cookies or from its queue. A rule is
//! for the time in which the host cannot reply, and it is reviewed for as long as it stands. It serves the
//! other clients: where there are none, a rule would only keep out the one source that comes.
//!
//! Retransmission of its SYNs does not speak for a source that sends much of the flood: an attacker can send
//! each SYN twice, as a client does. A completed handshake speaks for it.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::residual::RESIDUAL_SHARE;
use super::{Grounds, matters};
use crate::evidence::{
    Cohort, Culprit, INDICATORS_DROP, IncidentClass, SINGLE_SOURCE_SHARE, SOURCE_FLOWS, StoppedBy,
    culprits,
};
use crate::incident::{Event, Incident, RuleObstacle, Target};
use crate::input::{Matcher, Ports, RuleReason, constants, share};
use crate::rules::RemovalReason;

constants! {
    /// Rules against sources that an incident may have at most.
    pub const SOURCES_PER_INCIDENT: usize = 64 Count in 1..=1024,
        "As FEW_SOURCES, so that each of so few can have one.";
}

/// Withdraws the request for rules against sources whose reasons no longer hold. Neither retransmitted SYNs
/// nor a completed handshake from such a source ends a rule: a client there gets in with its first
/// retransmission, and an attacker could do either at will.
pub(super) fn review(incident: &mut Incident, grounds: &Grounds<'_>) {
    let concentrated = incident.class().facts().stopped_by == StoppedBy::Sources;
    for wanted in incident.wanted().to_vec() {
        let Matcher::Source(net, _) = wanted.matcher else { continue };
        if !concentrated {
            incident.forget(&wanted.matcher, RemovalReason::ManySources);
        } else if weight_from(grounds.cohort, &net) < SOURCE_FLOWS / 2 {
            incident.forget(&wanted.matcher, RemovalReason::SourceCeased);
        }
    }
}

/// Asks for rules where the host cannot reply to SYNs that nothing else covers: against the source that
/// dominates, each of few sources, or the networks that they fill.
pub(super) fn consider(incident: &mut Incident, grounds: &Grounds<'_>) {
    if grounds.source_forbidden || grounds.assessment.gate < INDICATORS_DROP {
        return;
    }
    let uncovered = grounds.cohort.without(|flow| incident.covers(flow));
    if !matters(&uncovered, grounds) {
        return;
    }
    let culprits = match incident.class() {
        IncidentClass::SingleSource => top(grounds).into_iter().collect(),
        _ => culprits(&uncovered),
    };
    let alone = grounds.unanswerable && are_alone(&culprits, grounds);
    for culprit in &culprits {
        if incident.wants(&Matcher::Source(culprit.net, Ports::EVERY)) {
            continue;
        }
        // A source that shares a network with a client must not be blocked with that network. A rule for its
        // own address is allowed.
        let nets = match objection(culprit, grounds) {
            None => vec![(culprit.net, culprit.share)],
            Some(_) if !culprit.members.is_empty() => harmful(&culprit.members, grounds),
            Some(objection) => {
                let net = culprit.net;
                let target = Some(Target::Source { net, ports: Ports::EVERY });
                incident.note(grounds.now, Event::RuleDeclined { target, why: objection });
                Vec::new()
            }
        };
        for (net, share) in nets {
            let matcher = Matcher::Source(net, Ports::EVERY);
            if incident.wants(&matcher) || incident.has_refused(grounds.now, &matcher) {
                continue;
            }
            if !grounds.unanswerable && !grounds.inherited.contains(&matcher) {
                return decline(incident, RuleObstacle::Answered, grounds);
            }
            if alone {
                return decline(incident, RuleObstacle::Alone, grounds);
            }
            let made =
                incident.wanted().iter().filter(|w| matches!(w.matcher, Matcher::Source(..)));
            if made.count() >= SOURCES_PER_INCIDENT {
                let limit = SOURCES_PER_INCIDENT as u64;
                return decline(incident, RuleObstacle::SourceLimit { limit }, grounds);
            }
            want(incident, net, share, grounds);
        }
    }
}

/// Notes that no further source gets a rule.
fn decline(incident: &mut Incident, why: RuleObstacle, grounds: &Grounds<'_>) {
    incident.note(grounds.now, Event::RuleDeclined { target: None, why });
}

/// The source that dominates now, whatever source the reported class was based on.
fn top(grounds: &Grounds<'_>) -> Option<Culprit> {
    let assessment = grounds.assessment;
    if assessment.top_source_excess < SINGLE_SOURCE_SHARE {
        return None;
    }
    Some(Culprit {
        net: assessment.top_source?,
        share: assessment.evidence.top_source_share,
        retransmitted: assessment.top_source_retransmitted,
        members: Vec::new(),
    })
}

/// Returns whether only the culprits come: no other handshake fails or has completed here, and the host knows no
/// client.
fn are_alone(culprits: &[Culprit], grounds: &Grounds<'_>) -> bool {
    let among = |addr: &IpAddr| culprits.iter().any(|culprit| culprit.net.contains(addr));
    let everywhere = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
    grounds.clients.completions() == 0
        && grounds.cohort.completed.is_empty()
        && grounds.cohort.failing.iter().all(|flow| among(&flow.addr))
        && !everywhere.iter().any(|net| grounds.validated.completed_within(net))
}

/// Returns the number of flows for which the failed ones from a network stand.
fn weight_from(cohort: &Cohort, net: &IpNet) -> u64 {
    let from_there = cohort.failing.iter().filter(|flow| net.contains(&flow.addr));
    from_there.map(|flow| flow.weight).sum()
}

/// Returns the members of a network that may be blocked, with their shares.
fn harmful(members: &[Culprit], grounds: &Grounds<'_>) -> Vec<(IpNet, f64)> {
    let harmful = members.iter().filter(|member| objection(member, grounds).is_none());
    harmful.map(|member| (member.net, member.share)).collect()
}

fn want(incident: &mut Incident, net: IpNet, part: f64, grounds: &Grounds<'_>) {
    let ttl = grounds.recurrence.ttl(grounds.now, &net, grounds.settings);
    let reason = RuleReason::Source { share: share(part) };
    incident.want(Matcher::Source(net, Ports::EVERY), reason, ttl);
}

fn objection(culprit: &Culprit, grounds: &Grounds<'_>) -> Option<RuleObstacle> {
    let net = &culprit.net;
    if let Some((_, what)) = grounds.exempt.touched_by(net) {
        return Some(RuleObstacle::Exempt { what });
    }
    // Clients that the flood keeps out retransmit their SYNs too, but they send few of the SYNs of failed handshakes.
    if culprit.retransmitted && culprit.share < RESIDUAL_SHARE {
        return Some(RuleObstacle::Retransmitted);
    }
    let clients = grounds.cohort.completed_within(net) || grounds.validated.completed_within(net);
    clients.then_some(RuleObstacle::ClientsBehind)
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Fingerprint;

    use super::*;
    use crate::evidence::{Assessment, Evidence, Failing, Hints, VerdictLine};
    use crate::input::{ListenerId, Timestamp, ValidatedClients};
    use crate::listener::Clients;
    use crate::rules::{Exempt, Recurrence};
    use crate::settings::Settings;

    /// No client is known but this one.
    struct Known(IpNet);

    impl ValidatedClients for Known {
        fn completed_within(&self, net: &IpNet) -> bool {
            net.contains(&self.0)
        }
    }

    /// A client that only the host knows.
    struct OneValidatedClient;

    impl ValidatedClients for OneValidatedClient {
        fn completed_within(&self, net: &IpNet) -> bool {
            net.contains(&IpAddr::from([192, 0, 2, 1]))
        }
    }

    struct NoValidatedClients;

    impl ValidatedClients for NoValidatedClients {
        fn completed_within(&self, _net: &IpNet) -> bool {
            false
        }
    }

    fn on<T>(
        cohort: &Cohort,
        validated: &dyn ValidatedClients,
        ask: impl FnOnce(&Grounds<'_>) -> T,
    ) -> T {
        let line = VerdictLine::earlier(IncidentClass::FewSource);
        let assessment = Assessment::of_counters(line, Evidence::default());
        let grounds = Grounds {
            now: Timestamp::default(),
            listener: ListenerId(0),
            port: 443,
            cohort,
            assessment: &assessment,
            clients: &Clients::default(),
            validated,
            exempt: &Exempt::default(),
            unsure: false,
            held_back: None,
            recurrence: &Recurrence::default(),
            inherited: &[],
            source_forbidden: false,
            signature_forbidden: false,
            unanswering: true,
            unanswerable: true,
            hints: &Hints::default(),
            remembered: &[],
            settings: &Settings::default(),
        };
        ask(&grounds)
    }

    fn objects(culprit: &Culprit) -> bool {
        let validated = Known("198.51.100.9/32".parse().expect("prefix"));
        on(&Cohort::default(), &validated, |grounds| objection(culprit, grounds).is_some())
    }

    #[test]
    fn a_rule_is_for_the_others() {
        let net = "198.51.100.0/24".parse().expect("prefix");
        let culprits = [Culprit { net, share: 0.9, retransmitted: true, members: Vec::new() }];
        let from = |host: u8| Failing::once([198, 51, host, 7].into());
        let cohort =
            |failing: &[Failing]| Cohort { failing: failing.to_vec(), ..Cohort::default() };
        let alone = |cohort: &Cohort, validated: &dyn ValidatedClients| {
            on(cohort, validated, |grounds| are_alone(&culprits, grounds))
        };
        let flood = cohort(&[from(100); 40]);
        assert!(alone(&flood, &NoValidatedClients));
        assert!(!alone(&flood, &OneValidatedClient), "of another listener");
        let one_more = cohort(&[[from(100); 40].as_slice(), &[from(101)]].concat());
        assert!(!alone(&one_more, &NoValidatedClients));
        let completed = vec![([192, 0, 2, 1].into(), Fingerprint::default(), 1)];
        assert!(!alone(&Cohort { completed, ..flood }, &NoValidatedClients));
    }

    #[test]
    fn retransmissions_excuse_only_a_source_that_sends_little_and_a_validated_client_any() {
        for (net, share, retransmitted, expected) in [
            ("198.51.100.7/32", 0.9, false, false),
            ("198.51.100.7/32", 0.9, true, false),
            ("198.51.100.7/32", 0.05, true, false),
            ("198.51.100.7/32", 0.04, true, true),
            ("198.51.100.7/32", 0.04, false, false),
            ("198.51.100.9/32", 0.9, false, true),
            ("198.51.100.0/24", 0.9, true, true),
        ] {
            let net = net.parse().expect("prefix");
            let culprit = Culprit { net, share, retransmitted, members: Vec::new() };
            assert_eq!(objects(&culprit), expected, "{culprit:?}");
        }
    }
}
