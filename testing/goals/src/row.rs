//! One row of the table: the measured result, and the naive variant's result in the same
//! measurement.

use std::{fmt, fs::OpenOptions, io, io::Write as _, path::Path, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{Goal, ROWS, least, seed, size};

/// Result of one variant.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Outcome {
    /// Number of trials, in the unit that `said` names.
    pub n: u64,
    /// The result in words, with numbers.
    pub said: String,
    /// For tcpguard: whether the promise held. For the naive variant: whether it did not hold, as it should not.
    pub expected: bool,
}

/// A row as it stands in the file, one JSON object a line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Line {
    /// Goal that the row belongs to.
    pub goal: Goal,
    /// Name of the row within its goal.
    pub row: String,
    /// The test that wrote it, with its modules.
    pub test: String,
    /// True if it had its full size.
    pub full: bool,
    pub result: Option<Outcome>,
    /// Result of a variant without the feature that the row is about.
    pub naive: Option<Outcome>,
    /// Seed of its traffic.
    pub seed: u64,
    /// Duration of its measurement, s.
    pub seconds: f64,
}

impl Line {
    /// Returns the reason why the row proves nothing, or the contrary of the promise.
    pub fn fault(&self) -> Option<&'static str> {
        match (&self.result, &self.naive) {
            (None, _) => Some("no result"),
            (Some(Outcome { expected: false, .. }), _) => Some("the promise does not hold"),
            (_, None) => Some("no naive variant"),
            (_, Some(Outcome { expected: false, .. })) => Some("the naive variant did not fail"),
            (Some(Outcome { n, .. }), _) if self.full => match self.least() {
                None => Some("nobody says how large its full size is"),
                Some(least) if *n < least => Some("its N is too small for its full size"),
                Some(_) => None,
            },
            _ => None,
        }
    }

    /// The least N in full size.
    pub fn least(&self) -> Option<u64> {
        least::of(&self.test)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:", self.goal, self.row)?;
        for (variant, outcome) in [("guard", &self.result), ("naive", &self.naive)] {
            match outcome {
                Some(Outcome { n, said, .. }) => write!(f, " {variant} (N = {n}) {said};")?,
                None => write!(f, " {variant} not tried;")?,
            }
        }
        write!(f, " seed {}, {:.1} s", self.seed, self.seconds)
    }
}

/// A row that is being measured: its time runs from [`Row::new`] to [`Row::finish`].
#[derive(Debug)]
#[must_use = "a row counts when it is finished"]
pub struct Row {
    line: Line,
    begun: Instant,
}

impl Row {
    /// A row of `goal`, named after the test that runs on this thread, with the run's seed.
    pub fn new(goal: Goal) -> Self {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or_default().to_owned();
        let function = test.rsplit("::").next().unwrap_or_default();
        let own = format!("{}_", goal.id().to_lowercase());
        let row = function.strip_prefix(&own).unwrap_or(function).replace('_', " ");
        let full = size(false, true);
        let line =
            Line { goal, row, test, full, result: None, naive: None, seed: seed(), seconds: 0.0 };
        Self { line, begun: Instant::now() }
    }

    /// Another name than the test's, where one test writes several.
    pub fn named(mut self, row: impl Into<String>) -> Self {
        self.line.row = row.into();
        self
    }

    /// Another seed than the run's.
    pub fn seed(mut self, seed: u64) -> Self {
        self.line.seed = seed;
        self
    }

    /// Sets the result of tcpguard in `n` trials, and whether it keeps the promise.
    pub fn result(mut self, n: u64, said: impl Into<String>, holds: bool) -> Self {
        self.line.result = Some(Outcome { n, said: said.into(), expected: holds });
        self
    }

    /// Sets the result of the naive variant in `n` trials, and whether it breaks the promise.
    pub fn naive(mut self, n: u64, said: impl Into<String>, fails: bool) -> Self {
        self.line.naive = Some(Outcome { n, said: said.into(), expected: fails });
        self
    }

