//! Directories with files of settings, as systemd has them: sysctl.d(5).

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The `*.conf` files of these directories below `root`, in the order in which they are applied, which is
/// that of their names. Of two with one name the first directory's counts. An unreadable directory has no
/// files.
pub(crate) fn files(root: &Path, directories: &[&str]) -> Vec<PathBuf> {
    let mut files = BTreeMap::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(root.join(directory)) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "conf")
                && let Some(name) = path.file_name()
            {
                files.entry(name.to_owned()).or_insert(path);
            }
        }
    }
    files.into_values().collect()
}

/// The text of one of them, up to `most` bytes; `None` where it cannot be read. Links are followed:
/// these directories are root's, and systemd links files in them to elsewhere.
pub(crate) fn text(path: &Path, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
