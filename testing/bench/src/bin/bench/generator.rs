//! The SYNs that the generator of floods makes at maximum, and the ideal filter's share of them. The ideal
//! filter on the other CPU is the fastest receiver that there is: what it does not take is the machine's limit,
//! not the generator's.

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tcpguard_kit::net::lab::Family;

use crate::e2e::attack::{Kind, Rate};
use crate::e2e::run::{self, Setting};
use crate::page;
use crate::part::Table;
use crate::samples::Samples;

/// SYNs that the generator makes at maximum, and the ideal filter's share of them; needs root and two CPUs
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench generator", max_term_width = 100)]
struct Options {
    /// Rounds through all floods
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for which each is measured
    #[arg(long, default_value_t = 2.0)]
    window: f64,
    /// Floods to measure, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "fixed,returning,mimic")]
    floods: Vec<Kind>,
}

const COLUMNS: [&str; 6] = [
    "flood",
    "offered, M/s (min–max)",
    "lost in the ring, M/s (min–max)",
    "taken, M/s (min–max)",
    "ns per SYN made (min–max)",
    "CPU ns per SYN taken (min–max)",
];

/// The results of one flood, round by round.
#[derive(Default)]
struct Row {
    offered: Samples,
    lost: Samples,
    taken: Samples,
    ns_per_packet: Samples,
}

/// `bench generator`: prints a table.
///
/// # Errors
/// When the lab fails.
pub fn bench(words: &[&str]) -> Result<()> {
    let words = std::iter::once("cargo xtask bench generator").chain(words.iter().copied());
    let options = match Options::try_parse_from(words) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    crate::e2e::able()?;
    let each = |&flood: &Kind| Family::BOTH.map(|family| (flood, family));
    let mut rows: Vec<_> =
        options.floods.iter().flat_map(each).map(|of| (of, Row::default())).collect();
    let window = Duration::from_secs_f64(options.window);
    for _ in 0..options.rounds.max(1) {
        for ((flood, family), row) in &mut rows {
            let rate = Some(Rate::Maximum);
            let setting = Setting { flood: *flood, rate, ..Setting::near(*family) };
            let dropped = run::perfect_drop(&setting, window)?;
            row.offered.push(dropped.offered);
            row.lost.push(dropped.load.lost_rate());
            row.taken.push(dropped.load.rate());
            row.ns_per_packet.push(dropped.load.cost.ns_per_packet());
        }
    }
    let rows = rows.iter().map(|((flood, family), row)| row.cells(*flood, *family)).collect();
    let columns = COLUMNS.map(str::to_owned).to_vec();
    println!("{}", page::markdown(&Table { columns, rows }));
    Ok(())
}

impl Row {
    fn cells(&self, flood: Kind, family: Family) -> Vec<String> {
        let family = if family == Family::V4 { "IPv4" } else { "IPv6" };
        let millions = |rate: &Samples| rate.scaled(1e-6).cell(2);
        let made: Samples = self.offered.each(|rate| 1e9 / rate);
        vec![
            format!("{}, {family}", flood.title()),
            millions(&self.offered),
            millions(&self.lost),
            millions(&self.taken),
            made.cell(0),
            self.ns_per_packet.cell(0),
        ]
    }
}
