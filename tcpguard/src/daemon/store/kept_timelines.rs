//! Lines of incidents on the disk, a file each, so that they can be drawn when their agent has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tcpguard_engine::{IncidentReport, Mode, Sample, Timestamp};
use tcpguard_host::durable;
use tcpguard_host::durable::seal::{self, Damage};
use tcpguard_host::time::Clock;

use super::writer::Writer;
use crate::documents::history::History;
use crate::documents::timeline::{TIMELINE_SCHEMA, Timeline};
use crate::driver::timeline::Recorder;

/// The directory of the files, in the state directory.
pub(in crate::daemon) const DIRECTORY: &str = "timelines";
/// Lines kept of incidents that are over.
pub(super) const KEPT: usize = 32;
/// Far longer than the file of any line: 480 steps of at most 250 bytes.
const MAX_BYTES: u64 = 256 << 10;
/// Interval of writes of the timelines of open incidents: a crash loses at most this much of them.
const PACE: Duration = Duration::from_secs(10);

/// The lines of open incidents and of past ones, of earlier runs too.
#[derive(Debug)]
pub struct Timelines {
    recorder: Recorder,
    /// Of incidents that are over, by their numbers.
    past: BTreeMap<u64, Arc<Timeline>>,
    /// The parts that an earlier agent recorded of incidents that go on.
    earlier: BTreeMap<u64, Arc<Timeline>>,
    writer: Writer<Files>,
    /// One ended since they were written.
    changed: bool,
    written: Timestamp,
}

/// Every line that is to be on the disk.
#[derive(Debug)]
struct Files {
    past: Vec<Arc<Timeline>>,
    open: Vec<Timeline>,
}

impl Timelines {
    /// Loads the timelines that earlier agents left in the state directory `dir`, of the incidents `kept`. The others
    /// are obsolete.
    pub fn load(dir: &Path, kept: &BTreeSet<u64>) -> io::Result<Self> {
        let dir = dir.join(DIRECTORY);
        let mut past = load(&dir);
        past.retain(|id, _| kept.contains(id));
        let writer = Writer::start("timelines", dir, store, "time series of past incidents")?;
        let recorder = Recorder::default();
        Ok(Self {
            recorder,
            past,
            earlier: BTreeMap::new(),
            writer,
            changed: false,
            written: Timestamp::default(),
        })
    }

    /// See [`Recorder::note`].
    pub fn note(&mut self, sample: &Sample, mode: Mode) {
        self.recorder.note(sample, mode);
    }

    /// Records a report of an incident.
    pub fn update(&mut self, incident: &IncidentReport, clock: Clock) {
        let id = incident.id;
        if incident.ended.is_none() {
            self.recorder.begin(id, incident.listener_id);
        } else if let Some(line) = self.recorder.end(id) {
            let line = self.joined(id, line.document(id, |at| clock.time_at(at)));
            self.earlier.remove(&id);
            self.past.insert(id, Arc::new(line));
            self.changed = true;
        }
    }

    /// Goes on with the line of an incident that an earlier agent left open.
    pub fn go_on(&mut self, incident: &IncidentReport) {
        let id = incident.id;
        if let Some(line) = self.past.remove(&id) {
            self.earlier.insert(id, line);
        }
        self.recorder.begin(id, incident.listener_id);
    }

    /// A timeline appended to the part that an earlier agent recorded.
    fn joined(&self, id: u64, line: Timeline) -> Timeline {
        match self.earlier.get(&id) {
            Some(earlier) => line.after(earlier),
            None => line,
        }
    }

    /// The line of the incident with this number, an open or a past one.
    pub fn find(&self, id: u64, clock: Clock) -> Option<Timeline> {
        let open = self.recorder.open().get(&id);
        open.map(|line| self.joined(id, line.document(id, |at| clock.time_at(at))))
            .or_else(|| self.past.get(&id).map(|line| line.as_ref().clone()))
    }

    /// The recent seconds of the host.
    pub fn history(&self, clock: Clock) -> History {
        self.recorder.history(|at| clock.time_at(at))
    }

    /// Has them written if it is time for it.
    pub fn tend(&mut self, clock: Clock) {
        let due = clock.now.since(self.written) >= PACE && !self.recorder.open().is_empty();
        if self.changed || due {
            self.keep(clock);
        }
    }

