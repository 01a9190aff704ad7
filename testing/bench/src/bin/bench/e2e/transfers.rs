//! Connections opened during a flood, against those opened in peace without tcpguard: the options
//! that the ends agreed on, their speed, and whether every byte arrives.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tcpguard_kit::daemon::agreed::Agreed;
use tcpguard_kit::measure::median;
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::traffic::transfer::{Direction, Order, Transfer};

use super::arm::Arm;
use super::attack::{Kind, Rate, parse_rate};
use super::claims::Claims;
use super::run::{Setting, Stage};

/// Share of the throughput without flood and tcpguard.
const KEPT: f64 = 0.95;

/// Transfers opened during a flood, with and without timestamps, compared with those in peace
#[derive(Debug, Args)]
pub struct Transfers {
    /// SYNs per second, copies of the client's own
    #[arg(long, value_parser = parse_rate, default_value = "500k")]
    rate: Rate,
    /// Megabytes of each transfer
    #[arg(long, default_value_t = 100)]
    megabytes: u64,
    /// Megabits per second at which the sender writes: client, service and flood share a CPU here,
    /// so that at full speed they would measure each other; 0: no limit
    #[arg(long, default_value_t = 200)]
    pace: u64,
    /// Number of rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Over IPv6
    #[arg(long)]
    ipv6: bool,
}

struct Seen {
    bytes_per_second: f64,
    /// At the client, at the service.
    agreed: [Agreed; 2],
}

impl Transfers {
    /// # Errors
    /// When a claim does not hold, or the lab fails.
    pub fn bench(&self) -> Result<()> {
        let mut claims = Claims::default();
        for timestamps in [true, false] {
            for direction in [Direction::Pull, Direction::Push] {
                self.compare(timestamps, direction, &mut claims)?;
            }
        }
        claims.verdict()
    }

    fn compare(&self, timestamps: bool, direction: Direction, claims: &mut Claims) -> Result<()> {
        let with = if timestamps { "with" } else { "without" };
        println!("\n{direction:?} {} MB, client {with} timestamps", self.megabytes);
        let arms = [(Arm::Cookies1, false), (Arm::Drop, true), (Arm::Ours, true)];
        let mut seen: [Vec<Seen>; 3] = [const { Vec::new() }; 3];
        for _ in 0..self.rounds.max(1) {
            for ((arm, flooded), seen) in arms.into_iter().zip(&mut seen) {
                match self.transfer(arm, flooded, timestamps, direction) {
                    Ok(transfer) => seen.push(transfer),
                    Err(error) => claims.check(false, &format!("{}: {error:#}", arm.title())),
                }
            }
        }
        let speeds = seen.each_ref().map(|seen| speed(seen));
        let peace = seen[0].first().context("no transfer succeeded even in peace")?.agreed;
        for ((arm, flooded), (seen, speed)) in arms.into_iter().zip(seen.iter().zip(speeds)) {
            let flood = if flooded { "under the flood" } else { "in peace" };
            let speed = speed.map_or("–".to_owned(), |speed| format!("{:.1}", speed / 1e6));
            println!("  {}, {flood}: {speed} MB/s", arm.title());
            for agreed in seen.iter().map(|seen| seen.agreed).filter(|agreed| *agreed != peace) {
                println!("    client {:?}, service {:?}", agreed[0], agreed[1]);
            }
        }
        println!("  in peace: client {:?}, service {:?}", peace[0], peace[1]);
        let ours = &seen[2];
        claims.check(ours.len() == self.rounds.max(1), "every byte arrives as it was sent");
        let same = ours.iter().all(|seen| seen.agreed == peace);
        // Without timestamps the cookie has few bits for them; docs/decisions/0007 has the steps.
        let quantised = ours.iter().all(|seen| is_quantised(&seen.agreed, &peace));
        match timestamps {
            true => claims.check(same, "mss, wscale, sack and ts are the same as in peace"),
            false => {
                claims.check(quantised, "mss and wscale are at most those in peace, sack same")
            }
        }
        let ratio = speeds[2].zip(speeds[0]).map_or(0.0, |(ours, peace)| ours / peace);
        claims.check(ratio >= KEPT, &format!("throughput {ratio:.3} of that in peace"));
        Ok(())
    }

    fn transfer(
        &self,
        arm: Arm,
        flooded: bool,
        timestamps: bool,
        direction: Direction,
    ) -> Result<Seen> {
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        let rate = flooded.then_some(self.rate);
        let setting = Setting { flood: Kind::Mimic, rate, ..Setting::near(family) };
        let stage = Stage::new(&setting, arm.syncookies())?;
        let lab = &stage.lab;
        lab.client.sysctl("net.ipv4.tcp_timestamps", if timestamps { "1" } else { "0" })?;
        let flood = setting.flood(lab)?;
        let _defence = arm.defend(lab, family, 0)?;
        let flood = flood.map(|flood| flood.start(lab)).transpose()?;
        // Until the mitigations are active.
        sleep(Duration::from_secs(if flooded { 4 } else { 0 }));
        let (bytes, pace) = (self.megabytes * 1_000_000, self.pace * 125_000);
        let order = Order { direction, bytes, pace };
        let transfer = Transfer::begin(&lab.client, family.service(), order)?;
        sleep(Duration::from_millis(300));
        let port = transfer.client.port();
        let agreed =
            [Agreed::of(&lab.client, "sport", port)?, Agreed::of(&lab.edge, "dport", port)?];
        let took = transfer.finish()?;
        if let Some(flood) = flood {
            flood.stop()?;
        }
        Ok(Seen { bytes_per_second: bytes as f64 / took.as_secs_f64(), agreed })
    }
}

fn speed(seen: &[Seen]) -> Option<f64> {
    let speeds: Vec<_> = seen.iter().map(|seen| seen.bytes_per_second).collect();
    (!speeds.is_empty()).then(|| median(speeds))
}

/// Returns whether nobody was promised more than in peace, and nothing but sizes is different.
fn is_quantised(agreed: &[Agreed; 2], peace: &[Agreed; 2]) -> bool {
    agreed.iter().zip(peace).all(|(these, those)| {
        let scales = |agreed: &Agreed| agreed.wscale.map_or([0, 0], |(a, b)| [a, b]);
        let (less, more) = (scales(these), scales(those));
        these.mss <= those.mss
            && less[0] <= more[0]
            && less[1] <= more[1]
            && (these.sack, these.timestamps) == (those.sack, those.timestamps)
    })
}
