//! Health findings: problems that show in numbers.

use std::time::Duration;

use tcpguard_common::abi;
use tcpguard_engine::{Egress, ListenerReport, ListenerState, Report};
use tcpguard_host::finding::{Finding, worst_first};
use tcpguard_host::units::{percent, short, span};

use super::super::losses::{LossState, Losses};
use super::super::{AttachMode, Facts, InterfaceFacts, NextProgramFacts};

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

/// The findings about the agent and its host, the most severe first.
pub(super) fn health(facts: &Facts, report: &Report, losses: &Losses) -> Vec<Finding> {
    let mut found = facts.health.clone();
    found.extend(facts.interfaces.iter().flat_map(interface));
    if let (Some(_), Some(in_kernel)) = (facts.drift_since, facts.rules_in_kernel) {
        let text = format!("rules in the kernel: {in_kernel} of {}", report.rules.len());
        found.push(Finding::critical("rule_drift", text).hint("systemctl restart tcpguard"));
    }
    if let Some(age) = facts.heartbeat.map(|at| facts.clock.now.since(at))
        && age > HEARTBEAT_LATE
    {
        let text = format!("agent late: its last heartbeat was {} ago", span(age));
        let hint = "find the busiest processes: ps -eo pid,comm,pcpu --sort=-pcpu";
        found.push(Finding::critical("agent_late", text).hint(hint));
    }
    if let Some(error) = &facts.config.error {
        let (text, hint) = match facts.config.stands_in {
            Some(read_at) => {
                let text = format!(
                    "configuration refused at the start, the last valid one of {read_at} applies: {error}"
                );
                (text, "correct it (tcpguard config check), then: tcpguard reload")
            }
            None => {
                let text =
                    format!("configuration refused, the previous one still applies: {error}");
                (text, "tcpguard config check")
            }
        };
        // The same severity as in the journal and in `tcpguard check`.
        found.push(Finding::warning("config_refused", text).hint(hint));
    }
    if losses.state == LossState::Heavy {
        found.push(lost(losses));
    }
    if let Some((cpu, share)) = losses.one_queue() {
        let text = format!(
            "CPU {cpu} receives {} of all packets and limits the rate of the host",
            percent(share)
        );
        let hint = "spread them over queues: ethtool -L IFACE combined N, or rps_cpus in /sys";
        found.push(Finding::notice("one_queue", text).hint(hint));
    }
    if let Some(conntrack) = facts.conntrack
        && conntrack.ratio().is_some_and(|share| share >= CONNTRACK_FULL)
    {
        let text = format!(
            "connection tracking: {} of {} entries used, the kernel drops new connections when it is full",
            conntrack.count, conntrack.max
        );
        let hint = "tcpguard tune (net.netfilter.nf_conntrack_max)";
        found.push(Finding::warning("conntrack_full", text).hint(hint));
    }
    let listeners = report.listeners.iter();
    found.extend(listeners.filter(|it| it.state == ListenerState::Overloaded).map(overloaded));
    found.extend(unseen_answers(report, facts));
    found.extend(unread_syns(report, facts));
    worst_first(&mut found);
    found
}

/// The findings about one interface.
fn interface(interface: &InterfaceFacts) -> Vec<Finding> {
    let name = &interface.name;
    let mut found = Vec::new();
    if !interface.ahead.is_empty() {
        let text = format!(
            "{name}: another tc egress program runs before tcpguard's ({}); if it ends the chain, \
             SYN-ACKs are not counted",
            interface.ahead.join(", ")
        );
        let hint = format!(
            "find its owner: bpftool net show dev {name}; tc filter show dev {name} egress"
        );
        found.push(Finding::warning("tc_before", text).hint(hint));
    }
    if let Some(NextProgramFacts { name: next, id: Err(why) }) = &interface.next {
        let text = format!("{name}: packets are not handed on to {next}: {why}");
        found.push(Finding::warning("next_program", text).hint(&why.hint));
    }
    if interface.ifindex == 0 {
        let text = format!("{name}: no such interface");
        let hint = "tcpguard attaches as soon as it exists; see the interfaces: ip link";
        found.push(Finding::critical("detached", text).hint(hint));
    } else if !interface.attached {
        let text = format!("{name}: the XDP program is not attached");
        found.push(Finding::critical("detached", text).hint("systemctl restart tcpguard"));
    } else if interface.mode == AttachMode::Generic {
        let why = match &interface.fallback {
            Some(why) => format!(" (native failed: {why})"),
            None => String::new(),
        };
        let text = format!("{name}: generic XDP{why}, lower capacity");
        let hint = format!("tcpguard doctor -i {name}");
        found.push(Finding::warning("xdp_generic", text).hint(hint));
    }
    found.into_iter().map(|finding| finding.about(name)).collect()
}

