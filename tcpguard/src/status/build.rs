//! From what the engine knows and what the agent measured to the document.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_common::abi::{self, PacketCounters, Reason};
use tcpguard_engine as engine;
use tcpguard_engine::{Egress, IncidentClass, IncidentReport, ListenerReport, Report, RuleReport};

use super::narrative;
use super::*;

/// Most alerts listed.
const ALERTS_LISTED: usize = 20;
/// Most closed incidents listed.
const PAST_LISTED: usize = 16;
/// Most listeners named in one line.
const NAMED: usize = 4;
/// Without a sign of life for this long the kernel is about to stop trusting the agent: half of
/// the heartbeat limit after which rules stop to drop.
const HEARTBEAT_LATE: Duration = Duration::from_secs(3);

impl Status {
    /// The document for what is known now.
    pub fn build(report: &Report, facts: &Facts) -> Self {
        let clock = facts.clock;
        let health = health(facts, report);
        let listed = facts.alerts.len().saturating_sub(ALERTS_LISTED);
        Self {
            schema: SCHEMA.to_owned(),
            generated_at: Time(clock.wall),
            interval_ms: facts.interval.as_millis() as u64,
            daemon: daemon(report, facts, state(report, &health)),
            health,
            attacks: report
                .incidents
                .iter()
                .map(|incident| attack(incident, report, clock))
                .collect(),
            past_attacks: report
                .past
                .iter()
                .map(|incident| attack(incident, report, clock))
                .chain(facts.earlier.iter().cloned())
                .take(PAST_LISTED)
                .collect(),
            interfaces: facts.interfaces.iter().map(interface).collect(),
            listeners: report.listeners.iter().map(|one| Listener::build(one, clock)).collect(),
            cookies: cookies(report, facts),
            kernel: kernel(&facts.tcp_ext),
            rules: rules(report, facts),
            maps: facts.maps.iter().map(map).collect(),
            sampling: Sampling {
                shift: report.sample_shift,
                one_in: 1 << report.sample_shift.min(63),
            },
            sources: facts.sources.iter().map(source).collect(),
            alerts_24h: count_alerts(&facts.alerts),
            alerts: facts.alerts[listed..].to_vec(),
        }
    }
}

impl Rule {
    /// The document's form of a rule.
    pub fn build(rule: &RuleReport, clock: Clock) -> Self {
        Self {
            id: rule.id.0,
            kind: rule.kind.clone(),
            matches: rule.matches.clone(),
            origin: rule.origin.clone(),
            attack: rule.incident,
            reason: rule.reason.clone(),
            created_at: clock.time_at(rule.created),
            expires_at: clock.time_at(rule.expires),
            // Rounded up: what was asked for an hour ends in an hour, not in 59m 59s.
            expires_in_s: rule.expires.since(clock.now).as_millis().div_ceil(1000) as u64,
            hits: rule.hits,
            returned: rule.returned,
        }
    }
}

/// A number as it is printed: six decimals are more than is known, and JSON has no way to write
/// what is not finite.
pub(super) fn number(value: f64) -> f64 {
    if value.is_finite() { (value * 1e6).round() / 1e6 } else { 0.0 }
}

/// The whole situation in one word; the operator's worst news first.
fn state(report: &Report, health: &[Health]) -> State {
    let is_attack = |incident: &&IncidentReport| incident.class.is_flood();
    let mut attacks = report.incidents.iter().filter(is_attack).peekable();
    let attacked = attacks.peek().is_some();
    let stopped =
        report.mode == engine::Mode::Enforce && attacks.all(|attack| stops(report, attack));
    let broken = health.iter().any(|finding| finding.severity == Severity::Critical);
    let suspect =
        report.listeners.iter().any(|listener| listener.state != engine::ListenerState::Ok);
    match report.mode {
        engine::Mode::Off => State::Off,
        _ if attacked && !stopped => State::AttackUnmitigated,
        _ if broken => State::Degraded,
        _ if attacked => State::AttackMitigated,
        _ if suspect || !report.incidents.is_empty() => State::Elevated,
        engine::Mode::Observe => State::Observing,
        engine::Mode::Enforce => State::Protecting,
    }
}

/// Whether rules or steps act against an attack.
fn stops(report: &Report, attack: &IncidentReport) -> bool {
    let at = report.listeners.iter().find(|listener| listener.id == attack.listener_id);
    let protected = |at: &ListenerReport| at.state == engine::ListenerState::Protected;
    !attack.rules.is_empty() || at.is_some_and(protected)
}

