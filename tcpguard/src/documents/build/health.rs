//! Health findings: problems that show in numbers.

use std::time::Duration;

use tcpguard_common::abi;
use tcpguard_engine::{Egress, ListenerReport, ListenerState, Report};
use tcpguard_host::finding::Severity;
use tcpguard_host::units::{percent, short, span};

use super::super::losses::{LossState, Losses};
use super::super::{AttachMode, Facts, Health};

/// Share of conntrack's capacity from which new connections are in danger: conntrack counts the half-open ones
/// of a flood too.
const CONNTRACK_FULL: f64 = 0.9;
/// Rate in frames per second above which frames that the XDP program cannot read may be an attempt
/// to bypass it.
const UNREAD_PPS: f64 = 100.0;
/// Most listeners named in one line.
const NAMED: usize = 4;
/// Without a sign of life for this long the kernel is about to stop trusting the agent: half of
/// the heartbeat limit after which rules stop to drop.
const HEARTBEAT_LATE: Duration = Duration::from_secs(3);

pub(super) fn health(facts: &Facts, report: &Report, losses: &Losses) -> Vec<Health> {
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
        if !interface.ahead.is_empty() {
            let text = format!(
                "another tc program runs before the guard's for what leaves {name}: {}; if it ends the \
                 chain, answers are not seen",
                interface.ahead.join(", ")
            );
            let hint = format!(
                "see whose it is: bpftool net show dev {name}; tc filter show dev {name} egress"
            );
            add(Severity::Warning, "tc_before", Some(name), text, &hint);
        }
        if interface.ifindex == 0 {
            let text = format!("{name} is not protected: there is no such interface");
            let hint = "it will be as soon as it is there; see which are: ip link";
            add(Severity::Critical, "detached", Some(name), text, hint);
        } else if !interface.attached {
            let text = format!("{name} is not protected: the filter is not attached to it");
            add(Severity::Critical, "detached", Some(name), text, "systemctl restart tcpguard");
        } else if interface.mode == AttachMode::Generic {
            let why = match &interface.fallback {
                Some(why) => format!(", because native failed ({why})"),
                None => String::new(),
            };
            let text = format!("{name} runs in generic mode{why}: expect lower capacity");
            let hint = format!("see what native XDP lacks there: tcpguard doctor {name}");
            add(Severity::Warning, "xdp_generic", Some(name), text, &hint);
        }
    }
    if let (Some(_), Some(in_kernel)) = (facts.drift_since, facts.rules_in_kernel) {
        let text = format!("rules wanted: {}, in the kernel: {in_kernel}", report.rules.len());
        add(Severity::Critical, "rule_drift", None, text, "systemctl restart tcpguard");
    }
    if let Some(age) = facts.heartbeat.map(|at| facts.clock.now.since(at))
        && age > HEARTBEAT_LATE
    {
        let text = format!("the agent is late: its last sign of life is {} old", span(age));
        let hint = "see what takes the CPU: ps -eo pid,comm,pcpu --sort=-pcpu";
        add(Severity::Critical, "agent_late", None, text, hint);
    }
    if let Some(error) = &facts.config.error {
        let (text, hint) = match facts.config.stands_in {
            Some(read_at) => {
                let text = format!(
                    "the configuration was refused at the start, the last valid one, of {read_at}, \
                     applies: {error}"
                );
                (text, "correct it (tcpguard config check), then: tcpguard reload")
            }
            None => {
                let text = format!("the configuration was refused, the one before holds: {error}");
                (text, "tcpguard config check")
            }
        };
        // The same severity as in the journal and in `tcpguard check`.
        add(Severity::Warning, "config_refused", None, text, hint);
    }
    if losses.state == LossState::Heavy {
        let (text, hint) = lost(losses);
        add(Severity::Critical, "dropped_before_xdp", None, text, hint.as_str());
    }
    if let Some((cpu, share)) = losses.one_queue() {
        let text = format!(
            "CPU {cpu} receives {} of all packets: it alone sets what the host can take",
            percent(share)
        );
        let hint = "spread them over queues: ethtool -L IFACE combined N, or rps_cpus in /sys";
        add(Severity::Notice, "one_queue", None, text, hint);
    }
    if let Some(conntrack) = facts.conntrack
        && conntrack.ratio().is_some_and(|share| share >= CONNTRACK_FULL)
    {
        let text = format!(
            "{} of {} tracked connections are taken: the kernel drops new ones when all are",
            conntrack.count, conntrack.max
        );
        let hint = "tcpguard tune (net.netfilter.nf_conntrack_max)";
        add(Severity::Warning, "conntrack_full", None, text, hint);
    }
    for listener in report.listeners.iter().filter(|it| it.state == ListenerState::Overloaded) {
        let (name, text, hint) = overloaded(listener);
        add(Severity::Warning, "accept_queue_full", Some(&name), text, hint);
    }
    if let Some((text, hint)) = unseen_answers(report, facts) {
        add(Severity::Warning, "egress_unseen", None, text, hint);
    }
    if let Some(text) = unread_syns(report, facts) {
        let hint =
            "drop them in enforce mode: [policy] beyond_bounds = \"drop\", then: tcpguard reload";
        add(Severity::Warning, "unread_syns", None, text, hint);
    }
    if report.listeners.len() >= abi::maps::MAX_LISTENERS as usize {
        let text = format!("{} listeners are followed, more are not", report.listeners.len());
        let hint = "leave out ports with [listeners] ignore_ports, then: tcpguard reload";
        add(Severity::Warning, "listeners_full", None, text, hint);
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// Says of a listener that its accept queue is full: whatever else is the case, clients are lost there.
fn overloaded(listener: &ListenerReport) -> (String, String, &'static str) {
    let at = listener.listener;
    let name = std::net::SocketAddr::new(at.addr, at.port).to_string();
    let queue = listener.queues.map_or_else(String::new, |queues| {
        format!(", {} wait, {} may", queues.accept, queues.backlog)
    });
    let text = format!("{name}: the accept queue is full{queue}: new clients are lost");
    (name, text, "which process accepts too slowly, and what limits its queue: tcpguard listeners")
}

/// Reports that listeners answer SYNs in frames that the XDP program does not read. Every SYN-ACK that is no
/// retransmission answers a SYN, so more of them than seen SYNs show that SYNs were not read.
fn unread_syns(report: &Report, facts: &Facts) -> Option<String> {
    let beyond = |counters: &abi::PacketCounters| -> u64 {
        let bounds = abi::Reason::ALL.iter().filter(|reason| reason.is_beyond_bounds());
        bounds.map(|reason| counters.reasons[*reason as usize]).sum()
    };
    let rates = facts.interfaces.iter().filter_map(|interface| interface.packets.rate(beyond));
    let rate: f64 = rates.sum();
    let answers_unseen = |one: &&ListenerReport| {
        let counters = &one.counters;
        counters.syn_ack.saturating_sub(counters.syn_ack_retransmit) > counters.syn
    };
    let listener = report.listeners.iter().find(answers_unseen).filter(|_| rate > UNREAD_PPS)?;
    Some(format!(
        "{}/s frames go on beyond what the guard reads, and {} answers more SYNs than it saw: they pass \
         the guard",
        short(rate),
        listener.listener
    ))
}

/// Names the listeners with unseen replies, and gives a hint. Without the tracepoint nothing is
/// known of their handshakes.
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
    let ahead = facts.interfaces.iter().find_map(|one| Some((&one.name, one.ahead.first()?)));
    if let Some((interface, program)) = ahead {
        let text = format!(
            "answers are not seen, because another tc program runs before the guard's on {interface} and \
             ends the chain, {program}: {names}{more}; {so}"
        );
        return Some((text, "see whose it is: bpftool net show"));
    }
    let text = format!("answers leave by an interface that is not guarded: {names}{more}; {so}");
    Some((text, "name it under [interfaces]: ip route shows which it is"))
}

/// Describes where packets are lost, and gives a hint about the largest loss.
fn lost(losses: &Losses) -> (String, String) {
    let pps = losses.lost_pps.unwrap_or_default();
    let share = percent(losses.lost_ratio.unwrap_or_default());
    let ring = losses
        .interfaces
        .iter()
        .max_by(|a, b| a.lost_pps.unwrap_or_default().total_cmp(&b.lost_pps.unwrap_or_default()));
    let in_rings = losses.interfaces.iter().filter_map(|one| one.lost_pps).sum::<f64>();
    let in_backlogs = losses.cpus.iter().filter_map(|cpu| cpu.dropped_pps).sum::<f64>();
    let text = format!(
        "clients are lost before the guard sees them: {} packets/s, {share} of all ({}/s in rings, \
         {}/s in backlogs)",
        short(pps),
        short(in_rings),
        short(in_backlogs)
    );
    let hint = match ring {
        Some(ring) if in_rings >= in_backlogs => {
            format!(
                "see how large its ring can be: ethtool -g {0}; make it so: ethtool -G {0} rx N",
                ring.name
            )
        }
        _ => "tcpguard tune (net.core.netdev_max_backlog, netdev_budget)".to_owned(),
    };
    (text, hint)
}
