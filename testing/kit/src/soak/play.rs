//! A soak in a lab: clients, floods and changes as the schedule says, and samples of the agent
//! meanwhile.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tcpguard::telemetry::history::REMEMBERED;
use tcpguard_engine::Limits;
use tcpguard_goals::size;

use super::judge::{Life, Played, Reported};
use super::past;
use super::samples::{Held, Sample};
use super::schedule::{End, Event, Kind, SERVICES, Schedule, What};
use crate::daemon::agent::{Agent, CONFIG, Mode, STATE_DIR, cli};
use crate::measure::clock::boot_ns;
use crate::net::lab::{Family, Lab, LabOptions, PORT};
use crate::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors};
use crate::traffic::flood::{Flood, Pulses, RunningFlood, Shape, Sources};
use crate::traffic::likeness::Likeness;
use crate::traffic::server::{Behaviour, Server};

/// Clients a second over each family, at all services together.
const CLIENTS: u32 = 52;
/// Clients a second of a flash crowd, beside these.
const FLASH_CROWD: u32 = 300;
/// Interval between samples of the agent.
const LOOK: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);
/// Two configurations that are in force in turn.
const CONFIGS: [&str; 2] = ["", "[protect]\nprefixes = [\"192.0.2.0/24\"]\n"];
const PULSES: Pulses = Pulses { on: Duration::from_millis(500), off: Duration::from_millis(2750) };
/// Rules of a set that is imported.
const RULES: u32 = 1_000;
/// A program that leaks a descriptor and 32 KiB of memory each second.
const LEAKY: &str = "ulimit -n $(ulimit -Hn); held=; while :; do exec {kept}</dev/null; \
                     printf -v piece %32768s; held+=$piece; sleep 1; done";

/// Observations of a soak.
#[derive(Debug, Default)]
pub struct Record {
    /// Floods and flash crowds.
    pub played: Vec<Played>,
    /// The agents, one after the other.
    pub lives: Vec<Life>,
    /// Samples of the agent.
    pub samples: Vec<Sample>,
    /// Samples of a program that leaks, at the same moments.
    pub leaky: Vec<Sample>,
    /// Age of the last poll at each sample.
    pub polls: Vec<Duration>,
    /// Incidents that the agents reported.
    pub reported: BTreeSet<Reported>,
    /// Outcomes of the clients' attempts, but for those made while there was no cable.
    pub attempts: Attempts,
    /// SYNs of all floods.
    pub syns: u64,
}

/// Plays `schedule` in a lab of its own.
pub fn play(schedule: &Schedule) -> Result<Record> {
    let lab = Lab::new(LabOptions::default())?;
    let _servers = (PORT..PORT + SERVICES)
        .map(|port| Server::start(&lab.edge, port, Behaviour::Answer))
        .collect::<Result<Vec<_>>>()?;
    let likenesses = [Likeness::capture(&lab, Family::V4)?, Likeness::capture(&lab, Family::V6)?];
    for (number, file) in sets().enumerate() {
        lab.edge.write(&rules_file(number), &file)?;
    }
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, CONFIGS[0], &[])?;
    let mut soak = Soak {
        lab: &lab,
        schedule,
        agent,
        likenesses,
        leaky: Leaky::start(&lab)?,
        floods: Vec::new(),
        flash_crowds: Vec::new(),
        cuts: Vec::new(),
        changes: 0,
        made_up: 0,
        begun_ns: boot_ns(),
        begun: Instant::now(),
        record: Record::default(),
    };
    // From the first sample on there are as many rules as there will be: each takes memory, rightly.
    soak.import()?;
    (soak.begun_ns, soak.begun) = (boot_ns(), Instant::now());
    soak.record.lives.push(Life { ready: 0.0, end: f64::INFINITY });
    soak.run()?;
    soak.finish()
}

/// A soak under way.
struct Soak<'lab> {
    lab: &'lab Lab,
    schedule: &'lab Schedule,
    agent: Agent<'lab>,
    /// Fingerprints of clients over IPv4 and IPv6.
    likenesses: [Likeness; 2],
    leaky: Leaky,
    floods: Vec<(Event, RunningFlood)>,
    flash_crowds: Vec<(Event, f64, Load)>,
    /// Periods without a cable, in ns since boot.
    cuts: Vec<Range<u64>>,
    /// Imports and reloads so far.
    changes: usize,
    /// Number up to which incidents are made up.
    made_up: u64,
    begun_ns: u64,
    begun: Instant,
    record: Record,
}

