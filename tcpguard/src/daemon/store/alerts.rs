//! Alerts on the disk: the next agent knows the alerts that were raised, and numbers go on. One line of JSON each, the
//! oldest first. The file is replaced as a whole.

use std::io;
use std::path::Path;
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::durable::seal::Damage;
use tcpguard_host::finding::Severity;

use super::jsonl::{self, Line};
use super::writer::Writer;
use crate::documents::{AlertEntry, EVENT_SCHEMA};
use crate::telemetry::History;

pub(in crate::daemon) const NAME: &str = "alerts.jsonl";
/// Least time between two writes of the file: a flood with many rules raises alerts all the time. The journal has
/// everything at once.
const PACE: Duration = Duration::from_secs(5);
/// The same with a critical alert: the next agent knows of an attack, however soon this one is killed.
const CRITICAL_PACE: Duration = Duration::from_secs(1);

/// File of the alerts.
#[derive(Debug)]
pub struct AlertFile {
    writer: Writer<Vec<AlertEntry>>,
    written: Timestamp,
    /// Number of the last alert in the file.
    last: u64,
}

impl AlertFile {
    /// The alerts that earlier agents left in `dir`, and the file for this agent's.
    pub fn load(dir: &Path) -> io::Result<(Self, History)> {
        let history = History::after(load(dir));
        let writer = Writer::start("alerts", dir.to_owned(), store, "alerts")?;
        let last = history.last();
        Ok((Self { writer, written: Timestamp::default(), last }, history))
    }

    /// Has them written if there are new ones and it is time for it.
    pub fn tend(&mut self, history: &History, now: Timestamp) {
        let new = history.since(self.last);
        let pace = match new.iter().any(|alert| alert.severity == Severity::Critical) {
            true => CRITICAL_PACE,
            false => PACE,
        };
        if now.since(self.written) >= pace {
            self.keep(history, now);
        }
    }

    /// Has them written now, if there are new ones.
    pub fn keep(&mut self, history: &History, now: Timestamp) {
        if history.last() != self.last {
            (self.written, self.last) = (now, history.last());
            self.writer.write(history.since(0));
        }
    }
}

fn store(dir: &Path, lines: &Vec<AlertEntry>) -> io::Result<()> {
    jsonl::store(&dir.join(NAME), lines)
}

pub(in crate::daemon) fn load(dir: &Path) -> Vec<AlertEntry> {
    jsonl::load(&dir.join(NAME))
}

/// The same for a query, which sets no damaged line aside.
pub(in crate::daemon) fn read(dir: &Path) -> Result<Vec<AlertEntry>, Damage> {
    jsonl::read(&dir.join(NAME))
}

impl Line for AlertEntry {
    const WHAT: &'static str = "alerts";
    const SCHEMA: &'static str = EVENT_SCHEMA;
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::documents::AlertEvent;
    use tcpguard_host::durable::seal;
    use tcpguard_host::finding::Severity;
    use tcpguard_host::time::Time;

    fn alert(seq: u64) -> AlertEntry {
        AlertEntry {
            seq,
            at: Time(jiff::Timestamp::from_second(1_800_000_000 + seq as i64).unwrap()),
            severity: Severity::Warning,
            event: AlertEvent::Unknown { event: "rule_withdrawn".to_owned() },
            message: format!("rule {seq} hit \"clients\"\n"),
            incident: seq.is_multiple_of(2).then_some(seq),
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1000 * seconds)
    }

    fn stored(dir: &Path, numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let lines = numbers.into_iter().map(alert).collect();
        store(dir, &lines).unwrap();
        seal::read(&dir.join(NAME), jsonl::MAX_BYTES).unwrap()
    }

    #[test]
    fn of_a_file_that_was_changed_nothing_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        stored(dir.path(), [1, 2, 3]);
        let path = dir.path().join(NAME);
        let changed = fs::read_to_string(&path).unwrap().replace("rule 2 hit", "rule 7 hit");
        fs::write(&path, &changed).unwrap();
        assert_eq!(numbers(&AlertFile::load(dir.path()).unwrap().1), [0; 0]);
        let aside = fs::read_to_string(dir.path().join("alerts.jsonl.bad")).unwrap();
        assert_eq!(aside, changed);
    }

    fn numbers(history: &History) -> Vec<u64> {
        history.since(0).iter().map(|alert| alert.seq).collect()
    }

    #[test]
    fn earlier_alerts_are_known_to_the_next_agent_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, mut history) = AlertFile::load(dir.path()).unwrap();
        assert_eq!((history.first(), history.last()), (1, 0));
        for seq in 1..=3 {
            history.add(alert(0));
            assert_eq!(history.last(), seq);
        }
        file.keep(&history, at(1));
        drop(file);
        let (_, next) = AlertFile::load(dir.path()).unwrap();
        assert_eq!((next.first(), next.last()), (4, 3));
        assert_eq!(next.since(0), history.since(0));
    }

    #[test]
    fn the_file_is_written_at_its_pace_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, mut history) = AlertFile::load(dir.path()).unwrap();
        let last_in_file = |file: &mut AlertFile, history: &History, second| {
            file.tend(history, at(second));
            file.last
        };
        assert_eq!(last_in_file(&mut file, &history, 100), 0);
        history.add(alert(0));
        assert_eq!(last_in_file(&mut file, &history, 100), 1, "the first one at once");
        history.add(alert(0));
        assert_eq!(last_in_file(&mut file, &history, 104), 1);
        assert_eq!(last_in_file(&mut file, &history, 105), 2);
        history.add(AlertEntry { severity: Severity::Critical, ..alert(0) });
        assert_eq!(last_in_file(&mut file, &history, 105), 2);
        assert_eq!(last_in_file(&mut file, &history, 106), 3);
        history.add(alert(0));
        file.keep(&history, at(107));
        drop(file);
        assert_eq!(numbers(&AlertFile::load(dir.path()).unwrap().1), [1, 2, 3, 4]);
    }

    #[test]
    fn lines_of_another_version_are_set_aside_as_they_were_and_the_others_count() {
        let dir = tempfile::tempdir().unwrap();
        let text = String::from_utf8(stored(dir.path(), [1, 2, 3, 4, 5])).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[1] = lines[1].replace(EVENT_SCHEMA, "tcpguard.event/9");
        lines[2] = "\u{fffd} nonsense".to_owned();
        lines[3] = lines[3].replace("warning", "catastrophe");
        let content = format!("{}\n", lines.join("\n"));
        seal::replace(&dir.path().join(NAME), 0o600, content.as_bytes()).unwrap();
        let (_, history) = AlertFile::load(dir.path()).unwrap();
        assert_eq!((numbers(&history), history.first()), (vec![1, 5], 6));
        let aside = fs::read_to_string(dir.path().join("alerts.jsonl.bad")).unwrap();
        assert_eq!(aside, format!("{}\n{}\n{}\n", lines[1], lines[2], lines[3]));
    }

    /// A directory under the file's name stands for a disk that takes nothing. The history in memory goes on.
    #[test]
    fn a_disk_that_takes_nothing_costs_only_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(NAME)).unwrap();
        let (mut file, mut history) = AlertFile::load(dir.path()).unwrap();
        history.add(alert(0));
        file.keep(&history, at(1));
        drop(file);
        assert_eq!(numbers(&history), [1]);
        assert!(dir.path().join(NAME).is_dir());
    }
}
