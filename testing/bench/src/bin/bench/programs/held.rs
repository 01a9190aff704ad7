//! The ratios that targets are judged by, compared with those on record: a cost that a change has raised
//! shows before it misses a target.
//!
//! Only ratios are compared, never times: times of another day are of another machine, even where it is the
//! same one. Ratios of tcpguard to itself are left out: they grow as well where their divisor became cheaper,
//! and all their cases are compared with other programs too. Each case is compared with its own record, so
//! that none can grow behind a worse one. The limit is lower where most cases of a target have grown than
//! where one has, for of hundreds one is always furthest off.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::goals;
use crate::machine::Machine;
use crate::part::{Case, Goal, Table};

/// Multiple of the median on record that a ratio may reach in each of its rounds, and exceed in some: noise
/// comes and goes, and a real growth shows in all rounds. On two CPUs beside two compilers the least of three
/// quick rounds was at most 1.35 times the median of another such run, in all 432 cases of ten pairs of runs
/// either way; on a quiet machine nine rounds agree within 16 %.
const FACTOR: f64 = 1.5;
/// Further factor where no more than half of a target's cases are beyond that: on a machine with a speed that
/// changes by a factor of two within minutes one of 300 was at 1.52.
const ALONE: f64 = 2.0;
/// Further time that is allowed, in ns: the kernel gives the time of a run in whole ns, for the case, for its
/// reference, and for the floors below both.
const SLACK_NS: f64 = 3.0;
/// Factor that is allowed on another processor than that of the record: beside the kernel's cookie helpers
/// tcpguard took 0.65 to 0.83 for a SYN on one, and 1.2 to 1.9 on another.
const OTHER_PROCESSOR: f64 = 2.0;
/// Largest share of pairs of the same empty program that differ where figures are worth something: 2 to 8 % did
/// beside two compilers, a third beside floods on both CPUs.
const UNQUIET: f64 = 0.2;

/// All targets, now and on record.
pub struct Comparison {
    targets: Vec<Target>,
    /// Processors of the record and of this run, if they differ.
    processors: Option<[String; 2]>,
}

/// The cases of a target, in one mode and for one family.
struct Target {
    name: String,
    unit: String,
    meaning: &'static str,
    /// Reason why cases may be missing.
    note: String,
    rows: Vec<Row>,
}

struct Row {
    case: String,
    recorded: Option<f64>,
    /// The limit by the record.
    limit: Option<f64>,
    /// The least of its rounds.
    now: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// Neither on record nor measured.
    Unmeasured,
    /// Measured, and not on record.
    New,
    Held,
    Grew,
    /// On record, and not measured.
    Missing,
}

impl Comparison {
    /// Compares the targets `now`, on `here`, with the record of a run on `there`. Those without cases are
    /// not held.
    pub fn new(recorded: &[Goal], there: &Machine, now: &[Goal], here: &Machine) -> Self {
        let processors = (there.cpu != here.cpu).then(|| [there.cpu.clone(), here.cpu.clone()]);
        let factor = processors.as_ref().map_or(1.0, |_| OTHER_PROCESSOR);
        let find = |all: &[Goal], name: &str| all.iter().find(|goal| goal.name == name).cloned();
        let held = |goal: &&Goal| !goal.cases.is_empty();
        let known = now.iter().filter(held).map(|now| {
            let recorded = find(recorded, &now.name).unwrap_or_default();
            Target::new(&recorded.cases, now, factor)
        });
        let gone = recorded.iter().filter(held).filter(|it| find(now, &it.name).is_none());
        let gone = gone.map(|recorded| {
            let note = "no target has this name now".to_owned();
            let nothing = Goal { cases: Vec::new(), note, ..recorded.clone() };
            Target::new(&recorded.cases, &nothing, factor)
        });
        Self { targets: known.chain(gone).collect(), processors }
    }