    /// Has them written now.
    pub fn keep(&mut self, clock: Clock) {
        (self.changed, self.written) = (false, clock.now);
        let open = self.recorder.open().iter();
        let open =
            open.map(|(id, line)| self.joined(*id, line.document(*id, |at| clock.time_at(at))));
        let past = self.past.values().cloned();
        self.writer.write(Files { past: past.collect(), open: open.collect() });
    }

    /// Drops the lines of all past incidents but these.
    pub fn retain(&mut self, kept: &BTreeSet<u64>) {
        self.past.retain(|id, _| kept.contains(id));
    }
}

/// The file of a past incident, which never changes, and that of an open one.
fn names(dir: &Path, id: u64) -> [PathBuf; 2] {
    [dir.join(format!("{id}.json")), dir.join(format!("{id}.open.json"))]
}

/// The number in the name of such a file.
fn number(name: &Path) -> Option<u64> {
    let name = name.file_name()?.to_str()?.strip_suffix(".json")?;
    name.strip_suffix(".open").unwrap_or(name).parse().ok()
}

/// Makes the files in `dir` those of these lines.
fn store(dir: &Path, files: &Files) -> io::Result<()> {
    let mut wanted = BTreeSet::new();
    for line in &files.past {
        let [past, open] = names(dir, line.id);
        if !past.exists() {
            write(&past, line)?;
        }
        durable::remove(&open)?;
        wanted.insert(line.id);
    }
    for line in &files.open {
        let [past, open] = names(dir, line.id);
        write(&open, line)?;
        // Numbers begin again where the incidents on record were lost.
        durable::remove(&past)?;
        wanted.insert(line.id);
    }
    for path in paths(dir)? {
        if number(&path).is_some_and(|id| !wanted.contains(&id)) {
            durable::remove(&path)?;
        }
    }
    Ok(())
}

fn write(path: &Path, line: &Timeline) -> io::Result<()> {
    seal::store(path, 0o600, TIMELINE_SCHEMA, line)
}

fn paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The timelines in `dir`. A missing plot is no reason to keep an agent from its work: files that cannot
/// be read are named in the log and left to be replaced.
pub(in crate::daemon) fn load(dir: &Path) -> BTreeMap<u64, Arc<Timeline>> {
    let paths = paths(dir).unwrap_or_else(|error| {
        log::warn!("cannot read {}: {error}. Starting without time series", dir.display());
        Vec::new()
    });
    let mut lines = BTreeMap::new();
    for path in paths {
        let Some(id) = number(&path) else { continue };
        match read(&path, id) {
            // The timeline of an ended incident is newer than the one kept while it was open.
            Ok(line) if path == names(dir, id)[0] => drop(lines.insert(id, Arc::new(line))),
            Ok(line) => drop(lines.entry(id).or_insert_with(|| Arc::new(line))),
            Err(why) => log::warn!("time series unusable: {}: {why}", path.display()),
        }
    }
    lines
}

/// The timeline of incident `id` of the state directory `dir`, and its file.
pub(in crate::daemon) fn find(dir: &Path, id: u64) -> Result<(Timeline, PathBuf), Damage> {
    let names = names(&dir.join(DIRECTORY), id);
    let path = names.into_iter().find(|path| path.exists()).ok_or(Damage::Missing)?;
    read(&path, id).map(|line| (line, path)).map_err(Damage::Bad)
}

fn read(path: &Path, id: u64) -> Result<Timeline, String> {
    let line: Timeline = seal::document(path, MAX_BYTES, TIMELINE_SCHEMA)
        .map_err(|damage| damage.reason().unwrap_or_else(|| "it has just gone".to_owned()))?;
    if line.id == id { Ok(line) } else { Err(format!("it is about #{}", line.id)) }
}

#[cfg(test)]
pub(in crate::daemon) mod tests {
    use super::*;
    use crate::documents::timeline::Point;
    use tcpguard_engine::Mode;
    use tcpguard_host::json::{self, Named};
    use tcpguard_host::time::Time;

    fn line(id: u64, steps: u64) -> Timeline {
        let point = |number| Point { at_ms: 250 * number, syn_pps: 40.25, ..Point::default() };
        Timeline {
            id,
            began: Time("2026-11-20T14:05:31.204Z".parse().unwrap()),
            interval_ms: 250,
            points: (1..=steps).map(point).collect(),
        }
    }

