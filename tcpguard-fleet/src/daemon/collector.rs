//! `tcpguard-fleet collect`: the fleet as one picture.

use std::time::Duration;

use tcpguard_host::finding::worst_first;
use tcpguard_host::hint::Failure;
use tcpguard_host::notify::Notifier;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::link::{BusLink, News};
use super::request::{Request, Response};
use super::server::{Incoming, Server};
use super::signals::{Asked, Signals};
use super::status::BusStatus;
use super::{COLLECTOR_SOCKET, Paths, REQUESTS, StartError, TICK, clock, connect};
use crate::bus::{Bus, Received};
use crate::collect::{Collector, FleetStatus};
use crate::config::Config;

/// Runs until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, paths: &Paths) -> Result<(), StartError> {
    let mut signals = Signals::new()?;
    let server = Server::bind(&paths.runtime_dir.join(COLLECTOR_SOCKET))?;
    let bus = connect(&config, &config.host()?).await?;
    let mut link = BusLink::new(bus.clone());
    link.subscribe(Collector::SUBSCRIPTIONS.map(str::to_owned));
    let mut collector = Collector::new(clock().now);
    let (requests, mut incoming) = mpsc::channel(REQUESTS);
    let server = tokio::spawn(server.serve(requests));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut notifier = Notifier::from_environment(TICK);
    notifier.ready("started");
    log::info!("collector started");
    loop {
        tokio::select! {
            biased;
            asked = signals.next() => match asked {
                Asked::End => break,
                Asked::Reload => log::info!("nothing to reload; changes need a restart"),
            },
            _ = ticks.tick() => {
                collector.handle_time(clock());
                let connected = if bus.link().is_connected { "connected" } else { "not connected" };
                notifier.status(&format!("bus {connected}"));
                notifier.alive(clock().now);
            }
            Some(Incoming { request, reply }) = incoming.recv() => {
                let response = match request {
                    Request::Status => {
                        let now = clock();
                        let mut status = collector.status(now);
                        let bus = BusStatus::new(bus.link(), link.dropped());
                        status.health.extend(bus.finding(now.wall));
                        worst_first(&mut status.health);
                        Response::Fleet(Box::new(status))
                    }
                    Request::Confirm(_) => Response::not_here("collector"),
                };
                // A client that has gone needs no response.
                let _ = reply.send(response);
            }
            news = link.next() => take(&mut collector, news),
        }
        while let Some(event) = collector.next_event() {
            log::log!(event.level(), "{}: {event}", event.name());
        }
    }
    notifier.stopping();
    server.abort();
    log::info!("collector stopped");
    Ok(())
}

/// Listens to the fleet for some time, and returns its state: for a fleet without a collector.
///
/// # Errors
/// When the bus cannot be used.
pub async fn listen(config: &Config, time: Duration) -> Result<FleetStatus, StartError> {
    let bus = connect(config, &config.host()?).await?;
    let mut link = BusLink::new(bus.clone());
    let status = listen_to(&mut link, time).await;
    let state = bus.link();
    match (state.is_connected, state.last_error) {
        (true, _) => Ok(status),
        (false, why) => {
            let why = why.unwrap_or_else(|| "no reply".to_owned());
            let hint = "check [bus] in /etc/tcpguard/fleet.toml, and its credentials";
            Err(Failure::new(format!("no connection to the bus: {why}"), hint).into())
        }
    }
}

async fn listen_to(link: &mut BusLink<impl Bus>, time: Duration) -> FleetStatus {
    link.subscribe(Collector::SUBSCRIPTIONS.map(str::to_owned));
    let mut collector = Collector::new(clock().now);
    let end = Instant::now() + time;
    while let Ok(news) = timeout_at(end, link.next()).await {
        take(&mut collector, news);
    }
    collector.handle_time(clock());
    collector.status(clock())
}

fn take(collector: &mut Collector, news: News) {
    if let News::Received(Received { subject, document }) = news {
        // A refusal is counted.
        let _ = collector.handle_document(clock(), &subject, &document);
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_host::time::Time;

    use super::super::link::tests::Memory;
    use super::*;
    use crate::document::tests::{envelope, heartbeat};
    use crate::document::{Document, Envelope, Subject};

    #[tokio::test(start_paused = true)]
    async fn a_fleet_without_a_collector_is_listened_to() {
        let bus = Memory::default();
        let mut link = BusLink::new(bus.clone());
        let sending = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            for number in [7, 8] {
                let at = Time(clock().wall);
                let host = heartbeat(Envelope { at, ttl_s: 90, ..envelope(number, 1) });
                let document = Document::Host(host);
                let subject = Subject::of(&document).expect("a subject").to_string();
                let document = document.to_json().expect("JSON");
                let received = Received { subject, document };
                assert_eq!(bus.deliver(Subject::ALL_HOSTS, received).await, 1);
            }
        };
        let (status, ()) = tokio::join!(listen_to(&mut link, Duration::from_millis(300)), sending);
        assert_eq!((status.summary.hosts, status.hosts.len()), (2, 2));
        let mut patterns = bus.patterns();
        patterns.sort();
        assert_eq!(patterns, ["tg.1.announced.*", "tg.1.host.*", "tg.1.inc.*", "tg.1.relief.*"]);
    }
}
