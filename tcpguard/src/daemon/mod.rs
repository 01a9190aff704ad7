//! The agent: one loop that owns the engine, polls the kernel, and carries out the engine's decisions.
//!
//! *Listeners.* A SYN never makes a listener. `listeners/priority.rs` decides which sockets get a slot,
//! `listeners/answering.rs` which services are known by their SYN-ACKs, `reading/pace.rs` how often the sockets are
//! read.
//!
//! *Interfaces.* `interfaces` tracks each interface by its index, which it keeps when it is renamed, and looks for a
//! missing one by the operator's name. The pins bear that name, so the next agent finds it too. An interface counts
//! as attached when the link and the interface both report the program of the link. The pin of a next program is
//! opened once a second (decision 20 in `docs/evidence/decisions`).
//!
//! *Audit.* `executor/audit.rs` compares every rule in the kernel with the rules that the executor wants there, a
//! part in each poll. `agent/repair.rs` checks listeners, exemptions, configuration and hooks.
//! Differences are repaired and reported.
//!
//! *Reads and heartbeat.* A source of the host that cannot be read keeps its last value (`reading/host_view.rs`). The
//! heartbeat is written last, and only by a poll that did its work.
//!
//! *Mitigations.* A mitigation is a bit of the listener's entry. Before cookies are armed, `mitigations/cookies.rs`
//! determines which kind this host supports, `mitigations/obstacles.rs` looks for obstacles at this listener, every
//! five seconds in calm too, and the programs reply to a test SYN in the way of this listener. A mitigation that is
//! unavailable is returned to the engine with its reason (decision 9).
//!
//! *Rules.* A change of a single rule adds or removes its keys. A whole set is written beside the effective one under
//! the next number, and takes effect when `Config::rule_set` names it (`executor/replacement.rs`, decision 6).
//!
//! *Fleet.* `fleet/server.rs` reads lines of `tcpguard-fleet` into a bounded queue, which the loop takes last, and
//! writes the newest report. The engine trusts none of it.

mod agent;
mod configuration;
mod executor;
mod fleet;
mod heap;
mod hint;
mod interfaces;
mod listeners;
mod mitigations;
mod mode_clock;
mod programs;
mod reading;
mod store;
pub mod stored;
mod ways_back;

use std::fmt::Display;

use agent::{Agent, PendingResponse};
use fleet::FleetServer;
use tcpguard_engine::POLL;
use tcpguard_host::hint::Failure;
use tcpguard_host::linux::{LinkEvent, LinkWatch};
use tcpguard_host::notify::Notifier;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Config;
use crate::control::{Incoming, Peer, Request, Response, Server};
use crate::telemetry;
use crate::telemetry::metrics::MetricsServer;
pub use configuration::provenance::{Provenance, Refused};
pub use hint::hint;
pub use mitigations::syncookies;
pub use store::memory;

const INTERFACE_CHANGES: &str = "interface changes";
/// Requests of one kind that may wait for the loop.
const WAITING_REQUESTS: usize = 32;

