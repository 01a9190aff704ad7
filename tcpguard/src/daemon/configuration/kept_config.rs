//! The last valid configuration, kept for a start that finds mistakes in a newer one: a mistyped key must
//! not cost a host its protection.
//!
//! The texts are kept instead of the parsed values. An agent of another version reads them as it reads
//! the files, and the origin of each setting is known.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tcpguard_host::durable::seal::{self, Damage};
use tcpguard_host::time::Time;

use crate::config::Sources;
use crate::daemon::store::writer::Writer;

const NAME: &str = "config.json";
const SCHEMA: &str = "tcpguard.config/1";
/// Longer than any configuration: 16,384 listeners of their own have 4 MB.
const MAX_BYTES: u64 = 64 << 20;

/// The content of the file.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct KeptConfig {
    /// Time at which it was read and found valid.
    pub read_at: Time,
    /// The main file, whether or not there was one.
    main: PathBuf,
    /// Every file, in the order in which they count.
    files: Vec<KeptFile>,
}

/// One file of the configuration.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
struct KeptFile {
    path: PathBuf,
    text: String,
}

impl KeptConfig {
    /// Valid `sources`, which are text.
    pub fn of(sources: &Sources, read_at: Time) -> Self {
        let files = sources.files.iter().map(|(path, bytes)| KeptFile {
            path: path.clone(),
            text: String::from_utf8_lossy(bytes).into_owned(),
        });
        Self { read_at, main: sources.main.clone(), files: files.collect() }
    }

    /// The configuration files as they were kept.
    pub fn sources(self) -> Sources {
        let files = self.files.into_iter().map(|file| (file.path, file.text.into_bytes()));
        Sources { main: self.main, files: files.collect() }
    }

    /// The one in the state directory `dir` that was read from the main file `main`; `None` where there is
    /// none. A damaged file is set aside with one line.
    pub fn load(dir: &Path, main: &Path) -> Option<Self> {
        let path = dir.join(NAME);
        let kept = seal::document::<Self>(&path, MAX_BYTES, SCHEMA);
        let damage = |damage: Damage| {
            damage.report(&path, "There is no earlier configuration to fall back on");
        };
        kept.map_err(damage).ok().filter(|kept| kept.main == main)
    }
}

pub(in crate::daemon) fn store(dir: &Path, kept: &KeptConfig) -> io::Result<()> {
    seal::store(&dir.join(NAME), 0o600, SCHEMA, kept)
}

/// Writer of the last valid configuration.
#[derive(Debug)]
pub struct ConfigFile {
    writer: Writer<KeptConfig>,
    /// The configuration that is, or should be, in the file.
    newest: Option<KeptConfig>,
}

impl ConfigFile {
    /// Writes into the state directory `dir`.
    pub fn start(dir: &Path) -> io::Result<Self> {
        let lost = "fallback configuration";
        let writer = Writer::start("config", dir.to_owned(), store, lost)?;
        Ok(Self { writer, newest: None })
    }

    /// Keeps a configuration that holds from now on.
    pub fn keep(&mut self, valid: KeptConfig) {
        self.writer.write(valid.clone());
        self.newest = Some(valid);
    }

    /// Retries a configuration that the last write did not get to the disk.
    pub fn try_again(&self) {
        if let (Some(_), Some(newest)) = (self.writer.trouble(), &self.newest) {
            self.writer.write(newest.clone());
        }
    }
}

#[cfg(test)]
pub(in crate::daemon) mod tests {
    use super::*;
    use crate::config::Overrides;

    /// The one that was kept of a file with this text.
    pub fn kept(main: &Path, text: &str) -> KeptConfig {
        let files = vec![(main.to_owned(), text.into())];
        KeptConfig::of(&Sources { main: main.to_owned(), files }, Time(jiff::Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn what_was_kept_means_what_it_meant_and_is_for_its_own_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let main = Path::new("/etc/tcpguard/tcpguard.toml");
        assert_eq!(KeptConfig::load(dir.path(), main), None);
        let whole = kept(main, "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n");
        store(dir.path(), &whole).unwrap();
        assert_eq!(KeptConfig::load(dir.path(), Path::new("/tmp/other.toml")), None);
        let found = KeptConfig::load(dir.path(), main).expect("kept");
        assert_eq!(found, whole);
        let loaded = found.sources().resolve(Overrides::default()).unwrap();
        assert_eq!((loaded.config.path.as_deref(), loaded.files.len()), (Some(main), 1));
        assert_eq!(loaded.config.interfaces.names, ["eth0"]);
        assert_eq!(loaded.origins.get("mode").to_string(), "/etc/tcpguard/tcpguard.toml:1");
    }
}
