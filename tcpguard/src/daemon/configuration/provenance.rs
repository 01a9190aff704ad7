//! Source of the configuration of an agent: the files, or, where a start finds mistakes in them, the
//! last valid one.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tcpguard_engine::Timestamp;
use tcpguard_host::finding::Finding;
use tcpguard_host::hint::Hint;
use tcpguard_host::linux::boot_time;
use tcpguard_host::time::{Clock, Time};

use super::kept_config::KeptConfig;
use crate::config::{
    Config, ConfigError, DEFAULT_PATH, DEFAULT_STATE_DIR, Loaded, Origins, Overrides, Problem,
    Sources, fragments,
};
use crate::documents::{AgentEvent, ConfigState};

/// Source of the configuration, so that it can be read again, and the outcome of the last read.
#[derive(Debug, Default)]
pub struct Provenance {
    /// The file named on the command line; `None`: the default one if it exists.
    file: Option<PathBuf>,
    /// Settings that the command line gives instead of the file.
    overrides: Overrides,
    /// Time at which the effective configuration was read.
    loaded: Timestamp,
    /// The files that the effective configuration was read from.
    pub(in crate::daemon) files: Vec<PathBuf>,
    /// Source of each effective setting.
    pub(in crate::daemon) origins: Origins,
    /// The files that were read last, applied or refused, and when they had been written.
    written: Vec<(PathBuf, Option<SystemTime>)>,
    /// The first mistake of newer files.
    pub(in crate::daemon) refused: Option<String>,
    /// Time at which the last valid configuration was read, if it is effective because the start refused
    /// the files.
    stands_in: Option<Time>,
    /// The effective configuration that the start read, until it is kept.
    unkept: Option<KeptConfig>,
    /// Keys whose new values wait for a restart.
    waiting: Vec<String>,
}

/// A configuration that may hold.
#[derive(Debug)]
pub(in crate::daemon) struct Read {
    pub loaded: Loaded,
    /// The record to keep once the configuration is effective.
    pub kept: KeptConfig,
}

/// Reason for which a start or a reload refuses the content of the files.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The files cannot be read, or contain mistakes.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// With them there would be nothing to do.
    #[error("no interface to protect")]
    NoInterface { path: PathBuf },
}

impl Hint for Refused {
    fn hint(&self) -> String {
        match self {
            Self::Config(error) => error.hint(),
            Self::NoInterface { path } => format!(
                "name one with -i, or in {} ([interfaces] names = [\"eth0\"])",
                path.display()
            ),
        }
    }
}

impl Refused {
    /// One line, with the first mistake.
    pub fn in_brief(&self) -> String {
        match self {
            Self::Config(error) => error.in_brief(),
            Self::NoInterface { .. } => self.to_string(),
        }
    }

    /// All mistakes that have a position in a file.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Config(ConfigError::Invalid { problems, .. }) => problems,
            _ => &[],
        }
    }
}

impl Provenance {
    /// A configuration from the file named on the command line, if there is one, and from the other
    /// options given there.
    pub fn new(file: Option<PathBuf>, overrides: Overrides) -> Self {
        // Absolute, so that it is found from any directory. A path that cannot be made absolute is reported when it is
        // read.
        let file = file.map(|file| std::path::absolute(&file).unwrap_or(file));
        Self { file, overrides, ..Self::default() }
    }

    /// Reads the configuration for the start: that of the files, or, if it is refused, the last valid
    /// one.
    ///
    /// # Errors
    /// It is refused, and there never was a valid one.
    pub fn load(&mut self) -> Result<Config, Refused> {
        match self.read() {
            Ok(Read { loaded, kept }) => {
                self.unkept = Some(kept);
                Ok(self.begin(loaded))
            }
            Err(refused) => self.stand_in(refused),
        }
    }

    fn begin(&mut self, loaded: Loaded) -> Config {
        (self.files, self.origins) = (loaded.files, loaded.origins);
        loaded.config
    }

