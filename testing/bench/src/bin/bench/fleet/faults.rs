//! Faults of the bus under all participants, each with its outcome in a row.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tcpguard_fleet::document::RuleKind;
use tcpguard_fleet_kit::client::Client;
use tcpguard_fleet_kit::documents::{self, Operator, PORT, Peer};
use tcpguard_fleet_kit::keys::{Keys, Role};
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_kit::measure::clock::{between, boot_ns};
use tcpguard_kit::measure::peak::resident;

use super::Options;
use super::course::{PEER, SWARM, Stage};
use super::swarm::Swarm;

/// Longest time until all are connected again. The last pause of a participant is at most 30 s.
const RETURN: Duration = Duration::from_secs(90);
/// Longest time until all have learned of the next attack.
const LEARN: Duration = Duration::from_secs(30);
const MIB: f64 = 1024.0 * 1024.0;
/// Number of the first window: each attack has one of its own.
const FIRST_WINDOW: u16 = 40_000;

/// A fault, and its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    /// The fault.
    pub name: String,
    /// Seconds from its end until all participants were connected again; `None` if they never lost the connection.
    pub connected_s: Option<f64>,
    /// Milliseconds within which half of the participants, and all, learned of an attack that began then.
    pub learned_ms: Option<[f64; 2]>,
    /// Memory of this process at the end of the fault, compared with that before it, in MiB.
    pub grown_mib: f64,
    /// A remark.
    pub remark: String,
}

/// All faults in turn.
///
/// # Errors
/// When the server cannot be started again, or participants do not return.
pub fn play(stage: &mut Stage, swarm: &Swarm, options: &Options) -> Result<Vec<Fault>> {
    let time = Duration::from_secs(if options.quick { 5 } else { 20 });
    let mut scene = Scene { swarm, window: FIRST_WINDOW, attacked: 0 };
    Ok(vec![
        scene.killed(stage)?,
        scene.hangs(stage, time)?,
        scene.partition(stage, time)?,
        scene.flooded(stage, time)?,
        full()?,
        refused()?,
    ])
}

struct Scene<'a> {
    swarm: &'a Swarm,
    window: u16,
    attacked: usize,
}

