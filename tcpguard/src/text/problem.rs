//! Problems of the agent and its host, in words.

use std::net::SocketAddr;

use tcpguard_engine::{Listener, Queues, Report};
use tcpguard_host::finding::{Finding, worst_first};
use tcpguard_host::obstacle::Impeded;
use tcpguard_host::units::{percent, short, span};

use crate::config::DEFAULT_PATH;
use crate::documents::{Facts, InterfaceFacts, Losses, Problem, problems};

/// Most listeners named in one line.
const NAMED: usize = 4;

/// The findings about the agent and its host, the most severe first: those of the facts, and the problems that
/// show in the report and the facts.
pub fn health(report: &Report, facts: &Facts) -> Vec<Finding> {
    let losses = Losses::build(facts);
    let mut found = facts.health.clone();
    found.extend(problems(report, facts, &losses).iter().map(finding));
    found.extend(facts.obstacles.iter().map(Impeded::finding));
    worst_first(&mut found);
    found
}

fn finding(problem: &Problem<'_>) -> Finding {
    match problem {
        Problem::RuleDrift { in_kernel, of } => {
            let text = format!("rules in the kernel: {in_kernel} of {of}");
            Finding::critical("rule_drift", text).hint("systemctl restart tcpguard")
        }
        Problem::AgentLate(age) => {
            let text = format!("agent late: its last heartbeat was {} ago", span(*age));
            let hint = "find the busiest processes: ps -eo pid,comm,pcpu --sort=-pcpu";
            Finding::critical("agent_late", text).hint(hint)
        }
        // The same severity as in the journal and in `tcpguard check`.
        Problem::ConfigRefused { file, error, stands_in: Some(read_at) } => {
            let text = format!(
                "configuration refused at the start, the last valid one of {read_at} applies: {error}"
            );
            let hint = format!("correct it ({}), then: tcpguard reload", config_check(*file));
            Finding::warning("config_refused", text).hint(hint)
        }
        Problem::ConfigRefused { file, error, stands_in: None } => {
            let text = format!("configuration refused, the previous one still applies: {error}");
            Finding::warning("config_refused", text).hint(config_check(*file))
        }
        Problem::DroppedBeforeXdp(losses) => dropped_before_xdp(losses),
        Problem::OneQueue { cpu, share } => {
            let text = format!(
                "CPU {cpu} receives {} of all packets and limits the rate of the host",
                percent(*share)
            );
            let hint = "spread them over queues: ethtool -L IFACE combined N, or rps_cpus in /sys";
            Finding::notice("one_queue", text).hint(hint)
        }
        Problem::ConntrackFull(conntrack) => {
            let text = format!(
                "connection tracking: {} of {} entries used, the kernel drops new connections when it is full",
                conntrack.count, conntrack.max
            );
            let hint = "tcpguard tune (net.netfilter.nf_conntrack_max)";
            Finding::warning("conntrack_full", text).hint(hint)
        }
        Problem::AcceptQueueFull(listener, queues) => accept_queue_full(*listener, *queues),
        Problem::EgressUnseen { listeners, ahead, blind } => {
            egress_unseen(listeners, *ahead, *blind)
        }
        Problem::UnreadSyns { rate, listener } => {
            let text = format!(
                "{}/s frames exceed the bounds of the XDP program, and {listener} answers more SYNs than \
                 were counted: unread SYNs pass",
                short(*rate),
            );
            let hint = "drop them in enforce mode: [policy] beyond_bounds = \"drop\", then: tcpguard reload";
            Finding::warning("unread_syns", text).hint(hint)
        }
        Problem::TcBefore(interface) => {
            let name = &interface.name;
            let text = format!(
                "{name}: another tc egress program runs before tcpguard's ({}); if it ends the chain, \
                 SYN-ACKs are not counted",
                interface.ahead.join(", ")
            );
            let hint = format!(
                "find its owner by its id: bpftool prog show; tc filter show dev {name} egress"
            );
            Finding::warning("tc_before", text).about(name).hint(hint)
        }
        Problem::NextProgram { interface, next, why } => {
            let text = format!("{interface}: packets are not handed on to {next}: {why}");
            Finding::warning("next_program", text).about(*interface).hint(&why.hint)
        }
        Problem::NoInterface(name) => {
            let text = format!("{name}: no such interface");
            let hint = "tcpguard attaches as soon as it exists; see the interfaces: ip link";
            Finding::critical("detached", text).about(*name).hint(hint)
        }
        Problem::Detached(name) => {
            let text = format!("{name}: the XDP program is not attached");
            let hint = "systemctl restart tcpguard";
            Finding::critical("detached", text).about(*name).hint(hint)
        }
        Problem::XdpGeneric(interface) => xdp_generic(interface),
        Problem::LinkDown(name) => link_down(name),
    }
}

/// The command that checks the configuration of the agent.
fn config_check(file: Option<&str>) -> String {
    let other = file.filter(|file| *file != DEFAULT_PATH);
    other.map_or_else(
        || "tcpguard config check".to_owned(),
        |it| format!("tcpguard config check {it}"),
    )
}

fn link_down(name: &str) -> Finding {
    let text = format!("{name}: link down, no packets pass");
    Finding::warning("link_down", text).about(name).hint(format!("ip link set dev {name} up"))
}

fn xdp_generic(interface: &InterfaceFacts) -> Finding {
    let name = &interface.name;
    let why = match &interface.fallback {
        Some(why) => format!(" (native failed: {why})"),
        None => String::new(),
    };
    let text = format!("{name}: generic XDP{why}, lower capacity");
    Finding::warning("xdp_generic", text).about(name).hint(format!("tcpguard doctor -i {name}"))
}

fn accept_queue_full(listener: Listener, queues: Option<Queues>) -> Finding {
    let name = SocketAddr::new(listener.addr, listener.port).to_string();
    // It drains between two polls, and is full all the same.
    let queue = queues.filter(|queues| queues.accept >= queues.backlog);
    let queue = queue
        .map_or_else(String::new, |queues| format!(" ({} of {})", queues.accept, queues.backlog));
    let text = format!("{name}: accept queue full{queue}, new clients are lost");
    Finding::critical("accept_queue_full", text).about(name).hint("tcpguard listeners")
}

fn egress_unseen(listeners: &[Listener], ahead: Option<(&str, &str)>, blind: bool) -> Finding {
    let names: Vec<_> = listeners.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match listeners.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let so = if blind {
        "completions are unknown, floods show only as drops of a full queue"
    } else {
        "classification is less certain, rules are only advised"
    };
    let names = names.join(", ");
    let (text, hint) = match ahead {
        Some((interface, program)) => (
            format!(
                "SYN-ACKs not counted at {names}{more}: another tc program on {interface} ends the chain \
                 ({program}); {so}"
            ),
            "find its owner by its id: bpftool prog show",
        ),
        None => (
            format!("SYN-ACKs of {names}{more} leave by an interface without tcpguard; {so}"),
            "name it under [interfaces] (see: ip route)",
        ),
    };
    Finding::warning("egress_unseen", text).hint(hint)
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
