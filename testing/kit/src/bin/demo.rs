//! `cargo xtask demo`: a SYN flood and tcpguard's response to it, in about a minute.
//!
//! Everything happens between network namespaces that vanish with this process, also after Ctrl-C.
//! Each claim is checked; the exit code is not 0 when one does not hold.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tcpguard::documents::Advised;
use tcpguard_kit::claims::{self, Claims, scene};
use tcpguard_kit::daemon::agent::{self, Agent, Mode};
use tcpguard_kit::measure::clock::{after, between, boot_ns};
use tcpguard_kit::net::lab::{BACKLOG, Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::{Attempts, Load};
use tcpguard_kit::traffic::flood::{Flood, RunningFlood};
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
const CLIENTS_PER_SECOND: u32 = 50;
const LONGEST_FLOOD: Duration = Duration::from_secs(45);

fn main() -> ExitCode {
    claims::outcome(play())
}

/// Plays all scenes.
fn play() -> Result<Claims> {
    agent::binary()?;
    let mut claims = Claims::default();

    scene("The stage");
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() })?;
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
    let (v4, v6) = (Family::V4.service(), Family::V6.service());
    println!(
        "A host with a TCP server at {v4} and {v6}, backlog {BACKLOG}, SYN cookies off; a client \
         that opens {CLIENTS_PER_SECOND} connections a second on each; an attacker. Each is a \
         network namespace of its own; nothing leaves this machine."
    );
    let mut agent = Agent::start(&lab.edge, Mode::Observe)?;
    let clients = Clients::start(&lab)?;

    scene("Before the flood: tcpguard runs in observe mode");
    let calm = boot_ns();
    sleep(4 * SECOND);
    show_status(&agent)?;
    for (family, attempts) in clients.between(calm, boot_ns()) {
        claims.served(family, &attempts);
    }
    claims.check(agent.status()?.state() == "observing", "status: observing, no attack");

    scene("A flood of 100,000 SYN/s from random addresses, in mode observe");
    let flood = Flood::random(v4, LONGEST_FLOOD).start(&lab)?;
    sleep(6 * SECOND);
    show_status(&agent)?;
    claims.detected(&agent, &flood)?;
    // Of the younger attempts only those have ended that were lucky.
    let patience = 3 * SECOND;
    let ripe = boot_ns() - patience.as_nanos() as u64;
    for (family, attempts) in clients.between(after(flood.started(), SECOND), ripe) {
        println!("  {family:?} clients: {}", attempts.summary());
        // Where other work holds up the flood for a moment, a few slip in.
        let share = attempts.share_within(patience);
        claims.check(share < 0.2, &format!("four in five {family:?} clients are locked out"));
    }
    let status = agent.status()?;
    let advice = status.incidents().first().and_then(|a| a.advised_command().map(str::to_owned));
    claims.check(
        advice.as_deref() == Some(Advised::TRY_ENFORCE),
        "status recommends `tcpguard mode enforce --rollback-after 60s`",
    );

    scene("The operator follows the advice: tcpguard mode enforce --rollback-after 60s");
    let enforced = boot_ns();
    command(&lab, &["mode", "enforce", "--rollback-after", "60s"])?;
    sleep(8 * SECOND);
    show_status(&agent)?;
    claims.stopped(&agent)?;
    for (family, attempts) in clients.between(after(enforced, 2 * SECOND), boot_ns()) {
        claims.served(family, &attempts);
    }
    command(&lab, &["confirm"])?;
    let first = flood.stop()?;

    scene("The attacker tries IPv6");
    let flood = Flood::random(v6, LONGEST_FLOOD).start(&lab)?;
    sleep(8 * SECOND);
    show_status(&agent)?;
    claims.stopped(&agent)?;
    let from = after(flood.started(), Duration::from_millis(2500));
    for (family, attempts) in clients.between(from, boot_ns()) {
        claims.served(family, &attempts);
    }
    let second = flood.stop()?;
    let ended = boot_ns();

    scene("The flood is over");
    let sent = first.sent + second.sent;
    println!("The flood sent {sent} SYNs. The rules expire after 30 quiet seconds.");
    let released = agent.wait_until("the rules are gone", 40 * SECOND, |status| {
        status.incidents().is_empty() && status.rules_in_kernel() == Some(0)
    })?;
    show_status(&agent)?;
    let took = between(ended, boot_ns());
    claims.check(took <= 35 * SECOND, &format!("released {:.0} s after", took.as_secs_f64()));
    let incidents = released.past_incidents().len();
    claims.check(incidents == 1, "all of it was one incident");
    let (entry, fates) =
        (released.total("rx_packets"), released.total("pass") + released.total("drop_total"));
    claims
        .check(entry == fates, &format!("{entry} packets arrived, {fates} passed or were dropped"));

    for (family, attempts) in clients.finish()? {
        let after_flood = attempts.begun(ended, boot_ns());
        claims.served(family, &after_flood);
    }
    let stopped = agent.stop()?;
    claims.check(stopped.success(), "tcpguard stops cleanly");
    Ok(claims)
}

