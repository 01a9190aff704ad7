//! Tests of damaged files, as a failing disk leaves them: cut to every possible length, and with bytes changed at
//! random. Nothing of a damaged file is believed, nothing panics, and the damage is named.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_host::durable::seal;
use tcpguard_host::finding::Severity;
use tcpguard_host::linux::{boot_id, netns};
use tcpguard_host::time::Time;

use super::kept_timelines;
use super::state::{self, State};
use super::{incidents, jsonl};
use crate::config::{self, ConfigError, Overrides};
use crate::daemon::configuration::kept_config::{self, KeptConfig};
use crate::daemon::mitigations::syncookies;
use crate::documents::selftest::tests::selftest as example;
use crate::documents::{AlertEntry, AlertEvent};
use crate::selftest;

/// Numbers that look random and are the same for each seed (SplitMix64).
pub(in crate::daemon) struct Random(pub(in crate::daemon) u64);

impl Random {
    pub(in crate::daemon) fn below(&mut self, limit: usize) -> usize {
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

/// A file of the agent, and the part of it that is believed, as text. The reasons for refusing a part go to the log.
struct File {
    name: &'static str,
    read: fn(&Path) -> Vec<String>,
}

const FILES: [File; 7] = [
    File { name: "config.json", read: |dir| described(KeptConfig::load(dir, Path::new(CONFIG))) },
    File { name: "state.json", read: |dir| described(State::load(dir)) },
    File {
        name: "alerts.jsonl",
        read: |dir| described(jsonl::load::<AlertEntry>(&dir.join("alerts.jsonl"))),
    },
    File { name: "incidents.jsonl", read: |dir| described(incidents::load(dir)) },
    File {
        name: "timelines/1.json",
        read: |dir| described(kept_timelines::load(&dir.join(kept_timelines::DIRECTORY))),
    },
    File { name: "syncookies.json", read: |dir| described(syncookies::tests::given_back(dir)) },
    File { name: "selftest.json", read: |dir| described(selftest::load(dir, &example().host)) },
];

/// The main file of the configuration that is kept.
const CONFIG: &str = "/etc/tcpguard/tcpguard.toml";

/// The state to a reader that has no more than JSON.
const BY_JSON: File = File {
    name: "state.json",
    read: |dir| {
        let whole = fs::read(dir.join("state.json")).unwrap();
        described(serde_json::from_slice::<State>(&whole).ok())
    },
};

fn described<T: Debug>(found: impl IntoIterator<Item = T>) -> Vec<String> {
    found.into_iter().map(|one| format!("{one:?}")).collect()
}

/// Keeps the lines that the thread logs.
struct Log;

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOG.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Result for damaged files.
#[derive(Default)]
struct Damaged {
    tried: u64,
    /// Number of damaged files from which something was believed that had not been written.
    believed: u64,
    /// Number of damaged files about which the log did not have exactly one line, with the file's name in it.
    unnamed: u64,
    /// Path and log lines of the first of the `unnamed` files.
    first: Option<String>,
}

impl Damaged {
    /// Reads the file in `dir` cut to each length, and with one byte changed `flips` times.
    fn read(&mut self, file: &File, dir: &Path, flips: u64, random: &mut Random) {
        let path = dir.join(file.name);
        let whole = fs::read(&path).unwrap();
        let written = (file.read)(dir);
        assert!(!written.is_empty(), "{}: nothing is read of the whole file", file.name);
        let cuts = (0..whole.len()).map(|length| whole[..length].to_vec()).collect::<Vec<_>>();
        let flipped = (0..flips).map(|_| random.flipped(&whole)).collect::<Vec<_>>();
        for damaged in cuts.into_iter().chain(flipped) {
            fs::write(&path, damaged).unwrap();
            LOG.take();
            let found = (file.read)(dir);
            let log = LOG.take();
            self.tried += 1;
            self.believed += u64::from(found.iter().any(|one| !written.contains(one)));
            let path = path.to_str().unwrap();
            if !matches!(log.as_slice(), [line] if line.contains(path)) {
                self.unnamed += 1;
                self.first.get_or_insert_with(|| format!("{path}: {log:?}"));
            }
        }
    }
}

fn alerts() -> Vec<AlertEntry> {
    let alert = |seq| AlertEntry {
        seq,
        at: Time(jiff::Timestamp::UNIX_EPOCH),
        severity: Severity::Warning,
        event: AlertEvent::Unknown { event: "rule_withdrawn".to_owned() },
        message: format!("rule {seq} hit clients"),
        incident: Some(seq),
    };
    (1..=3).map(alert).collect()
}

/// Files as agents write them.
fn write_all(dir: &Path) {
    state::store(dir, &state::tests::state()).unwrap();
    let valid = "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n";
    kept_config::store(dir, &kept_config::tests::kept(Path::new(CONFIG), valid)).unwrap();
    jsonl::store(&dir.join("alerts.jsonl"), &alerts()).unwrap();
    incidents::tests::stored(dir, [1, 2]);
    kept_timelines::tests::stored(&dir.join(kept_timelines::DIRECTORY), 1);
    selftest::store(dir, &example()).unwrap();
    let saved = format!(
        r#"{{"schema":"tcpguard.syncookies/1","boot":"{}","netns":{},"value":1}}"#,
        boot_id(),
        netns::cookie().unwrap()
    );
    seal::replace(&dir.join("syncookies.json"), 0o600, saved.as_bytes()).unwrap();
}

#[test]
fn g15_nothing_of_a_damaged_file_is_believed() {
    let row = Row::new(Goal::G15);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let flips: u64 = size(300, 10_000);
    let mut random = Random(seed());
    // Another test of the same process may have done so.
    let _ = log::set_logger(&Log);
    log::set_max_level(log::LevelFilter::Warn);
    write_all(dir);
    let mut ours = Damaged::default();
    for file in &FILES {
        ours.read(file, dir, flips, &mut random);
    }
    println!("{:?}", ours.first);
    fs::write(dir.join(BY_JSON.name), serde_json::to_vec(&state::tests::state()).unwrap()).unwrap();
    let mut naive = Damaged::default();
    naive.read(&BY_JSON, dir, flips, &mut random);
    row.result(
        ours.tried,
        format!(
            "{} believed, {} without one line that names the file, of {} files cut or changed",
            ours.believed,
            ours.unnamed,
            FILES.len()
        ),
        ours.believed == 0 && ours.unnamed == 0,
    )
    .naive(
        naive.tried,
        format!("states, to JSON alone: {} believed", naive.believed),
        naive.believed > 0,
    )
    .finish();
}

/// Adds the dotted path of every key below `value` to `found`: `detection.clear_s`, `listener.at`.
fn keys(value: &toml::Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                keys(value, &at, found);
                found.insert(at);
            }
        }
        toml::Value::Array(all) => all.iter().for_each(|one| keys(one, at, found)),
        _ => {}
    }
}