fn cookies(report: &Report, facts: &Facts) -> Cookies {
    let all = |count: fn(&engine::ListenerCounters) -> u64| {
        report.listeners.iter().map(|listener| count(&listener.counters)).sum()
    };
    let CookieFacts { backend, reason, invalid, validated_clients } = facts.cookies.clone();
    Cookies {
        backend,
        reason,
        sent: all(|counters| counters.cookies_sent),
        valid: all(|counters| counters.cookies_redeemed),
        invalid,
        validated_clients,
    }
}

fn daemon(report: &Report, facts: &Facts, state: State) -> Daemon {
    Daemon {
        version: facts.version.clone(),
        pid: facts.pid,
        hostname: facts.hostname.clone(),
        uptime_s: facts.clock.now.since(facts.started).as_secs(),
        mode: report.mode.into(),
        mode_ends: facts.mode_ends.clone(),
        state,
        config: ConfigState {
            path: facts.config.path.as_ref().map(|path| path.display().to_string()),
            loaded_at: facts.clock.time_at(facts.config.loaded),
            valid: facts.config.error.is_none(),
            error: facts.config.error.clone(),
        },
        watchdog_age_ms: facts.heartbeat.map(|at| facts.clock.now.since(at).as_millis() as u64),
    }
}

fn health(facts: &Facts, report: &Report) -> Vec<Health> {
    let mut found = facts.health.clone();
    let mut add = |severity, code: &str, subject: Option<&str>, text: String, hint: &str| {
        found.push(Health {
            code: code.to_owned(),
            severity,
            subject: subject.map(str::to_owned),
            text,
            hint: hint.to_owned(),
        });
    };
    for interface in &facts.interfaces {
        let name = &interface.name;
        if !interface.attached {
            let text = format!("{name} is not protected: the filter is not attached to it");
            add(Severity::Critical, "detached", Some(name), text, "systemctl restart tcpguard");
        } else if interface.mode == AttachMode::Generic {
            let text = format!("{name} runs in generic mode: expect lower capacity");
            let hint = "use a driver with native XDP, or accept it with xdp_mode = \"generic\"";
            add(Severity::Warning, "xdp_generic", Some(name), text, hint);
        }
    }
    if let (Some(_), Some(in_kernel)) = (facts.drift_since, facts.rules_in_kernel) {
        let text = format!("rules wanted: {}, in the kernel: {in_kernel}", report.rules.len());
        add(Severity::Critical, "rule_drift", None, text, "systemctl restart tcpguard");
    }
    if let Some(age) = facts.heartbeat.map(|at| facts.clock.now.since(at))
        && age > HEARTBEAT_LATE
    {
        let text = format!(
            "the agent is late: its last sign of life is {} old",
            crate::render::number::span(age)
        );
        add(Severity::Critical, "agent_late", None, text, "look for CPU starvation: top");
    }
    if let Some(error) = &facts.config.error {
        let text = format!("the configuration was refused, the one before holds: {error}");
        add(Severity::Warning, "config_refused", None, text, "tcpguard config check");
    }
    if let Some((text, hint)) = unseen_answers(report, facts) {
        add(Severity::Warning, "egress_unseen", None, text, hint);
    }
    if report.listeners.len() >= abi::maps::MAX_LISTENERS as usize {
        let text = format!("{} listeners are followed, more are not", report.listeners.len());
        let hint = "leave out ports with [listeners] ignore_ports";
        add(Severity::Warning, "listeners_full", None, text, hint);
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// Says of which listeners no answer is seen, and what to do about it. Without the tracepoint nothing
/// is known of their handshakes.
fn unseen_answers(report: &Report, facts: &Facts) -> Option<(String, &'static str)> {
    let unseen = report.listeners.iter().filter(|one| one.egress == Egress::Unseen);
    let mut names: Vec<String> = unseen.map(|one| one.listener.to_string()).collect();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    if names.is_empty() {
        return None;
    }
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let blind = facts.health.iter().any(|finding| finding.code == "no_tracepoint");
    let so = if blind {
        "completions are unknown, and floods show only where a full queue drops SYNs"
    } else {
        "verdicts are less sure, and rules are only advised"
    };
    let names = names.join(", ");
    let text = format!("answers leave by an interface that is not guarded: {names}{more}; {so}");
    Some((text, "name it under [interfaces]: ip route shows which it is"))
}

/// The document's form of an incident of `report`.
pub(super) fn attack(incident: &IncidentReport, report: &Report, clock: Clock) -> Attack {
    let evidence = &incident.evidence;
    let listener = report.listeners.iter().find(|listener| listener.id == incident.listener_id);
    let enforced = report.mode == engine::Mode::Enforce && incident.ended.is_none();
    Attack {
        id: incident.id,
        kind: incident.class.into(),
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
        syns: incident.syns,
        matched: incident.matched,
        dropped: incident.dropped,
        cookies_sent: incident.cookies_sent,
        cookies_redeemed: incident.cookies_redeemed,
        completed: incident.completed,
        mitigated_ratio: listener.filter(|listener| enforced && listener.syn_rate > 0.0).map(
            |listener| {
                let stopped = listener.dropped_rate + listener.cookie_rate;
                number((stopped / listener.syn_rate).min(1.0))
            },
        ),
        sources_est: evidence.sources_estimate,
        evidence: self::evidence(evidence),
        actions: incident
            .actions
            .iter()
            .map(|action| Action { at: clock.time_at(action.at), text: action.text.clone() })
            .collect(),
        rules: incident.rules.iter().map(|id| id.0).collect(),
        advice: narrative::advice(incident, report.mode, stops(report, incident)),
    }
}

/// The document's form of what a verdict rests on.
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
            .map(|item| GateItem {
                name: item.name.clone(),
                holds: item.holds,
                detail: item.detail.clone(),
            })
            .collect(),
    }
}

