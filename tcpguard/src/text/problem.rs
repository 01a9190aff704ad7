//! The findings of the agent about itself and its host: what shows in its report and its measurements.

use std::net::SocketAddr;
use std::time::Duration;

use tcpguard_common::abi;
use tcpguard_engine::{Egress, Listener, ListenerReport, ListenerState, Report};
use tcpguard_host::finding::{Finding, link_down, worst_first};
use tcpguard_host::linux::Conntrack;
use tcpguard_host::obstacle::{Impeded, named};
use tcpguard_host::units::{percent, short, span};

use crate::config::DEFAULT_PATH;
use crate::documents::{AttachMode, Facts, InterfaceFacts, LossState, Losses, NextProgramFacts};

/// Share of conntrack's capacity from which new connections are in danger: conntrack counts the half-open ones
/// of a flood too.
const CONNTRACK_FULL: f64 = 0.9;
/// Rate in frames per second above which frames that the XDP program cannot read may be an attempt
/// to bypass it.
const UNREAD_PPS: f64 = 100.0;
/// Without a sign of life for this long the kernel is about to stop trusting the agent: half of
/// the heartbeat limit after which rules stop to drop.
const HEARTBEAT_LATE: Duration = Duration::from_secs(3);

/// The findings about the agent and its host, the most severe first.
pub fn health(report: &Report, facts: &Facts) -> Vec<Finding> {
    let losses = Losses::build(facts);
    let mut found = facts.health.clone();
    found.extend(facts.interfaces.iter().flat_map(of_interface));
    let links = facts.interfaces.iter().zip(&facts.losses.now.links);
    let down = links.filter(|(interface, link)| interface.ifindex != 0 && link.is_down);
    found.extend(down.map(|(interface, _)| link_down(&interface.name)));
    found.extend(rule_drift(report, facts));
    found.extend(agent_late(facts));
    found.extend(config_refused(facts));
    found.extend((losses.state == LossState::Heavy).then(|| dropped_before_xdp(&losses)));
    found.extend(one_queue(&losses));
    found.extend(conntrack_full(facts));
    let listeners = report.listeners.iter();
    let overloaded = listeners.filter(|one| one.state == ListenerState::Overloaded);
    found.extend(overloaded.map(accept_queue_full));
    found.extend(egress_unseen(report, facts));
    found.extend(unread_syns(report, facts));
    found.extend(facts.obstacles.iter().map(Impeded::finding));
    worst_first(&mut found);
    found
}

fn of_interface(interface: &InterfaceFacts) -> Vec<Finding> {
    let name = &interface.name;
    let mut found = Vec::new();
    if !interface.ahead.is_empty() {
        let text = format!(
            "{name}: another tc egress program runs before tcpguard's ({}); if it ends the chain, \
             SYN-ACKs are not counted",
            interface.ahead.join(", ")
        );
        let hint = format!(
            "find its owner by its id: bpftool prog show; tc filter show dev {name} egress"
        );
        found.push(Finding::warning("tc_before", text).about(name).hint(hint));
    }
    if let Some(NextProgramFacts { name: next, id: Err(why) }) = &interface.next {
        let text = format!("{name}: packets are not handed on to {next}: {why}");
        found.push(Finding::warning("next_program", text).about(name).hint(&why.hint));
    }
    let (severity, code, text, hint): (fn(&str, String) -> Finding, _, _, _) =
        if interface.ifindex == 0 {
            let hint = "tcpguard attaches as soon as it exists; see the interfaces: ip link";
            (Finding::critical, "detached", "no such interface".to_owned(), hint.to_owned())
        } else if !interface.attached {
            let text = "the XDP program is not attached".to_owned();
            (Finding::critical, "detached", text, "systemctl restart tcpguard".to_owned())
        } else if interface.mode == AttachMode::Generic && interface.choice.is_none() {
            let why = interface.fallback.as_ref();
            let why = why.map(|why| format!(" (native failed: {why})")).unwrap_or_default();
            let text = format!("generic XDP{why}, lower capacity");
            (Finding::warning, "xdp_generic", text, format!("tcpguard doctor -i {name}"))
        } else {
            return found;
        };
    found.push(severity(code, format!("{name}: {text}")).about(name).hint(hint));
    found
}

/// The kernel does not have the rules that it should have.
fn rule_drift(report: &Report, facts: &Facts) -> Option<Finding> {
    let (_, in_kernel) = facts.drift_since.zip(facts.rules_in_kernel)?;
    let text = format!("rules in the kernel: {in_kernel} of {}", report.rules.len());
    Some(Finding::critical("rule_drift", text).hint("systemctl restart tcpguard"))
}

