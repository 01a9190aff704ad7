//! What a failing disk makes of the files: every length to which they can be cut, and bytes changed at
//! random. Nothing of it is believed, nothing panics, and what is wrong is named.

use std::fs;
use std::path::Path;

use tcpguard_goals::{Goal, Row, seed, size};

use super::lines;
use super::state::{self, State};
use super::{incidents, syncookies};
use crate::config::{self, ConfigError, Overrides};
use crate::durable::seal;
use crate::host::{boot_id, netns};
use crate::probe;
use crate::status::{AlertEntry, Event, Severity, Time};

/// Numbers that look random and are the same for each seed (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    /// `whole` with one byte another.
    fn flipped(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut changed = whole.to_vec();
        let place = self.below(whole.len());
        changed[place] ^= 1 + self.below(255) as u8;
        changed
    }
}

/// A file of the agent, and whether anything is believed of it that was not written.
struct File {
    name: &'static str,
    believed: fn(&Path) -> bool,
}

const FILES: [File; 5] = [
    File { name: "state.json", believed: |dir| State::load(dir).is_some() },
    File {
        name: "alerts.jsonl",
        believed: |dir| {
            let found: Vec<Event> = lines::load(&dir.join("alerts.jsonl"));
            found.iter().any(|event| !alerts().contains(event))
        },
    },
    File { name: "incidents.jsonl", believed: |dir| !incidents::load(dir).is_empty() },
    File { name: "syncookies.json", believed: |dir| syncookies::lent_from(dir).is_some() },
    File { name: "probe.json", believed: |dir| probe::load(dir, &probe::example().host).is_some() },
];

fn alerts() -> Vec<Event> {
    let alert = |seq| AlertEntry {
        seq,
        at: Time(jiff::Timestamp::UNIX_EPOCH),
        severity: Severity::Warning,
        event: "rule_withdrawn".to_owned(),
        message: format!("rule {seq} hit clients"),
        attack: Some(seq),
    };
    (1..=3).map(|seq| Event::of(alert(seq))).collect()
}

/// Files as agents write them.
fn write_all(dir: &Path) {
    state::store(dir, &state::tests::state()).unwrap();
    lines::store(&dir.join("alerts.jsonl"), &alerts()).unwrap();
    incidents::tests::stored(dir, [1, 2]);
    probe::store(dir, &probe::example()).unwrap();
    let saved = format!(
        r#"{{"schema":"tcpguard.syncookies/1","boot":"{}","netns":{},"value":1}}"#,
        boot_id(),
        netns::cookie().unwrap()
    );
    seal::replace(&dir.join("syncookies.json"), 0o600, saved.as_bytes()).unwrap();
}

/// How many of `flips` of the state are another state to a reader that has no more than JSON.
fn believed_by_json(state: &State, flips: u64, random: &mut Random) -> u64 {
    let whole = serde_json::to_vec(state).unwrap();
    let believed = |_: &u64| {
        let found = serde_json::from_slice::<State>(&random.flipped(&whole));
        found.is_ok_and(|found| found != *state)
    };
    (0..flips).filter(believed).count() as u64
}

#[test]
fn g15_nothing_of_a_damaged_file_is_believed() {
    let row = Row::new(Goal::G15);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flips: u64 = size(300, 10_000);
    let mut random = Random(seed());
    let (mut tried, mut believed) = (0, 0);
    write_all(dir);
    for File { name, believed: believes } in FILES {
        let path = dir.join(name);
        let whole = fs::read(&path).unwrap();
        let cuts = (0..whole.len()).map(|length| whole[..length].to_vec()).collect::<Vec<_>>();
        let flipped = (0..flips).map(|_| random.flipped(&whole)).collect::<Vec<_>>();
        for damaged in cuts.into_iter().chain(flipped) {
            fs::write(&path, damaged).unwrap();
            tried += 1;
            believed += u64::from(believes(dir));
        }
    }
    let naive = believed_by_json(&state::tests::state(), flips, &mut random);
    row.result(
        tried,
        format!("{believed} believed, of {} files cut or changed", FILES.len()),
        believed == 0,
    )
    .naive(flips, format!("{naive} changed states believed by JSON alone"), naive > 0)
    .finish();
}

/// Where a reader says that the mistakes are, by line and column; `None` for one that it does not place.
type Mistakes = Vec<Option<(usize, usize)>>;

fn by_ours(path: &Path) -> Result<(), Mistakes> {
    match config::read(Some(path), Overrides::default()) {
        Ok(_) => Ok(()),
        Err(ConfigError::Unreadable { .. }) => Err(vec![None]),
        Err(ConfigError::Invalid { problems, .. }) => {
            Err(problems.iter().map(|found| Some((found.at.line, found.at.column))).collect())
        }
    }
}

/// As a file of TOML is mostly read.
fn by_toml_alone(path: &Path) -> Result<(), Mistakes> {
    let text = fs::read_to_string(path).map_err(|_| vec![None])?;
    let read = toml::from_str::<toml::Table>(&text);
    read.map(drop).map_err(|error| vec![error.span().map(|_| (1, 1))])
}

/// How many of `files` a reader refuses, and how many of these without a place within the file.
fn refused(files: &[Vec<u8>], path: &Path, read: fn(&Path) -> Result<(), Mistakes>) -> (u64, u64) {
    let (mut refused, mut nowhere) = (0, 0);
    for file in files {
        fs::write(path, file).unwrap();
        let Err(mistakes) = read(path) else { continue };
        refused += 1;
        let lines: Vec<_> = file.split(|byte| *byte == b'\n').collect();
        let is_there = |(line, column): &(usize, usize)| {
            let line = line.checked_sub(1).and_then(|line| lines.get(line));
            // In characters, of which each has a byte at least.
            line.is_some_and(|line| (1..=line.len() + 1).contains(column))
        };
        let all = mistakes.iter().all(|place| place.as_ref().is_some_and(is_there));
        nowhere += u64::from(mistakes.is_empty() || !all);
    }
    (refused, nowhere)
}

/// People write this one, so it has no seal: it is understood, or what is wrong with it is said, and
/// where.
#[test]
fn g15_a_damaged_configuration_is_understood_or_its_mistakes_have_a_place() {
    const CONFIG: &str = "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\", \"eth1\"]\n\
        [detection]\npoll_ms = 250\n[protect]\nprefixes = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n\
        # Größe\n[[listener]]\nat = \"192.0.2.1:443\"\nmode = \"observe\"\n";
    let row = Row::new(Goal::G15).named("configuration");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tcpguard.toml");
    fs::write(&path, CONFIG).unwrap();
    assert_eq!(by_ours(&path), Ok(()));
    let mut random = Random(seed());
    let cuts = (0..CONFIG.len()).map(|length| CONFIG.as_bytes()[..length].to_vec());
    let flipped = (0..size(300, 10_000)).map(|_| random.flipped(CONFIG.as_bytes()));
    let damaged: Vec<Vec<u8>> = cuts.collect::<Vec<_>>().into_iter().chain(flipped).collect();
    let tried = damaged.len() as u64;
    let (ours, nowhere) = refused(&damaged, &path, by_ours);
    let (theirs, naive) = refused(&damaged, &path, by_toml_alone);
    assert!(ours > 100, "{ours}");
    row.result(tried, format!("files: {ours} refused, {nowhere} without a place"), nowhere == 0)
        .naive(
            tried,
            format!("files as text of TOML: {theirs} refused, {naive} without a place"),
            naive > 0,
        )
        .finish();
}
