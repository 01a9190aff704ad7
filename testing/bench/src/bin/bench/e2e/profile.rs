//! Profile of a packet's time in a live flood: the parts of tcpguard's figure, and those of the others'.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use tcpguard_kit::net::lab::Family;
use tcpguard_kit::traffic::clients::{Home, Load, Visitors};

use super::arm::Arm;
use super::attack::{Kind, Rate};
use super::plan::CLIENTS;
use super::run::{PATIENCE, STEPS, Setting, Stage};
use crate::memory;
use crate::part::{Part, Report};
use crate::perf::{self, Function, Looks, Perf};

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
    /// The length that is recorded, or one that shows that it works.
    pub const fn of_record(quick: bool) -> Self {
        Self { window: if quick { 4 } else { 5 }, ipv6: false }
    }

    /// Profiles all cases.
    ///
    /// # Errors
    /// When no case can be profiled. A case that cannot be is listed as missing.
    pub fn measure(&self) -> Result<LiveProfiles> {
        super::able()?;
        let (mut cases, mut missing) = (Vec::new(), Vec::new());
        for (flood, arm) in CASES {
            let title = format!("{} flood: {}", flood.title(), arm.title());
            eprintln!("live: {title}");
            match self.look(flood, arm) {
                Ok(found) => cases.push(Case { title, ..found }),
                Err(error) => missing.push(format!("{title}: {error:#}")),
            }
        }
        ensure!(!cases.is_empty(), "no defence could be looked at: {}", missing.join("; "));
        let load = |kib| Ok((kib, memory::load_ns(kib << 10)?));
        let loads = SIZES.into_iter().map(load).collect::<Result<_>>()?;
        Ok(LiveProfiles { cases, loads, missing })
    }

    fn look(&self, flood: Kind, arm: Arm) -> Result<Case> {
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
        Ok(Case {
            title: String::new(),
            ns: load.cost.ns_per_packet(),
            rate: load.rate(),
            mitigations: STEPS.into_iter().filter(taken).collect(),
            looks: looks.count,
            functions: looks.functions,
        })
    }
}

/// Distribution of a packet's time in live floods, and the cost of a load.
#[derive(Clone, Debug, Serialize)]
pub struct LiveProfiles {
    cases: Vec<Case>,
    /// KiB, and the ns of a load from as many.
    loads: Vec<(usize, f64)>,
    /// Cases that could not be profiled on this machine, with the reason.
    missing: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Case {
    title: String,
    /// CPU time of a packet.
    ns: f64,
    /// Packets taken per second.
    rate: f64,
    mitigations: Vec<&'static str>,
    looks: u64,
    functions: Vec<Function>,
}

impl Case {
    fn heading(&self) -> String {
        let Self { title, ns, rate, looks, .. } = self;
        let mitigations: String = self.mitigations.iter().map(|it| format!(", {it}")).collect();
        let rate = rate / 1e6;
        format!("{title}{mitigations}: {ns:.0} ns a packet, {rate:.2} M/s, {looks} samples")
    }

    fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        let shown = self.functions.iter().filter(|function| function.share >= LEAST);
        shown.map(|Function { name, share, hottest }| {
            let ns = |share: f64| format!("{:.0}", share * self.ns);
            vec![format!("`{name}`"), format!("{:.1}", 100.0 * share), ns(*share), ns(*hottest)]
        })
    }
}

impl Part for LiveProfiles {
    const NAME: &'static str = "live";

    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        report.text(
            "## Live profile\n\nThe receiving thread under floods at maximum. Share of each function, its ns of a \
             packet, and those of its one instruction that takes the most. Functions below 1.5 % are left out.",
        );
        for case in &self.cases {
            report.table(&[&case.heading(), "%", "ns", "at one instruction, ns"], case.rows());
        }
        let loads = self.loads.iter();
        report.table(
            &["a load that waits for the one before it, from random lines of", "ns"],
            loads.map(|(kib, ns)| vec![format!("{kib} KiB"), format!("{ns:.1}")]),
        );
        report.missing(&self.missing);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page;

    #[test]
    fn a_row_says_how_many_ns_of_a_packet_a_function_takes_and_where_it_waits() {
        let function =
            |name: &str, share, hottest| Function { name: name.to_owned(), share, hottest };
        let case = Case {
            title: "fixed-fingerprint flood: tcpguard".to_owned(),
            ns: 200.0,
            rate: 2_000_000.0,
            mitigations: vec!["cookies"],
            looks: 20_000,
            functions: vec![function("BPF: course", 0.5, 0.4), function("rare", 0.01, 0.01)],
        };
        let missing = vec!["mimicking flood: tcpguard: no perf".to_owned()];
        let profiles = LiveProfiles { cases: vec![case], loads: vec![(4096, 192.94)], missing };
        let text = page::text(&profiles.report());
        let heading = "| fixed-fingerprint flood: tcpguard, cookies: 200 ns a packet, 2.00 M/s, 20000 samples |";
        assert!(text.contains(heading), "{text}");
        assert!(text.contains("| `BPF: course` | 50.0 | 100 | 80 |"), "{text}");
        assert!(text.contains("| 4096 KiB | 192.9 |"), "{text}");
        assert!(!text.contains("rare") && text.contains("- mimicking flood: tcpguard: no perf"));
    }
}