/// Types a command of the operator.
fn command(lab: &Lab, arguments: &[&str]) -> Result<()> {
    println!("\n$ sudo tcpguard {}", arguments.join(" "));
    let output = agent::cli(&lab.edge, arguments)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        println!("  {line}");
    }
    Ok(())
}

fn show_status(agent: &Agent) -> Result<()> {
    println!("\n$ tcpguard status");
    for line in agent.status_text()?.lines() {
        println!("  {line}");
    }
    println!();
    Ok(())
}

/// Clients on both families.
struct Clients([(Family, Load); 2]);

impl Clients {
    fn start(lab: &Lab) -> Result<Self> {
        let start = |family: Family| -> Result<_> {
            Ok((family, Load::start(&lab.client, family.service(), CLIENTS_PER_SECOND)?))
        };
        Ok(Self([start(Family::V4)?, start(Family::V6)?]))
    }

    /// Outcomes of the attempts that began in `from..to` and have ended.
    fn between(&self, from: u64, to: u64) -> [(Family, Attempts); 2] {
        self.0.each_ref().map(|(family, load)| (*family, load.so_far().begun(from, to)))
    }

    fn finish(self) -> Result<Vec<(Family, Attempts)>> {
        self.0.into_iter().map(|(family, load)| Ok((family, load.finish()?))).collect()
    }
}

/// Claims about one moment of the demonstration.
trait Moments {
    fn served(&mut self, family: Family, attempts: &Attempts);

    fn detected(&mut self, agent: &Agent, flood: &RunningFlood) -> Result<()>;

    fn stopped(&mut self, agent: &Agent) -> Result<()>;
}

impl Moments for Claims {
    fn served(&mut self, family: Family, attempts: &Attempts) {
        println!("  {family:?} clients: {}", attempts.summary());
        let served = attempts.share_within(SECOND) >= 0.99;
        self.check(served, &format!("99 % of {family:?} clients get their answer within a second"));
    }

    fn detected(&mut self, agent: &Agent, flood: &RunningFlood) -> Result<()> {
        let status = agent.status()?;
        let attack = status.incidents().first().cloned().context("no attack was detected")?;
        println!("  {}", attack.summary());
        let took = between(flood.started(), attack.detected());
        self.check(attack.class() == "random_spoofed", "its class is random_spoofed");
        self.check(took <= SECOND, &format!("detected within a second ({took:.2?})"));
        Ok(())
    }

    fn stopped(&mut self, agent: &Agent) -> Result<()> {
        let status = agent.status()?;
        for rule in status.rules() {
            println!("  rule: {}", rule.matches());
        }
        self.check(status.state() == "attack_mitigated", "status: the flood is mitigated");
        let signatures = status.rules().iter().all(|rule| rule.kind() == "signature");
        self.check(signatures, "by signature rules: no address is banned");
        let returned: u64 = status.rules().iter().map(|rule| rule.accepted_retransmits()).sum();
        // Dropped SYNs are remembered by 20 bits: some two in a million are taken for another.
        let mistaken = 8 + status.total("syn") / 100_000;
        self.check(returned <= mistaken, "no real client matches a rule");
        Ok(())
    }
}