fn keys_of(file: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let text = String::from_utf8_lossy(file);
    if let Ok(table) = toml::from_str::<toml::Table>(&text) {
        keys(&toml::Value::Table(table), "", &mut found);
    }
    found
}

/// Positions of the mistakes that a reader reports, by line and column; `None` for a mistake without a position.
type Mistakes = Vec<Option<(usize, usize)>>;
type Reader = fn(&Path) -> Result<(), Mistakes>;

fn by_ours(path: &Path) -> Result<(), Mistakes> {
    match config::read(Some(path), Overrides::default()) {
        Ok(_) => Ok(()),
        Err(ConfigError::Unreadable { .. }) => Err(vec![None]),
        Err(ConfigError::Invalid { problems, .. }) => {
            Err(problems.iter().map(|found| Some((found.at.line, found.at.column))).collect())
        }
    }
}

/// Reads a file as TOML files are mostly read: unknown keys are ignored.
fn by_toml_alone(path: &Path) -> Result<(), Mistakes> {
    let text = fs::read_to_string(path).map_err(|_| vec![None])?;
    let read = toml::from_str::<toml::Table>(&text);
    read.map(drop).map_err(|error| vec![error.span().map(|_| (1, 1))])
}

/// Result of one reader for damaged files.
#[derive(Default)]
struct Read {
    tried: u64,
    refused: u64,
    /// Number of files refused with a mistake that has no position within the file, or with none at all.
    nowhere: u64,
    /// Number of files accepted although a key in them does not exist, so that an operator's setting is ignored.
    passed_over: u64,
}