    /// A row for each target: the case that is nearest to its limit, or furthest beyond it.
    pub fn table(&self) -> Table {
        let row = |target: &Target| {
            let row = target.foremost()?;
            let outcome = match row.outcome() {
                Outcome::Unmeasured => "not measured",
                Outcome::New => "not on record",
                Outcome::Held => "held",
                Outcome::Grew => "GREW",
                Outcome::Missing => "MISSING",
            };
            let ratios = [row.recorded, row.now, row.limit].map(in_words);
            let first = [format!("{}: {}", target.name, row.case)].into_iter();
            Some(first.chain(ratios).chain([outcome.to_owned()]).collect())
        };
        let columns = ["what", "recorded", "now", "at most", ""].map(str::to_owned).into();
        Table { columns, rows: self.targets.iter().filter_map(row).collect() }
    }

    /// Tests that everything is held. `brackets` are pairs of runs of the same program now, and those that
    /// differ.
    ///
    /// # Errors
    /// Names all targets of which something has grown or was not measured, a sentence each.
    pub fn verdict(&self, brackets: [usize; 2]) -> Result<()> {
        let broken: Vec<_> = self.targets.iter().filter_map(Target::complaint).collect();
        if broken.is_empty() {
            return Ok(());
        }
        let mut advice = "make it cheaper, or accept it: `cargo xtask bench --update` on a quiet \
                          machine, and say in the commit what it is worth"
            .to_owned();
        if let Some([there, here]) = &self.processors {
            let _ = write!(
                advice,
                "\nthe record is of another processor ({there}, and this is {here}), on which the \
                 costs of tcpguard and other programs may differ, so twice as much was allowed: --record \
                 FILE compares with a run of this one"
            );
        }
        let [pairs, unlike] = brackets;
        if unlike as f64 > UNQUIET * pairs as f64 {
            let _ = write!(
                advice,
                "\n{unlike} of {pairs} pairs of runs of the same empty program differed by more than a \
                 tenth: something else runs here, so measure again when it does not"
            );
        }
        bail!("a packet costs more than on record:\n  {}\n{advice}", broken.join("\n  "))
    }
}

impl Target {
    fn new(before: &[Case], now: &Goal, factor: f64) -> Self {
        let find = |all: &[Case], name: &str| all.iter().find(|case| case.0 == name).cloned();
        let gone = before.iter().filter(|it| find(&now.cases, &it.0).is_none());
        let gone: Vec<_> = gone.map(|it| Case(it.0.clone(), None)).collect();
        let rows = |times: f64| -> Vec<_> {
            let cases = now.cases.iter().chain(&gone);
            cases.map(|it| Row::new(find(before, &it.0), it, times * factor)).collect()
        };
        let most = rows(FACTOR);
        let beyond = most.iter().filter(|row| row.outcome() == Outcome::Grew).count();
        let rows = if 2 * beyond > most.len() { most } else { rows(ALONE) };
        let (name, unit, note) = (now.name.clone(), now.unit.clone(), now.note.clone());
        Self { meaning: goals::meaning(&name), name, unit, note, rows }
    }

    fn foremost(&self) -> Option<&Row> {
        self.rows.iter().max_by(|one, other| one.strain().total_cmp(&other.strain()))
    }

    fn complaint(&self) -> Option<String> {
        let Self { name, unit, meaning, note, .. } = self;
        let row = self.foremost()?;
        let (case, recorded) = (&row.case, in_words(row.recorded));
        let of = |outcome| self.rows.iter().filter(|row| row.outcome() == outcome).count();
        let cases = self.rows.len();
        match row.outcome() {
            Outcome::Grew => Some(format!(
                "{name}: {} {unit}, {recorded} on record, at most {}: {meaning} has grown ({case}; {} of \
                 {cases} cases)",
                in_words(row.now),
                in_words(row.limit),
                of(Outcome::Grew)
            )),
            Outcome::Missing => Some(format!(
                "{name}: {recorded} {unit} on record, and not measured now ({case}; {} of {cases} cases): \
                 {note}",
                of(Outcome::Missing)
            )),
            Outcome::Unmeasured | Outcome::New | Outcome::Held => None,
        }
    }
}

