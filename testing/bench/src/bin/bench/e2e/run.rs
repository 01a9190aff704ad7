//! One defence under one flood, and the outcome for the clients.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use tcpguard_kit::daemon::agent::Agent;
use tcpguard_kit::measure::Cost;
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::measure::sent_bytes::SentBytes;
use tcpguard_kit::measure::tcp_counters::syns_sent;
use tcpguard_kit::net::delay::Delay;
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::lab_filter::{Filter, LabFilter};
use tcpguard_kit::net::ring::Ring;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, Visitors};
use tcpguard_kit::traffic::flood::{Flood, RunningFlood};
use tcpguard_kit::traffic::server::{Behaviour, Server};
use tcpguard_kit::traffic::transfer::{Direction, Order, Transfer};

use super::arm::Arm;
use super::attack::{Kind, Rate};
use super::conntrack::{self, Conntrack};

/// Mitigations that keep SYNs away from a listener.
pub const STEPS: [&str; 2] = ["cookies", "budget"];
/// Time in which the agent has polled its counters again, which it does once a second at least.
const SETTLED: Duration = Duration::from_millis(2500);
/// Time after which a client gives up, beyond the last limit that is reported, 7 s.
pub const PATIENCE: Duration = Duration::from_millis(7_500);
/// Share of its rate that a flood must reach.
const PACED: f64 = 0.9;
/// Bytes per second on the open connection of a validated client, some 170 segments.
const PACE: u64 = 250_000;

/// The conditions for all defences of one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub ipv6: bool,
    /// Clients on another continent.
    pub far: bool,
    /// `tcp_syn_linear_timeouts` of the clients; `None` leaves it as it is (4 since Linux 6.5).
    pub linear: Option<u8>,
    pub flood: Kind,
    /// Rate of the flood; `None`: no flood at all.
    pub rate: Option<Rate>,
    /// Connections per second from new clients, and as many from validated clients.
    pub clients: u32,
}

impl Setting {
    /// Returns a setting without a flood, near, with one client a second.
    pub const fn near(family: Family) -> Self {
        Self {
            ipv6: matches!(family, Family::V6),
            far: false,
            linear: None,
            flood: Kind::Fixed,
            rate: None,
            clients: 1,
        }
    }

    pub const fn family(&self) -> Family {
        if self.ipv6 { Family::V6 } else { Family::V4 }
    }

    /// Returns whether a flood that made so many SYNs per second was well below its rate: the generator had no time.
    pub fn is_missed_by(&self, offered: f64) -> bool {
        let Some(Rate::Paced(rate)) = self.rate else { return false };
        !self.flood.is_pulsed() && offered < PACED * f64::from(rate)
    }

    /// Returns the setting's flood, if it has one, not started yet.
    ///
    /// # Errors
    /// When a client's SYN is to be copied and none is seen.
    pub fn flood(&self, lab: &Lab) -> Result<Option<Flood>> {
        let flood = |rate| self.flood.flood(lab, self.family(), rate);
        self.rate.map(flood).transpose()
    }
}

/// Times of a run.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time with clients, before the flood.
    pub warm_up: Duration,
    /// Time with the flood, before the window: the agent detects it in this time.
    pub settle: Duration,
    /// Time in which the attempts that count begin.
    pub window: Duration,
}

impl Timing {
    /// Returns the times for `arm`: where connections are tracked, the flood has filled their table before the
    /// window, as one that lasts does.
    pub fn of(&self, arm: Arm, setting: &Setting) -> Self {
        let fill = match setting.rate {
            Some(Rate::Paced(rate)) if arm.is_behind_filter() => conntrack::time_to_fill(rate),
            _ => Duration::ZERO,
        };
        Self { settle: self.settle + fill, ..*self }
    }

    /// Returns the time that a run takes, set-up included.
    pub fn total(&self) -> Duration {
        self.with_clients() + SETTLED + Duration::from_secs(2)
    }

    /// Returns the time in which clients come.
    fn with_clients(&self) -> Duration {
        self.warm_up + self.settle + self.window + PATIENCE
    }
}

/// The results of a window.
#[derive(Debug)]
pub struct Outcome {
    /// New clients, each from an address that was never heard of.
    pub new_clients: Attempts,
    /// Clients from addresses that had connected before the flood.
    pub validated_clients: Attempts,
    /// Share of the bytes on the open connection of a validated client that were lost on their way to the host
    /// under test, 0 to 1.
    pub open_lost: f64,
    pub load: HostLoad,
    /// SYNs made per second.
    pub offered: f64,
    /// Share of the SYNs that clients sent in the whole run that the ring lost before the XDP program, 0 to 1.
    /// `None` where tcpguard does not run, or where the counters contradict each other.
    pub syns_lost: Option<f64>,
    /// Connection tracking of the host under test, where it tracks connections.
    pub conntrack: Option<Conntrack>,
    /// The agent's own name for the situation, if an agent runs.
    pub state: Option<String>,
    pub mitigations: Vec<String>,
}