fn agent_late(facts: &Facts) -> Option<Finding> {
    let age = facts.heartbeat.map(|at| facts.clock.now.since(at));
    let age = age.filter(|age| *age > HEARTBEAT_LATE)?;
    let text = format!("agent late: its last heartbeat was {} ago", span(age));
    let hint = "find the busiest processes: ps -eo pid,comm,pcpu --sort=-pcpu";
    Some(Finding::critical("agent_late", text).hint(hint))
}

/// The severity is that of the journal and of `tcpguard check`.
fn config_refused(facts: &Facts) -> Option<Finding> {
    let error = facts.config.error.as_ref()?;
    let other = facts.config.path.as_deref().filter(|file| *file != DEFAULT_PATH);
    let other = other.map(|file| format!(" {file}")).unwrap_or_default();
    let check = format!("tcpguard config check{other}");
    let (text, hint) = match facts.config.stands_in {
        Some(read_at) => (
            format!(
                "configuration refused at the start, the last valid one of {read_at} applies: {error}"
            ),
            format!("correct it ({check}), then: tcpguard reload"),
        ),
        None => (format!("configuration refused, the previous one still applies: {error}"), check),
    };
    Some(Finding::warning("config_refused", text).hint(hint))
}

/// The place of the losses, and a hint about the largest one.
fn dropped_before_xdp(losses: &Losses) -> Finding {
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

fn one_queue(losses: &Losses) -> Option<Finding> {
    let (cpu, share) = losses.one_queue()?;
    let share = percent(share);
    let text = format!("CPU {cpu} receives {share} of all packets and limits the rate of the host");
    let hint = "spread them over queues: ethtool -L IFACE combined N, or rps_cpus in /sys";
    Some(Finding::notice("one_queue", text).hint(hint))
}

fn conntrack_full(facts: &Facts) -> Option<Finding> {
    let is_full = |one: &&Conntrack| one.ratio().is_some_and(|share| share >= CONNTRACK_FULL);
    let Conntrack { count, max, .. } = facts.conntrack.as_ref().filter(is_full)?;
    let text = format!(
        "connection tracking: {count} of {max} entries used, the kernel drops new connections when it is full"
    );
    let hint = "tcpguard tune (net.netfilter.nf_conntrack_max)";
    Some(Finding::warning("conntrack_full", text).hint(hint))
}

fn accept_queue_full(listener: &ListenerReport) -> Finding {
    let Listener { addr, port, .. } = listener.listener;
    let name = SocketAddr::new(addr, port).to_string();
    // It drains between two polls, and is full all the same.
    let queue = listener.queues.filter(|queues| queues.accept >= queues.backlog);
    let queue = queue.map(|queues| format!(" ({} of {})", queues.accept, queues.backlog));
    let queue = queue.unwrap_or_default();
    let text = format!("{name}: accept queue full{queue}, new clients are lost");
    Finding::critical("accept_queue_full", text).about(name).hint("tcpguard listeners")
}

/// Listeners with unseen replies. Without the tracepoint nothing is known of their handshakes.
fn egress_unseen(report: &Report, facts: &Facts) -> Option<Finding> {
    let unseen = report.listeners.iter().filter(|one| one.egress == Egress::Unseen);
    let listeners: Vec<Listener> = unseen.map(|one| one.listener).collect();
    if listeners.is_empty() {
        return None;
    }
    let names = named(&listeners);
    let ahead = facts.interfaces.iter().find_map(|one| Some((&one.name, one.ahead.first()?)));
    let so = match facts.health.iter().any(|finding| finding.code == "no_tracepoint") {
        true => "completions are unknown, floods show only as drops of a full queue",
        false => "classification is less certain, rules are only advised",
    };
    let (text, hint) = match ahead {
        Some((interface, program)) => (
            format!(
                "SYN-ACKs not counted at {names}: another tc program on {interface} ends the chain \
                 ({program}); {so}"
            ),
            "find its owner by its id: bpftool prog show",
        ),
        None => (
            format!("SYN-ACKs of {names} leave by an interface without tcpguard; {so}"),
            "name it under [interfaces] (see: ip route)",
        ),
    };
    Some(Finding::warning("egress_unseen", text).hint(hint))
}

/// A listener that answers SYNs in frames that the XDP program does not read. Every SYN-ACK that is no
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