    /// The last valid configuration instead of the `refused` one.
    fn stand_in(&mut self, refused: Refused) -> Result<Config, Refused> {
        let dir = self.overrides.state_dir.as_deref().unwrap_or(Path::new(DEFAULT_STATE_DIR));
        let Some(kept) = KeptConfig::load(dir, self.path()) else { return Err(refused) };
        let read_at = kept.read_at;
        match kept.sources().resolve(self.overrides.clone()) {
            Ok(loaded) if !loaded.config.interfaces.names.is_empty() => {
                for problem in refused.problems() {
                    log::error!("{problem}");
                }
                self.refused = Some(refused.in_brief());
                self.stands_in = Some(read_at);
                self.loaded = boot_time();
                Ok(self.begin(loaded))
            }
            Ok(_) => Err(refused),
            Err(error) => {
                log::warn!(
                    "last valid configuration, of {read_at}, refused by this version: {}",
                    error.in_brief()
                );
                Err(refused)
            }
        }
    }

    /// The configuration that was read at the start and is to be kept.
    pub(in crate::daemon) fn unkept(&mut self) -> Option<KeptConfig> {
        self.unkept.take()
    }

    /// The event of a start with the last valid configuration; `None` after an ordinary start.
    pub(in crate::daemon) fn refused_at_start(&self) -> Option<AgentEvent> {
        let (error, read_at) = (self.refused.clone()?, self.stands_in?);
        Some(AgentEvent::ConfigRefused { error, valid_from: Some(read_at) })
    }

    pub(in crate::daemon) fn read(&mut self) -> Result<Read, Refused> {
        // Before the files are read: a write during the read counts as newer.
        self.written = self.last_written();
        let sources = Sources::read(self.file.as_deref())?;
        let loaded = sources.resolve(self.overrides.clone())?;
        if loaded.config.interfaces.names.is_empty() {
            return Err(Refused::NoInterface { path: sources.main });
        }
        self.loaded = boot_time();
        let kept = KeptConfig::of(&sources, Time(jiff::Timestamp::now()));
        Ok(Read { loaded, kept })
    }

    /// Makes the configuration from these files effective, except the keys that are `waiting` for a
    /// restart.
    pub(in crate::daemon) fn take_over(
        &mut self,
        files: Vec<PathBuf>,
        mut origins: Origins,
        waiting: &[String],
    ) {
        for key in waiting {
            origins.keep(key, &self.origins);
        }
        (self.files, self.origins) = (files, origins);
        (self.refused, self.stands_in) = (None, None);
        self.waiting = waiting.to_vec();
    }

    pub(in crate::daemon) fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
    }

    fn last_written(&self) -> Vec<(PathBuf, Option<SystemTime>)> {
        let when = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        // A directory that cannot be read is reported when it is read.
        let parts = fragments::list(self.path()).unwrap_or_default();
        let all = std::iter::once(self.path().to_path_buf()).chain(parts);
        all.map(|path| (path.clone(), when(&path))).collect()
    }

    /// The first file that is not as it was when it was read.
    fn changed(&self) -> Option<PathBuf> {
        let now = self.last_written();
        let news = now.iter().find(|file| !self.written.contains(file));
        let gone = || self.written.iter().find(|file| !now.contains(file));
        news.or_else(gone).map(|(path, _)| path.clone())
    }

    /// The facts about the configuration for the status.
    pub fn facts(&self, path: Option<&Path>, clock: Clock) -> ConfigState {
        ConfigState {
            path: path.map(|path| path.display().to_string()),
            loaded_at: clock.time_at(self.loaded),
            valid: self.refused.is_none(),
            error: self.refused.clone(),
            stands_in: self.stands_in,
        }
    }

    /// The notes about files that call for action. A refused file is among the [`Self::facts`]. Where `mode_is_set` by an
    /// operator, that of the files does not wait for anything.
    pub fn health(&self, mode_is_set: bool) -> Vec<Finding> {
        let note = |path: &Path, code: &str, text: String, hint: &str| {
            Finding::notice(code, text).about(path.display().to_string()).hint(hint)
        };
        let mut notes = Vec::new();
        if let Some(path) = self.changed() {
            let file = path.display();
            let text =
                format!("{file} changed after it was read, the previous content still applies");
            notes.push(note(&path, "config_changed", text, "tcpguard reload"));
        }
        let waits = self.waiting.iter().filter(|key| !(mode_is_set && *key == "mode"));
        let keys: Vec<&str> = waits.map(String::as_str).collect();
        if !keys.is_empty() {
            let text = format!("new values wait for a restart: {}", keys.join(", "));
            notes.push(note(self.path(), "config_waits", text, "systemctl restart tcpguard"));
        }
        notes
    }
}

