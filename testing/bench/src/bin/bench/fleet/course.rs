//! The course of a measurement: quiet, single attacks, an attack on all, and load.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tcpguard_fleet::share::REDUNDANCY;
use tcpguard_fleet_kit::documents::{PORT, Peer};
use tcpguard_fleet_kit::keys::Role;
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_kit::measure::clock::{between, boot_ns};
use tcpguard_kit::measure::peak::resident;
use tcpguard_kit::net::netns::Netns;

use super::Options;
use super::observer::Observer;
use super::swarm::Swarm;
use crate::agent::process::Watch;
use crate::samples::Samples;

/// Numbers of the machines on the management network.
pub const SWARM: u8 = 2;
const OBSERVER: u8 = 3;
pub const PEER: u8 = 4;
/// Longest time until all have learned of an attack.
const LEARN: Duration = Duration::from_secs(10);
/// Time in which hosts that are attacked at once decide who speaks.
pub const BURST: Duration = Duration::from_secs(2);
/// Participants of the control without suppression: so few, because each of their messages goes to all.
const CONTROL: u16 = 100;
/// Documents per second of one sender in the measurement of the server's load.
const LOAD: u32 = 100;

/// Results of one run of the course.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Course {
    /// Number of the participants.
    pub participants: usize,
    /// Seconds until all were connected, by TLS and with their own credentials.
    pub connected_s: f64,
    /// CPU time of the server for each of these connections, in ms.
    pub connection_ms: f64,
    /// Memory of the server for each idle connection, in KiB.
    pub connection_kib: f64,
    /// Memory of this process for each participant, in KiB.
    pub participant_kib: f64,
    /// Without an attack: messages of each host in a minute, and % of a core that the server took.
    pub quiet: Quiet,
    /// Milliseconds from the evidence of one host to the hint at another, over all hosts and attacks.
    pub learned_ms: Samples,
    /// Hints that did not come in time.
    pub missed: usize,
    /// All hosts attacked at once with one signature.
    pub all: Together,
    /// A hundred hosts, with suppression and without it.
    pub control: [Together; 2],
    /// CPU time of the server for each delivery, in µs, at 100 documents a second.
    pub delivery_us: f64,
}

/// Messages and load without an attack.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quiet {
    /// Messages of each host in a minute.
    pub messages: f64,
    /// % of a core that the server took.
    pub cpu: f64,
}

/// Messages while all of some hosts are attacked at once.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Together {
    /// Number of the hosts.
    pub hosts: usize,
    /// Messages about the signature within the first two seconds.
    pub burst: u64,
    /// Messages about it in each minute after that, of all hosts together.
    pub per_minute: f64,
    /// Messages of each host about its incident in a minute.
    pub incident_per_minute: f64,
    /// % of a core that the server took.
    pub cpu: f64,
}

/// The stage of the measurement.
pub struct Stage {
    pub fleet: Fleet,
    pub machine: Netns,
    _observed: Netns,
    pub observer: Observer,
}

impl Stage {
    /// A bus, a machine for participants, and an observer.
    pub fn new() -> Result<Self> {
        let fleet = Fleet::new()?;
        let machine = fleet.machine(SWARM, Role::Host)?;
        let _observed = fleet.machine(OBSERVER, Role::Collector)?;
        let observer = Observer::start(fleet.client(&_observed, OBSERVER, Role::Collector)?)?;
        Ok(Self { fleet, machine, _observed, observer })
    }
}

/// Plays the course, and leaves its stage with all participants for the faults.
pub fn play(options: &Options) -> Result<(Course, Stage, Swarm)> {
    let control = [
        together_alone(CONTROL, REDUNDANCY, options)?,
        together_alone(CONTROL, usize::MAX, options)?,
    ];
    let stage = Stage::new()?;
    let mut course =
        Course { participants: options.participants.into(), control, ..Course::default() };
    let swarm = connect(&stage, options, &mut course)?;
    println!("fleet: quiet");
    course.quiet = quiet(&stage, &swarm, options)?;
    println!("fleet: single attacks");
    learn(&swarm, options, &mut course);
    println!("fleet: an attack on all");
    course.all = together(&stage, &swarm, options)?;
    println!("fleet: load of the server");
    course.delivery_us = deliver(&stage, &swarm, options)?;
    Ok((course, stage, swarm))
}

