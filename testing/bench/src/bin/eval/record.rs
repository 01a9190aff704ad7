//! The results of all runs, in the tables of the evaluation.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use tcpguard_engine::IncidentClass;
use tcpguard_eval::attacks::{self, Attack};
use tcpguard_eval::detection::OTHERS;
use tcpguard_eval::stats::{median, percentile};
use tcpguard_eval::table::{Block, none, percent, rate, seconds};
use tcpguard_eval::targets::{Finding, Target};

use crate::runs::{Fight, Fought, Purpose, Trouble, Troubled};

/// Clients a second, so that a flood of 1,000 SYN/s is twenty times as many.
const FEW: u32 = 50;
/// Clients a second among which it is three times as many.
const MANY: u32 = 300;

/// Everything that is played, with its runs so far.
pub struct Record {
    machine: String,
    /// Floods, with their runs.
    pub fights: Vec<(Fight, Vec<Fought>)>,
    /// Trouble that is no attack, with its runs.
    pub troubles: Vec<(Trouble, Vec<Troubled>)>,
}

impl Record {
    /// Returns a record of all rows with `only` in their names, without runs.
    pub fn new(only: &str) -> Result<Self> {
        let fight = |attack, rate, clients| Fight { attack, rate, clients };
        let mut fights = Vec::new();
        for attack in [attacks::RANDOM, attacks::MIMICKING] {
            fights.extend([1_000, 10_000, 100_000].map(|rate| fight(attack, rate, FEW)));
        }
        fights.push(fight(attacks::PULSES, 10_000, FEW));
        let pauses = Attack { name: "random, 10 s pauses", ..attacks::LONG_PAUSES };
        fights.push(fight(pauses, 10_000, FEW));
        fights.push(fight(attacks::RANDOM, 1_000, MANY));
        fights.push(fight(attacks::MIMICKING, 1_000, MANY));
        let fights = fights.into_iter().filter(|fight| name(fight).contains(only));
        let troubles = Trouble::ALL.into_iter().filter(|trouble| trouble.name().contains(only));
        Ok(Self {
            machine: machine()?,
            fights: fights.map(|fight| (fight, Vec::new())).collect(),
            troubles: troubles.map(|trouble| (trouble, Vec::new())).collect(),
        })
    }

    /// The tables, without rows that were not run.
    pub fn blocks(&self) -> Vec<Block> {
        let among = [FEW, MANY].map(|clients| self.delays(clients));
        let blocks = among.into_iter().chain([self.fought(), self.troubled()]);
        let blocks: Vec<Block> = blocks.filter(|block| !block.rows.is_empty()).collect();
        let stage = Block::new("the stage", &self.stage(), &[]);
        std::iter::once(stage).chain(blocks).collect()
    }

