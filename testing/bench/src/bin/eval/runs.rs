//! One live run: a host with clients, an event on it, and its result at the agent and at other detectors.

use std::fmt;
use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use tcpguard_engine::IncidentClass;
use tcpguard_eval::attacks::Attack;
use tcpguard_eval::judge::{Alert, Outcome, Spans, Truth, judge};
use tcpguard_eval::table::seconds;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::net::delay::Delay;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::flood::{self, Flood, FloodReport, Pulses};
use tcpguard_kit::traffic::health::HealthChecks;
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::random::Random;
use tcpguard_kit::traffic::server::{Behaviour, Server};
use tcpguard_sim::Shape;

use crate::meter::{Meter, Seen};
use crate::others;

/// Address family of the service.
const FAMILY: Family = Family::V4;
/// Time in s after which the traffic counts as calm. Clients are new to the host before that.
const SETTLED: f64 = 1.0;
/// A client is served when it has its response within this time: its first SYN was taken.
const IN_TIME: Duration = Duration::from_secs(1);
/// The verdict is read so long after the first alert, s.
const VERDICT: f64 = 2.0;
/// The longest time for which the end of an incident is waited for.
const RELEASE: Duration = Duration::from_secs(60);
/// The share by which a flood may last longer than it should, so that it has four fifths of its rate; a
/// machine that takes longer is too slow for it.
const LATE: f64 = 0.25;

/// Purpose of a run with a flood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Measurement of the service to clients during the mitigated flood, and of the end of the incident.
    Fought,
    /// Comparison: the other detectors see the flood for as long as they need, without any mitigation.
    Compared,
    /// Measurement of the time until it is found.
    Timed,
}

impl Purpose {
    /// Purpose of a round, counted from 0. The first four rounds alternate between the two long ones.
    pub const fn of(round: u32) -> Self {
        match round {
            0 | 2 => Self::Fought,
            1 | 3 => Self::Compared,
            _ => Self::Timed,
        }
    }

    /// Returns the time with clients alone before the flood, and the flood's length.
    const fn times(self) -> (Duration, Duration) {
        let (calm, flood) = match self {
            Self::Fought => (4, 25),
            Self::Compared => (8, 55),
            Self::Timed => (4, 5),
        };
        (Duration::from_secs(calm), Duration::from_secs(flood))
    }

    const fn mode(self) -> Mode {
        match self {
            Self::Compared => Mode::Observe,
            Self::Fought | Self::Timed => Mode::Enforce,
        }
    }

    /// About how long a run takes.
    pub fn length(self) -> Duration {
        let (calm, flood) = self.times();
        let end = if self == Self::Fought { 32 } else { 0 };
        calm + flood + Duration::from_secs(end + 4)
    }
}

/// A flood among clients.
#[derive(Clone, Copy, Debug)]
pub struct Fight {
    /// Type of the flood.
    pub attack: Attack,
    pub rate: u32,
    pub clients: u32,
}

/// Result of a run with a flood.
#[derive(Clone, Debug)]
pub struct Fought {
    /// Purpose of the run.
    pub purpose: Purpose,
    /// Outcome by our detector.
    pub outcome: Outcome,
    /// Class of the incident two seconds after the first alert. `None` without an alert.
    pub class: Option<IncidentClass>,
    /// Floods reported before there was one.
    pub false_positives: u64,
    pub rules: usize,
    /// Kinds of mitigations that were active beside rules.
    pub mitigations: usize,
    /// Clients that came during the flood, and those of them that were served in time.
    pub clients: (usize, usize),
    /// Times to the alarms of the others, in s. Only where the flood was long enough for them.
    pub others: Option<Vec<Option<f64>>>,
}

impl fmt::Display for Fought {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { alerted, named, released, floods, .. } = self.outcome;
        write!(
            out,
            "{:?}: alert {} s, named {} s ({}), over {} s after, {floods} flood(s), {} false, {} rule(s), \
             {} mitigation(s), {} of {} served",
            self.purpose,
            seconds(alerted),
            seconds(named),
            self.class.map_or("nothing", IncidentClass::name),
            seconds(released),
            self.false_positives,
            self.rules,
            self.mitigations,
            self.clients.1,
            self.clients.0
        )?;
        match &self.others {
            None => Ok(()),
            Some(others) => {
                let others: Vec<String> = others.iter().map(|delay| seconds(*delay)).collect();
                write!(out, "; the others {}", others.join(", "))
            }
        }
    }
}

