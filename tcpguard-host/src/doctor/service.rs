//! The settings of systemd and of the journal.

use std::collections::BTreeMap;
use std::path::Path;

use super::checks::service::PROPERTIES;
use super::facts::Service;
use crate::drop_ins;
use crate::linux::{service, time_sync};

/// Directories of drop-ins of journald.conf; of two with one name the first directory's counts.
const DROP_INS: [&str; 4] = [
    "etc/systemd/journald.conf.d",
    "run/systemd/journald.conf.d",
    "usr/local/lib/systemd/journald.conf.d",
    "usr/lib/systemd/journald.conf.d",
];
/// Possible paths of the main file; the first that exists counts.
const MAIN: [&str; 3] =
    ["etc/systemd/journald.conf", "run/systemd/journald.conf", "usr/lib/systemd/journald.conf"];
/// Longer than any such file.
const MAX_BYTES: u64 = 1 << 20;

/// The settings of the host whose files are below `root`.
pub fn gather(root: &Path) -> Service {
    // As sd_booted(3) determines it.
    let systemd = root.join("run/systemd/system").is_dir();
    Service {
        systemd,
        unit: if systemd { service::properties(&PROPERTIES) } else { BTreeMap::new() },
        journald: journald(root),
        synchronised: time_sync::is_synchronised(),
    }
}

/// Every setting of journald, and `file:line` where it is set last.
fn journald(root: &Path) -> BTreeMap<String, (String, String)> {
    let main = MAIN.iter().map(|path| root.join(path)).find(|path| path.is_file());
    let mut settings = BTreeMap::new();
    for path in main.into_iter().chain(drop_ins::files(root, &DROP_INS)) {
        if let Some(text) = drop_ins::text(&path, MAX_BYTES) {
            for (line, key, value) in assignments(&text) {
                let place = format!("{}:{line}", path.display());
                settings.insert(key.to_owned(), (place, value.to_owned()));
            }
        }
    }
    settings
}

/// The assignments of a file of systemd's, with their lines counted from 1.
fn assignments(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim();
        if line.starts_with(['#', ';', '[']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        Some((index + 1, key.trim(), value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_assignment_holds_and_a_hidden_file_does_not() {
        let root = tempfile::tempdir().expect("temporary directory");
        for (path, text) in [
            ("etc/systemd/journald.conf", "[Journal]\n#Storage=auto\nStorage=none\nSeal=yes\n"),
            ("etc/systemd/journald.conf.d/50-site.conf", "[Journal]\nStorage = persistent\n"),
            ("usr/lib/systemd/journald.conf.d/50-site.conf", "[Journal]\nSeal=hidden\n"),
            ("usr/lib/systemd/journald.conf.d/10-vendor.conf", "; no\nRateLimitBurst=5\nodd\n"),
            ("usr/lib/systemd/journald.conf", "[Journal]\nSeal=not the first\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            fs::write(path, text).expect("file");
        }
        let settings = journald(root.path());
        let value = |key: &str| settings.get(key).map(|(_, value)| value.as_str());
        assert_eq!(value("Storage"), Some("persistent"));
        assert_eq!(value("Seal"), Some("yes"));
        assert_eq!(value("RateLimitBurst"), Some("5"));
        assert!(settings["Storage"].0.ends_with("50-site.conf:2"), "{settings:?}");
        assert_eq!(settings.len(), 3);
    }
}