    /// Writes the tables for `cargo xtask eval` to print.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(&self.blocks())?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    fn stage(&self) -> String {
        format!(
            "Measured on {}.\n\n\
             Real kernels and the real tcpguard, between network namespaces of that machine: a \
             service with a backlog of 128 and `tcp_syncookies` 1, clients that call `connect()`, \
             each from one of 65,471 addresses and at its own moment, and an attacker. tcpguard \
             has just been started with its default configuration, and has learned from the last \
             4 or 8 s only. An alert counts when it reaches the journal's socket. The others \
             learn from the calm before each event, repeated to them for ten minutes, and then \
             see the listener's counters four times a second.",
            self.machine
        )
    }

    fn delays(&self, clients: u32) -> Block {
        let note = "Seconds from the first SYN of the flood. \"Alert\" is the first alert about failed \
                    handshakes, of any class, and \"named\" the first alert of a flood class (medians). \
                    \"Class\" is the share of the runs with the right class 2 s after the first alert. \
                    \"False\" counts floods reported before there was one. The others' columns are \
                    medians of the runs of 55 s, in observe mode, so that no reaction changes their \
                    input. They are empty if there was no such run, and – if the flood was not found in \
                    most of them. SYN-dog counts replies, and a full queue replies with cookies.";
        let ours = ["attack", "SYN/s", "runs", "alert", "p95", "named", "p95", "class", "false"];
        let title = format!("floods among {clients} clients/s");
        let mut block = Block::new(&title, note, &[&ours[..], &OTHERS[..]].concat());
        let fights = self.fights.iter().filter(|(fight, _)| fight.clients == clients);
        for (fight, runs) in fights.filter(|(_, runs)| !runs.is_empty()) {
            let alerted: Vec<Option<f64>> = runs.iter().map(|run| run.outcome.alerted).collect();
            let named: Vec<Option<f64>> = runs.iter().map(|run| run.outcome.named).collect();
            let right = |run: &&Fought| run.class == Some(fight.attack.class);
            let right = runs.iter().filter(right).count() as f64 / runs.len() as f64;
            let mut row = vec![
                fight.attack.name.to_owned(),
                rate(f64::from(fight.rate)),
                runs.len().to_string(),
                seconds(median(&alerted)),
                seconds(percentile(&alerted, 0.95)),
                seconds(median(&named)),
                seconds(percentile(&named, 0.95)),
                format!("{:.0} %", right * 100.0),
                runs.iter().map(|run| run.false_positives).sum::<u64>().to_string(),
            ];
            row.extend(others(runs));
            block.row(row);
            let finding = |target, value| Finding::new(target, place(fight), value);
            let never = |delay: Option<f64>| delay.unwrap_or(f64::INFINITY);
            block.findings.extend([
                finding(Target::Delay, never(median(&alerted))),
                finding(Target::DelayTail, never(percentile(&alerted, 0.95))),
                finding(Target::ClassAccuracy, right),
            ]);
        }
        block
    }

    fn fought(&self) -> Block {
        let note = "In enforce mode. \"Served\" is the share of the clients that came during the \
                    flood and had a response within a second. \"Release\" is the time (s) from \
                    the last SYN to the end of the incident, in the runs in which it was awaited, \
                    median and longest. \"Floods\" is the largest number of incidents of one \
                    flood. More than one is a flap. \"Rules\" and \"mitigations\" are the largest \
                    numbers that were made or started.";
        let columns = [
            "attack",
            "SYN/s",
            "clients/s",
            "runs",
            "served",
            "release",
            "longest",
            "floods",
            "rules",
            "mitigations",
        ];
        let mut block = Block::new("mitigated floods", note, &columns);
        for (fight, runs) in &self.fights {
            let runs: Vec<&Fought> =
                runs.iter().filter(|run| run.purpose != Purpose::Compared).collect();
            let ends = runs.iter().filter(|run| run.purpose == Purpose::Fought);
            let ends: Vec<Option<f64>> = ends.map(|run| run.outcome.released).collect();
            if runs.is_empty() {
                continue;
            }
            let floods = most(&runs, |run| run.outcome.floods);
            block.row([
                fight.attack.name.to_owned(),
                rate(f64::from(fight.rate)),
                fight.clients.to_string(),
                runs.len().to_string(),
                percent(share(runs.iter().map(|run| run.clients))),
                measured(&ends, seconds(median(&ends))),
                measured(&ends, seconds(percentile(&ends, 1.0))),
                floods.to_string(),
                most(&runs, |run| run.rules).to_string(),
                most(&runs, |run| run.mitigations).to_string(),
            ]);
            if !ends.is_empty() {
                let longest = percentile(&ends, 1.0).unwrap_or(f64::INFINITY);
                block.findings.push(Finding::new(Target::Release, place(fight), longest));
            }
            if !fight.attack.is_steady() {
                let flaps = floods.saturating_sub(1) as f64;
                block.findings.push(Finding::new(Target::Flaps, place(fight), flaps));
            }
        }
        block
    }

    fn troubled(&self) -> Block {
        let note = format!(
            "In enforce mode, among {} clients/s, for 50 s. The flash crowd brings twenty times \
             as many, and the checks are 25 SYN/s of four balancers that reset every reply. \
             \"Reported\" has all classes. \"Flood\" counts the runs with a reported flood, if \
             only for a moment. \"Rules\" and \"mitigations\" are all that were made or started, \
             which should be none. \"Served\" is the share of the clients with a response within \
             a second. A path that takes 300 ms one way and loses packets does not allow this to \
             all, and a stalled application to none. The others' columns count the runs with an \
             alarm.",
            Trouble::CLIENTS
        );
        let ours = ["trouble", "runs", "reported", "flood", "rules", "mitigations", "served"];
        let mut block = Block::new("benign trouble", &note, &[&ours[..], &OTHERS[..]].concat());
        for (trouble, runs) in self.troubles.iter().filter(|(_, runs)| !runs.is_empty()) {
            let rules: usize = runs.iter().map(|run| run.rules).sum();
            let flooded = runs.iter().filter(|run| run.floods > 0).count();
            let mut row = vec![
                trouble.name().to_owned(),
                runs.len().to_string(),
                alerted(runs),
                flooded.to_string(),
                rules.to_string(),
                runs.iter().map(|run| run.mitigations).sum::<usize>().to_string(),
                percent(share(runs.iter().map(|run| run.clients))),
            ];
            row.extend(
                (0..OTHERS.len())
                    .map(|other| runs.iter().filter(|run| run.others[other]).count().to_string()),
            );
            block.row(row);
            let place = format!("live: {}", trouble.name());
            block.findings.push(Finding::new(Target::BenignRules, &place, rules as f64));
            if *trouble == Trouble::FlashCrowd {
                block.findings.push(Finding::new(Target::FlashCrowdFloods, &place, flooded as f64));
            }
        }
        block
    }
}

/// A row in words.
pub fn name(fight: &Fight) -> String {
    let rate = rate(f64::from(fight.rate));
    format!("{}, {rate}/s in {}/s", fight.attack.name, fight.clients)
}

fn place(fight: &Fight) -> String {
    format!("live: {}", name(fight))
}

