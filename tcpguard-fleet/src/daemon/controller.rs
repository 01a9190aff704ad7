//! `tcpguard-fleet relief`: the controller of the routers of a site, and the parent of its BGP speaker.

mod reports;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::finding::{Finding, worst_first};
use tcpguard_host::hint::Failure;
use tcpguard_host::time::{Clock, Time};
use tcpguard_host::units;

use self::reports::Reports;
use super::link::{BusLink, News};
use super::request::Response;
use super::role::{self, Role};
use super::server::Server;
use super::signals::Signals;
use super::status::{ControllerStatus, ProcessStatus};
use super::store::Store;
use super::{CONTROLLER_SOCKET, Paths, StartError, clock, connect};
use crate::bus::{Bus, BusStatus, Credentials, Received};
use crate::config::{self, Config, SpeakerKind};
use crate::document::{Announced, Document, HostId, Kind, Sender, Subject};
use crate::hook::secret::Secret;
use crate::relief::controller::{Change, Controller, Entry, Event};
use crate::relief::drive::{Drive, Step};
use crate::relief::route::{Key, Route};
use crate::relief::speaker::dry_run::DryRun;
use crate::relief::speaker::exabgp::ExaBgp;
use crate::relief::speaker::gobgp::GoBgp;
use crate::relief::speaker::peering::{Password, Peering};
use crate::relief::speaker::{Speaker, SpeakerError};
use crate::relief::{filter, wire};
use crate::trust::{Admission, Bounds};

/// First wait before the speaker is started anew, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Longest wait before the speaker is started anew.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Time for which a speaker has to run until its next start is not put off.
const STEADY: Duration = Duration::from_secs(300);

/// Runs until a signal ends it. Its routes end with it.
///
/// # Errors
/// When it cannot start.
pub async fn run(mut config: Config, paths: &Paths) -> Result<(), StartError> {
    let Some(relief) = config.relief.clone() else {
        let hint = "write [relief] in /etc/tcpguard/fleet.toml; every key is explained there";
        let failure = Failure::new("this host is no controller of routers", hint);
        return Err(StartError::Configuration(failure));
    };
    if let Some(credentials) = &relief.credentials {
        config.bus.credentials = Credentials::File(credentials.clone());
    }
    let signals = Signals::new()?;
    let host = config.host()?;
    let server = Server::bind(&paths.runtime_dir.join(CONTROLLER_SOCKET))?;
    let boot = Store::new(&paths.state_dir, "controller").begin_run(clock())?;
    let speaker = Starter::new(&relief, &paths.runtime_dir).map_err(StartError::Configuration)?;
    let bus = connect(&config, &host).await?;
    let mut link = BusLink::new(bus.clone());
    link.subscribe([Subject::ALL_RELIEF.to_owned()]);
    let sender = Sender::new(host, config.site.clone(), boot);
    let mut process = Process::new(relief, sender, link, speaker);
    log::info!("controller started{}", if process.dry_run { ", as a dry run" } else { "" });
    role::run(&mut process, signals, server, &bus).await;
    // Its speaker ends with it.
    drop(process);
    log::info!("controller stopped: its routes are withdrawn");
    Ok(())
}

/// Starts BGP speakers, later and later if they fail.
struct Starter {
    speaker: Option<config::Speaker>,
    peering: Option<Peering>,
    directory: PathBuf,
    /// Time of the next start, and the wait before the one after it.
    next: Timestamp,
    wait: Duration,
    started: Option<Timestamp>,
}

/// A BGP speaker of any kind.
enum AnySpeaker {
    DryRun(DryRun),
    GoBgp(GoBgp),
    ExaBgp(ExaBgp),
}

impl Speaker for AnySpeaker {
    async fn apply(&mut self, change: &Change) -> Result<(), SpeakerError> {
        match self {
            Self::DryRun(speaker) => speaker.apply(change).await,
            Self::GoBgp(speaker) => speaker.apply(change).await,
            Self::ExaBgp(speaker) => speaker.apply(change).await,
        }
    }

    async fn table(&mut self) -> Result<Vec<Entry>, SpeakerError> {
        match self {
            Self::DryRun(speaker) => speaker.table().await,
            Self::GoBgp(speaker) => speaker.table().await,
            Self::ExaBgp(speaker) => speaker.table().await,
        }
    }

    async fn is_established(&mut self) -> Result<bool, SpeakerError> {
        match self {
            Self::DryRun(speaker) => speaker.is_established().await,
            Self::GoBgp(speaker) => speaker.is_established().await,
            Self::ExaBgp(speaker) => speaker.is_established().await,
        }
    }
}

impl Starter {
    /// The speaker of the configuration, with its files in `directory`. In a dry run it is none.
    fn new(relief: &config::Relief, directory: &Path) -> Result<Self, Failure> {
        let speaker = relief.speaker.clone().filter(|_| !relief.bounds.dry_run);
        let peering = speaker.as_ref().map(peering).transpose()?;
        Ok(Self {
            speaker,
            peering,
            directory: directory.to_owned(),
            next: Timestamp::default(),
            wait: FIRST_RETRY,
            started: None,
        })
    }