    /// Prints the row and appends it to the file that [`ROWS`] names.
    ///
    /// # Panics
    /// When the promise does not hold, when there is no naive variant or it did not fail, and when
    /// the file cannot be written.
    pub fn finish(self) {
        let path = std::env::var_os(ROWS);
        self.finish_to(path.as_ref().map(Path::new));
    }

    fn finish_to(mut self, path: Option<&Path>) {
        self.line.seconds = self.begun.elapsed().as_secs_f64();
        println!("{}", self.line);
        if let Some(path) = path {
            append(path, &self.line)
                .unwrap_or_else(|error| panic!("{ROWS} is {}: {error}", path.display()));
        }
        if let Some(fault) = self.line.fault() {
            panic!("{fault}: {}", self.line);
        }
    }
}

/// Appends a row to the file in one write: tests of several processes may write at once.
fn append(path: &Path, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{fs, panic};

    use super::*;

    /// The written line, and the message with which the test would have failed.
    fn finished(row: Row) -> (Line, Option<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows");
        let ended = panic::catch_unwind(|| row.finish_to(Some(&path)));
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 1, "{written}");
        let failed = ended.err().map(|panic| *panic.downcast::<String>().unwrap());
        (serde_json::from_str(&written).unwrap(), failed)
    }

    fn kept(goal: Goal) -> Row {
        Row::new(goal).result(500, "0 of 3.2 M leaked", true)
    }

    #[test]
    fn a_row_is_written_with_both_variants_its_test_and_its_seed() {
        let (line, failed) = finished(kept(Goal::G1).seed(7).naive(500, "217 k of 2.0 M", true));
        assert_eq!(failed, None);
        assert_eq!((line.goal, line.seed, line.full, line.fault()), (Goal::G1, 7, false, None));
        let test = "a_row_is_written_with_both_variants_its_test_and_its_seed";
        assert!(line.test.ends_with(test), "{}", line.test);
        assert_eq!(line.row, test.replace('_', " "));
        let text = line.to_string();
        assert!(
            text.contains("guard (N = 500) 0 of 3.2 M leaked; naive (N = 500) 217 k"),
            "{text}"
        );
        assert!(text.contains("; seed 7, 0.0 s"), "{text}");
    }

    #[test]
    fn several_rows_of_a_test_have_names_of_their_own() {
        let (line, _) = finished(kept(Goal::G2).named("import").naive(1, "half", true));
        assert_eq!(line.row, "import");
    }

    #[test]
    fn a_broken_promise_fails_the_test_and_is_in_the_table() {
        let row = Row::new(Goal::G1).result(500, "3 leaked", false).naive(500, "9 leaked", true);
        let (line, failed) = finished(row);
        assert!(failed.unwrap().starts_with("the promise does not hold: G1 "));
        assert!(!line.result.unwrap().expected);
    }

    #[test]
    fn a_naive_variant_that_keeps_the_promise_fails_the_test() {
        let (_, failed) = finished(kept(Goal::G1).naive(500, "0 leaked", false));
        assert!(failed.unwrap().starts_with("the naive variant did not fail: "));
    }

    #[test]
    fn a_row_in_full_size_has_its_whole_n() {
        let row = Row::new(Goal::G1).naive(1, "9 leaked", true);
        let of = |test: &str, n| Line {
            test: test.to_owned(),
            full: true,
            result: Some(Outcome { n, said: String::new(), expected: true }),
            ..row.line.clone()
        };
        let kills = "g2_a_kill_leaves_one_set_whole";
        assert_eq!(of(kills, 500).fault(), None);
        assert_eq!(Line { full: false, ..of(kills, 1) }.fault(), None);
        assert_eq!(of(kills, 499).fault(), Some("its N is too small for its full size"));
        assert_eq!(of("g1_x", 100).fault(), Some("nobody says how large its full size is"));
    }

    #[test]
    fn a_row_without_a_result_or_a_naive_variant_fails_the_test() {
        assert!(finished(kept(Goal::G1)).1.unwrap().starts_with("no naive variant: "));
        let (_, failed) = finished(Row::new(Goal::G1).naive(1, "9 leaked", true));
        assert!(failed.unwrap().starts_with("no result: "));
    }
}
