//! Incidents, and the evidence for their verdicts.

use tcpguard_engine as engine;
use tcpguard_engine::{
    HeldBack, IncidentClass, IncidentReport, MapTime as _, MitigationReason, MitigationState,
    Report, RestraintReason,
};
use tcpguard_host::obstacle::{Impeded, Obstacle};
use tcpguard_host::time::Clock;

use super::super::*;
use super::about::About;
use super::{number, stopped_share, stops};

/// The document's form of an incident of `report`.
pub(in crate::documents) fn incident(
    incident: &IncidentReport,
    report: &Report,
    clock: Clock,
) -> Incident {
    let enforced = report.mode == engine::Mode::Enforce && incident.ended.is_none();
    Incident {
        id: incident.id,
        class: incident.class,
        severity: incident.severity,
        dst: incident.listener.addr,
        port: incident.listener.port,
        since: clock.time_at(incident.started),
        detected_at: clock.time_at(incident.detected),
        ended_at: incident.ended.map(|at| clock.time_at(at)),
        quiet: incident.quiet.map_time(&|at| clock.time_at(at)),
        listeners: incident.listeners,
        signal: incident.signal,
        syn_pps: number(incident.syn_rate),
        peak_syn_pps: number(incident.peak_syn_rate),
        baseline_pps: baseline(incident),
        counts: incident.counts,
        clients: match incident.ended {
            None => About::of(report, incident).completions().as_ref().map(Clients::build),
            Some(_) => Clients::over(incident),
        },
        mitigated_ratio: stopped_share(report, incident).filter(|_| enforced).map(number),
        held_back: keeps_own_mode(incident).filter(|_| incident.ended.is_none()),
        evidence: incident.evidence.clone(),
        actions: incident.actions.clone().map_time(&|at| clock.time_at(at)),
        rules: incident.rules.iter().map(|id| id.0).collect(),
        advice: advice(incident, report, clock),
        of_capture: false,
        was_stopped: false,
    }
}

fn baseline(incident: &IncidentReport) -> Option<f64> {
    let at_alarm = incident.record.at_alarm.as_ref()?;
    // 0 means that the rate is not known. That of several listeners is that of the first.
    let is_known = |rate: &f64| *rate > 0.0 && incident.listeners <= 1;
    Some(at_alarm.statistics.baseline_syn_rate).filter(is_known).map(number)
}

/// Advice for the operator about an open incident.
fn advice(incident: &IncidentReport, report: &Report, clock: Clock) -> Option<Advice> {
    let advice = |action, command: Option<&str>| {
        Some(Advice { action, command: command.map(str::to_owned) })
    };
    let enforces = report.mode == engine::Mode::Enforce;
    let removed = incident.record.removed.as_ref().filter(|_| enforces);
    match (incident.class, removed) {
        _ if incident.ended.is_some() || incident.quiet.is_some() => None,
        (IncidentClass::HandshakeDegraded, _) => advice(Advised::CheckPath, None),
        (IncidentClass::FlashCrowd, _) => advice(Advised::AddCapacity, None),
        (IncidentClass::ListenerOverload, _) => {
            advice(Advised::CheckApplication, Some("tcpguard listeners"))
        }
        (IncidentClass::Scan, _) => {
            let scanner = incident.evidence.top_sources.first();
            match scanner.map(|top| top.addr) {
                Some(own) if is_this_host(own) => Some(Advice::to_find_scanner()),
                Some(other) => {
                    let command = format!("tcpguard block {other}");
                    advice(Advised::BlockScanner, Some(&command))
                }
                None => advice(Advised::BlockScanner, None),
            }
        }
        (IncidentClass::Reflection, _) => advice(Advised::AskProvider, None),
        (class, _) if !class.is_flood() => None,
        (_, Some(removed)) => {
            let until = clock.time_at(removed.until);
            // Mitigations are ordered for one listener.
            let at_once = (incident.listener != engine::Listener::HOST).then(|| {
                let (listener, mitigation) = (incident.listener, removed.mitigation.name());
                format!("tcpguard mitigation {listener} {mitigation} auto")
            });
            advice(Advised::RestoreRule { rule: removed.id.0, until }, at_once.as_deref())
        }
        _ if !enforces => advice(Advised::Enforce, Some(Advised::TRY_ENFORCE)),
        _ if stops(report, incident) => None,
        (IncidentClass::Evasion, _) => advice(Advised::DropUnreadable, Some("tcpguard reload")),
        (IncidentClass::ClosedPorts, _) => advice(Advised::FilterClosedPorts, None),
        _ => Some(unstopped(incident, report)),
    }
}

/// Advice about a flood of which most SYNs reach the stack: the remedy of what keeps the agent from more.
fn unstopped(incident: &IncidentReport, report: &Report) -> Advice {
    let restraint = incident.record.no_mitigation.as_ref().map(|restraint| &restraint.reason);
    if keeps_own_mode(incident).is_some() {
        return Advice::against(&format!(
            "set mode = \"enforce\" in the [[listener]] block of {}, then: tcpguard reload",
            incident.listener
        ));
    }
    let about = About::of(report, incident);
    let refused = about.mitigations().filter(|it| it.state == MitigationState::Refused);
    let remedy = refused.filter_map(|it| match &it.why {
        MitigationReason::Failed { remedy, .. } => remedy.as_deref(),
        _ => None,
    });
    if let Some(remedy) = remedy.into_iter().next() {
        return Advice::against(remedy);
    }
    let forbidden =
        |it: &&engine::MitigationReport| matches!(it.why, MitigationReason::Forbidden { .. });
    if let Some(forbidden) = about.mitigations().find(forbidden) {
        let (listener, name) = (incident.listener, forbidden.mitigation.name());
        return Advice::against(&format!("tcpguard mitigation {listener} {name} auto"));
    }
    match restraint {
        Some(RestraintReason::HeldBack { by: HeldBack::AcceptQueueFull }) => Advice {
            action: Advised::CheckApplication,
            command: Some("tcpguard listeners".to_owned()),
        },
        _ if about.is_forwarded() => Advice::against(&Obstacle::NotLocal.remedy()),
        _ => Advice {
            action: Advised::RaiseBacklog,
            command: Some("tcpguard status --listeners".to_owned()),
        },
    }
}

/// Returns the mode of its listener that keeps the agent from rules and mitigations, whatever obstacles there are.
fn keeps_own_mode(incident: &IncidentReport) -> Option<HeldBack> {
    match incident.record.no_mitigation.as_ref()?.reason {
        RestraintReason::HeldBack {
            by: by @ (HeldBack::ListenerOff | HeldBack::ListenerObserves),
        } => Some(by),
        _ => None,
    }
}

/// Advice about an unstopped flood, where an obstacle to cookies at its listener is known that the engine does not know.
pub(super) fn known_obstacle(
    incident: &IncidentReport,
    report: &Report,
    obstacles: &[Impeded<engine::Listener>],
) -> Option<Advice> {
    if keeps_own_mode(incident).is_some() {
        return None;
    }
    let attacked = |at: &engine::Listener| match incident.listener {
        engine::Listener::HOST => report
            .listeners
            .iter()
            .any(|one| one.listener == *at && one.state == engine::ListenerState::Attacked),
        listener => listener == *at,
    };
    let forbidding = obstacles.iter().filter(|one| one.obstacle.forbids());
    let known = forbidding.filter(|one| one.at.iter().any(attacked)).map(|one| &one.obstacle);
    known.map(|obstacle| Advice::against(&obstacle.remedy())).next()
}
