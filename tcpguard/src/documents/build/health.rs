//! Health findings: problems that show in numbers.

use std::time::Duration;

use tcpguard_common::abi;
use tcpguard_engine::{Egress, ListenerReport, ListenerState, Report};
use tcpguard_host::finding::{Finding, worst_first};
use tcpguard_host::units::{percent, short, span};

use super::super::losses::{LossState, Losses};
use super::super::{AttachMode, Facts, InterfaceFacts};

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
        let text = format!("rules wanted: {}, in the kernel: {in_kernel}", report.rules.len());
        found.push(Finding::critical("rule_drift", text).hint("systemctl restart tcpguard"));
    }
    if let Some(age) = facts.heartbeat.map(|at| facts.clock.now.since(at))
        && age > HEARTBEAT_LATE
    {
        let text = format!("the agent is late: its last sign of life is {} old", span(age));
        let hint = "see what takes the CPU: ps -eo pid,comm,pcpu --sort=-pcpu";
        found.push(Finding::critical("agent_late", text).hint(hint));
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
        found.push(Finding::warning("config_refused", text).hint(hint));
    }
    if losses.state == LossState::Heavy {
        found.push(lost(losses));
    }
    if let Some((cpu, share)) = losses.one_queue() {
        let text = format!(
            "CPU {cpu} receives {} of all packets: it alone sets what the host can take",
            percent(share)
        );
        let hint = "spread them over queues: ethtool -L IFACE combined N, or rps_cpus in /sys";
        found.push(Finding::notice("one_queue", text).hint(hint));
    }
    if let Some(conntrack) = facts.conntrack
        && conntrack.ratio().is_some_and(|share| share >= CONNTRACK_FULL)
    {
        let text = format!(
            "{} of {} tracked connections are taken: the kernel drops new ones when all are",
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
            "another tc program runs before the guard's for what leaves {name}: {}; if it ends the \
             chain, answers are not seen",
            interface.ahead.join(", ")
        );
        let hint = format!(
            "see whose it is: bpftool net show dev {name}; tc filter show dev {name} egress"
        );
        found.push(Finding::warning("tc_before", text).hint(hint));
    }
    if interface.ifindex == 0 {
        let text = format!("{name} is not protected: there is no such interface");
        let hint = "it will be as soon as it is there; see which are: ip link";
        found.push(Finding::critical("detached", text).hint(hint));
    } else if !interface.attached {
        let text = format!("{name} is not protected: the filter is not attached to it");
        found.push(Finding::critical("detached", text).hint("systemctl restart tcpguard"));
    } else if interface.mode == AttachMode::Generic {
        let why = match &interface.fallback {
            Some(why) => format!(", because native failed ({why})"),
            None => String::new(),
        };
        let text = format!("{name} runs in generic mode{why}: expect lower capacity");
        let hint = format!("see what native XDP lacks there: tcpguard doctor -i {name}");
        found.push(Finding::warning("xdp_generic", text).hint(hint));
    }
    found.into_iter().map(|finding| finding.about(name)).collect()
}

/// Says of a listener that its accept queue is full: whatever else is the case, clients are lost there.
fn overloaded(listener: &ListenerReport) -> Finding {
    let at = listener.listener;
    let name = std::net::SocketAddr::new(at.addr, at.port).to_string();
    let queue = listener.queues.map_or_else(String::new, |queues| {
        format!(", {} wait, {} may", queues.accept, queues.backlog)
    });
    let text = format!("{name}: the accept queue is full{queue}: new clients are lost");
    let hint = "which process accepts too slowly, and what limits its queue: tcpguard listeners";
    Finding::warning("accept_queue_full", text).about(name).hint(hint)
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
        "{}/s frames go on beyond what the guard reads, and {} answers more SYNs than it saw: they pass \
         the guard",
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
        "completions are unknown, and floods show only where a full queue drops SYNs"
    } else {
        "verdicts are less sure, and rules are only advised"
    };
    let names = names.join(", ");
    let ahead = facts.interfaces.iter().find_map(|one| Some((&one.name, one.ahead.first()?)));
    let (text, hint) = match ahead {
        Some((interface, program)) => (
            format!(
                "answers are not seen, because another tc program runs before the guard's on {interface} \
                 and ends the chain, {program}: {names}{more}; {so}"
            ),
            "see whose it is: bpftool net show",
        ),
        None => (
            format!("answers leave by an interface that is not guarded: {names}{more}; {so}"),
            "name it under [interfaces]: ip route shows which it is",
        ),
    };
    Some(Finding::warning("egress_unseen", text).hint(hint))
}

/// Describes where packets are lost, and gives a hint about the largest loss.
fn lost(losses: &Losses) -> Finding {
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
    Finding::critical("dropped_before_xdp", text).hint(hint)
}
