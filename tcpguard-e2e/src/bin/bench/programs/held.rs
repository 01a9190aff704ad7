//! The ratios that targets are judged by, held to those on record: what a change has made dearer shows
//! before it misses a target.
//!
//! Only ratios are compared, never times: those of another run on another day are of another machine,
//! even where it is the same one.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::goals::Judged;
use crate::machine::Machine;

/// A ratio may be so many times what is on record. Medians of full runs on a quiet machine agree within
/// 16 %; of three quick rounds beside two compilers on two CPUs they were up to 30 % apart.
const FACTOR: f64 = 1.5;
/// And the guard so many ns dearer: the kernel says what a run took in whole ones, of the case, of what
/// it is compared with, and of the floors below both.
const SLACK_NS: f64 = 3.0;

/// All ratios, now and on record.
pub struct Comparison(Vec<Row>);

struct Row {
    name: String,
    unit: String,
    recorded: Option<f64>,
    now: Option<f64>,
    outcome: Outcome,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// At most so much is allowed.
    Held(f64),
    Grew {
        limit: f64,
        meaning: &'static str,
        /// Which case it is.
        note: String,
    },
    /// On record, and not measured now.
    Missing(String),
    /// Measured, and not on record.
    New,
    /// Neither.
    Unmeasured,
}

impl Comparison {
    /// Compares what was found `now` with what is on record.
    pub fn new(recorded: &[Judged], now: &[Judged]) -> Self {
        let named = |all: &'_ [Judged], name: &str| all.iter().position(|it| it.goal.name == name);
        let mut rows: Vec<_> = now
            .iter()
            .map(|now| Row::new(named(recorded, &now.goal.name).map(|at| &recorded[at]), now))
            .collect();
        let gone = recorded.iter().filter(|it| named(now, &it.goal.name).is_none());
        rows.extend(gone.filter_map(Row::gone));
        Self(rows)
    }

    /// A row for each ratio.
    pub fn table(&self) -> String {
        let mut text = "| what | recorded | now | at most | |\n|---|---|---|---|---|\n".to_owned();
        for row in &self.0 {
            let limit = match row.outcome {
                Outcome::Held(limit) | Outcome::Grew { limit, .. } => Some(limit),
                _ => None,
            };
            let [recorded, now, limit] =
                [row.recorded, row.now, limit].map(|it| it.map_or("–".to_owned(), in_words));
            let outcome = match &row.outcome {
                Outcome::Held(_) => "held",
                Outcome::Grew { .. } => "GREW",
                Outcome::Missing(_) => "MISSING",
                Outcome::New => "not on record",
                Outcome::Unmeasured => "not measured",
            };
            let _ = writeln!(
                text,
                "| {}, {} | {recorded} | {now} | {limit} | {outcome} |",
                row.name, row.unit
            );
        }
        text
    }

    /// Whether everything is held that is on record, of the machine `on` now and of `recorded_on` then.
    ///
    /// # Errors
    /// Names all that has grown or was not measured, a sentence each.
    pub fn verdict(&self, on: &Machine, recorded_on: &Machine) -> Result<()> {
        let broken: Vec<_> = self.0.iter().filter_map(Row::complaint).collect();
        if broken.is_empty() {
            return Ok(());
        }
        let mut advice =
            "make it cheaper, or accept it: `cargo xtask bench --update` on a quiet machine, \
                          and say in the commit what it is worth"
                .to_owned();
        if on.cpu != recorded_on.cpu {
            let _ = write!(
                advice,
                "\nthe record is of another processor ({}; this is {}), and what the kernel's helpers \
                 cost beside the guard differs between them: look at a run of `--held --record` of this \
                 one first",
                recorded_on.cpu, on.cpu
            );
        }
        bail!("a packet costs more than on record:\n  {}\n{advice}", broken.join("\n  "))
    }
}

impl Row {
    fn new(recorded: Option<&Judged>, now: &Judged) -> Self {
        let goal = &now.goal;
        let before = recorded.and_then(|it| Some((it, value(it)?)));
        let outcome = match (before, value(now)) {
            (Some((recorded, ratio)), Some(now_ratio)) => {
                let limit = limit(ratio, recorded.unit_ns);
                let grew = Outcome::Grew { limit, meaning: now.meaning, note: goal.note.clone() };
                if now_ratio > limit { grew } else { Outcome::Held(limit) }
            }
            (Some(_), None) => Outcome::Missing(goal.note.clone()),
            (None, Some(_)) => Outcome::New,
            (None, None) => Outcome::Unmeasured,
        };
        Self {
            name: goal.name.clone(),
            unit: goal.unit.clone(),
            recorded: before.map(|(_, ratio)| ratio),
            now: value(now),
            outcome,
        }
    }