fn interface(interface: &InterfaceFacts) -> Interface {
    let packets = &interface.packets;
    let rate = |counter: fn(&PacketCounters) -> u64| packets.rate(counter).map(number);
    let rates = match (rate(|c| c.entry), rate(syns), rate(passed), rate(dropped)) {
        (Some(rx_pps), Some(syn_pps), Some(pass_pps), Some(drop_pps)) => {
            Some(InterfaceRates { rx_pps, syn_pps, pass_pps, drop_pps })
        }
        _ => None,
    };
    Interface {
        name: interface.name.clone(),
        ifindex: interface.ifindex,
        hook: interface.hook,
        mode: interface.mode,
        link_id: interface.link_id,
        pinned: interface.pinned,
        attached: interface.attached,
        rates,
        totals: totals(&packets.now),
    }
}

fn syns(counters: &PacketCounters) -> u64 {
    counters.classes[abi::Class::Syn as usize]
}

fn passed(counters: &PacketCounters) -> u64 {
    sum(counters, abi::Action::Pass)
}

fn dropped(counters: &PacketCounters) -> u64 {
    sum(counters, abi::Action::Drop)
}

fn answered(counters: &PacketCounters) -> u64 {
    sum(counters, abi::Action::Answer)
}

fn sum(counters: &PacketCounters, action: abi::Action) -> u64 {
    let with_it = Reason::ALL.iter().filter(|reason| reason.action() == action);
    with_it.map(|reason| counters.reasons[*reason as usize]).sum()
}

fn totals(counters: &PacketCounters) -> InterfaceTotals {
    let by_reason = |action| -> BTreeMap<String, u64> {
        Reason::ALL
            .iter()
            .filter(|reason| reason.action() == action)
            .map(|reason| (reason.name().to_owned(), counters.reasons[*reason as usize]))
            .filter(|(_, packets)| *packets > 0)
            .collect()
    };
    let (pass, drop_total) = (passed(counters), dropped(counters));
    let answered = answered(counters);
    InterfaceTotals {
        rx_packets: counters.entry,
        rx_bytes: counters.bytes,
        syn: syns(counters),
        pass,
        pass_reasons: by_reason(abi::Action::Pass),
        drop_total,
        drop: by_reason(abi::Action::Drop),
        answered,
        unaccounted: counters.entry.saturating_sub(pass + drop_total + answered),
        classes: abi::Class::ALL
            .iter()
            .map(|class| (class.name().to_owned(), counters.classes[*class as usize]))
            .filter(|(_, segments)| *segments > 0)
            .collect(),
    }
}

