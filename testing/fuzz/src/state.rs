//! Files of an earlier agent: whatever they contain, a start understands them or does without.

use std::fs;
use std::path::PathBuf;

use tcpguard::daemon::stored::Stored;
use tcpguard::documents::selftest::Host;
use tcpguard_engine::{Limits, Timestamp};
use tcpguard_host::durable::seal;
use tcpguard_host::time::Clock;
use tempfile::TempDir;

/// First bytes from which on the rest of an input is the file as it is, and no content to be sealed.
const UNSEALED: u8 = 0xf0;
/// Names of the files in the state directory; the first byte of an input chooses one.
const FILES: [&str; 7] = [
    "state.json",
    "incidents.jsonl",
    "alerts.jsonl",
    "timelines/7.json",
    "syncookies.json",
    "selftest.json",
    "config.json",
];

/// The input after its first byte is the content of the file, or the whole file with the line of the seal.
///
/// # Panics
/// When a start panics, or takes over a state that no agent can have left.
pub fn state(input: &[u8]) {
    let Some((file, content)) = input.split_first() else { return };
    let name = FILES[usize::from(*file) % FILES.len()];
    let dir = directory();
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap_or(dir.path())).expect("a directory");
    let sealed = if *file < UNSEALED { seal::sealed(content) } else { content.to_vec() };
    fs::write(&path, sealed).expect("a file");
    // In the year in which the files of the corpus were written.
    let wall = jiff::Timestamp::from_second(1_790_000_000).expect("a time");
    let clock = Clock { now: Timestamp::from_millis(1_000_000), wall };
    let host = Host { kernel: String::new(), objects: String::new(), sysctls: Default::default() };
    let stored = Stored::read(dir.path(), &clock, &host);
    let report = stored.engine.report(clock.now);
    assert!(stored.state || (report.rules.is_empty() && report.allowed.is_empty()), "{stored:?}");
    for rule in stored.engine.rules(clock.now) {
        assert!(rule.expires.since(clock.now) <= Limits::MAX_MANUAL_RULE, "{rule:?}");
    }
    if stored.state {
        assert!(path.exists(), "what was understood is there for the next start");
    }
}

/// On a file system in memory where there is one: a run writes a file or two.
fn directory() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}