/// The load of the receive thread of the host under test in a window.
#[derive(Clone, Copy, Debug)]
pub struct HostLoad {
    pub cost: Cost,
    /// Frames of the flood that found the ring full.
    pub lost: u64,
    pub time: Duration,
}

impl HostLoad {
    /// Packets taken from the ring per second.
    pub fn rate(&self) -> f64 {
        self.cost.packets as f64 / self.time.as_secs_f64()
    }

    /// Frames of the flood lost in the ring per second.
    pub fn lost_rate(&self) -> f64 {
        self.lost as f64 / self.time.as_secs_f64()
    }
}

/// The host under test with its service, and a wire that swallows replies to addresses of no host.
pub struct Stage {
    // In the order in which they must end.
    _server: Server,
    pub lab: Lab,
}

impl Stage {
    pub fn new(setting: &Setting, syncookies: u8) -> Result<Self> {
        let client_delay = setting.far.then_some(Delay::FAR);
        let options = LabOptions { client_delay, syncookies, measured: true, asymmetric: false };
        let mut lab = Lab::new(options)?.drop_backscatter()?;
        // The service is not on the CPU that receives: that one is the flood's.
        lab.edge.keep_on_cpu(1);
        if let Some(linear) = setting.linear {
            lab.client
                .sysctl("net.ipv4.tcp_syn_linear_timeouts", &linear.to_string())
                .context("this kernel has no tcp_syn_linear_timeouts (6.5)")?;
        }
        let server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
        Ok(Self { _server: server, lab })
    }

    /// Watches the receive thread for `window`.
    pub fn watch(&self, window: Duration) -> Result<HostLoad> {
        let receiver = self.lab.receiver.as_ref().context("the lab is measured")?;
        let (begun, before) = (Instant::now(), receiver.read(&self.lab.edge)?);
        let ring = Ring::read(&self.lab)?;
        sleep(window);
        let (time, after) = (begun.elapsed(), receiver.read(&self.lab.edge)?);
        let lost = Ring::read(&self.lab)?.since(&ring).lost;
        Ok(HostLoad { cost: after.since(&before), lost, time })
    }
}

/// Reason why a defence could not be set up.
#[derive(Debug)]
pub struct Unavailable(pub String);

/// Runs `arm` in `setting`.
///
/// # Errors
/// When the lab fails. A defence that cannot be had here is no error.
pub fn run(arm: Arm, setting: &Setting, timing: &Timing) -> Result<Result<Outcome, Unavailable>> {
    let stage = Stage::new(setting, arm.syncookies())?;
    let lab = &stage.lab;
    let kind = if arm == Arm::OursCookies { Kind::Mimic } else { setting.flood };
    let flood = Setting { flood: kind, ..*setting }.flood(lab)?;
    let (family, service) = (setting.family(), setting.family().service());
    // The part of a run beyond its phases stays well within a second.
    let seconds = timing.with_clients().as_secs() as u32 + 2;
    let defence = match arm.defend(lab, family, setting.clients * seconds) {
        Ok(defence) => defence,
        Err(error) => return Ok(Err(Unavailable(format!("{error:#}")))),
    };
    // The rules of a defence may have loaded connection tracking.
    let timing = timing.of(arm, setting);
    let before = Before::read(lab, defence.agent())?;
    let visitors = |home| Visitors { rate: setting.clients, home, patience: PATIENCE };
    let validated_clients = Load::of(&lab.client, service, visitors(Home::ValidatedClients))?;
    // Between the others, or they would wait for each other.
    sleep(Duration::from_secs(1) / setting.clients / 2);
    let new_clients = Load::of(&lab.client, service, visitors(Home::NewClients))?;
    let seconds = timing.with_clients().as_secs() + 2;
    let open = OpenConnection::begin(lab, family, seconds)?;
    sleep(timing.warm_up);
    let flood = flood.map(|flood| flood.start(lab)).transpose()?;
    if flood.is_some() {
        sleep(timing.settle);
    }
    let tracked = Conntrack::read(&lab.edge);
    let sent_before = open.sent();
    let (from, sent) = (boot_ns(), sent(flood.as_ref()));
    let load = stage.watch(timing.window)?;
    let (to, offered) = (boot_ns(), self::sent(flood.as_ref()) - sent);
    // A connection that is gone has lost everything.
    let open_lost = sent_before.zip(open.sent()).map_or(1.0, |(then, now)| now.since(then).lost());
    let tracked = Conntrack::read(&lab.edge).zip(tracked).map(|(now, then)| now.since(then));
    let status = defence.status()?;
    let state = status.as_ref().map(|status| status.state().to_owned());
    let taken = |mitigation: &&str| {
        status.as_ref().and_then(|it| it.mitigation(mitigation)) == Some("active")
    };
    let mitigations = STEPS.into_iter().filter(taken).map(str::to_owned).collect();
    // The flood goes on until the last of the window's clients has got in or given up.
    sleep(PATIENCE);
    let flood = flood.map(RunningFlood::stop).transpose()?;
    open.transfer.abandon();
    let (new_clients, validated_clients) = (new_clients.finish()?, validated_clients.finish()?);
    let sent = flood.map_or(0, |report| report.sent);
    let syns_lost =
        defence.agent().map(|agent| before.lost(lab, agent, sent)).transpose()?.flatten();
    Ok(Ok(Outcome {
        new_clients: new_clients.begun(from, to),
        validated_clients: validated_clients.begun(from, to),
        open_lost,
        load,
        offered: offered as f64 / load.time.as_secs_f64(),
        syns_lost,
        conntrack: tracked.filter(|it| it.entries > 0),
        state,
        mitigations,
    }))
}

