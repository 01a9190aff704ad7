//! The list of exceptions of the word check, which only shrinks.

use std::{cmp::Ordering, collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};

use super::{Finding, text};

/// The list, in lines of count, path and rule.
const LIST: &str = "xtask/wording-exceptions.txt";
/// Number of admitted findings. It falls with the list, and never rises.
const ADMITTED: usize = 2;

/// Number of findings that are admitted, by path and rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exceptions(BTreeMap<(String, String), usize>);

impl Exceptions {
    /// The list that admits these findings and no others.
    pub fn of(findings: &[Finding]) -> Self {
        let mut counts = BTreeMap::new();
        for finding in findings {
            *counts.entry((finding.path.clone(), finding.rule.clone())).or_default() += 1;
        }
        Self(counts)
    }

    pub fn read(root: &Path) -> Result<Self> {
        Self::parse(&text(&root.join(LIST))?)
    }

    fn parse(list: &str) -> Result<Self> {
        let mut counts = BTreeMap::new();
        for line in list.lines() {
            let fields: Vec<&str> = line.splitn(3, ' ').collect();
            let [count, path, rule] = fields[..] else {
                bail!("{LIST}: {line:?} is not \"COUNT PATH WORDS\"");
            };
            let count = count.parse().with_context(|| format!("{LIST}: {line:?}"))?;
            counts.insert((path.to_owned(), rule.to_owned()), count);
        }
        Ok(Self(counts))
    }

    /// Compares the list with the findings, of which `terms` has the terms to use: one line for each difference.
    pub fn compare(&self, findings: &[Finding], terms: impl Fn(&str) -> String) -> Vec<String> {
        let found = Self::of(findings);
        let mut broken = Vec::new();
        for ((path, rule), count) in &found.0 {
            let listed = self.get(path, rule);
            if *count > listed {
                let of_rule = findings.iter().filter(|one| one.path == *path && one.rule == *rule);
                let lines: Vec<_> = of_rule.map(|one| one.line.to_string()).collect();
                let (lines, terms) = (lines.join(", "), terms(rule));
                broken.push(format!("{path}:{lines}: {rule} ({terms}); {listed} listed"));
            }
        }
        for ((path, rule), listed) in &self.0 {
            let count = found.get(path, rule);
            if count < *listed {
                broken.push(format!("{LIST}: lower {listed} to {count} for {rule} in {path}"));
            }
        }
        broken
    }

    /// Tests that the list admits as many findings as this program knows of: no line is added by hand. One line for a
    /// difference.
    pub fn pinned(&self) -> Option<String> {
        self.differs(ADMITTED)
    }

    fn differs(&self, admitted: usize) -> Option<String> {
        let listed: usize = self.0.values().sum();
        match listed.cmp(&admitted) {
            Ordering::Equal => None,
            Ordering::Greater => Some(format!(
                "{LIST}: it admits {listed} findings, {admitted} may be: correct the text"
            )),
            Ordering::Less => Some(format!("{LIST}: lower ADMITTED from {admitted} to {listed}")),
        }
    }

    fn get(&self, path: &str, rule: &str) -> usize {
        self.0.get(&(path.to_owned(), rule.to_owned())).copied().unwrap_or(0)
    }
}

#[cfg(test)]
impl Exceptions {
    pub fn write(&self, root: &Path) -> Result<()> {
        let list: String =
            self.0.iter().map(|((path, rule), count)| format!("{count} {path} {rule}\n")).collect();
        std::fs::write(root.join(LIST), list).with_context(|| format!("cannot write {LIST}"))
    }

    /// Tests whether the list may become `after`: exceptions may go, and may move with their text to another file.
    ///
    /// # Errors
    /// Names the rules with more exceptions than before.
    pub fn may_become(&self, after: &Self) -> Result<()> {
        let before = self.sums();
        let grown: Vec<_> = after
            .sums()
            .into_iter()
            .filter(|(rule, count)| *count > before.get(rule).copied().unwrap_or(0))
            .map(|(rule, count)| format!("{rule}: {count}"))
            .collect();
        if !grown.is_empty() {
            bail!("more exceptions than before: {}", grown.join(", "));
        }
        Ok(())
    }

    fn sums(&self) -> BTreeMap<&str, usize> {
        let mut sums = BTreeMap::new();
        for ((_, rule), count) in &self.0 {
            *sums.entry(rule.as_str()).or_default() += count;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Exceptions {
        Exceptions::parse(text).expect("a list")
    }

    fn finding(line: usize) -> Finding {
        Finding { path: "a.rs".to_owned(), line, rule: "odd job".to_owned() }
    }

    #[test]
    fn more_findings_than_listed_are_named_and_fewer_must_be_lowered() {
        let compare =
            |text, findings: &[Finding]| list(text).compare(findings, |_| "task".to_owned());
        let two = [finding(1), finding(4)];
        assert_eq!(compare("2 a.rs odd job\n", &two), [""; 0]);
        assert_eq!(compare("1 a.rs odd job\n", &two), ["a.rs:1, 4: odd job (task); 1 listed"]);
        let lower = "xtask/wording-exceptions.txt: lower 3 to 2 for odd job in a.rs";
        assert_eq!(compare("3 a.rs odd job\n", &two), [lower]);
    }

    #[test]
    fn a_line_that_is_added_by_hand_is_found() {
        let two = list("1 a.rs odd job\n1 b.rs odd job\n");
        assert_eq!(two.differs(2), None);
        let more = "xtask/wording-exceptions.txt: it admits 2 findings, 1 may be: correct the text";
        assert_eq!(two.differs(1).as_deref(), Some(more));
        let fewer = "xtask/wording-exceptions.txt: lower ADMITTED from 3 to 2";
        assert_eq!(two.differs(3).as_deref(), Some(fewer));
    }

    #[test]
    fn exceptions_move_and_do_not_become_more() {
        let before = list("2 a.rs odd job\n");
        before.may_become(&list("1 b.rs odd job\n1 c.rs odd job\n")).expect("two moved");
        before.may_become(&list("2 b.rs odd job\n1 c.rs odd job\n")).expect_err("one more");
        Exceptions::parse("a.rs\n").expect_err("no count");
    }
}
