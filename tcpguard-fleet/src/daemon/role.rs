//! The loop of a process of the fleet, whatever its role.

use tcpguard_engine::Timestamp;
use tcpguard_host::notify::Notifier;
use tcpguard_host::time::Clock;
use tokio::sync::mpsc;

use super::request::{Request, Response};
use super::server::{Incoming, Server};
use super::signals::{Asked, Signals};
use super::{REQUESTS, TICK, clock, wait_until};
use crate::bus::{BusStatus, Nats};
use crate::document::HostId;

/// The role of a process, which one task owns. Nothing but [`Self::step`] and [`Self::hear`] waits.
pub(super) trait Role {
    /// Its name, for requests that are for another process.
    const NAME: &'static str;
    /// Its state as a document.
    type Status: Into<Response>;

    /// Does what is due at this time.
    async fn step(&mut self, clock: Clock);

    /// Waits for the next input and takes it. The wait may be given up at any time.
    async fn hear(&mut self);

    /// Carries out the effects of the inputs so far.
    fn carry_out(&mut self, _clock: Clock) {}

    /// Time of the next step, after that at `stepped`.
    fn due(&self, stepped: Timestamp) -> Timestamp {
        stepped + TICK
    }

    /// The state in one line.
    fn in_brief(&mut self, bus: &BusStatus) -> String;

    /// The state.
    fn status(&mut self, clock: Clock, bus: BusStatus) -> Self::Status;

    /// Keeps the routes of a host for another day.
    fn confirm(&mut self, _clock: Clock, _host: &HostId) -> Response {
        Response::not_here(Self::NAME)
    }

    /// Reads the configuration again.
    fn reload(&mut self, _clock: Clock) {
        log::info!("nothing to reload; changes need a restart");
    }
}

/// Runs until a signal ends it.
pub(super) async fn run(role: &mut impl Role, mut signals: Signals, server: Server, bus: &Nats) {
    let (requests, mut incoming) = mpsc::channel(REQUESTS);
    let server = tokio::spawn(server.serve(requests));
    let mut notifier = Notifier::from_environment(TICK);
    notifier.ready(&role.in_brief(&bus.status()));
    // Inputs come more often than once a second: they must not put a step off.
    let mut stepped = Timestamp::default();
    loop {
        let due = role.due(stepped);
        // In this order: the end is not delayed, and a flood of documents does not delay the time.
        tokio::select! {
            biased;
            asked = signals.next() => match asked {
                Asked::End => break,
                Asked::Reload => role.reload(clock()),
            },
            () = wait_until(due) => {
                stepped = clock().now;
                role.step(clock()).await;
                notifier.status(&role.in_brief(&bus.status()));
                notifier.alive(clock().now);
            }
            Some(Incoming { request, reply }) = incoming.recv() => {
                let response = match request {
                    Request::Status => role.status(clock(), bus.status()).into(),
                    Request::Confirm(host) => role.confirm(clock(), &host),
                };
                // A client that has gone needs no response.
                let _ = reply.send(response);
            }
            () = role.hear() => {}
        }
        role.carry_out(clock());
    }
    notifier.stopping();
    server.abort();
}
