//! What a part found, as a file for programs and as lines for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use crate::part::{Goal, Part};

/// Writes `part` with its goals and plots to `path`, as a document of this name and version.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, schema: &str, part: &(impl Part + Serialize)) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let document = json!({
        "schema": schema,
        "kernel": kernel.trim(),
        "found": part,
        "goals": part.goals(),
        "figures": part.figures(),
    });
    fs::write(path, serde_json::to_string_pretty(&document)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What was promised and could be measured, a line each; then how much could not.
pub fn goals(goals: &[Goal]) -> String {
    let mut text = String::new();
    for goal in goals {
        let (Some(value), Some((least, most))) = (goal.value, goal.range) else { continue };
        let met = if goal.at_least { value >= goal.limit } else { value <= goal.limit };
        let verdict = if met { "met" } else { "missed" };
        let bound = if goal.at_least { "at least" } else { "at most" };
        let _ = writeln!(
            text,
            "- {}: {value:.2} ({least:.2}–{most:.2}, N {}) {}, {bound} {}: {verdict}{}",
            goal.name,
            goal.rounds,
            goal.unit,
            goal.limit,
            if goal.note.is_empty() { String::new() } else { format!(" ({})", goal.note) },
        );
    }
    let unmeasured = goals.iter().filter(|goal| goal.value.is_none()).count();
    if unmeasured > 0 {
        let _ =
            writeln!(text, "- {unmeasured} of {} targets not measured in this run", goals.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_their_own_direction() {
        let goal = |at_least, value| Goal {
            name: "taken".to_owned(),
            unit: "× the perfect drop".to_owned(),
            limit: 0.65,
            at_least,
            value,
            range: value.map(|value| (value, value)),
            rounds: 3,
            note: String::new(),
        };
        let text = goals(&[goal(true, Some(0.7)), goal(false, Some(0.7)), goal(true, None)]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with("at least 0.65: met"), "{text}");
        assert!(lines[1].ends_with("at most 0.65: missed"), "{text}");
        assert_eq!(lines[2], "- 1 of 3 targets not measured in this run");
    }
}
