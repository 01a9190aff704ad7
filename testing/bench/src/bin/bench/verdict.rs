//! Outcomes of the targets, as a table and in a sentence.

use crate::part::{Goal, Table};

/// Outcome of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Met,
    Missed(f64),
    Unmeasured,
}

impl Outcome {
    fn of(goal: &Goal) -> Self {
        match goal.value {
            Some(value) if !value.is_finite() => Self::Unmeasured,
            Some(value) if goal.at_least && value < goal.limit => Self::Missed(value),
            Some(value) if !goal.at_least && value > goal.limit => Self::Missed(value),
            Some(_) => Self::Met,
            None => Self::Unmeasured,
        }
    }

    fn in_words(self, goal: &Goal) -> String {
        let value = match self {
            Self::Met => return "met".to_owned(),
            Self::Unmeasured if goal.note.is_empty() => return "not measured".to_owned(),
            Self::Unmeasured => return format!("not measured: {}", goal.note),
            Self::Missed(value) => value,
        };
        let times = if goal.at_least { goal.limit / value } else { value / goal.limit };
        // Of 99.9 % wanted and 99.8 % had, a ratio says nothing.
        if times.is_finite() && times >= 1.05 {
            format!("**missed** by ×{times:.1}")
        } else {
            format!("**missed** by {}", number((value - goal.limit).abs()))
        }
    }
}

/// A table of `goals`, a row each.
pub fn table(goals: &[Goal]) -> Table {
    let with_note = |goal: &Goal| {
        let outcome = Outcome::of(goal);
        let note = match outcome {
            Outcome::Met | Outcome::Missed(_) if !goal.note.is_empty() => {
                format!("; {}", goal.note)
            }
            _ => String::new(),
        };
        row(&goal.name, goal, outcome.in_words(goal) + &note)
    };
    let columns = ["target", "limit", "measured (min–max, N)", ""].map(str::to_owned).into();
    Table { columns, rows: goals.iter().map(with_note).collect() }
}

/// Endings of names by which targets of one kind differ.
const VARIANTS: [&str; 4] = [", IPv4", ", IPv6", ", exact", ", flood"];

/// A table of `goals`, a row for each kind: targets with one limit that differ by family or mode.
pub fn kinds(goals: &[Goal]) -> Table {
    let mut kinds: Vec<(&str, Vec<&Goal>)> = Vec::new();
    for goal in goals {
        let kind = VARIANTS.iter().fold(&*goal.name, |name, it| name.trim_end_matches(it));
        match kinds.iter_mut().find(|(name, of)| *name == kind && of[0].limit == goal.limit) {
            Some((_, of)) => of.push(goal),
            None => kinds.push((kind, vec![goal])),
        }
    }
    let badness = |goal: &&&Goal| match goal.value.filter(|value| value.is_finite()) {
        Some(value) if goal.at_least => -value,
        value => value.unwrap_or(f64::INFINITY),
    };
    let row = |(name, of): (&str, Vec<&Goal>)| {
        let worst = of.iter().max_by(|a, b| badness(a).total_cmp(&badness(b))).expect("one");
        let met = of.iter().filter(|goal| Outcome::of(goal) == Outcome::Met).count();
        let verdict = match of.len() {
            1 => Outcome::of(worst).in_words(worst),
            all => format!("{met} of {all} met"),
        };
        row(name, worst, verdict)
    };
    let columns = ["target", "limit", "worst (min–max, N)", ""].map(str::to_owned).into();
    Table { columns, rows: kinds.into_iter().map(row).collect() }
}

/// A target with its result and the verdict.
fn row(name: &str, goal: &Goal, verdict: String) -> Vec<String> {
    let bound = if goal.at_least { '≥' } else { '≤' };
    let limit = format!("{bound} {} {}", goal.limit, goal.unit);
    vec![name.to_owned(), limit, measured(goal, Outcome::of(goal)), verdict]
}

/// Returns the numbers of `goals` that are met, missed and not measured, in words.
pub fn summary(goals: &[Goal]) -> String {
    let count = |is: fn(Outcome) -> bool| goals.iter().filter(|goal| is(Outcome::of(goal))).count();
    let met = count(|outcome| outcome == Outcome::Met);
    let missed = count(|outcome| matches!(outcome, Outcome::Missed(_)));
    let unmeasured = count(|outcome| outcome == Outcome::Unmeasured);
    format!("{met} of {} targets met, {missed} missed, {unmeasured} not measured", goals.len())
}

/// Outcome of all targets together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outlook {
    /// All targets are met.
    Met,
    /// One target is missed, whatever became of others.
    Missed,
    /// No target is missed, and one was not measured.
    Unmeasured,
}

