//! Floods that spoof sources that tcpguard exempts: a validated client, an allowlisted network, the gateway.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use tcpguard_kit::daemon::agent::{self, Agent, Mode};
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::measure::lower_bound;
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, Visitors};
use tcpguard_kit::traffic::flood::{Flood, MAX_DURATION, Shape, Sources};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::transfer::{Direction, Order, Transfer};

use super::attack::{Kind, Rate, parse_rate};
use super::claims::Claims;
use super::run::{PATIENCE, Setting, Stage};

const SECOND: Duration = Duration::from_secs(1);
/// Share of the other clients that must be answered within a second.
const SERVED: f64 = 0.999;
/// Connections that the named client has open, and what each receives or sends, in bytes/s.
const STREAMS: usize = 8;
const STREAM_PACE: u64 = 250_000;

/// SYNs that spoof a validated client, an allowlisted /12 (/32) and the gateway
#[derive(Debug, Args)]
pub struct Names {
    /// SYNs per second
    #[arg(long, value_parser = parse_rate, default_value = "500k")]
    rate: Rate,
    /// Connections per second of other clients, each from an address of its own
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    clients: u32,
    /// Seconds in which attempts count, each name; 10,000 attempts need 200 at 50 clients a second
    #[arg(long, default_value_t = 20)]
    window: u64,
    /// Over IPv6
    #[arg(long)]
    ipv6: bool,
    /// The spoofed sources, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "client,allowlisted,gateway")]
    of: Vec<Name>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// A client that connected before the flood and has connections open
    Client,
    /// A network on the allowlist
    Allowlisted,
    /// The default gateway
    Gateway,
}

impl Name {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Client => "a client that connected before the flood and has connections open",
            Self::Allowlisted => "an allowlisted network",
            Self::Gateway => "the gateway",
        }
    }

    fn sources(self, family: Family) -> Result<Sources> {
        let v4 = family == Family::V4;
        Ok(match self {
            Self::Client => Sources::One(family.client()),
            Self::Allowlisted => Sources::Net(allowlisted(family).parse()?),
            Self::Gateway => Sources::One(if v4 { "10.77.0.254" } else { "fd77::fe" }.parse()?),
        })
    }
}

const fn allowlisted(family: Family) -> &'static str {
    match family {
        Family::V4 => "172.16.0.0/12",
        Family::V6 => "2001:db8::/32",
    }
}

impl Names {
    /// # Errors
    /// When a claim does not hold, or the lab fails.
    pub fn bench(&self) -> Result<()> {
        let mut claims = Claims::default();
        for name in &self.of {
            println!("\n{} in the name of {}", self.rate.title(), name.in_words());
            self.play(*name, &mut claims)?;
        }
        claims.verdict()
    }

    fn play(&self, name: Name, claims: &mut Claims) -> Result<()> {
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        let setting = Setting {
            flood: Kind::Mimic,
            rate: Some(self.rate),
            clients: self.clients,
            ..Setting::near(family)
        };
        let stage = Stage::new(&setting, 1)?;
        let lab = &stage.lab;
        let shape = Shape::Copy(Likeness::capture(lab, family)?);
        let service = family.service();
        let flood =
            Flood { shape, sources: name.sources(family)?, ..Flood::random(service, MAX_DURATION) };
        let agent = Agent::start(&lab.edge, Mode::Enforce)?;
        if matches!(name, Name::Allowlisted) {
            let allowed = agent::cli(&lab.edge, &["allow", allowlisted(family)])?;
            ensure!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
        }
        let visitors = |home| Visitors { rate: self.clients, home, patience: PATIENCE };
        let validated_clients = Load::of(&lab.client, service, visitors(Home::One))?;
        let new_clients = Load::of(&lab.client, service, visitors(Home::NewClients))?;
        let window = Duration::from_secs(self.window);
        let settle = 3 * SECOND;
        let life = 2 * SECOND + settle + window;
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| {
                let direction = if number % 2 == 0 { Direction::Pull } else { Direction::Push };
                let bytes = STREAM_PACE * life.as_secs();
                Transfer::begin(&lab.client, service, Order { direction, bytes, pace: STREAM_PACE })
            })
            .collect::<Result<_>>()?;
        sleep(2 * SECOND);
        let flood = self.rate.applied_to(flood).start(lab)?;
        sleep(settle);
        let (from, missed) = (boot_ns(), lab.lost()?);
        let load = stage.watch(window)?;
        let missed = lab.lost()? - missed;
        let to = boot_ns();
        let status = agent.status()?;
        sleep(PATIENCE);
        flood.stop()?;
        let broken: Vec<_> = streams.into_iter().filter_map(|s| s.finish().err()).collect();
        let lost = missed as f64 / (load.cost.packets + missed).max(1) as f64;
        println!(
            "  {}; {:.0} packets/s taken, {:.3} % lost before them",
            status.state(),
            load.rate(),
            100.0 * lost,
        );
        let others = new_clients.finish()?.begun(from, to);
        let known = validated_clients.finish()?.begun(from, to);
        println!("  new connections from the validated client's address: {}", known.summary());
        println!("  of them not within 1 s, by second: {}", late(&known, from));
        check_served(claims, &others, lost);
        println!("  of the others not within 1 s, by second: {}", late(&others, from));
        let lost = broken.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("; ");
        claims.check(
            broken.is_empty(),
            &format!("{STREAMS} open connections of the validated client lose 0 bytes {lost}"),
        );
        Ok(())
    }
}

/// Start times of the attempts without a reply within a second: one stall of the machine, or all the time.
fn late(attempts: &Attempts, from: u64) -> String {
    let late = attempts.0.iter().filter(|one| one.took.is_none_or(|took| took > SECOND));
    let mut seconds = BTreeMap::<u64, usize>::new();
    for one in late {
        *seconds.entry((one.at - from) / 1_000_000_000).or_default() += 1;
    }
    let words: Vec<_> =
        seconds.iter().map(|(second, count)| format!("{second}: {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// `lost`: share of all packets that were dropped before XDP. A client whose SYN was among them waits a second
/// for the next one, whatever replies; an ACK or a request is retransmitted sooner.
fn check_served(claims: &mut Claims, others: &Attempts, lost: f64) {
    let (successes, count) = (others.within(SECOND), others.0.len());
    claims.check(
        share_of_arrived(successes, count, lost) >= SERVED,
        &format!(
            "99.9 % of the others with a SYN that reached tcpguard are answered within 1 s: \
             {successes} of {count}, {:.2} % (at least {:.2} %), {:.2} % lost before",
            100.0 * successes as f64 / count.max(1) as f64,
            100.0 * lower_bound(successes, count),
            100.0 * lost
        ),
    );
}

/// Share of those that arrived, where the share `lost` of all did not.
fn share_of_arrived(successes: usize, count: usize, lost: f64) -> f64 {
    successes as f64 / (count as f64 * (1.0 - lost)).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_the_cable_are_not_held_against_tcpguard_and_nothing_else_is_forgiven() {
        assert!(share_of_arrived(9984, 10_004, 0.00221) >= SERVED);
        assert!(share_of_arrived(9984, 10_004, 0.0005) < SERVED);
        assert!(share_of_arrived(9931, 10_001, 0.002) < SERVED, "the stall that a rule once made");
        assert_eq!(share_of_arrived(0, 0, 0.0), 0.0, "nobody came");
    }
}