/// The finding about a listener with a full accept queue: clients are lost there.
fn overloaded(listener: &ListenerReport) -> Finding {
    let at = listener.listener;
    let name = std::net::SocketAddr::new(at.addr, at.port).to_string();
    let queue = listener
        .queues
        .map_or_else(String::new, |queues| format!(" ({} of {})", queues.accept, queues.backlog));
    let text = format!("{name}: accept queue full{queue}, new clients are lost");
    let hint = "tcpguard listeners";
    Finding::critical("accept_queue_full", text).about(name).hint(hint)
}

/// Reports that listeners answer SYNs in frames that the XDP program does not read. Every SYN-ACK that is no
/// retransmission answers a SYN, so more of them than seen SYNs show that SYNs were not read.
fn unread_syns(report: &Report, facts: &Facts) -> Option<Finding> {
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
    let text = format!(
        "{}/s frames exceed the bounds of the XDP program, and {} answers more SYNs than were counted: \
         unread SYNs pass",
        short(rate),
        listener.listener
    );
    let hint =
        "drop them in enforce mode: [policy] beyond_bounds = \"drop\", then: tcpguard reload";
    Some(Finding::warning("unread_syns", text).hint(hint))
}

/// Names the listeners with unseen replies. Without the tracepoint nothing is known of their handshakes.
fn unseen_answers(report: &Report, facts: &Facts) -> Option<Finding> {
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
        "completions are unknown, floods show only as drops of a full queue"
    } else {
        "classification is less certain, rules are only advised"
    };
    let names = names.join(", ");
    let ahead = facts.interfaces.iter().find_map(|one| Some((&one.name, one.ahead.first()?)));
    let (text, hint) = match ahead {
        Some((interface, program)) => (
            format!(
                "SYN-ACKs not counted at {names}{more}: another tc program on {interface} ends the chain \
                 ({program}); {so}"
            ),
            "find its owner: bpftool net show",
        ),
        None => (
            format!("SYN-ACKs of {names}{more} leave by an interface without tcpguard; {so}"),
            "name it under [interfaces] (see: ip route)",
        ),
    };
    Some(Finding::warning("egress_unseen", text).hint(hint))
}

/// Describes where packets are lost, and gives a hint about the largest loss.
fn lost(losses: &Losses) -> Finding {
    let ring = losses
        .interfaces
        .iter()
        .max_by(|a, b| a.lost_pps.unwrap_or_default().total_cmp(&b.lost_pps.unwrap_or_default()));
    let in_rings = losses.interfaces.iter().filter_map(|one| one.lost_pps).sum::<f64>();
    let in_backlogs = losses.cpus.iter().filter_map(|cpu| cpu.dropped_pps).sum::<f64>();
    let text = format!(
        "{} of packets dropped before XDP (ring {}/s, backlog {}/s)",
        percent(losses.lost_ratio.unwrap_or_default()),
        short(in_rings),
        short(in_backlogs)
    );
    let hint = match ring {
        Some(ring) if in_rings >= in_backlogs => {
            format!(
                "enlarge the ring of {0}: ethtool -g {0} shows the maximum N, ethtool -G {0} rx N sets it",
                ring.name
            )
        }
        _ => "tcpguard tune (net.core.netdev_max_backlog, netdev_budget)".to_owned(),
    };
    Finding::critical("dropped_before_xdp", text).hint(hint)
}
