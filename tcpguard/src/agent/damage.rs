//! What a failing disk makes of the files: every length to which they can be cut, and bytes changed at
//! random. Nothing of it is believed, nothing panics, and what is wrong is named.

use std::fs;
use std::path::Path;

use tcpguard_goals::{Goal, Row, seed, size};

use super::lines;
use super::state::{self, State};
use super::syncookies;
use crate::config::{self, Overrides};
use crate::durable::seal;
use crate::host::{boot_id, netns};
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

const FILES: [File; 3] = [
    File { name: "state.json", believed: |dir| State::load(dir).is_some() },
    File {
        name: "alerts.jsonl",
        believed: |dir| {
            let found: Vec<Event> = lines::load(&dir.join("alerts.jsonl"));
            found.iter().any(|event| !alerts().contains(event))
        },
    },
    File { name: "syncookies.json", believed: |dir| syncookies::lent_from(dir).is_some() },
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
    row.result(tried, format!("{believed} believed, of 3 files cut or changed"), believed == 0)
        .naive(flips, format!("{naive} changed states believed by JSON alone"), naive > 0)
        .finish();
}

/// People write this one, so it has no seal: it is understood, or what is wrong with it is said.
#[test]
fn a_damaged_configuration_is_understood_or_says_what_is_wrong() {
    const CONFIG: &str = "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\", \"eth1\"]\n\
        [detection]\npoll_ms = 250\n[protect]\nprefixes = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tcpguard.toml");
    let mut random = Random(seed());
    let cuts = (0..CONFIG.len()).map(|length| CONFIG.as_bytes()[..length].to_vec());
    let flipped = (0..size(300, 10_000)).map(|_| random.flipped(CONFIG.as_bytes()));
    let mut refused = 0;
    for damaged in cuts.collect::<Vec<_>>().into_iter().chain(flipped) {
        fs::write(&path, &damaged).unwrap();
        if let Err(error) = config::read(Some(&path), Overrides::default()) {
            refused += 1;
            assert!(error.to_string().contains("tcpguard.toml"), "{error}");
        }
    }
    assert!(refused > 100, "{refused}");
}