impl Soak<'_> {
    fn run(&mut self) -> Result<()> {
        let mut loads = Vec::new();
        for port in PORT..PORT + SERVICES {
            for family in Family::BOTH {
                let rate = CLIENTS / u32::from(SERVICES);
                let visitors = Visitors { rate, home: Home::ValidatedClients, patience: PATIENCE };
                let service = (family.edge(), port).into();
                loads.push(Load::of(&self.lab.client, service, visitors)?);
            }
        }
        let schedule = self.schedule;
        let mut events = schedule.events.iter().peekable();
        let mut look = Duration::ZERO;
        while self.begun.elapsed() < schedule.length {
            while let Some(event) = events.next_if(|event| event.at <= self.begun.elapsed()) {
                self.carry_out(*event).with_context(|| format!("{event:?}"))?;
            }
            self.end_flash_crowds()?;
            if look <= self.begun.elapsed() {
                self.look()?;
                look += LOOK;
            }
            sleep(STEP);
        }
        for load in loads {
            self.record.attempts.0.extend(load.finish()?.0);
        }
        Ok(())
    }

    fn carry_out(&mut self, event: Event) -> Result<()> {
        match event.what {
            What::Flood(kind) => {
                let flood = self.flood(kind, event)?.start(self.lab)?;
                self.floods.push((event, flood));
            }
            What::FlashCrowd => {
                let home = Home::Anywhere(self.changes as u64);
                let visitors = Visitors { rate: FLASH_CROWD, home, patience: PATIENCE };
                let service = (event.family.edge(), event.port).into();
                let load = Load::of(&self.lab.client, service, visitors)?;
                self.flash_crowds.push((event, self.now(), load));
            }
            What::Import => self.import()?,
            What::Reload => {
                self.changes += 1;
                self.lab.edge.write(CONFIG, CONFIGS[self.changes % 2])?;
                self.run_verb(&["reload"])?;
            }
            What::Renew => {
                let from = boot_ns();
                self.lab.renew_cable()?;
                self.cuts.push(from..boot_ns());
            }
            What::End(end) => {
                let is_last = event.at == self.schedule.last_end();
                if is_last {
                    // Later samples ignore every number up to the last made-up one.
                    self.look()?;
                }
                self.end_life();
                match end {
                    End::Kill | End::KillInFlood => self.agent.kill()?,
                    End::Stop => drop(self.agent.stop()?),
                }
                if is_last {
                    self.fill_past()?;
                }
                self.agent.start_again(Mode::Enforce)?;
                ensure!(!is_last || self.alerts()? == REMEMBERED, "the past was not believed");
                self.record.lives.push(Life { ready: self.now(), end: f64::INFINITY });
            }
        }
        Ok(())
    }

    fn flood(&self, kind: Kind, event: Event) -> Result<Flood> {
        let v4 = event.family == Family::V4;
        let flood = Flood::random((event.family.edge(), event.port).into(), event.lasts());
        let flood = Flood { rate: size(5_000, 20_000), ..flood };
        let (source, net) = if v4 {
            ("198.51.100.7", "198.51.100.0/24")
        } else {
            ("2001:db8::7", "2001:db8:7::/56")
        };
        Ok(match kind {
            Kind::FixedFingerprint => flood,
            Kind::Mimicking => {
                Flood { shape: Shape::Copy(self.likenesses[usize::from(!v4)]), ..flood }
            }
            Kind::Single => Flood { sources: Sources::One(source.parse()?), ..flood },
            Kind::Net => Flood { sources: Sources::Net(net.parse()?), ..flood },
            Kind::Pulses => Flood { pulses: Some(PULSES), ..flood },
        })
    }

    fn import(&mut self) -> Result<()> {
        self.changes += 1;
        self.run_verb(&["rules", "import", "--replace", &rules_file(self.changes % 2)])
    }

    /// Runs a verb as an operator does.
    fn run_verb(&self, arguments: &[&str]) -> Result<()> {
        let output = cli(&self.lab.edge, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {said}");
        Ok(())
    }

    /// Samples the agent, and reads its status.
    fn look(&mut self) -> Result<()> {
        let (at, life) = (self.now(), self.record.lives.len() - 1);
        let phase = self.schedule.phase(self.begun.elapsed());
        let (held, leaky) = (Held::by(self.agent.pid())?, Held::by(self.leaky.0.id())?);
        let cookies = !self.lab.edge.exec("find /sys/fs/bpf -path */redeem/*")?.is_empty();
        let status = self.agent.status()?;
        let held = Held { in_use: status.heap(), ..held };
        let sample = Sample { at, life, phase, cookies, held };
        self.record.samples.push(sample);
        self.record.leaky.push(Sample { life: 0, held: leaky, ..sample });
        self.record.polls.push(status.heartbeat_age());
        for attack in status.incidents().into_iter().chain(status.past_incidents()) {
            let (id, port) = (attack.id(), attack.port());
            if id <= self.made_up {
                continue;
            }
            let reported = &mut self.record.reported;
            let known = reported.iter().find(|known| (known.id, known.port) == (id, port));
            // The time of day and the boot clock drift apart.
            let at_ms = known.map_or_else(
                || attack.detected().saturating_sub(self.begun_ns) / 1_000_000,
                |known| known.at_ms,
            );
            reported.retain(|known| (known.id, known.port) != (id, port));
            reported.insert(Reported { id, port, class: attack.class().to_owned(), at_ms });
        }
        Ok(())
    }

    fn end_flash_crowds(&mut self) -> Result<()> {
        let now = self.now();
        let over =
            |(event, from, _): &mut (Event, f64, Load)| now >= *from + event.lasts().as_secs_f64();
        let over: Vec<_> = self.flash_crowds.extract_if(.., over).collect();
        for (event, from, load) in over {
            self.record.attempts.0.extend(load.finish()?.0);
            self.record.played.push(Played { event, time: from..now });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Record> {
        self.look()?;
        self.end_life();
        let since = |at: u64| at.saturating_sub(self.begun_ns) as f64 / 1e9;
        for (event, flood) in self.floods {
            let report = flood.wait()?;
            let time = since(report.started)..since(report.ended);
            self.record.played.push(Played { event, time });
            self.record.syns += report.sent;
        }
        let missed = |at: u64| self.cuts.iter().any(|cut| cut.contains(&at));
        self.record.attempts.0.retain(|attempt| !missed(attempt.at));
        Ok(self.record)
    }

    fn end_life(&mut self) {
        let now = self.now();
        if let Some(life) = self.record.lives.last_mut() {
            life.end = now;
        }
    }

    /// Leaves as many alerts and incidents to the next agent as it will ever remember.
    fn fill_past(&mut self) -> Result<()> {
        for (kind, name, most) in [
            (past::Kind::Alerts, "alerts", REMEMBERED),
            (past::Kind::Incidents, "incidents", Limits::PAST_INCIDENTS),
        ] {
            let file = format!("{STATE_DIR}/{name}.jsonl");
            let filled = past::filled(kind, &self.lab.edge.read(&file)?, most)?;
            self.lab.edge.write(&file, &filled)?;
        }
        let last = self.record.reported.iter().map(|incident| incident.id).max().unwrap_or(0);
        self.made_up = last.max(Limits::PAST_INCIDENTS as u64);
        Ok(())
    }

    /// Returns the number of alerts that the agent knows of.
    fn alerts(&self) -> Result<usize> {
        let list = cli(&self.lab.edge, &["events", "--json"])?;
        let list: serde_json::Value = serde_json::from_slice(&list.stdout)?;
        list["events"].as_array().map(Vec::len).context("no list of alerts")
    }

    /// Seconds since the soak began.
    fn now(&self) -> f64 {
        (boot_ns() - self.begun_ns) as f64 / 1e9
    }
}

/// A program that leaks, until it is dropped.
struct Leaky(Child);

impl Leaky {
    fn start(lab: &Lab) -> Result<Self> {
        let mut command = lab.edge.command("bash")?;
        // Its last sleep outlives it.
        command
            .args(["-c", LEAKY])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(command.spawn().context("cannot start bash")?))
    }
}

impl Drop for Leaky {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("the program that leaks cannot be ended: {error}");
        }
    }
}

/// Two sets that have half of their rules in common. None of the rules matches a host of the lab.
fn sets() -> impl Iterator<Item = String> {
    [0, RULES / 2].into_iter().map(|first| {
        (first..first + RULES).fold(String::new(), |mut file, number| {
            let address = Ipv4Addr::from_bits(0x6440_0000 + number);
            let _ = writeln!(file, "{{\"prefix\":\"{address}\",\"for_s\":3600}}");
            file
        })
    })
}

fn rules_file(number: usize) -> String {
    format!("/run/{number}.rules")
}