impl Fight {
    /// Plays it on a new host.
    pub fn play(&self, purpose: Purpose, seed: u64) -> Result<Fought> {
        let (calm, length) = purpose.times();
        // Replies to spoofed sources would cost this machine more than the flood does.
        let lab = Lab::new(LabOptions::default())?.drop_backscatter()?;
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
        let shape = match self.attack.shape {
            Shape::Mimicking => flood::Shape::Copy(Likeness::capture(&lab, FAMILY)?),
            _ => flood::Shape::Bare,
        };
        let pulses = self.attack.pulses.map(|(on, off)| Pulses {
            on: Duration::from_secs_f64(on),
            off: Duration::from_secs_f64(off),
        });
        let flood =
            Flood { shape, rate: self.rate, pulses, ..Flood::random(FAMILY.service(), length) };
        let stage = Stage::start(&lab, purpose.mode(), self.clients, seed)?;
        let settled = now() + SETTLED;
        // Not in phase with the agent's polls.
        let mut random = Random::new(!seed);
        sleep(calm + Duration::from_secs_f64(0.25 * random.share()));
        let report = flood.start(&lab)?.wait()?;
        let time = in_seconds(&report);
        let most = length.as_secs_f64() * (1.0 + LATE);
        ensure!(
            time.end - time.start < most,
            "the machine was too slow for {} SYN/s: it took {:.0} s for what should take {:.0}",
            self.rate,
            time.end - time.start,
            length.as_secs_f64()
        );
        let truth = Truth { from: time.start, until: time.end };
        if purpose == Purpose::Fought {
            let over = |alerts: &[Alert]| judge(truth, alerts).released.is_some();
            stage.meter.wait_until(RELEASE, over);
        }
        let (seen, attempts) = stage.end()?;
        let outcome = judge(truth, &seen.alerts);
        let phase = 20.0 * random.share();
        Ok(Fought {
            purpose,
            outcome,
            class: verdict(truth, &outcome, &seen.alerts),
            false_positives: floods(seen.alerts.iter().filter(|alert| alert.at < truth.from)),
            rules: seen.rules.len(),
            mitigations: seen.mitigations.len(),
            clients: served(&attempts, time.clone()),
            others: (purpose == Purpose::Compared)
                .then(|| others::alarms(&seen.ticks, settled..time.start, phase)),
        })
    }
}

/// Trouble that is no attack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Twenty times as many clients.
    FlashCrowd,
    /// The application stops accepting for a while.
    Stall,
    /// The clients' path is slow and loses packets.
    LossyPath,
    /// Load balancers reset every handshake of theirs.
    HealthChecks,
}

/// Result of a run with trouble.
#[derive(Clone, Debug)]
pub struct Troubled {
    /// All classes that were reported.
    pub alerted: Vec<IncidentClass>,
    pub floods: u64,
    pub rules: usize,
    /// Kinds of mitigations that were active beside rules.
    pub mitigations: usize,
    /// Clients that came meanwhile, and those of them that were served in time.
    pub clients: (usize, usize),
    /// For each of the others, true if it was alarmed.
    pub others: Vec<bool>,
}

impl fmt::Display for Troubled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alerted: Vec<&str> = self.alerted.iter().map(|class| class.name()).collect();
        write!(
            out,
            "reported {alerted:?}, {} flood(s), {} rule(s), {} mitigation(s), {} of {} served, the others {:?}",
            self.floods, self.rules, self.mitigations, self.clients.1, self.clients.0, self.others
        )
    }
}

impl Trouble {
    /// All types of trouble.
    pub const ALL: [Self; 4] = [Self::FlashCrowd, Self::Stall, Self::LossyPath, Self::HealthChecks];
    pub const CLIENTS: u32 = 50;
    /// Clients a second that come in addition in a flash crowd.
    const MORE: u32 = 19 * Self::CLIENTS;
    /// SYNs of balancers a second.
    const CHECKS: u32 = 25;
    /// A path by satellite, on a bad day.
    const PATH: Delay =
        Delay { mean: Duration::from_millis(300), jitter: Duration::from_millis(50), loss: 0.02 };
    /// Time with clients alone, or with the traffic that lasts for the whole run.
    const CALM: Duration = Duration::from_secs(8);
    /// Length of the trouble.
    const LENGTH: Duration = Duration::from_secs(50);
    /// Time of observation after it.
    const AFTER: Duration = Duration::from_secs(5);

    /// Returns the name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlashCrowd => "flash crowd",
            Self::Stall => "application stalls",
            Self::LossyPath => "300 ms, 2 % lost",
            Self::HealthChecks => "half-open checks",
        }
    }

    /// About how long a run takes.
    pub fn length() -> Duration {
        Self::CALM + Self::LENGTH + Self::AFTER + Duration::from_secs(6)
    }

    /// Plays it on a new host, where rules take effect.
    pub fn play(self, seed: u64) -> Result<Troubled> {
        let client_delay = (self == Self::LossyPath).then_some(Self::PATH);
        let lab = Lab::new(LabOptions { client_delay, ..LabOptions::default() })?;
        let server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
        let stage = Stage::start(&lab, Mode::Enforce, Self::CLIENTS, seed)?;
        let settled = now() + SETTLED;
        let checks = match self {
            Self::HealthChecks => Some(HealthChecks::start(&lab, FAMILY.service(), Self::CHECKS)?),
            _ => None,
        };
        sleep(Self::CALM);
        let from = now();
        let flash_crowd = match self {
            Self::FlashCrowd => Some(clients(&lab, Self::MORE, !seed)?),
            _ => None,
        };
        if self == Self::Stall {
            server.behave(Behaviour::Hang);
        }
        sleep(Self::LENGTH);
        let until = now();
        server.behave(Behaviour::Answer);
        let rushed = flash_crowd.map(Load::finish).transpose()?.unwrap_or_default();
        sleep(Self::AFTER);
        if let Some(checks) = checks {
            let checked = checks.finish()?;
            ensure!(
                checked.answered * 10 >= checked.asked * 9,
                "checks were answered: {checked:?}"
            );
        }
        let (seen, mut attempts) = stage.end()?;
        attempts.0.extend(rushed.0);
        let phase = 20.0 * Random::new(seed).share();
        let mut alerted: Vec<IncidentClass> = Vec::new();
        for alert in &seen.alerts {
            if !alerted.contains(&alert.class) {
                alerted.push(alert.class);
            }
        }
        let others = others::alarms(&seen.ticks, settled..from, phase);
        Ok(Troubled {
            alerted,
            floods: floods(seen.alerts.iter()),
            rules: seen.rules.len(),
            mitigations: seen.mitigations.len(),
            clients: served(&attempts, from..until),
            others: others.iter().map(Option::is_some).collect(),
        })
    }
}

