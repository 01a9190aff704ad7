//! Rules against real sources: one, or few.

use ipnet::IpNet;

use super::{Grounds, REPEATED};
use crate::evidence::{Culprit, culprits};
use crate::incident::Incident;
use crate::words::percent;
use crate::{Matcher, Ports};

/// A rule against the source that dominates, unless clients stand behind it. Whether the source is
/// dealt with.
pub(super) fn consider_top(incident: &mut Incident, grounds: &Grounds<'_>) -> bool {
    if grounds.source_forbidden {
        return false;
    }
    let Some(net) = grounds.assessment.top_source else { return false };
    let matcher = Matcher::Source(net, Ports::EVERY);
    if grounds.assessment.top_source_repeated && incident.wants(&matcher) {
        // Dropping its SYNs would keep it from ever showing that it can complete a handshake.
        incident.refuse(&matcher, REPEATED);
    }
    if incident.wants(&matcher) {
        return true;
    }
    if incident.has_refused(grounds.now, &matcher)
        || grounds.assessment.gate < grounds.settings.gate_drop
    {
        return false;
    }
    let repeated = grounds.assessment.top_source_repeated;
    if let Some(objection) = objection(&net, repeated, grounds) {
        incident.note(grounds.now, format!("no rule against {net}: {objection}"));
        return false;
    }
    let share = grounds.assessment.evidence.top_source_share;
    want(incident, net, share, grounds);
    true
}

/// Rules against each of few sources, or the networks that they fill. Whether those in the kernel
/// deal with the flood.
pub(super) fn consider_few(incident: &mut Incident, grounds: &Grounds<'_>) -> bool {
    if grounds.source_forbidden {
        return false;
    }
    let settings = grounds.settings;
    let uncovered = grounds.cohort.without(|flow| incident.covers(flow));
    let culprits = culprits(&uncovered, settings);
    let mut left = false;
    for culprit in &culprits {
        let matcher = Matcher::Source(culprit.net, Ports::EVERY);
        let blocked = incident.wanted().iter().filter(|w| matches!(w.matcher, Matcher::Source(..)));
        if blocked.count() >= settings.sources_per_incident {
            incident.note(
                grounds.now,
                format!("no more source rules: {} are made", settings.sources_per_incident),
            );
            return false;
        }
        if incident.has_refused(grounds.now, &matcher)
            || grounds.assessment.gate < settings.gate_drop
        {
            left = true;
            continue;
        }
        // Who shares a network with a client must not be blocked with it; each for itself may be.
        let nets = match objection(&culprit.net, culprit.repeated, grounds) {
            None => vec![culprit.net],
            Some(_) if !culprit.members.is_empty() => harmful(&culprit.members, grounds),
            Some(objection) => {
                incident.note(grounds.now, format!("no rule against {}: {objection}", culprit.net));
                Vec::new()
            }
        };
        left |= nets.is_empty();
        for net in nets {
            if !incident.wants(&Matcher::Source(net, Ports::EVERY)) {
                want(incident, net, culprit.share, grounds);
            }
        }
    }
    !left && !incident.wanted().is_empty()
}

/// Those of a network's members that may be blocked.
fn harmful(members: &[Culprit], grounds: &Grounds<'_>) -> Vec<IpNet> {
    let harmless = |member: &&Culprit| objection(&member.net, member.repeated, grounds).is_none();
    members.iter().filter(harmless).map(|member| member.net).collect()
}

fn want(incident: &mut Incident, net: IpNet, share: f64, grounds: &Grounds<'_>) {
    let ttl = grounds.recurrence.ttl(grounds.now, &net, grounds.settings);
    let reason = format!("{} of the failing SYNs come from it", percent(share));
    incident.want(Matcher::Source(net, Ports::EVERY), reason, ttl);
}

fn objection(net: &IpNet, repeated: bool, grounds: &Grounds<'_>) -> Option<String> {
    if let Some((_, what)) = grounds.exempt.touched_by(net) {
        return Some(format!("it is protected ({what})"));
    }
    if repeated {
        return Some(REPEATED.to_owned());
    }
    let clients = grounds.cohort.completed_within(net) || grounds.known.completed_within(net);
    clients.then(|| "clients behind the same address complete handshakes".to_owned())
}
