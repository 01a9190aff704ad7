//! Builds the document from the engine's report and the agent's measurements.

mod about;
mod incident;
mod interface;

use tcpguard_engine as engine;
use tcpguard_engine::{IncidentReport, MapTime as _, Report};
use tcpguard_host::finding::{Finding, Severity};
use tcpguard_host::linux::Conntrack;
use tcpguard_host::obstacle::Impeded;
use tcpguard_host::time::{Clock, Time};

use super::*;
use about::About;
pub(super) use incident::incident;
use incident::known_obstacle;

const ALERTS_LISTED: usize = 20;
/// Share of the SYNs of a flood, from 0 to 1, from which on it counts as stopped.
pub(crate) const MOSTLY_STOPPED: f64 = 0.5;
/// Most closed incidents listed.
pub(crate) const PAST_LISTED: usize = 16;

impl Status {
    /// Builds the document for the present state. `health`: the findings, the most severe first.
    pub fn build(report: &Report, facts: &Facts, health: Vec<Finding>) -> Self {
        let clock = facts.clock;
        let losses = Losses::build(facts);
        let open = |one| open_incident(one, report, &facts.obstacles, clock);
        let incidents: Vec<Incident> = report.incidents.iter().map(open).collect();
        let listener = |one: &engine::ListenerReport| match facts.refusing.contains(&one.listener) {
            true => {
                Listener { state: engine::ListenerState::Closed, ..Listener::build(one, clock) }
            }
            false => Listener::build(one, clock),
        };
        let listeners: Vec<Listener> = report.listeners.iter().map(listener).collect();
        let clients = Clients::of_all(&incidents, &listeners);
        let state = match state(report, facts, &health, &losses) {
            State::Protecting | State::Observing if clients.connect() == Some(Connect::Few) => {
                State::Elevated
            }
            state => state,
        };
        let listed = facts.alerts.len().saturating_sub(ALERTS_LISTED);
        Self {
            generated_at: Time(clock.wall),
            interval_ms: facts.interval.as_millis() as u64,
            daemon: daemon(report, facts, state),
            clients,
            health,
            incidents,
            past_incidents: report
                .past
                .iter()
                .map(|one| incident(one, report, clock))
                .chain(facts.past.iter().cloned())
                .take(PAST_LISTED)
                .collect(),
            interfaces: facts.interfaces.iter().map(interface::interface).collect(),
            losses,
            listeners,
            cookies: cookies(report, facts),
            kernel: kernel(facts),
            rules: rules(report, facts),
            maps: facts.maps.clone(),
            sampling: Sampling {
                shift: report.sample_shift,
                one_in: 1 << report.sample_shift.min(63),
            },
            sources: facts.sources.clone(),
            sources_age_ms: facts.sources_at.map(|at| clock.now.since(at).as_millis() as u64),
            programs: facts.programs.clone(),
            counts: facts.counts.clone(),
            fleet: facts.fleet.clone(),
            alerts_24h: count_alerts(&facts.alerts),
            alerts: facts.alerts[listed..].to_vec(),
        }
    }
}

/// An open incident of `report`, with the remedy of an obstacle that the engine does not know.
pub(crate) fn open_incident(
    one: &IncidentReport,
    report: &Report,
    obstacles: &[Impeded<engine::Listener>],
    clock: Clock,
) -> Incident {
    let mut shown = incident(one, report, clock);
    let is_general = |advice: &Advice| {
        matches!(advice.action, Advised::RaiseBacklog | Advised::RemoveObstacle { .. })
    };
    if let Some(advice) = shown.advice.as_mut().filter(|it| is_general(it))
        && let Some(known) = known_obstacle(one, report, obstacles)
    {
        *advice = known;
    }
    shown
}

/// A number as it is printed. Six decimals exceed the precision of every value. JSON cannot
/// represent a value that is not finite.
pub(super) fn number(value: f64) -> f64 {
    if value.is_finite() { (value * 1e6).round() / 1e6 } else { 0.0 }
}

