//! `tcpguard-fleet collect`: the fleet as one picture.

use std::time::Duration;

use tcpguard_host::finding::worst_first;
use tcpguard_host::time::Clock;
use tokio::time::{Instant, timeout_at};

use super::link::{BusLink, News};
use super::role::{self, Role};
use super::server::Server;
use super::signals::Signals;
use super::{COLLECTOR_SOCKET, Paths, StartError, clock, connect, no_connection};
use crate::bus::{Bus, BusStatus, Received};
use crate::collect::{Collector, FleetStatus};
use crate::config::Config;

/// Runs until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, paths: &Paths) -> Result<(), StartError> {
    let signals = Signals::new()?;
    let server = Server::bind(&paths.runtime_dir.join(COLLECTOR_SOCKET))?;
    let bus = connect(&config, &config.host()?).await?;
    let mut link = BusLink::new(bus.clone());
    link.subscribe(Collector::SUBSCRIPTIONS.map(str::to_owned));
    let mut process = Process { collector: Collector::new(clock().now), link };
    log::info!("collector started");
    role::run(&mut process, signals, server, &bus).await;
    log::info!("collector stopped");
    Ok(())
}

/// The collector and its bus.
struct Process<B> {
    collector: Collector,
    link: BusLink<B>,
}

impl<B: Bus> Role for Process<B> {
    const NAME: &str = "collector";
    type Status = FleetStatus;

    async fn step(&mut self, clock: Clock) {
        self.collector.handle_time(clock);
    }

    async fn hear(&mut self) {
        let news = self.link.next().await;
        take(&mut self.collector, news);
    }

    fn carry_out(&mut self, _: Clock) {
        while let Some(event) = self.collector.next_event() {
            log::log!(event.level(), "{}: {event}", event.name());
        }
    }

    fn in_brief(&mut self, bus: &BusStatus) -> String {
        format!("bus {}", bus.words())
    }

    fn status(&mut self, clock: Clock, bus: BusStatus) -> FleetStatus {
        let mut status = self.collector.status(clock);
        status.health.extend(bus.finding(clock.wall));
        worst_first(&mut status.health);
        status
    }
}

/// Listens to the fleet for some time, and returns its state: for a fleet without a collector.
///
/// # Errors
/// When the bus cannot be used.
pub async fn listen(config: &Config, time: Duration) -> Result<FleetStatus, StartError> {
    let bus = connect(config, &config.host()?).await?;
    let mut link = BusLink::new(bus.clone());
    let status = listen_to(&mut link, time).await;
    let bus = bus.status();
    if bus.connected { Ok(status) } else { Err(no_connection(bus).into()) }
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