impl Scene<'_> {
    /// Attacks another participant, and returns within how many milliseconds half of the others, and all, learned it.
    fn learn(&mut self) -> Option<[f64; 2]> {
        self.window += 1;
        self.attacked += 1;
        let begun = boot_ns();
        self.swarm.attack(self.attacked, Some(self.window));
        let mut learned = self.swarm.wait_until_learned(self.window, 1, LEARN);
        self.swarm.attack(self.attacked, None);
        learned.sort_unstable();
        let within = |at: &u64| 1e3 * between(begun, *at).as_secs_f64();
        let is_all = learned.len() + 1 >= self.swarm.size();
        let (half, last) = (learned.get(learned.len() / 2)?, learned.last()?);
        is_all.then(|| [within(half), within(last)])
    }

    /// Waits until all are connected again, and fills the row.
    fn end(&mut self, name: &str, before: u64, remark: String) -> Result<Fault> {
        let begun = Instant::now();
        let grown_mib = (resident(std::process::id())? as f64 - before as f64) / MIB;
        self.swarm.wait_until_connected(RETURN)?;
        let connected_s = Some(begun.elapsed().as_secs_f64());
        // Subscriptions are made again by then.
        sleep(Duration::from_secs(1));
        let learned_ms = self.learn();
        Ok(Fault { name: name.to_owned(), connected_s, learned_ms, grown_mib, remark })
    }

    fn killed(&mut self, stage: &mut Stage) -> Result<Fault> {
        println!("fleet: the server is killed");
        let before = resident(std::process::id())?;
        stage.fleet.bus.kill()?;
        sleep(Duration::from_secs(5));
        stage.fleet.bus.start()?;
        self.end("server killed, back after 5 s", before, "hints go on for 60 s".to_owned())
    }

    fn hangs(&mut self, stage: &Stage, time: Duration) -> Result<Fault> {
        println!("fleet: the server hangs");
        let before = resident(std::process::id())?;
        stage.fleet.bus.pause()?;
        // Publications that go nowhere.
        self.swarm.attack_all(Some(self.window));
        sleep(time);
        self.swarm.attack_all(None);
        stage.fleet.bus.resume()?;
        let name = format!("server stopped (SIGSTOP) for {} s", time.as_secs());
        self.end(&name, before, "publications are dropped and counted".to_owned())
    }

    fn partition(&mut self, stage: &Stage, time: Duration) -> Result<Fault> {
        println!("fleet: a partition");
        let before = resident(std::process::id())?;
        stage.fleet.network.isolate(SWARM)?;
        sleep(time);
        stage.fleet.network.reconnect(SWARM)?;
        let name = format!("all frames lost for {} s", time.as_secs());
        self.end(&name, before, String::new())
    }

    /// One host sends 50 garbage documents a second.
    fn flooded(&mut self, stage: &Stage, time: Duration) -> Result<Fault> {
        println!("fleet: garbage");
        const RATE: u32 = 50;
        let before = resident(std::process::id())?;
        let refused = || self.swarm.shared().refused.load(std::sync::atomic::Ordering::Relaxed);
        let refused_before = refused();
        let machine = &stage.machine;
        let mut client = stage.fleet.client(machine, PEER, Role::Host)?;
        let subject = format!("tg.1.sig.{PORT}.{}", documents::name(PEER));
        let begun = Instant::now();
        for number in 0..time.as_secs() as u32 * RATE {
            client.publish(&subject, &[b'{'; 2000])?;
            let due = Duration::from_secs(number.into()) / RATE;
            sleep(due.saturating_sub(begun.elapsed()));
        }
        client.flush()?;
        let grown_mib = (resident(std::process::id())? as f64 - before as f64) / MIB;
        let refused = refused() - refused_before;
        let learned_ms = self.learn();
        let name =
            format!("{RATE} garbage documents a second by one host for {} s", time.as_secs());
        let remark = format!("{refused} refused by all, and the sender muted");
        Ok(Fault { name, connected_s: None, learned_ms, grown_mib, remark })
    }
}

/// A full store: the writer is refused, and readers have the rules.
fn full() -> Result<Fault> {
    println!("fleet: a full store");
    let fleet = Fleet::with_store(16 << 10)?;
    let (mut owner, mut operator) = (fleet.bus.client()?, Operator::new(7));
    let mut stored = 0;
    let reply = loop {
        let rule = operator.rule(RuleKind::Block, &format!("198.51.{stored}.0/24"))?;
        let reply = owner.request(&rule.subject, &rule.document)?.json()?;
        if reply.get("error").is_some() || stored == 200 {
            break reply;
        }
        stored += 1;
    };
    let words = reply["error"]["description"].as_str().unwrap_or("no refusal");
    let remark = format!("{stored} rules stored, then the writer gets: {words}");
    Ok(Fault::of_one("store of 16 KiB full", remark))
}

/// Credentials of another fleet.
fn refused() -> Result<Fault> {
    println!("fleet: wrong credentials");
    let fleet = Fleet::new()?;
    let machine = fleet.machine(PEER, Role::Host)?;
    let user = Keys::default().user(Role::Host, &documents::name(PEER))?;
    let refusal = Client::connect(&machine, fleet.bus.address(), &user).err();
    let words = refusal.map_or("they are accepted".to_owned(), |error| format!("{error:#}"));
    // The owner of the name is not disturbed.
    let mut client = fleet.client(&machine, PEER, Role::Host)?;
    let sent = Peer::new(PEER)?.signature(PORT, 512)?;
    client.publish_permitted(&sent.subject, &sent.document)?;
    Ok(Fault::of_one("credentials of another fleet", words))
}

impl Fault {
    /// A fault of one client, without the participants.
    fn of_one(name: &str, remark: String) -> Self {
        let name = name.to_owned();
        Self { name, connected_s: None, learned_ms: None, grown_mib: 0.0, remark }
    }
}