/// A host with a service that clients use and the agent protects.
struct Stage<'lab> {
    load: Load,
    meter: Meter,
    _agent: Agent<'lab>,
}

impl<'lab> Stage<'lab> {
    fn start(lab: &'lab Lab, mode: Mode, rate: u32, seed: u64) -> Result<Self> {
        let meter = Meter::start(&lab.edge)?;
        let _agent = Agent::start(&lab.edge, mode)?;
        let load = clients(lab, rate, seed)?;
        Ok(Self { load, meter, _agent })
    }

    /// Ends the load, and returns the observations and the clients' attempts.
    fn end(self) -> Result<(Seen, Attempts)> {
        let attempts = self.load.finish()?;
        Ok((self.meter.finish()?, attempts))
    }
}

fn now() -> f64 {
    boot_ns() as f64 / 1e9
}

fn in_seconds(report: &FloodReport) -> Range<f64> {
    report.started as f64 / 1e9..report.ended as f64 / 1e9
}

fn clients(lab: &Lab, rate: u32, seed: u64) -> Result<Load> {
    let visitors = Visitors { rate, home: Home::Anywhere(seed), patience: PATIENCE };
    Load::of(&lab.client, FAMILY.service(), visitors)
}

/// Clients that came in this time, s since boot, and those of them that were served in time.
fn served(attempts: &Attempts, time: Range<f64>) -> (usize, usize) {
    let in_ns = |seconds: f64| (seconds * 1e9) as u64;
    let came = attempts.begun(in_ns(time.start), in_ns(time.end));
    (came.0.len(), came.within(IN_TIME))
}

/// Events in which a flood was reported.
fn floods<'a>(alerts: impl Iterator<Item = &'a Alert>) -> u64 {
    let alerts: Vec<Alert> = alerts.copied().collect();
    Spans::of_floods(&alerts).events(f64::NEG_INFINITY)
}

/// Class of the first reported incident, two seconds after its report.
fn verdict(truth: Truth, outcome: &Outcome, alerts: &[Alert]) -> Option<IncidentClass> {
    let until = truth.from + outcome.alerted? + VERDICT;
    let about = |alert: &&Alert| alert.at >= truth.from && alert.at <= until;
    alerts.iter().rfind(about).map(|alert| alert.class)
}

#[cfg(test)]
mod tests {
    use IncidentClass::{HandshakeDegraded, RandomSpoofed};

    use super::*;

    fn alert(at: f64, class: IncidentClass) -> Alert {
        Alert { at, incident: 1, class, detected: at, ended: false }
    }

    #[test]
    fn the_verdict_is_the_last_class_within_two_seconds_of_the_first_alert() {
        let truth = Truth { from: 10.0, until: 15.0 };
        let verdict = |alerts: &[Alert]| verdict(truth, &judge(truth, alerts), alerts);
        let story = [alert(10.75, HandshakeDegraded), alert(12.5, RandomSpoofed)];
        assert_eq!(verdict(&story), Some(RandomSpoofed));
        let late = [alert(10.75, HandshakeDegraded), alert(13.0, RandomSpoofed)];
        assert_eq!(verdict(&late), Some(HandshakeDegraded));
        assert_eq!(verdict(&[]), None, "not reported");
    }

    #[test]
    fn every_purpose_comes_within_four_rounds_and_the_rest_is_short() {
        let purposes: Vec<Purpose> = (0..6).map(Purpose::of).collect();
        use Purpose::{Compared, Fought, Timed};
        assert_eq!(purposes, [Fought, Compared, Fought, Compared, Timed, Timed]);
        assert!(Timed.length() < Duration::from_secs(15));
    }

    #[test]
    fn a_client_counts_when_it_came_during_the_flood() {
        use tcpguard_kit::traffic::clients::Attempt;
        let attempt = |at: u64, took_ms| Attempt {
            at: at * 1_000_000_000,
            connected: None,
            took: Some(Duration::from_millis(took_ms)),
        };
        let attempts =
            Attempts(vec![attempt(9, 1), attempt(10, 1), attempt(14, 1500), attempt(15, 1)]);
        assert_eq!(served(&attempts, 10.0..15.0), (2, 1));
    }
}