impl Read {
    /// Tests `read` with `whole` cut at regular lengths, and with one byte changed. There are no other keys
    /// than the `known` ones.
    fn damaged(&mut self, read: Reader, path: &Path, whole: &[u8], known: &BTreeSet<String>) {
        let mut random = Random(seed());
        for length in (0..whole.len()).step_by(size(97, 1).min(1 + whole.len() / 200)) {
            self.one(read, path, &whole[..length], known);
        }
        for _ in 0..size(300, 10_000) {
            self.one(read, path, &random.flipped(whole), known);
        }
    }

    fn one(&mut self, read: Reader, path: &Path, file: &[u8], known: &BTreeSet<String>) {
        fs::write(path, file).unwrap();
        self.tried += 1;
        let Err(mistakes) = read(path) else {
            self.passed_over += u64::from(!keys_of(file).is_subset(known));
            return;
        };
        self.refused += 1;
        let lines: Vec<_> = file.split(|byte| *byte == b'\n').collect();
        let is_there = |(line, column): &(usize, usize)| {
            let line = line.checked_sub(1).and_then(|line| lines.get(line));
            // In characters, of which each has a byte at least.
            line.is_some_and(|line| (1..=line.len() + 1).contains(column))
        };
        let all = mistakes.iter().all(|place| place.as_ref().is_some_and(is_there));
        self.nowhere += u64::from(mistakes.is_empty() || !all);
    }
}

/// The file of the package, and the same with every key and block that it shows.
fn packaged() -> [String; 2] {
    const SHIPPED: &str = include_str!("../../../../packaging/tcpguard.toml");
    let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    let shown = SHIPPED.lines().map(|line| if is_key(&line) { &line[1..] } else { line });
    [SHIPPED.to_owned(), shown.collect::<Vec<_>>().join("\n")]
}

/// People write this file, so it has no seal. A reader accepts it, or names its mistakes and their positions.
#[test]
fn g15_a_damaged_configuration_is_understood_or_its_mistakes_have_a_place() {
    const SHORT: &str = "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\", \"eth1\"]\n\
        [detection]\nclear_s = 30\n[protect]\nprefixes = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n\
        # Größe\n[[listener]]\nat = \"192.0.2.1:443\"\nmode = \"observe\"\n";
    let row = Row::new(Goal::G15).named("configuration");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tcpguard.toml");
    let (mut ours, mut theirs) = (Read::default(), Read::default());
    let packaged = packaged();
    let known = keys_of(packaged[1].as_bytes());
    for whole in packaged.iter().map(String::as_str).chain([SHORT]) {
        fs::write(&path, whole).unwrap();
        assert_eq!(by_ours(&path), Ok(()));
        ours.damaged(by_ours, &path, whole.as_bytes(), &known);
        theirs.damaged(by_toml_alone, &path, whole.as_bytes(), &known);
    }
    assert!(ours.refused > 300, "{}", ours.refused);
    let said = |read: &Read, how: &str| {
        format!(
            "files{how}: {} refused, {} without a place; {} taken of which a key was passed over",
            read.refused, read.nowhere, read.passed_over
        )
    };
    row.result(ours.tried, said(&ours, ""), ours.nowhere == 0 && ours.passed_over == 0)
        .naive(
            theirs.tried,
            said(&theirs, " as text of TOML"),
            theirs.nowhere > 0 && theirs.passed_over > 0,
        )
        .finish();
}