    /// Starts a speaker, if it is time. A reason for which there is none is in the journal.
    async fn start(&mut self, now: Timestamp) -> Option<AnySpeaker> {
        let (Some(speaker), Some(peering)) = (&self.speaker, &self.peering) else {
            return Some(AnySpeaker::DryRun(DryRun::default()));
        };
        if now < self.next {
            return None;
        }
        let has_been_steady =
            self.started.take().is_some_and(|started| now.since(started) >= STEADY);
        let wait = if has_been_steady { FIRST_RETRY } else { self.wait };
        (self.next, self.wait) = (now + wait, (wait * 2).min(LAST_RETRY));
        let (program, directory) = (speaker.program.as_path(), self.directory.as_path());
        let started = match speaker.kind {
            SpeakerKind::GoBgp => {
                GoBgp::start(program, peering, directory).await.map(AnySpeaker::GoBgp)
            }
            SpeakerKind::ExaBgp => {
                let relay = relay(std::env::current_exe().ok());
                let relay: Vec<&str> = relay.iter().map(String::as_str).collect();
                let started = ExaBgp::start(program, &relay, peering, directory).await;
                started.map(AnySpeaker::ExaBgp)
            }
        };
        match started {
            Ok(speaker) => {
                self.started = Some(now);
                log::info!("BGP speaker {} started", program.display());
                Some(speaker)
            }
            Err(error) => {
                let wait = units::span(wait);
                log::error!("{error}. Next try in {wait}; see: ls -l {}", program.display());
                None
            }
        }
    }
}

/// The session with its password.
fn peering(speaker: &config::Speaker) -> Result<Peering, Failure> {
    let Some(path) = &speaker.password else { return Ok(speaker.peering.clone()) };
    let secret = Secret::read(path)?;
    let wrong = |why: &dyn Display| {
        Failure::new(
            format!("{}: {why}", path.display()),
            format!("write another one into {}", path.display()),
        )
    };
    let text = std::str::from_utf8(secret.bytes()).map_err(|error| wrong(&error))?;
    let password = Password::new(text).map_err(|error| wrong(&error))?;
    Ok(Peering { password: Some(password), ..speaker.peering.clone() })
}

/// The command that ExaBGP runs for its API, by the path of this program.
fn relay(own: Option<PathBuf>) -> Vec<String> {
    let own = own.as_deref().and_then(Path::to_str).unwrap_or("/usr/bin/tcpguard-fleet");
    // After an upgrade the kernel marks the path of the program that runs, and the new one is there.
    let own = own.strip_suffix(" (deleted)").unwrap_or(own);
    vec![own.to_owned(), "exabgp-relay".to_owned()]
}

/// A change in words.
fn describe(change: &Change) -> String {
    match change {
        Change::Announce(Route::FlowSpec(rule)) => format!("announced: {}", filter::flowspec(rule)),
        Change::Announce(Route::Blackhole(route)) => {
            format!("announced: blackhole {}", route.destination())
        }
        Change::Withdraw(Key { family, nlri }) => {
            let rule = wire::rule(*family, nlri);
            let destination = rule.map(|rule| rule.terms().destination);
            let destination = destination.or_else(|| wire::host(*family, nlri));
            let destination = destination.map_or("?".to_owned(), |address| address.to_string());
            format!("withdrawn: {} route to {destination}", family.name())
        }
    }
}

/// The controller, and all around it.
struct Process<B> {
    dry_run: bool,
    sender: Sender,
    admission: Admission,
    drive: Drive<AnySpeaker>,
    starter: Starter,
    link: BusLink<B>,
    reports: Reports,
    was_established: bool,
    /// The last failure of the speaker.
    failure: Option<String>,
}

impl<B: Bus> Process<B> {
    fn new(relief: config::Relief, sender: Sender, link: BusLink<B>, starter: Starter) -> Self {
        Self {
            dry_run: relief.bounds.dry_run,
            sender,
            // It hears hosts only, and this one is one of them.
            admission: Admission::new(None, Bounds::COLLECTOR),
            drive: Drive::new(Controller::new(relief.bounds)),
            starter,
            link,
            reports: Reports::default(),
            was_established: false,
            failure: None,
        }
    }

    fn handle_news(&mut self, clock: Clock, news: News) {
        let News::Received(Received { subject, document }) = news else { return };
        // A refusal is counted.
        if let Ok(Some((_, Document::Relief(relief)))) =
            self.admission.admit(clock, &subject, &document)
        {
            self.drive.controller().hear(clock.now, &relief);
        }
    }

    fn note(&mut self, step: Step) {
        let Step { event, change, refusal, failure } = step;
        match event {
            Some(Event::Established) => log::info!("BGP session established"),
            Some(Event::SessionLost) => log::error!("BGP session lost, and its routes with it"),
            Some(Event::HeldBack) => {
                log::error!("BGP session lost too often: nothing is announced for 10m");
            }
            None => {}
        }
        let mode = if self.dry_run { " (dry run)" } else { "" };
        if let Some(change) = change {
            log::warn!("{}{mode}", describe(&change));
        }
        if let Some(refusal) = refusal {
            log::error!("route not changed: {refusal}");
        }
        if let Some(failure) = failure {
            log::error!("BGP speaker ended: {failure}");
            self.failure = Some(failure.to_string());
        } else if !self.drive.needs_speaker() {
            self.failure = None;
        }
    }

