//! Incidents, and the evidence for their verdicts.

use tcpguard_engine as engine;
use tcpguard_engine::{IncidentReport, Report};
use tcpguard_host::time::Clock;

use super::super::narrative;
use super::super::*;
use super::{number, stopped_share, stops};

/// The document's form of an incident of `report`.
pub(in crate::documents) fn attack(
    incident: &IncidentReport,
    report: &Report,
    clock: Clock,
) -> Incident {
    let evidence = &incident.evidence;
    let listener = report.listeners.iter().find(|listener| listener.id == incident.listener_id);
    let enforced = report.mode == engine::Mode::Enforce && incident.ended.is_none();
    Incident {
        id: incident.id,
        class: incident.class.into(),
        severity: incident.severity.into(),
        dst: incident.listener.addr,
        port: incident.listener.port,
        since: clock.time_at(incident.started),
        detected_at: clock.time_at(incident.detected),
        ended_at: incident.ended.map(|at| clock.time_at(at)),
        summary: narrative::summary(incident),
        signal: incident.signal.clone(),
        confidence: number(incident.confidence),
        syn_pps: number(incident.syn_rate),
        peak_syn_pps: number(incident.peak_syn_rate),
        baseline_pps: baseline(incident),
        syns: incident.syns,
        matched: incident.matched,
        dropped: incident.dropped,
        cookies_sent: incident.cookies_sent,
        cookies_redeemed: incident.cookies_redeemed,
        completed: incident.completed,
        clients: match incident.ended {
            None => listener.map(|listener| Clients::build(&listener.completions)),
            Some(_) => Clients::over(incident),
        },
        mitigated_ratio: stopped_share(report, incident).filter(|_| enforced).map(number),
        sources_est: evidence.sources_estimate,
        evidence: self::evidence(evidence),
        actions: incident
            .actions
            .iter()
            .map(|action| Action { at: clock.time_at(action.at), action: action.action.clone() })
            .collect(),
        rules: incident.rules.iter().map(|id| id.0).collect(),
        advice: narrative::advice(incident, report.mode, stops(report, incident), clock.now),
    }
}

fn baseline(incident: &IncidentReport) -> Option<f64> {
    let at_alarm = incident.record.at_alarm.as_ref()?;
    // 0 means that the rate is not known.
    Some(at_alarm.statistics.baseline_syn_rate).filter(|rate| *rate > 0.0).map(number)
}

/// The document's form of the evidence for a verdict.
pub(crate) fn evidence(evidence: &engine::Evidence) -> Evidence {
    Evidence {
        failing_flows: evidence.failing_flows,
        completion: number(evidence.completion),
        syns_per_source: number(evidence.syns_per_source),
        singleton_share: number(evidence.singleton_share),
        top_source_share: number(evidence.top_source_share),
        top_sources: evidence
            .top_sources
            .iter()
            .map(|source| SourceShare { addr: source.addr, share: number(source.share) })
            .collect(),
        top_networks: evidence
            .top_networks
            .iter()
            .map(|network| NetworkShare {
                prefix: network.net.to_string(),
                share: number(network.share),
            })
            .collect(),
        k90_sources: evidence.k90_sources,
        k90_networks: evidence.k90_networks,
        distinct_slash8: evidence.distinct_slash8,
        signatures: evidence
            .signatures
            .iter()
            .map(|signature| SignatureShare {
                text: signature.text.clone(),
                mask: signature.mask.clone(),
                share: number(signature.share),
                completed: signature.completed,
                completion: number(signature.completion),
            })
            .collect(),
        top2_ttl_share: number(evidence.top2_ttl_share),
        ttls: evidence
            .ttls
            .iter()
            .map(|&(ttl, share)| TtlShare { ttl, share: number(share) })
            .collect(),
        retransmitted_share: evidence.retransmitted_share.map(number),
        half_open: evidence.half_open.map(|(now, _)| now),
        half_open_limit: evidence.half_open.map(|(_, limit)| limit),
        gate: evidence
            .gate
            .iter()
            .map(|item| Indicator {
                name: item.name.clone(),
                holds: item.holds,
                detail: item.detail.clone(),
            })
            .collect(),
    }
}