    fn files(past: &[u64], open: &[u64]) -> Files {
        Files {
            past: past.iter().map(|id| Arc::new(line(*id, 3))).collect(),
            open: open.iter().map(|id| line(*id, 2)).collect(),
        }
    }

    /// The line of a past incident in `dir`.
    pub(in crate::daemon) fn stored(dir: &Path, id: u64) {
        store(dir, &files(&[id], &[])).unwrap();
    }

    fn names_in(dir: &Path) -> Vec<String> {
        let names = paths(dir).unwrap().into_iter();
        let mut names: Vec<String> =
            names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Ids and step counts of the timelines found.
    fn found(dir: &Path) -> Vec<(u64, usize)> {
        load(dir).into_iter().map(|(id, line)| (id, line.points.len())).collect()
    }

    #[test]
    fn the_files_are_those_of_the_lines_and_nothing_else_that_is_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("deep");
        assert_eq!(found(&dir), []);
        store(&dir, &files(&[1], &[2])).unwrap();
        assert_eq!(names_in(&dir), ["1.json", "2.open.json"]);
        fs::write(dir.join("notes.txt"), "an administrator's").unwrap();
        store(&dir, &files(&[1, 2], &[3])).unwrap();
        assert_eq!(names_in(&dir), ["1.json", "2.json", "3.open.json", "notes.txt"]);
        assert_eq!(found(&dir), [(1, 3), (2, 3), (3, 2)]);
        assert_eq!(*load(&dir)[&2], line(2, 3));
        store(&dir, &files(&[], &[2])).unwrap();
        assert_eq!(names_in(&dir), ["2.open.json", "notes.txt"], "numbers began again");
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let write = |name: &str, content: &[u8]| {
            seal::replace(&dir.join(name), 0o600, content).unwrap();
        };
        let named =
            |schema, line: &Timeline| json::bytes(&Named { schema, document: line }).unwrap();
        let json = |line: &Timeline| named(TIMELINE_SCHEMA, line);
        write("1.json", &json(&line(1, 5)));
        write("2.json", &json(&line(2, 5))[..40]);
        write("3.json", &json(&line(4, 5)));
        write("4.json", &named("tcpguard.timeline/9", &line(4, 5)));
        write("5.json", &vec![b' '; MAX_BYTES as usize + 1]);
        fs::write(dir.join("6.open.json"), json(&line(6, 1))).unwrap();
        write("7.open.json", &json(&line(7, 1)));
        write("x.json", b"{}");
        assert_eq!(found(dir), [(1, 5), (7, 1)]);
    }

    #[test]
    fn the_longest_line_is_far_shorter_than_what_is_read() {
        let point = Point {
            at_ms: 86_400_000 * 365,
            mode: Mode::Enforce,
            syn_pps: 1_000_000.25,
            completed_pps: 1_000_000.25,
            matched_pps: 1_000_000.25,
            dropped_pps: 1_000_000.25,
            cookies_sent_pps: 1_000_000.25,
            nowhere_pps: 1_000_000.25,
            unsolicited_pps: 1_000_000.25,
            half_open: Some(u32::MAX),
            accept_queue: Some(u32::MAX),
            queue_limit: Some(u32::MAX),
        };
        let line = Timeline { points: vec![point; 480], ..line(1, 0) };
        let bytes = serde_json::to_vec(&line).unwrap().len() as u64;
        assert!(bytes < MAX_BYTES / 4 * 3, "{bytes}");
    }

    #[test]
    fn those_of_the_incidents_that_are_kept_are_kept_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<u64> = (1..=50).collect();
        store(&dir.path().join(DIRECTORY), &files(&ids, &[])).unwrap();
        let now = Timestamp::from_millis(60_000);
        let clock = Clock { now, wall: "2026-11-20T14:05:31.204Z".parse().unwrap() };
        let mut lines = Timelines::load(dir.path(), &BTreeSet::from([1, 49, 50, 51])).unwrap();
        assert!(lines.find(50, clock).is_some() && lines.find(1, clock).is_some());
        assert!(lines.find(48, clock).is_none() && lines.find(51, clock).is_none());
        lines.retain(&BTreeSet::from([1, 50]));
        lines.keep(clock);
        drop(lines);
        let kept: Vec<u64> = load(&dir.path().join(DIRECTORY)).into_keys().collect();
        assert_eq!(kept, [1, 50]);
    }
}