    /// Publishes the state of the routes of each host that asks.
    fn report(&mut self, clock: Clock) {
        let answers = self.drive.controller().answers(clock);
        let established = self.drive.controller().is_established();
        self.was_established = established;
        for (about, part, routes) in self.reports.due(clock.now, &answers, established) {
            let envelope = self.sender.envelope(clock, Kind::Announced);
            let document =
                Document::Announced(Announced { envelope, part, about, established, routes });
            let subject = Subject::of(&document).map(|subject| subject.to_string());
            match (subject, document.to_json()) {
                (Some(subject), Ok(document)) => self.link.publish(subject, document),
                (_, Err(error)) => log::error!("report about routes not published: {error}"),
                (None, Ok(_)) => {}
            }
        }
    }

    fn findings(
        &self,
        now: jiff::Timestamp,
        bus: &BusStatus,
        status: &ControllerStatus,
    ) -> Vec<Finding> {
        let speaker = match (status.dry_run, status.speaker, status.established) {
            (true, ..) => Some(
                Finding::notice("fleet_dry_run", "nothing is announced: this is a dry run")
                    .hint("set dry_run = false under [relief] in /etc/tcpguard/fleet.toml"),
            ),
            (false, false, _) => {
                let why = self.failure.as_deref().unwrap_or("it does not start");
                Some(
                    Finding::critical("fleet_speaker", format!("no BGP speaker runs: {why}"))
                        .hint("journalctl -u tcpguard-fleet-relief"),
                )
            }
            (false, true, false) => Some(
                Finding::critical("fleet_session", "no BGP session to the router")
                    .hint("check neighbor, AS numbers and password under [relief] in /etc/tcpguard/fleet.toml"),
            ),
            (false, true, true) => None,
        };
        let unknown = (status.unknown_hosts > 0).then(|| {
            let count = units::counted(status.unknown_hosts, "request");
            Finding::warning("fleet_unknown_hosts", format!("{count} of unknown hosts refused"))
                .hint("add the hosts as [[relief_host]] in /etc/tcpguard/fleet.toml")
        });
        let mut findings: Vec<Finding> =
            [bus.finding(now), speaker, unknown].into_iter().flatten().collect();
        worst_first(&mut findings);
        findings
    }
}

impl<B: Bus> Role for Process<B> {
    const NAME: &str = "controller";
    type Status = ProcessStatus;

    /// Brings the table of the speaker nearer to the requests, and reports the routes.
    async fn step(&mut self, clock: Clock) {
        self.admission.forget_silent(clock.now);
        if self.drive.needs_speaker()
            && let Some(speaker) = self.starter.start(clock.now).await
        {
            self.drive.set_speaker(speaker);
        }
        let step = self.drive.step(super::clock().now).await;
        self.note(step);
        self.report(super::clock());
    }

    async fn hear(&mut self) {
        let news = self.link.next().await;
        self.handle_news(clock(), news);
    }

    fn confirm(&mut self, clock: Clock, host: &HostId) -> Response {
        if !self.reports.has(host) {
            let message = format!("host {host} asks for no route");
            return Failure::new(message, "tcpguard-fleet status").into();
        }
        self.drive.controller().confirm(clock.now, host);
        log::info!("routes of host {host} confirmed for 24h");
        Response::Done
    }

    fn in_brief(&mut self, _: &BusStatus) -> String {
        let speaker = match (self.dry_run, self.drive.needs_speaker()) {
            (true, _) => "dry run",
            (false, true) => "BGP speaker not running",
            (false, false) if self.was_established => "BGP session established",
            (false, false) => "no BGP session",
        };
        let routes = units::counted(self.drive.controller().table().count() as u64, "route");
        let hosts = units::counted(self.reports.count() as u64, "host");
        format!("{speaker}, {routes} for {hosts}")
    }

    fn status(&mut self, clock: Clock, mut bus: BusStatus) -> ProcessStatus {
        bus.unsent += self.link.dropped();
        let speaker = !self.drive.needs_speaker();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let controller = self.drive.controller();
        let refused = controller.refused().clone();
        let status = ControllerStatus {
            dry_run: self.dry_run,
            speaker: speaker && !self.dry_run,
            established: controller.is_established(),
            table: count(controller.table().count()),
            hosts: controller.answers(clock),
            unknown_hosts: refused.unknown_hosts,
            refused: refused.routes,
        };
        ProcessStatus {
            schema: ProcessStatus::SCHEMA.to_owned(),
            generated_at: Time(clock.wall),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.sender.host().clone(),
            health: self.findings(clock.wall, &bus, &status),
            bus,
            edge: None,
            controller: Some(status),
        }
    }
}

#[cfg(test)]
mod tests;
