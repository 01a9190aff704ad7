//! Incidents on the disk: what past ones were judged by outlives the agent. One line of JSON each,
//! the oldest first; the file is replaced as a whole.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tcpguard_engine::{Engine, IncidentReport, Limits, Timestamp};

use super::writer::Writer;
use crate::durable;
use crate::status::{ATTACK_SCHEMA, Action, Attack, AttackInFull, Clock};

const NAME: &str = "incidents.jsonl";
/// Incidents in the file.
const KEPT: usize = Limits::PAST_INCIDENTS;
/// Far longer than any file of so many.
const MAX_BYTES: u64 = 16 << 20;
/// Wrong lines that are named one by one.
const NAMED: usize = 3;
/// Changes of open incidents are written at most this often.
const PACE: Duration = Duration::from_secs(1);
/// Open incidents are written this often even if nothing was told of them.
const OPEN_PACE: Duration = Duration::from_secs(60);

/// The past incidents of this run and of earlier ones.
#[derive(Debug)]
pub struct Incidents {
    /// The newest first.
    past: VecDeque<Arc<AttackInFull>>,
    /// Of these, those of this run.
    own: usize,
    writer: Writer<Vec<Arc<AttackInFull>>>,
    /// Something was told of one since it was written.
    changed: bool,
    written: Timestamp,
    /// Some were open when that was.
    open: bool,
}

impl Incidents {
    /// What earlier agents left in `dir`, and where this one's go.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn load(dir: &Path) -> io::Result<Self> {
        let mut past: VecDeque<_> = load(dir).into_iter().map(Arc::new).collect();
        past.truncate(KEPT);
        let lost = "past incidents";
        Ok(Self {
            past,
            own: 0,
            writer: Writer::start("incidents", dir.to_owned(), store, lost)?,
            changed: false,
            written: Timestamp::default(),
            open: false,
        })
    }

    /// The highest number so far; 0 before the first.
    pub fn last_number(&self) -> u64 {
        self.past.iter().map(|attack| attack.attack.id).max().unwrap_or(0)
    }

    /// Those of earlier runs, newest first.
    pub fn earlier(&self) -> impl Iterator<Item = &Attack> {
        self.past.iter().skip(self.own).map(|past| &past.attack)
    }

    /// The past incident with this number.
    pub fn find(&self, id: u64) -> Option<&AttackInFull> {
        self.past.iter().find(|past| past.attack.id == id).map(AsRef::as_ref)
    }

    /// Takes note of what was just told of an incident.
    pub fn told(&mut self, incident: &IncidentReport, engine: &Engine, clock: Clock) {
        self.changed = true;
        if incident.ended.is_none() {
            return;
        }
        let report = engine.report(clock.now);
        self.past.push_front(Arc::new(AttackInFull::build(incident, &report, clock)));
        self.own = (self.own + 1).min(KEPT);
        self.past.truncate(KEPT);
    }

    /// Has them written if it is time for it.
    pub fn tend(&mut self, engine: &Engine, clock: Clock) {
        let waited = clock.now.since(self.written);
        if (self.changed && waited >= PACE) || (self.open && waited >= OPEN_PACE) {
            self.keep(engine, clock);
        }
    }

    /// Has them written now, open ones too: they are past when the next agent starts.
    pub fn keep(&mut self, engine: &Engine, clock: Clock) {
        let report = engine.report(clock.now);
        let open = report.incidents.iter();
        let open = open.map(|incident| Arc::new(AttackInFull::build(incident, &report, clock)));
        let open: Vec<_> = open.collect();
        (self.changed, self.open, self.written) = (false, !open.is_empty(), clock.now);
        let by_number: BTreeMap<u64, Arc<AttackInFull>> = self
            .past
            .iter()
            .cloned()
            .chain(open)
            .map(|attack| (attack.attack.id, attack))
            .collect();
        let surplus = by_number.len().saturating_sub(KEPT);
        self.writer.write(by_number.into_values().skip(surplus).collect());
    }
}

/// Replaces the file in `dir`.
fn store(dir: &Path, attacks: &Vec<Arc<AttackInFull>>) -> io::Result<()> {
    let mut lines = Vec::new();
    for attack in attacks {
        serde_json::to_writer(&mut lines, attack.as_ref())?;
        lines.push(b'\n');
    }
    durable::replace(&dir.join(NAME), 0o600, &lines)
}

/// What is on record in `dir`, the newest first. Lines that cannot be understood are set aside with
/// one line in the log, and the others count.
fn load(dir: &Path) -> Vec<AttackInFull> {
    let path = dir.join(NAME);
    let content = match read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            log::warn!(
                "cannot read {}: {error}; starting without the past incidents",
                path.display()
            );
            return Vec::new();
        }
    };
    let mut attacks = Vec::new();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(content.split_inclusive(|byte| *byte == b'\n')) {
        match parse(line) {
            Ok(attack) => attacks.push(closed(attack)),
            Err(why) => wrong.push((number, why, line)),
        }
    }
    if !wrong.is_empty() {
        set_aside(&path, &wrong);
    }
    attacks.sort_by_key(|attack| std::cmp::Reverse(attack.attack.id));
    attacks
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_BYTES {
        let aside = durable::aside(path);
        fs::rename(path, &aside)?;
        let why = format!("it has {length} bytes, and is kept as {}", aside.display());
        return Err(io::Error::other(why));
    }
    fs::read(path)
}

fn parse(line: &[u8]) -> Result<AttackInFull, String> {
    if line.last() != Some(&b'\n') {
        return Err("it has no end".to_owned());
    }
    let attack: AttackInFull = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match attack.schema == ATTACK_SCHEMA {
        true => Ok(attack),
        false => Err(format!("its schema is {:?}, not {ATTACK_SCHEMA}", attack.schema)),
    }
}

/// An incident that was open when its agent ended is over with what was known last.
fn closed(mut full: AttackInFull) -> AttackInFull {
    let AttackInFull { attack, record, .. } = &mut full;
    if attack.ended_at.is_none() {
        let looked = record.at_last.as_ref().map_or(record.first.at, |moment| moment.at);
        let acted = attack.actions.last().map_or(looked, |action| action.at);
        let at = looked.max(acted).max(attack.detected_at);
        let text = "the agent ended while this was open; what came after has a number of its own";
        attack.actions.push(Action { at, text: text.to_owned() });
        attack.ended_at = Some(at);
        attack.advice = None;
        attack.rules.clear();
    }
    full
}

/// Keeps the lines that are none of an incident beside the file, so that nothing is lost when it is
/// replaced.
fn set_aside(path: &Path, wrong: &[(usize, String, &[u8])]) {
    let aside: PathBuf = durable::aside(path);
    let lines: Vec<u8> = wrong.iter().flat_map(|(.., line)| *line).copied().collect();
    let name = |(number, why, _): &(usize, String, &[u8])| format!("line {number}: {why}");
    let mut named: Vec<String> = wrong.iter().take(NAMED).map(name).collect();
    if let Some(more) = wrong.len().checked_sub(NAMED).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    let (path, named) = (path.display(), named.join("; "));
    match durable::replace(&aside, 0o600, &lines) {
        Ok(()) => log::warn!(
            "{} lines of {path} are no incidents of tcpguard ({named}); they are kept as {}, and the \
             other incidents are known",
            wrong.len(),
            aside.display()
        ),
        Err(error) => log::warn!(
            "{} lines of {path} are no incidents of tcpguard ({named}), and cannot be kept as {}: \
             {error}",
            wrong.len(),
            aside.display()
        ),
    }
}