impl Row {
    fn new(recorded: Option<Case>, now: &Case, factor: f64) -> Self {
        let before = recorded.and_then(|case| case.1);
        Self {
            case: now.0.clone(),
            recorded: before.map(|ratio| ratio.median),
            limit: before.map(|ratio| limit(ratio.median, ratio.unit_ns, factor)),
            now: now.1.map(|ratio| ratio.least.unwrap_or(ratio.median)),
        }
    }

    fn outcome(&self) -> Outcome {
        match (self.limit, self.now) {
            (None, None) => Outcome::Unmeasured,
            (None, Some(_)) => Outcome::New,
            (Some(limit), Some(now)) if now <= limit => Outcome::Held,
            (Some(_), Some(_)) => Outcome::Grew,
            (Some(_), None) => Outcome::Missing,
        }
    }

    /// The part of the allowance that it takes up: above 1 it must not be.
    fn strain(&self) -> f64 {
        match (self.limit, self.now) {
            (None, None) => f64::NEG_INFINITY,
            (None, Some(_)) => 0.0,
            (Some(limit), Some(now)) => now / limit,
            (Some(_), None) => f64::INFINITY,
        }
    }
}

/// Returns the limit up to which a ratio is no news, of something that is measured by `unit_ns`.
fn limit(recorded: f64, unit_ns: f64, factor: f64) -> f64 {
    factor * recorded + SLACK_NS / unit_ns
}

