//! Directories with files of settings, as systemd has them: sysctl.d(5), journald.conf.d(5).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The `*.conf` files of these directories below `root`, in the order in which they are applied, that
/// of their names. Of two with one name the first directory's counts. What cannot be read has none.
pub(super) fn files(root: &Path, directories: &[&str]) -> Vec<PathBuf> {
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