/// A connection that a validated client opened before the flood, on which it sends at a fixed rate.
struct OpenConnection<'lab> {
    lab: &'lab Lab,
    transfer: Transfer,
}

impl<'lab> OpenConnection<'lab> {
    /// Opens it for so many seconds.
    fn begin(lab: &'lab Lab, family: Family, seconds: u64) -> Result<Self> {
        let order = Order { direction: Direction::Push, bytes: PACE * seconds, pace: PACE };
        let client = family.new_client(u16::MAX);
        let transfer = Transfer::begin_from(&lab.client, client, family.service(), order)?;
        Ok(Self { lab, transfer })
    }

    /// Returns its bytes so far; `None` if it is broken.
    fn sent(&self) -> Option<SentBytes> {
        SentBytes::of(&self.lab.client, self.transfer.client.port()).ok()
    }
}

/// Counters before the first client came.
struct Before {
    ring: Ring,
    /// SYNs that clients have sent.
    syns: u64,
    /// SYNs that the XDP program has counted, whatever became of them.
    counted: u64,
}

impl Before {
    fn read(lab: &Lab, agent: Option<&Agent<'_>>) -> Result<Self> {
        let counted = agent.map_or(Ok(0), syns_counted)?;
        Ok(Self { ring: Ring::read(lab)?, syns: syns_sent(&lab.client)?, counted })
    }

    /// The share of the clients' SYNs since then that never reached the XDP program, once no packet is
    /// under way. `flood`: SYNs that were sent beside them.
    fn lost(&self, lab: &Lab, agent: &Agent<'_>, flood: u64) -> Result<Option<f64>> {
        sleep(SETTLED);
        let clients = syns_sent(&lab.client)? - self.syns;
        let flood_lost = Ring::read(lab)?.since(&self.ring).lost;
        Ok(share_lost(clients, flood, flood_lost, syns_counted(agent)? - self.counted))
    }
}

fn syns_counted(agent: &Agent<'_>) -> Result<u64> {
    Ok(agent.status()?.total("syn"))
}

/// Returns the share of so many SYNs of clients that was not counted, where a flood's were counted beside them,
/// but for those that were lost; `None` if there were more, or fewer than of the flood alone.
fn share_lost(clients: u64, flood: u64, flood_lost: u64, counted: u64) -> Option<f64> {
    let arrived = counted.checked_sub(flood.checked_sub(flood_lost)?)?;
    let lost = clients.checked_sub(arrived)?;
    (clients > 0).then(|| lost as f64 / clients as f64)
}

fn sent(flood: Option<&RunningFlood>) -> u64 {
    flood.map_or(0, RunningFlood::sent)
}

/// CPU time in ns of a packet with the ideal filter, without clients: the reference for other runs
/// beside it.
pub fn floor(setting: &Setting) -> Result<f64> {
    const SETTLE: Duration = Duration::from_millis(300);
    const WINDOW: Duration = Duration::from_millis(1000);
    let near = Setting { far: false, linear: None, flood: Kind::Fixed, ..*setting };
    let stage = Stage::new(&near, 1)?;
    let _filter = LabFilter::attach(&stage.lab.edge, INTERFACE, Filter::OnlyClients, true)?;
    let flood = near.flood(&stage.lab)?.context("without a flood there is nothing to drop")?;
    let flood = flood.start(&stage.lab)?;
    sleep(SETTLE);
    let load = stage.watch(WINDOW)?;
    flood.stop()?;
    Ok(load.cost.ns_per_packet())
}