    /// Of a ratio that nobody measures any more.
    fn gone(recorded: &Judged) -> Option<Self> {
        Some(Self {
            name: recorded.goal.name.clone(),
            unit: recorded.goal.unit.clone(),
            recorded: Some(value(recorded)?),
            now: None,
            outcome: Outcome::Missing("no target is called so any more".to_owned()),
        })
    }

    fn complaint(&self) -> Option<String> {
        let recorded = in_words(self.recorded?);
        let Self { name, unit, .. } = self;
        match &self.outcome {
            Outcome::Grew { limit, meaning, note } => Some(format!(
                "{name}: {} {unit}, {recorded} on record, at most {}: {meaning} has grown ({note})",
                in_words(self.now?),
                in_words(*limit)
            )),
            Outcome::Missing(why) => {
                Some(format!("{name}: {recorded} {unit} on record, and not measured now: {why}"))
            }
            Outcome::Held(_) | Outcome::New | Outcome::Unmeasured => None,
        }
    }
}

fn value(judged: &Judged) -> Option<f64> {
    judged.goal.value.filter(|value| value.is_finite())
}

/// Up to where a ratio is no news, of something that is measured by `unit_ns`.
fn limit(recorded: f64, unit_ns: f64) -> f64 {
    FACTOR * recorded + SLACK_NS / unit_ns
}

fn in_words(ratio: f64) -> String {
    format!("{ratio:.2}")
}

#[cfg(test)]
mod tests {
    use super::super::case::{Filter, LIST, Subject};
    use super::super::goals::tests::programs;
    use super::*;

    const FACTOR_HERE: f64 = 1.3;

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

    fn complaints(comparison: &Comparison) -> Vec<String> {
        comparison.0.iter().filter_map(Row::complaint).collect()
    }

    #[test]
    fn noise_is_held() {
        for factor in [0.1, 1.0, FACTOR_HERE] {
            let recorded = programs(1.0, None).judged();
            let comparison = Comparison::new(&recorded, &programs(factor, None).judged());
            comparison.verdict(&machine("x"), &machine("x")).unwrap();
            assert_eq!(comparison.table().matches("| held |").count(), 32);
        }
    }

    #[test]
    fn what_has_grown_is_refused_in_a_sentence_each() {
        let comparison =
            Comparison::new(&programs(0.5, None).judged(), &programs(1.0, None).judged());
        // What is compared with the guard itself stays as it is.
        assert_eq!(complaints(&comparison).len(), 32 - 2 * 4);
        assert_eq!(comparison.table().matches("| GREW |").count(), 24);
        let said = comparison.verdict(&machine("x"), &machine("x")).unwrap_err().to_string();
        assert!(
            said.contains(
                "\n  established ACK, idle, exact, IPv4: 1.00 × xdp-filter, not listed, passed, 0.50 on \
                 record, at most 0.78: what every packet of a connection pays has grown (worst: 1 M \
                 sources)\n"
            ),
            "{said}"
        );
        assert!(!said.contains("another processor"), "{said}");
        let elsewhere = comparison.verdict(&machine("x"), &machine("EPYC")).unwrap_err();
        assert!(elsewhere.to_string().contains("another processor (EPYC; this is x)"));
    }

    #[test]
    fn a_ratio_that_is_no_longer_measured_is_refused_by_name() {
        let without = programs(1.0, Some(Subject::Filter(Filter::denied(LIST))));
        let mut recorded = programs(1.0, None).judged();
        recorded[0].goal.name = "teapot".to_owned();
        let comparison = Comparison::new(&recorded, &without.judged());
        let said = complaints(&comparison).join("\n");
        assert!(said.contains("signature drop, exact, IPv4: 1.00 × xdp-filter"), "{said}");
        assert!(
            said.contains("not measured now: 1 signatures, one mask, 1 source (why)"),
            "{said}"
        );
        assert!(said.contains("teapot: 1.00"), "{said}");
        assert_eq!(comparison.table().matches("| MISSING |").count(), 2 * 4 + 1);
    }

    #[test]
    fn a_ratio_that_is_new_is_only_named() {
        let without = programs(1.0, Some(Subject::Filter(Filter::denied(LIST))));
        let comparison = Comparison::new(&without.judged(), &programs(9.0, None).judged());
        let new = comparison.table().matches("| 9.00 | – | not on record |").count();
        assert_eq!(new, 2 * 4);
        let both = Comparison::new(&without.judged(), &without.judged());
        assert_eq!(both.table().matches("| – | not measured |").count(), 2 * 4);
        both.verdict(&machine("x"), &machine("x")).unwrap();
    }

    #[test]
    fn a_few_ns_are_no_news_where_nothing_takes_more() {
        assert_eq!(limit(0.5, 100.0), 0.78);
        assert_eq!(limit(0.5, 10.0), 1.05);
    }
}