/// Medians of the others' delays.
fn others(runs: &[Fought]) -> Vec<String> {
    let compared: Vec<&Vec<Option<f64>>> =
        runs.iter().filter_map(|run| run.others.as_ref()).collect();
    let of = |other: usize| {
        let delays: Vec<Option<f64>> = compared.iter().map(|run| run[other]).collect();
        let delay = median(&delays).map_or_else(none, |delay| format!("{delay:.1}"));
        measured(&delays, delay)
    };
    (0..OTHERS.len()).map(of).collect()
}

/// The text for these values, or nothing where there are none.
fn measured(values: &[Option<f64>], text: String) -> String {
    if values.is_empty() { String::new() } else { text }
}

fn most(runs: &[&Fought], value: impl Fn(&Fought) -> usize) -> usize {
    runs.iter().map(|run| value(run)).max().unwrap_or(0)
}

/// The share of the clients that were served.
fn share(clients: impl Iterator<Item = (usize, usize)>) -> Option<f64> {
    let (came, served) = clients.fold((0, 0), |sum, (came, served)| (sum.0 + came, sum.1 + served));
    (came > 0).then(|| served as f64 / came as f64)
}

/// Classes under which trouble was reported: all of them, in the shortest form.
fn alerted(runs: &[Troubled]) -> String {
    let mut classes: Vec<IncidentClass> = Vec::new();
    for class in runs.iter().flat_map(|run| &run.alerted) {
        if !classes.contains(class) {
            classes.push(*class);
        }
    }
    // Floods come first, since they are the worst and must be seen where there is no room for all classes.
    classes.sort_by_key(|class| !class.is_flood());
    match classes.as_slice() {
        [] => "nothing".to_owned(),
        [class] => class.name().to_owned(),
        [class, others @ ..] => format!("{} + {}", class.name(), others.len()),
    }
}

/// Kernel, processors and day.
fn machine() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let cpu = read("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed CPU", |(_, model)| model.trim());
    Ok(format!(
        "{}, {} CPUs ({model}), Linux {}",
        jiff::Zoned::now().date(),
        available_parallelism()?,
        read("/proc/sys/kernel/osrelease")?.trim()
    ))
}

#[cfg(test)]
mod tests {
    use tcpguard_eval::golden;
    use tcpguard_eval::judge::Outcome;

    use super::*;

    fn fought(purpose: Purpose, alerted: Option<f64>) -> Fought {
        Fought {
            purpose,
            outcome: Outcome {
                alerted,
                named: alerted,
                released: Some(31.0),
                floods: 1,
                ..Outcome::default()
            },
            class: alerted.map(|_| IncidentClass::RandomSpoofed),
            false_positives: 0,
            rules: 1,
            mitigations: 0,
            clients: (1000, 999),
            others: (purpose == Purpose::Compared).then(|| vec![Some(30.7); OTHERS.len()]),
        }
    }

    fn record() -> Record {
        let mut record = Record::new("").unwrap();
        for (_, runs) in &mut record.fights {
            runs.extend([
                fought(Purpose::Fought, Some(0.75)),
                fought(Purpose::Compared, Some(0.85)),
                fought(Purpose::Timed, None),
            ]);
        }
        for (_, runs) in &mut record.troubles {
            let alerted = vec![IncidentClass::HandshakeDegraded, IncidentClass::ListenerOverload];
            let others = vec![true; OTHERS.len()];
            let (floods, rules, mitigations, clients) = (0, 0, 0, (50, 25));
            runs.push(Troubled { alerted, floods, rules, mitigations, clients, others });
        }
        record
    }

    #[test]
    fn what_is_written_is_printed_by_the_evaluation() {
        let text = serde_json::to_string(&record().blocks()).unwrap();
        let blocks: Vec<Block> = serde_json::from_str(&text).unwrap();
        assert_eq!(blocks, record().blocks());
        let page = golden::page("", &blocks).expect("lines fit");
        for title in ["the stage", "floods among 50 clients/s", "floods among 300 clients/s"] {
            assert!(page.contains(&format!("## {title}\n")), "{page}");
        }
    }

    #[test]
    fn a_flood_that_was_missed_in_some_runs_has_no_tail() {
        let blocks = record().blocks();
        let row = &blocks[1].rows[0];
        assert_eq!(row[..7], ["random", "1 k", "3", "0.85", "–", "0.85", "–"]);
        assert_eq!(row[7..10], ["67 %", "0", "30.7"]);
        let fought = &blocks[3].rows[0];
        assert_eq!(fought[2..], ["50", "2", "99.9 %", "31.00", "31.00", "1", "1", "0"]);
    }

    #[test]
    fn rows_are_chosen_by_name() {
        let record = Record::new("mimic, 1 k").unwrap();
        assert_eq!(record.fights.len(), 2);
        assert!(record.troubles.is_empty());
        assert!(Record::new("no such row").unwrap().blocks()[1..].is_empty());
    }
}