fn kernel(tcp_ext: &Reading<engine::TcpExt>) -> Kernel {
    let rate = |counter: fn(&engine::TcpExt) -> u64| tcp_ext.rate(counter).map(number);
    let rates = || {
        Some(KernelRates {
            syncookies_sent: rate(|now| now.syncookies_sent)?,
            listen_overflows: rate(|now| now.listen_overflows)?,
            listen_drops: rate(|now| now.listen_drops)?,
            req_q_full_drop: rate(|now| now.req_q_full_drop)?,
        })
    };
    let now = &tcp_ext.now;
    Kernel {
        syncookies_sent: now.syncookies_sent,
        syncookies_recv: now.syncookies_recv,
        syncookies_failed: now.syncookies_failed,
        listen_overflows: now.listen_overflows,
        listen_drops: now.listen_drops,
        req_q_full_do_cookies: now.req_q_full_do_cookies,
        req_q_full_drop: now.req_q_full_drop,
        rates: rates(),
    }
}

fn rules(report: &Report, facts: &Facts) -> Rules {
    let list: Vec<Rule> = report.rules.iter().map(|rule| Rule::build(rule, facts.clock)).collect();
    let manual = list.iter().filter(|rule| rule.origin == "operator").count();
    Rules {
        wanted: list.len() as u32,
        in_kernel: facts.rules_in_kernel,
        block_auto: (list.len() - manual) as u32,
        block_manual: manual as u32,
        next_expiry_s: list.iter().map(|rule| rule.expires_in_s).min(),
        drift_since: facts.drift_since.map(|at| facts.clock.time_at(at)),
        list,
    }
}

fn map(map: &MapFacts) -> Map {
    let share = |entries: u64| number(entries as f64 / map.max_entries as f64);
    Map {
        name: map.name.clone(),
        entries: map.entries,
        max_entries: map.max_entries,
        fill_ratio: map.entries.filter(|_| map.max_entries > 0).map(share),
    }
}

fn source(source: &SourceFacts) -> Source {
    Source {
        addr: source.addr,
        syn: source.syn,
        syn_ack: source.syn_ack,
        ack: source.ack,
        rst: source.rst,
        completed: source.completed,
        validated: source.validated,
    }
}

fn count_alerts(alerts: &[AlertEntry]) -> AlertCounts {
    let count = |severity| alerts.iter().filter(|alert| alert.severity == severity).count() as u32;
    AlertCounts {
        critical: count(Severity::Critical),
        warning: count(Severity::Warning),
        notice: count(Severity::Notice),
    }
}

impl From<engine::Mode> for Mode {
    fn from(mode: engine::Mode) -> Self {
        match mode {
            engine::Mode::Enforce => Self::Enforce,
            engine::Mode::Observe => Self::Observe,
            engine::Mode::Off => Self::Off,
        }
    }
}

impl From<Mode> for engine::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self::Enforce,
            Mode::Observe => Self::Observe,
            Mode::Off => Self::Off,
        }
    }
}

impl From<engine::Severity> for Severity {
    fn from(severity: engine::Severity) -> Self {
        match severity {
            engine::Severity::Notice => Self::Notice,
            engine::Severity::Warning => Self::Warning,
            engine::Severity::Critical => Self::Critical,
        }
    }
}

impl From<IncidentClass> for AttackKind {
    fn from(class: IncidentClass) -> Self {
        match class {
            IncidentClass::RandomSpoofed => Self::RandomSpoofed,
            IncidentClass::SingleSource => Self::SingleSource,
            IncidentClass::FewSource => Self::FewSource,
            IncidentClass::Distributed => Self::Distributed,
            IncidentClass::Scan => Self::Scan,
            IncidentClass::FlashCrowd => Self::FlashCrowd,
            IncidentClass::ListenerOverload => Self::ListenerOverload,
            IncidentClass::HandshakeDegraded => Self::HandshakeDegraded,
            IncidentClass::Reflection => Self::Reflection,
        }
    }
}

impl From<AttackKind> for IncidentClass {
    fn from(kind: AttackKind) -> Self {
        match kind {
            AttackKind::RandomSpoofed => Self::RandomSpoofed,
            AttackKind::SingleSource => Self::SingleSource,
            AttackKind::FewSource => Self::FewSource,
            AttackKind::Distributed => Self::Distributed,
            AttackKind::Scan => Self::Scan,
            AttackKind::FlashCrowd => Self::FlashCrowd,
            AttackKind::ListenerOverload => Self::ListenerOverload,
            AttackKind::HandshakeDegraded => Self::HandshakeDegraded,
            AttackKind::Reflection => Self::Reflection,
        }
    }
}