#[cfg(test)]
pub(in crate::daemon) mod tests {
    use super::super::kept_config;
    use super::*;

    /// A directory with a configuration and one file beside it, read once.
    pub struct Etc {
        dir: tempfile::TempDir,
        pub provenance: Provenance,
    }

    impl Etc {
        pub fn new(main: &str, part: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("tcpguard.toml");
            std::fs::create_dir(dir.path().join("conf.d")).unwrap();
            std::fs::write(&file, main).unwrap();
            let overrides = Overrides {
                interfaces: vec!["eth0".to_owned()],
                state_dir: Some(dir.path().join("state")),
                ..Overrides::default()
            };
            let provenance = Provenance::new(Some(file), overrides);
            let mut etc = Self { dir, provenance };
            etc.write("conf.d/10-web.toml", part);
            etc.provenance.load().unwrap();
            etc
        }

        pub fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        pub fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        /// Returns the source of a setting, without the directory.
        pub fn origin(&self, key: &str) -> String {
            let origin = self.provenance.origins.get(key).to_string();
            origin.replace(&format!("{}/", self.dir.path().display()), "")
        }

        pub fn notes(&self) -> Vec<(String, Option<String>)> {
            let health = self.provenance.health(false).into_iter();
            health.map(|note| (note.code, note.subject)).collect()
        }
    }

    #[test]
    fn a_file_written_after_it_was_read_is_noticed_wherever_it_is() {
        let changed =
            |path: PathBuf| vec![("config_changed".to_owned(), Some(path.display().to_string()))];
        for name in ["tcpguard.toml", "conf.d/10-web.toml"] {
            let etc = Etc::new("", "");
            assert_eq!(etc.notes(), []);
            let later = SystemTime::now() + std::time::Duration::from_secs(1);
            std::fs::File::open(etc.path(name)).unwrap().set_modified(later).unwrap();
            assert_eq!(etc.notes(), changed(etc.path(name)));
        }
        let etc = Etc::new("", "");
        etc.write("conf.d/20-more.toml", "");
        assert_eq!(etc.notes(), changed(etc.path("conf.d/20-more.toml")), "a new one");
        let etc = Etc::new("", "");
        std::fs::remove_file(etc.path("conf.d/10-web.toml")).unwrap();
        assert_eq!(etc.notes(), changed(etc.path("conf.d/10-web.toml")), "one that has gone");
    }

    #[test]
    fn a_mistake_beside_the_main_file_leaves_everything_as_it_was() {
        let mut etc = Etc::new("mode = \"observe\"\n", "[detection]\nclear_s = 60\n");
        let (files, origins) = (etc.provenance.files.clone(), etc.provenance.origins.clone());
        etc.write("conf.d/10-web.toml", "[detection]\nclear_s = 4\n");
        let error = etc.provenance.read().unwrap_err().to_string();
        let place =
            format!("{}:2:11: detection.clear_s: ", etc.path("conf.d/10-web.toml").display());
        assert!(error.starts_with(&place), "{error}");
        assert_eq!((&etc.provenance.files, &etc.provenance.origins), (&files, &origins));
        assert_eq!(etc.notes(), [], "that it was refused is said, not that it was changed");
        assert_eq!(files.len(), 2);
    }