/// The worst that can be said of `goals`.
pub fn worst(goals: &[Goal]) -> Outlook {
    let outcomes = || goals.iter().map(Outcome::of);
    if outcomes().any(|outcome| matches!(outcome, Outcome::Missed(_))) {
        Outlook::Missed
    } else if outcomes().any(|outcome| outcome == Outcome::Unmeasured) {
        Outlook::Unmeasured
    } else {
        Outlook::Met
    }
}

fn measured(goal: &Goal, outcome: Outcome) -> String {
    let (Some(value), false) = (goal.value, outcome == Outcome::Unmeasured) else {
        return "–".to_owned();
    };
    let rounds = goal.rounds;
    match goal.range {
        Some((least, greatest)) => {
            format!("{} ({}–{}, {rounds})", number(value), number(least), number(greatest))
        }
        None => format!("{} ({rounds})", number(value)),
    }
}

/// Returns a number with as many digits as a measurement bears; one more for shares close to 100 %.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 0.1 || size == 0.0 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(limit: f64, at_least: bool, value: Option<f64>) -> Goal {
        Goal {
            name: "signature drop".to_owned(),
            unit: "× xdp-filter".to_owned(),
            limit,
            at_least,
            value,
            range: value.map(|value| (0.9 * value, 1.1 * value)),
            rounds: 21,
            ..Goal::default()
        }
    }

    fn row(goal: Goal) -> String {
        table(&[goal]).rows.concat().join(" | ")
    }

    #[test]
    fn a_row_states_the_target_the_result_and_the_margin() {
        assert_eq!(
            row(goal(1.0, false, Some(0.8))),
            "signature drop | ≤ 1 × xdp-filter | 0.80 (0.72–0.88, 21) | met"
        );
        assert_eq!(
            row(goal(1.0, false, Some(1.2))),
            "signature drop | ≤ 1 × xdp-filter | 1.20 (1.08–1.32, 21) | **missed** by ×1.2"
        );
        assert!(row(goal(6.0, true, Some(3.0))).ends_with("| **missed** by ×2.0"));
        assert!(row(goal(99.9, true, Some(99.75))).ends_with("| **missed** by 0.15"));
        assert!(row(goal(1.0, false, Some(1.004))).ends_with("| **missed** by 0.0040"));
        assert!(row(goal(6.0, true, Some(0.0))).ends_with("| **missed** by 6.00"));
    }

    #[test]
    fn the_limit_itself_is_met_on_either_side() {
        for at_least in [true, false] {
            assert_eq!(Outcome::of(&goal(1.5, at_least, Some(1.5))), Outcome::Met);
        }
    }

    #[test]
    fn what_was_not_measured_says_why_and_is_not_met() {
        let mut without = goal(1.0, false, None);
        without.note = "no xdp-filter | here".to_owned();
        assert!(row(without).ends_with("| – | not measured: no xdp-filter | here"));
        assert!(row(goal(1.0, true, Some(f64::NAN))).ends_with("| – | not measured"));
    }

    #[test]
    fn targets_that_differ_by_family_or_mode_have_one_row_with_the_worst() {
        let named = |name: &str, value| Goal { name: name.to_owned(), ..goal(1.0, false, value) };
        let goals = [
            named("drop, exact, IPv4", Some(0.8)),
            named("drop, flood, IPv6", Some(1.2)),
            named("pass, IPv4", Some(0.5)),
        ];
        let rows: Vec<String> = kinds(&goals).rows.iter().map(|row| row.join(" | ")).collect();
        let expected = [
            "drop | ≤ 1 × xdp-filter | 1.20 (1.08–1.32, 21) | 1 of 2 met",
            "pass | ≤ 1 × xdp-filter | 0.50 (0.45–0.55, 21) | met",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_note_stands_beside_a_measurement() {
        let mut marked = goal(1.0, false, Some(0.5));
        marked.note = "drop runs differ by 14 %".to_owned();
        assert!(row(marked).ends_with("| met; drop runs differ by 14 %"));
    }

    #[test]
    fn the_summary_counts_each_goal_once() {
        let goals = [
            goal(1.0, false, Some(0.5)),
            goal(1.0, false, Some(2.0)),
            goal(1.0, false, None),
            goal(1.0, true, Some(2.0)),
        ];
        assert_eq!(summary(&goals), "2 of 4 targets met, 1 missed, 1 not measured");
        assert_eq!(worst(&goals), Outlook::Missed);
        assert_eq!(worst(&goals[2..]), Outlook::Unmeasured);
        assert_eq!(worst(&goals[..1]), Outlook::Met);
    }
}