fn in_words(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use super::super::case::{Filter, LIST, Subject};
    use super::super::goals::tests::programs;
    use super::*;
    use crate::part::Ratio;

    fn machine(cpu: &str) -> Machine {
        Machine {
            cpu: cpu.to_owned(),
            cpus: 2,
            is_virtual: true,
            mitigations: Vec::new(),
            kernel: "6.18.44".to_owned(),
            jit: "on".to_owned(),
            date: "23 November 2026".to_owned(),
            guard: "0.1.0".to_owned(),
        }
    }

    /// Compares two results of one machine.
    fn compared(recorded: &[Goal], now: &[Goal]) -> Comparison {
        Comparison::new(recorded, &machine("Xeon"), now, &machine("Xeon"))
    }

    /// A case of the first target.
    fn ratio(goals: &mut [Goal], case: usize) -> &mut Ratio {
        goals[0].cases[case].1.as_mut().unwrap()
    }

    fn outcomes(comparison: &Comparison, outcome: &str) -> usize {
        comparison.table().rows.iter().filter(|row| row[4] == outcome).count()
    }

    fn said(comparison: &Comparison) -> String {
        comparison.verdict([100, 20]).unwrap_err().to_string()
    }

    #[test]
    fn noise_is_held() {
        let recorded = programs(1.0, None).goals();
        for factor in [0.1, 1.0, 1.4] {
            let comparison = compared(&recorded, &programs(factor, None).goals());
            comparison.verdict([9, 9]).unwrap();
            assert_eq!(outcomes(&comparison, "held"), 24);
        }
    }

    #[test]
    fn what_has_grown_is_refused_in_a_sentence_each() {
        let comparison = compared(&programs(0.5, None).goals(), &programs(1.0, None).goals());
        assert_eq!(outcomes(&comparison, "GREW"), 24);
        let text = said(&comparison);
        assert_eq!(text.lines().count(), 1 + 24 + 1, "{text}");
        assert!(
            text.contains(
                "\n  established ACK, idle, exact, IPv4: 1.00 × xdp-filter, not listed, passed, 0.50 on \
                 record, at most 0.78: what every packet of a connection pays has grown (1 M sources; 2 \
                 of 2 cases)\n"
            ),
            "{text}"
        );
        assert!(!text.contains("another processor") && !text.contains("something else"), "{text}");
    }

    #[test]
    fn what_may_be_the_machines_fault_is_said() {
        let comparison = compared(&programs(0.5, None).goals(), &programs(1.0, None).goals());
        let text = comparison.verdict([100, 21]).unwrap_err().to_string();
        assert!(text.contains("21 of 100 pairs of runs of the same empty program"), "{text}");
    }

    #[test]
    fn on_another_processor_twice_as_much_is_allowed() {
        let now = programs(1.0, None).goals();
        let since = |factor| {
            let recorded = programs(factor, None).goals();
            Comparison::new(&recorded, &machine("EPYC"), &now, &machine("Xeon"))
        };
        since(0.35).verdict([9, 0]).unwrap();
        let text = said(&since(0.3));
        assert!(text.contains("another processor (EPYC, and this is Xeon)"), "{text}");
        assert!(text.contains("0.30 on record, at most 0.93"), "{text}");
    }

    #[test]
    fn one_round_below_the_limit_is_enough() {
        let recorded = programs(1.0, None).goals();
        let mut now = recorded.clone();
        ratio(&mut now, 0).least = Some(2.0);
        compared(&recorded, &now).verdict([9, 0]).unwrap();
        ratio(&mut now, 0).least = Some(2.1);
        let text = said(&compared(&recorded, &now));
        assert!(text.contains("2.10 × xdp-filter"), "{text}");
    }

    #[test]
    fn where_most_cases_have_grown_less_is_allowed() {
        let recorded = programs(1.0, None).goals();
        let grown = |cases: usize| {
            let mut now = recorded.clone();
            (0..cases).for_each(|case| ratio(&mut now, case).least = Some(1.6));
            compared(&recorded, &now)
        };
        assert_eq!(recorded[0].cases.len(), 2);
        grown(1).verdict([9, 0]).unwrap();
        let text = said(&grown(2));
        assert!(text.contains("at most 1.53") && text.contains("2 of 2 cases"), "{text}");
    }

    #[test]
    fn a_case_cannot_grow_behind_a_worse_one() {
        let recorded = programs(1.0, None).goals();
        let mut now = recorded.clone();
        let mut before = recorded.clone();
        ratio(&mut before, 0).median = 0.3;
        ratio(&mut now, 0).least = Some(0.9);
        let text = said(&compared(&before, &now));
        assert!(text.contains("0.90 × xdp-filter, not listed, passed, 0.30 on record"), "{text}");
        assert!(text.contains("(1 source; 1 of 2 cases)"), "{text}");
    }

    #[test]
    fn a_ratio_that_is_no_longer_measured_is_refused_by_name() {
        let without = programs(1.0, Some(Subject::Filter(Filter::denied(LIST)))).goals();
        let mut recorded = programs(1.0, None).goals();
        recorded[0].name = "teapot".to_owned();
        let comparison = compared(&recorded, &without);
        assert_eq!(outcomes(&comparison, "MISSING"), 2 * 4 + 1);
        let text = said(&comparison);
        let source = "10,000 source rules, flood, IPv6: 1.00 × xdp-filter, listed, dropped on record, \
                      and not measured now (8192 sources; 2 of 2 cases): 1 source (why)";
        assert!(text.contains(source), "{text}");
        assert!(text.contains("teapot: 1.00") && text.contains("has this name now"), "{text}");
    }

    #[test]
    fn a_ratio_that_is_new_is_only_named() {
        let without = programs(1.0, Some(Subject::Filter(Filter::denied(LIST)))).goals();
        let now = programs(1.0, None).goals();
        assert_eq!(outcomes(&compared(&without, &now), "not on record"), 2 * 4);
        let neither = compared(&without, &without);
        assert_eq!(outcomes(&neither, "not measured"), 2 * 4);
        for comparison in [neither, compared(&without, &now)] {
            comparison.verdict([9, 0]).unwrap();
        }
    }

    #[test]
    fn a_few_ns_are_no_news_where_nothing_takes_more() {
        assert_eq!(limit(0.5, 100.0, FACTOR), 0.78);
        assert_eq!(limit(0.5, 10.0, FACTOR), 1.05);
    }
}