    /// Starts again after a start with `valid` files, of which the main one is `broken` now.
    fn started_over(valid: &str, broken: &str) -> (Etc, Result<Config, Refused>) {
        let mut etc = Etc::new(valid, "[detection]\nclear_s = 60\n");
        let kept = etc.provenance.unkept().expect("what was valid");
        kept_config::store(&etc.path("state"), &kept).unwrap();
        etc.write("tcpguard.toml", broken);
        let (file, overrides) =
            (etc.provenance.file.clone(), std::mem::take(&mut etc.provenance.overrides));
        etc.provenance = Provenance::new(file, overrides);
        let config = etc.provenance.load();
        (etc, config)
    }

    #[test]
    fn a_start_with_a_mistake_takes_the_last_valid_configuration_until_it_is_corrected() {
        let valid = "[metrics]\nlisten = \"127.0.0.1:9469\"\n[detection]\nclear_s = 45\n";
        let (mut etc, config) = started_over(valid, &format!("{valid}mode = \"enforce\"\n"));
        let config = config.expect("the last valid one");
        assert_eq!(config.settings.quiet.as_secs(), 60, "with the file beside it");
        assert_eq!(etc.origin("metrics.listen"), "tcpguard.toml:2");
        let facts = etc.provenance.facts(
            config.path.as_deref(),
            Clock { now: boot_time(), wall: jiff::Timestamp::now() },
        );
        let place = format!("{}:5:1: ", etc.path("tcpguard.toml").display());
        let error = facts.error.expect("what is wrong");
        assert!(error.starts_with(&place), "{error}");
        assert!(error.ends_with("mode belongs above the first [section]"), "{error}");
        assert!(facts.stands_in.is_some());
        let valid_from = facts.stands_in;
        let event = AgentEvent::ConfigRefused { error, valid_from };
        assert_eq!(etc.provenance.refused_at_start(), Some(event));
        assert_eq!(etc.provenance.unkept(), None, "it is there already");

        etc.write("tcpguard.toml", valid);
        let Read { loaded, .. } = etc.provenance.read().unwrap();
        etc.provenance.take_over(loaded.files, loaded.origins, &[]);
        let facts = etc.provenance.facts(
            config.path.as_deref(),
            Clock { now: boot_time(), wall: jiff::Timestamp::now() },
        );
        assert_eq!((facts.error, facts.stands_in), (None, None));
        assert_eq!(etc.provenance.refused_at_start(), None);
    }

    #[test]
    fn without_a_valid_configuration_ever_a_start_is_refused() {
        let mut etc = Etc::new("", "");
        etc.write("tcpguard.toml", "mod = 1\n");
        let error = etc.provenance.load().unwrap_err();
        assert_eq!(error.problems().len(), 1, "{error}");
        // A damaged one is none.
        let (etc, config) = started_over("", "mod = 1\n");
        config.expect("the last valid one");
        let path = etc.path("state/config.json");
        let mut damaged = std::fs::read(&path).unwrap();
        damaged.pop();
        std::fs::write(&path, damaged).unwrap();
        let overrides = etc.provenance.overrides.clone();
        let mut next = Provenance::new(etc.provenance.file.clone(), overrides);
        next.load().unwrap_err();
        assert!(!path.exists(), "it is set aside");
    }

    #[test]
    fn files_that_no_longer_name_an_interface_are_refused_too() {
        let valid = "[interfaces]\nnames = [\"eth0\"]\n";
        let mut etc = Etc::new(valid, "");
        etc.provenance.overrides.interfaces.clear();
        etc.provenance.load().unwrap();
        let kept = etc.provenance.unkept().unwrap();
        kept_config::store(&etc.path("state"), &kept).unwrap();
        // A file truncated by an editor when the disk was full.
        etc.write("tcpguard.toml", "");
        assert!(matches!(etc.provenance.read(), Err(Refused::NoInterface { .. })));
        let config = etc.provenance.load().expect("the last valid one");
        assert_eq!(config.interfaces.names, ["eth0"]);
        std::fs::remove_file(etc.path("tcpguard.toml")).unwrap();
        assert_eq!(etc.provenance.load().expect("the last valid one").interfaces.names, ["eth0"]);
    }
}
