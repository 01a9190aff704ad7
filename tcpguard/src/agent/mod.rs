//! The agent: one loop that owns the engine, polls the kernel, and carries out what the engine
//! wants.

mod client_filter;
pub mod distinct;
mod executor;
mod facts;
mod guard;
mod interfaces;
mod listeners;
mod mode_file;

use anyhow::Context as _;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Config;
use crate::control::Server;
use crate::host::LinkWatch;
use guard::Guard;

/// Requests that may wait for the loop.
const WAITING_REQUESTS: usize = 32;

/// Protects the host until SIGTERM or SIGINT. The programs then stay attached with their
/// rules for half a minute; the next agent takes the links over and makes its rules anew.
/// `tcpguard detach` takes the programs off.
///
/// # Errors
/// When it cannot start. Then nothing is attached that was not before.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    raise_priority();
    // The sockets first: they tell whether another agent lives.
    let server = Server::bind(&config.runtime_dir, config.group.as_deref())?;
    let poll = config.detection.poll;
    // Before anything is attached: what fails from there on would leave the filter on.
    let links = LinkWatch::open()?;
    // SAFETY: `LinkWatch` owns its descriptor, opens no other and keeps it until it is dropped.
    let links = unsafe { AsyncFd::register_with_interest(links, Interest::READABLE) };
    let mut links = links.context("cannot wait for interface changes")?;
    let mut guard = Guard::start(config)?;
    guard.check_interfaces();
    let (requests, mut incoming) = mpsc::channel(WAITING_REQUESTS);
    let server = tokio::spawn(server.serve(requests));
    let mut ticks = interval(poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    log::info!("{}", guard.started());
    loop {
        // In this order: an end is not delayed, detection is not starved by whoever asks.
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = ticks.tick() => guard.poll(),
            changed = links.readable_mut() => {
                let mut changed = changed.context("cannot wait for interface changes")?;
                let events = changed.get_inner_mut().drain();
                changed.clear_ready();
                match events {
                    Ok(events) if events.is_empty() => {}
                    Ok(_) => guard.check_interfaces(),
                    Err(error) => {
                        log::warn!("interface changes are only noticed each second: {error}");
                    }
                }
            }
            Some(incoming) = incoming.recv() => {
                let response = guard.answer(&incoming.request, incoming.peer);
                // A client that has gone needs no answer.
                let _ = incoming.reply.send(response);
            }
        }
    }
    server.abort();
    if guard.interfaces.all_detached() {
        log::info!("stopped; the filter is on no interface");
    } else {
        log::info!("{}", guard.stopped());
    }
    Ok(())
}

/// Asks for the CPU before ordinary processes: a flood takes it away in the kernel's own threads,
/// and a poll needs some milliseconds of it just then. The unit does the same with `Nice=`.
fn raise_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, -20) {
        log::debug!("runs at its priority as started: {error}");
    }
}
