//! Problems of the agent and its host that show in the report and the facts.

use std::time::Duration;

use tcpguard_common::abi;
use tcpguard_engine::{Egress, Listener, ListenerReport, ListenerState, Queues, Report};
use tcpguard_host::hint::Failure;
use tcpguard_host::linux::Conntrack;
use tcpguard_host::time::Time;

use super::losses::{LossState, Losses};
use super::{AttachMode, Facts, InterfaceFacts, NextProgramFacts};

/// Share of conntrack's capacity from which new connections are in danger: conntrack counts the half-open ones
/// of a flood too.
const CONNTRACK_FULL: f64 = 0.9;
/// Rate in frames per second above which frames that the XDP program cannot read may be an attempt
/// to bypass it.
const UNREAD_PPS: f64 = 100.0;
/// Without a sign of life for this long the kernel is about to stop trusting the agent: half of
/// the heartbeat limit after which rules stop to drop.
const HEARTBEAT_LATE: Duration = Duration::from_secs(3);

/// One problem, with its facts.
#[derive(Clone, Debug)]
pub enum Problem<'a> {
    /// The kernel does not have the rules that it should have.
    RuleDrift {
        /// Number of rules in the kernel.
        in_kernel: u32,
        /// Number of rules that it should have.
        of: usize,
    },
    /// The agent has not polled for this long.
    AgentLate(Duration),
    /// The configuration was refused.
    ConfigRefused {
        /// The file, where it was named.
        file: Option<&'a str>,
        /// Reason for the refusal.
        error: &'a str,
        /// Time at which the configuration that applies was read, if it is not the one before.
        stands_in: Option<Time>,
    },
    /// Packets are lost before XDP.
    DroppedBeforeXdp(&'a Losses),
    /// One CPU receives most packets.
    OneQueue {
        /// Number of the CPU.
        cpu: u32,
        /// Its share of all packets, 0 to 1.
        share: f64,
    },
    /// The table of connection tracking is nearly full.
    ConntrackFull(&'a Conntrack),
    /// The accept queue of a listener is full.
    AcceptQueueFull(Listener, Option<Queues>),
    /// The SYN-ACKs of listeners are not counted.
    EgressUnseen {
        /// The listeners.
        listeners: Vec<Listener>,
        /// An interface with a program that ends the chain at tc, and that program.
        ahead: Option<(&'a str, &'a str)>,
        /// True if the kernel does not report completed handshakes either.
        blind: bool,
    },
    /// A listener answers SYNs in frames that the XDP program does not read.
    UnreadSyns {
        /// Frames per second that exceed the bounds of the XDP program.
        rate: f64,
        /// The listener.
        listener: Listener,
    },
    /// Another program at tc runs first on an interface.
    TcBefore(&'a InterfaceFacts),
    /// An interface cannot hand packets on to its next program.
    NextProgram {
        /// Name of the interface.
        interface: &'a str,
        /// Name of the next program.
        next: &'a str,
        /// Reason for it, with its remedy.
        why: &'a Failure,
    },
    /// An interface does not exist.
    NoInterface(&'a str),
    /// An interface is without the XDP program.
    Detached(&'a str),
    /// The XDP program is attached in generic mode, which was not chosen.
    XdpGeneric(&'a InterfaceFacts),
    /// An interface is down or without a carrier.
    LinkDown(&'a str),
}

/// The problems of the agent and its host. Those that the agent found itself are in [`Facts::health`].
pub fn problems<'a>(report: &'a Report, facts: &'a Facts, losses: &'a Losses) -> Vec<Problem<'a>> {
    let mut found: Vec<Problem<'_>> = facts.interfaces.iter().flat_map(of_interface).collect();
    let links = facts.interfaces.iter().zip(&facts.losses.now.links);
    let down = links.filter(|(interface, link)| interface.ifindex != 0 && link.is_down);
    found.extend(down.map(|(interface, _)| Problem::LinkDown(&interface.name)));
    if let (Some(_), Some(in_kernel)) = (facts.drift_since, facts.rules_in_kernel) {
        found.push(Problem::RuleDrift { in_kernel, of: report.rules.len() });
    }
    let age = facts.heartbeat.map(|at| facts.clock.now.since(at));
    found.extend(age.filter(|age| *age > HEARTBEAT_LATE).map(Problem::AgentLate));
    if let Some(error) = &facts.config.error {
        found.push(Problem::ConfigRefused {
            file: facts.config.path.as_deref(),
            error,
            stands_in: facts.config.stands_in,
        });
    }
    if losses.state == LossState::Heavy {
        found.push(Problem::DroppedBeforeXdp(losses));
    }
    found.extend(losses.one_queue().map(|(cpu, share)| Problem::OneQueue { cpu, share }));
    let is_full = |one: &&Conntrack| one.ratio().is_some_and(|share| share >= CONNTRACK_FULL);
    found.extend(facts.conntrack.as_ref().filter(is_full).map(Problem::ConntrackFull));
    let listeners = report.listeners.iter();
    let overloaded = listeners.filter(|one| one.state == ListenerState::Overloaded);
    found.extend(overloaded.map(|one| Problem::AcceptQueueFull(one.listener, one.queues)));
    found.extend(egress_unseen(report, facts));
    found.extend(unread_syns(report, facts));
    found
}

fn of_interface(interface: &InterfaceFacts) -> Vec<Problem<'_>> {
    let name = interface.name.as_str();
    let mut found = Vec::new();
    if !interface.ahead.is_empty() {
        found.push(Problem::TcBefore(interface));
    }
    if let Some(NextProgramFacts { name: next, id: Err(why) }) = &interface.next {
        found.push(Problem::NextProgram { interface: name, next, why });
    }
    if interface.ifindex == 0 {
        found.push(Problem::NoInterface(name));
    } else if !interface.attached {
        found.push(Problem::Detached(name));
    } else if interface.mode == AttachMode::Generic && interface.choice.is_none() {
        found.push(Problem::XdpGeneric(interface));
    }
    found
}

/// A listener that answers SYNs in frames that the XDP program does not read. Every SYN-ACK that is no
/// retransmission answers a SYN, so more of them than seen SYNs show that SYNs were not read.
fn unread_syns<'a>(report: &Report, facts: &Facts) -> Option<Problem<'a>> {
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
    Some(Problem::UnreadSyns { rate, listener: listener.listener })
}

/// The listeners with unseen replies. Without the tracepoint nothing is known of their handshakes.
fn egress_unseen<'a>(report: &Report, facts: &'a Facts) -> Option<Problem<'a>> {
    let unseen = report.listeners.iter().filter(|one| one.egress == Egress::Unseen);
    let listeners: Vec<Listener> = unseen.map(|one| one.listener).collect();
    let ahead = facts
        .interfaces
        .iter()
        .find_map(|one| Some((one.name.as_str(), one.ahead.first()?.as_str())));
    let blind = facts.health.iter().any(|finding| finding.code == "no_tracepoint");
    (!listeners.is_empty()).then_some(Problem::EgressUnseen { listeners, ahead, blind })
}