fn connect(stage: &Stage, options: &Options, course: &mut Course) -> Result<Swarm> {
    let server = stage.fleet.bus.pid()?;
    let own = std::process::id();
    let (before, before_own) = (resident(server)?, resident(own)?);
    let watch = Watch::start(server)?;
    let begun = Instant::now();
    let swarm = Swarm::start(&stage.fleet, &stage.machine, options.participants, REDUNDANCY)?;
    swarm.wait_until_connected(Duration::from_secs(60))?;
    course.connected_s = begun.elapsed().as_secs_f64();
    let each = f64::from(options.participants);
    course.connection_ms = 1e3 * watch.cpu()?.as_secs_f64() / each;
    // Subscriptions are on their way, and first heartbeats.
    sleep(Duration::from_secs(12));
    let more = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1024.0 / each;
    course.connection_kib = more(resident(server)?, before);
    course.participant_kib = more(resident(own)?, before_own);
    Ok(swarm)
}

fn quiet(stage: &Stage, swarm: &Swarm, options: &Options) -> Result<Quiet> {
    let window = options.window();
    let before: u64 = stage.observer.counts().values().sum();
    let watch = Watch::start(stage.fleet.bus.pid()?)?;
    sleep(window);
    let cpu = watch.percent()?;
    let messages = stage.observer.counts().values().sum::<u64>() - before;
    let minutes = window.as_secs_f64() / 60.0;
    Ok(Quiet { messages: messages as f64 / swarm.size() as f64 / minutes, cpu })
}

/// Attacks one host after the other, each with a signature of its own.
fn learn(swarm: &Swarm, options: &Options, course: &mut Course) {
    for round in 0..options.rounds() {
        let window = 10_000 + round;
        let begun = boot_ns();
        let attacked = usize::from(round) % swarm.size();
        swarm.attack(attacked, Some(window));
        let learned = swarm.wait_until_learned(window, 1, LEARN);
        course.missed += swarm.size() - 1 - learned.len().min(swarm.size() - 1);
        course.learned_ms.extend(learned.iter().map(|at| 1e3 * between(begun, *at).as_secs_f64()));
        swarm.attack(attacked, None);
        sleep(Duration::from_millis(500));
    }
}

/// Attacks all hosts at once, with one signature.
fn together(stage: &Stage, swarm: &Swarm, options: &Options) -> Result<Together> {
    const WINDOW: u16 = 20_000;
    let observer = &stage.observer;
    let counts = || (observer.count("sig"), observer.count("inc"));
    let before = counts();
    let watch = Watch::start(stage.fleet.bus.pid()?)?;
    swarm.attack_all(Some(WINDOW));
    sleep(BURST);
    let begun = counts();
    let window = options.window();
    sleep(window);
    let after = counts();
    let cpu = watch.percent()?;
    swarm.attack_all(None);
    sleep(BURST);
    let minutes = window.as_secs_f64() / 60.0;
    Ok(Together {
        hosts: swarm.size(),
        burst: begun.0 - before.0,
        per_minute: (after.0 - begun.0) as f64 / minutes,
        incident_per_minute: (after.1 - begun.1) as f64 / minutes / swarm.size() as f64,
        cpu,
    })
}

/// The same, for few hosts on a stage of their own.
fn together_alone(hosts: u16, redundancy: usize, options: &Options) -> Result<Together> {
    println!(
        "fleet: {hosts} hosts, {}",
        if redundancy == REDUNDANCY { "as they are" } else { "without suppression" }
    );
    let stage = Stage::new()?;
    let swarm = Swarm::start(&stage.fleet, &stage.machine, hosts, redundancy)?;
    swarm.wait_until_connected(Duration::from_secs(60))?;
    sleep(Duration::from_secs(2));
    together(&stage, &swarm, options)
}

/// CPU time of the server for each delivery, in µs. One host sends documents that all others receive and refuse.
fn deliver(stage: &Stage, swarm: &Swarm, options: &Options) -> Result<f64> {
    let machine = stage.fleet.machine(PEER, Role::Host)?;
    let mut client = stage.fleet.client(&machine, PEER, Role::Host)?;
    let mut peer = Peer::new(PEER)?;
    let seconds = options.window().as_secs().min(10) as u32;
    let received = || swarm.shared().received.load(std::sync::atomic::Ordering::Relaxed);
    let before = received();
    let watch = Watch::start(stage.fleet.bus.pid()?)?;
    let begun = Instant::now();
    for number in 0..seconds * LOAD {
        let sent = peer.signature(PORT, 30_000)?;
        client.publish(&sent.subject, &sent.document)?;
        let due = Duration::from_secs(number.into()) / LOAD;
        sleep(due.saturating_sub(begun.elapsed()));
    }
    client.flush()?;
    sleep(Duration::from_secs(1));
    let deliveries = received() - before;
    ensure!(deliveries > 0, "nothing was delivered");
    let cpu = watch.cpu().context("the server has ended")?;
    Ok(1e6 * cpu.as_secs_f64() / deliveries as f64)
}