/// The whole situation in one word; the operator's worst news first.
fn state(report: &Report, facts: &Facts, health: &[Finding], losses: &Losses) -> State {
    let is_attack = |incident: &&IncidentReport| incident.class.is_flood();
    let mut incidents = report.incidents.iter().filter(is_attack).peekable();
    let attacked = incidents.peek().is_some();
    let enforces = report.mode == engine::Mode::Enforce;
    let stopped =
        incidents.all(|attack| attack.quiet.is_some() || (enforces && stops(report, attack)));
    // The application's problems: the agent works.
    let of_agent = |it: &&Finding| !["accept_queue_full", NOTHING_LISTENS].contains(&&*it.code);
    let broken = health.iter().filter(of_agent).any(|it| it.severity == Severity::Critical)
        // Changes since the last valid configuration are not in effect, although an operator may
        // rely on them.
        || facts.config.stands_in.is_some();
    let suspect =
        report.listeners.iter().any(|listener| listener.state != engine::ListenerState::Ok);
    match report.mode {
        _ if attacked && !stopped => State::AttackUnmitigated,
        engine::Mode::Off => State::Off,
        _ if losses.state == LossState::Heavy => State::DroppedBeforeXdp,
        _ if broken => State::Degraded,
        _ if attacked => State::AttackMitigated,
        _ if suspect || !report.incidents.is_empty() => State::Elevated,
        engine::Mode::Observe => State::Observing,
        engine::Mode::Enforce => State::Protecting,
    }
}

/// Returns whether most SYNs of an attack are kept from the stack.
fn stops(report: &Report, attack: &IncidentReport) -> bool {
    if let Some(share) = stopped_share(report, attack) {
        return share >= MOSTLY_STOPPED;
    }
    // The flood pauses.
    attack.class.is_of_host() || About::of(report, attack).is_kept_away()
}

/// The share of an attack that is kept from the stack, out of the SYNs of the last second that
/// completed no handshake. `None` if there were none, if the incident is no flood, and if the rate
/// is not known.
fn stopped_share(report: &Report, attack: &IncidentReport) -> Option<f64> {
    let of_host = || attack.class.is_of_host().then_some((attack.stopped_rate, attack.syn_rate));
    let (stopped, all) = About::of(report, attack).stopped().or_else(of_host)?;
    (attack.class.is_flood() && all > 0.0).then(|| (stopped / all).min(1.0))
}

fn cookies(report: &Report, facts: &Facts) -> Cookies {
    let all = |count: fn(&engine::ListenerCounters) -> u64| {
        report.listeners.iter().map(|listener| count(&listener.counters)).sum()
    };
    Cookies {
        sent: all(|counters| counters.cookies_sent),
        valid: all(|counters| counters.cookies_redeemed),
        ..facts.cookies.clone()
    }
}

fn daemon(report: &Report, facts: &Facts, state: State) -> Daemon {
    Daemon {
        version: facts.version.clone(),
        pid: facts.pid,
        hostname: facts.hostname.clone(),
        uptime_s: facts.clock.now.since(facts.started).as_secs(),
        mode: report.mode,
        mode_reverts: facts.mode_reverts.clone(),
        state,
        config: ConfigState { valid: facts.config.error.is_none(), ..facts.config.clone() },
        watchdog_age_ms: facts.heartbeat.map(|at| facts.clock.now.since(at).as_millis() as u64),
        heap_bytes: facts.heap,
    }
}

fn kernel(facts: &Facts) -> Kernel {
    let tcp_ext = &facts.tcp_ext;
    let rate = |counter: fn(&engine::TcpExt) -> u64| tcp_ext.rate(counter).map(number);
    let rates = || {
        Some(KernelRates {
            syncookies_sent: rate(|now| now.syncookies_sent)?,
            listen_overflows: rate(|now| now.listen_overflows)?,
            listen_drops: rate(|now| now.listen_drops)?,
            req_q_full_drop: rate(|now| now.req_q_full_drop)?,
        })
    };
    Kernel {
        tcp_ext: tcp_ext.now,
        rates: rates(),
        conntrack_ratio: facts.conntrack.and_then(Conntrack::ratio).map(number),
    }
}

fn rules(report: &Report, facts: &Facts) -> Rules {
    let list: Vec<Rule> = report.rules.clone().map_time(&|at| facts.clock.time_at(at));
    let auto = list.iter().filter(|rule| rule.incident.is_some()).count();
    let fleet = list.iter().filter(|rule| rule.is_of_fleet()).count();
    Rules {
        wanted: list.len() as u32,
        in_kernel: facts.rules_in_kernel,
        block_auto: auto as u32,
        block_manual: (list.len() - auto - fleet) as u32,
        block_fleet: fleet as u32,
        allow: report.allowed.len() as u32,
        next_expiry_s: list.iter().map(|rule| rule.expires_in_s).min(),
        drift_since: facts.drift_since.map(|at| facts.clock.time_at(at)),
        list,
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
