//! Profile of a packet's time in a live flood: the parts of tcpguard's figure, and those of the others'.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::traffic::clients::{Home, Load, Visitors};

use super::arm::Arm;
use super::attack::{Kind, Rate};
use super::plan::CLIENTS;
use super::run::{PATIENCE, STEPS, Setting, Stage};
use crate::memory;
use crate::perf::{self, Looks, Perf};

/// Cases that a full run judges at the maximum, and those beside which it judges them.
const CASES: [(Kind, Arm); 5] = [
    (Kind::Fixed, Arm::Drop),
    (Kind::Fixed, Arm::XdpFilter),
    (Kind::Fixed, Arm::Ours),
    (Kind::Mimic, Arm::Cookies1),
    (Kind::Mimic, Arm::Ours),
];
/// Clients before the flood: without any, whatever the flood sends looks like no client.
const WARM_UP: Duration = Duration::from_secs(2);
/// By then, the agent has classified the flood and its mitigations no longer change.
const SETTLE: Duration = Duration::from_secs(5);
/// A function that takes less of a packet's time than this share has no row.
const LEAST: f64 = 0.015;
/// Around what caches hold, in KiB.
const SIZES: [usize; 7] = [256, 1024, 2048, 4096, 8192, 16384, 65536];

/// In which functions the receiving thread's time goes in floods at their maximum, beside clients, and
/// what a load costs by the size of what it is from
#[derive(Debug, Args)]
pub struct Profile {
    /// Seconds in which perf looks, each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    window: u64,
    /// Over IPv6
    #[arg(long)]
    ipv6: bool,
}

impl Profile {
    /// # Errors
    /// When nothing can be looked at. What cannot be had here is named and left out.
    pub fn bench(&self) -> Result<()> {
        let mut missing = Vec::new();
        for (flood, arm) in CASES {
            let title = format!("{} flood: {}", flood.title(), arm.title());
            eprintln!("profile: {title}");
            match self.look(flood, arm) {
                Ok(found) => println!("\n{}", table(&title, &found)),
                Err(error) => missing.push(format!("{title}: {error:#}")),
            }
        }
        missing.iter().for_each(|line| println!("\nNot looked at here: {line}"));
        println!("\n{}", loads()?);
        ensure!(missing.len() < CASES.len(), "no defence could be looked at");
        Ok(())
    }

    fn look(&self, flood: Kind, arm: Arm) -> Result<Found> {
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        let setting = Setting { flood, rate: Some(Rate::Maximum), ..Setting::near(family) };
        let stage = Stage::new(&setting, arm.syncookies())?;
        let receiver = stage.lab.receiver.as_ref().context("the lab is measured")?;
        let flood = setting.flood(&stage.lab)?.context("without a flood there is no profile")?;
        let seconds = (WARM_UP + SETTLE + PATIENCE).as_secs() as u32 + self.window as u32 + 2;
        let defence = arm.defend(&stage.lab, family, CLIENTS * seconds)?;
        let visitors = |home| Visitors { rate: CLIENTS, home, patience: PATIENCE };
        let visit = |home| Load::of(&stage.lab.client, family.service(), visitors(home));
        let (_validated, _new_clients) = (visit(Home::ValidatedClients)?, visit(Home::NewClients)?);
        sleep(WARM_UP);
        let flood = flood.start(&stage.lab)?;
        sleep(SETTLE);
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("perf.data");
        let perf = Perf::start(receiver.thread(), &file)?;
        let load = stage.watch(Duration::from_secs(self.window))?;
        perf.stop()?;
        let status = defence.status()?;
        flood.stop()?;
        let looks = Looks::read(&file)?;
        ensure!(looks.count > u64::from(perf::LOOKS) / 4, "perf looked {} times only", looks.count);
        let taken = |mitigation: &&str| {
            status.as_ref().and_then(|it| it.mitigation(mitigation)) == Some("active")
        };
        Ok(Found {
            ns: load.cost.ns_per_packet(),
            rate: load.rate(),
            mitigations: STEPS.into_iter().filter(taken).collect(),
            looks,
        })
    }
}

struct Found {
    /// CPU time of a packet.
    ns: f64,
    /// Packets taken per second.
    rate: f64,
    mitigations: Vec<&'static str>,
    looks: Looks,
}

fn table(title: &str, found: &Found) -> String {
    let Found { ns, rate, mitigations, looks } = found;
    let mitigations = if mitigations.is_empty() {
        String::new()
    } else {
        format!(", {}", mitigations.join(", "))
    };
    let mut text = format!(
        "| {title}{mitigations}: {ns:.0} ns a packet, {:.2} M/s, {} samples | % | ns | at one instruction, ns |\n\
         |---|---|---|---|\n",
        rate / 1e6,
        looks.count
    );
    for function in looks.functions.iter().filter(|function| function.share >= LEAST) {
        let (share, hottest) = (function.share, function.hottest);
        text += &format!(
            "| `{}` | {:.1} | {:.0} | {:.0} |\n",
            function.name,
            100.0 * share,
            share * ns,
            hottest * ns
        );
    }
    text
}

fn loads() -> Result<String> {
    let mut text =
        "| a load that waits for the one before it, from random lines of | ns |\n|---|---|\n"
            .to_owned();
    for kib in SIZES {
        text += &format!("| {kib} KiB | {:.1} |\n", memory::load_ns(kib << 10)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::Function;

    #[test]
    fn a_row_says_how_many_ns_of_a_packet_a_function_takes_and_where_it_waits() {
        let function =
            |name: &str, share, hottest| Function { name: name.to_owned(), share, hottest };
        let functions = vec![function("BPF: course", 0.5, 0.4), function("rare", 0.01, 0.01)];
        let looks = Looks { count: 20_000, functions };
        let found = Found { ns: 200.0, rate: 2_000_000.0, mitigations: vec!["cookies"], looks };
        let text = table("fixed-fingerprint flood: tcpguard", &found);
        assert!(
            text.starts_with(
                "| fixed-fingerprint flood: tcpguard, cookies: 200 ns a packet, 2.00 M/s, 20000 samples |"
            ),
            "{text}"
        );
        assert!(text.contains("| `BPF: course` | 50.0 | 100 | 80 |"), "{text}");
        assert!(!text.contains("rare"), "{text}");
    }
}