/// Protects the host until SIGTERM or SIGINT. The programs then stay attached and drop by their
/// rules for half a minute more; the next agent takes links, maps and rules over without a gap.
/// `tcpguard detach` takes the programs off.
///
/// # Errors
/// When it cannot start. Then nothing is attached that was not before.
pub async fn run(config: Config, provenance: Provenance) -> anyhow::Result<()> {
    // Before anything large is read.
    heap::give_back();
    let signal = |name, kind| signal(kind).map_err(|error| unmonitored(name, error));
    let mut terminate = signal("SIGTERM", SignalKind::terminate())?;
    let mut interrupt = signal("SIGINT", SignalKind::interrupt())?;
    let mut hangup = signal("SIGHUP", SignalKind::hangup())?;
    raise_priority();
    // The sockets first: they show whether another agent lives.
    let server = Server::bind(&config.runtime_dir, config.control.group.as_deref())?;
    let group = config.control.group.as_deref();
    let (metrics, unserved) =
        MetricsServer::bind(&config.runtime_dir, group, config.metrics.listen).await?;
    let fleet = config
        .fleet
        .listen
        .then(|| FleetServer::bind(&config.runtime_dir, &config.fleet.group))
        .transpose();
    let mut notifier = Notifier::from_environment(POLL);
    // Before anything is attached: an error after that would leave the XDP program attached.
    let links = LinkWatch::open()?;
    #[expect(unsafe_code, reason = "tokio takes a descriptor's word for what it refers to")]
    // SAFETY: `LinkWatch` owns its descriptor, opens no other and keeps it until it is dropped.
    let links = unsafe { AsyncFd::register_with_interest(links, Interest::READABLE) };
    let mut links = links.map_err(|error| unmonitored(INTERFACE_CHANGES, error))?;
    let mut agent = Agent::start(config, provenance)?;
    heap::give_back();
    agent.health.extend(unserved);
    let fleet = fleet.unwrap_or_else(|not_served| {
        agent.health.push(not_served);
        None
    });
    let fleet = fleet.map(|(server, exchange)| {
        agent.fleet = Some(exchange);
        tokio::spawn(server.serve())
    });
    agent.check_interfaces();
    let (change, mut changes) = mpsc::channel(WAITING_REQUESTS);
    let (question, mut questions) = mpsc::channel(WAITING_REQUESTS);
    let server = tokio::spawn(server.serve(change, question.clone()));
    let metrics = tokio::spawn(metrics.serve(question));
    let mut exchange_due = false;
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    log::info!("{}", agent.started());
    notifier.ready(&agent.in_brief());
    loop {
        // In this order: the end is not delayed, and requests do not starve detection.
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = ticks.tick() => {
                if let Some(now) = agent.poll() {
                    notifier.alive(now);
                }
                notifier.status(&agent.in_brief());
                exchange_due = true;
            }
            _ = hangup.recv() => {
                reload(&mut agent, &mut notifier, None);
            }
            changed = links.readable_mut() => {
                let mut changed = changed.map_err(|error| unmonitored(INTERFACE_CHANGES, error))?;
                let events = changed.get_inner_mut().drain();
                changed.clear_ready();
                follow_links(&mut agent, events);
            }
            // A request that changes something does not wait behind requests that only read.
            Some(incoming) = changes.recv() => serve(&mut agent, &mut notifier, incoming),
            Some(incoming) = questions.recv() => serve(&mut agent, &mut notifier, incoming),
            // The fleet process waits for all of that, and nothing waits for it.
            () = std::future::ready(()), if exchange_due => {
                exchange_due = false;
                agent.exchange();
            }
        }
    }
    notifier.stopping();
    server.abort();
    metrics.abort();
    fleet.iter().for_each(JoinHandle::abort);
    agent.keep_records();
    log::info!("{}", agent.stopped());
    Ok(())
}

/// Looks at the interfaces if anything has changed there.
fn follow_links<E: Display>(agent: &mut Agent, events: Result<Vec<LinkEvent>, E>) {
    match events {
        Ok(events) if events.is_empty() => {}
        Ok(_) => agent.check_interfaces(),
        Err(error) => {
            log::warn!("interface events lost, changes are noticed within 1s: {error}");
        }
    }
}

/// The error that the agent could not wait for `what`, with the command that shows the cause.
fn unmonitored(what: &str, error: impl Display) -> Failure {
    Failure::new(format!("cannot wait for {what}: {error}"), "tcpguard doctor")
}

fn serve(agent: &mut Agent, notifier: &mut Notifier, incoming: Incoming) {
    let Incoming { request, peer, reply } = incoming;
    let answer = match &request {
        Request::Reload => reload(agent, notifier, Some(peer)).into(),
        request => agent.respond(request, peer),
    };
    let give = move |response: Response| {
        // Of the requests of a recording, several a second, the first is enough.
        let goes_on = matches!(request, Request::CapturedSyns { after: Some(_) });
        if request.is_change() && !goes_on {
            telemetry::audit(peer, &request, &response);
        }
        // A client that has gone needs no answer.
        let _ = reply.send(response);
    };
    match answer {
        PendingResponse::AtOnce(response) => give(response),
        // The loop does not wait for the disk.
        answer => drop(tokio::spawn(async move { give(answer.when_due().await) })),
    }
}

/// Reads the configuration again and reports the beginning and the end to the service manager.
fn reload(agent: &mut Agent, notifier: &mut Notifier, peer: Option<Peer>) -> Response {
    notifier.reloading();
    let response = agent.reload(peer);
    notifier.ready(&agent.in_brief());
    response
}

/// Asks for the CPU before ordinary processes: a flood takes it away in the kernel's own threads,
/// and a poll needs some milliseconds of it just then. The unit does the same with `Nice=`.
fn raise_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, -20) {
        log::debug!("CPU priority not raised: {error}");
    }
}
