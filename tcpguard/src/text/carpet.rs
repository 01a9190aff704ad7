//! Incidents of one class at many listeners, shown as one: a page stays a page however many listeners an attack is
//! about. The document lists each.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tcpguard_engine::IncidentCounts;

use crate::documents::{Clients, Incident, Status};

/// Most incidents of a class that are shown one by one.
const APART: usize = 4;

/// The status with the incidents of a class as one, where they are many.
pub(super) fn together(status: &Status) -> Cow<'_, Status> {
    let incidents = &status.incidents;
    let of_class = |class| incidents.iter().filter(move |it| it.class == class);
    if incidents.iter().all(|one| of_class(one.class).count() <= APART) {
        return Cow::Borrowed(status);
    }
    let mut shown: Vec<Incident> = Vec::new();
    for incident in incidents {
        let all: Vec<&Incident> = of_class(incident.class).collect();
        match all.len() > APART {
            true if shown.iter().any(|one| one.class == incident.class) => {}
            true => shown.push(joined(&all)),
            false => shown.push(incident.clone()),
        }
    }
    Cow::Owned(Status { incidents: shown, ..status.clone() })
}

/// Incidents of one class as one: the one with the most SYNs, with the sums of all.
fn joined(all: &[&Incident]) -> Incident {
    let Some(largest) = all.iter().max_by(|a, b| a.syn_pps.total_cmp(&b.syn_pps)) else {
        unreachable!("a class has incidents")
    };
    let count = |number: fn(&Incident) -> u64| all.iter().map(|one| number(one)).sum();
    let rate = |number: fn(&Incident) -> f64| all.iter().map(|one| number(one)).sum::<f64>();
    let stopped = all.iter().filter_map(|one| Some(one.mitigated_ratio? * one.syn_pps));
    let (syn_pps, stopped) = (rate(|one| one.syn_pps), stopped.reduce(|sum, one| sum + one));
    let owned: Vec<Incident> = all.iter().map(|one| (*one).clone()).collect();
    let rules: BTreeSet<u32> = all.iter().flat_map(|one| one.rules.iter().copied()).collect();
    let baselines = all.iter().filter_map(|one| one.baseline_pps);
    Incident {
        id: all.iter().map(|one| one.id).min().unwrap_or(largest.id),
        severity: all.iter().map(|one| one.severity).max().unwrap_or(largest.severity),
        dst: [0; 4].into(),
        port: 0,
        since: all.iter().map(|one| one.since).min_by_key(|at| at.0).unwrap_or(largest.since),
        listeners: all.iter().map(|one| one.listeners.max(1)).sum(),
        syn_pps,
        // They had their peaks at different times, so the sum of these was never reached.
        peak_syn_pps: all.iter().map(|one| one.peak_syn_pps).fold(syn_pps, f64::max),
        baseline_pps: baselines.reduce(|sum, one| sum + one),
        counts: IncidentCounts {
            syns: count(|one| one.counts.syns),
            matched: count(|one| one.counts.matched),
            dropped: count(|one| one.counts.dropped),
            cookies_sent: count(|one| one.counts.cookies_sent),
            cookies_redeemed: count(|one| one.counts.cookies_redeemed),
            completed: count(|one| one.counts.completed),
        },
        clients: all.iter().any(|one| one.clients.is_some()).then(|| Clients::of_all(&owned, &[])),
        mitigated_ratio: stopped.map(|stopped| if syn_pps > 0.0 { stopped / syn_pps } else { 0.0 }),
        rules: rules.into_iter().collect(),
        held_back: largest.held_back.filter(|_| all.iter().all(|one| one.held_back.is_some())),
        advice: all.iter().find_map(|one| one.advice.clone()),
        ..(*largest).clone()
    }
}
