//! A new configuration for a running agent: what of it holds at once, and what a restart brings.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tcpguard_engine::{Severity, Timestamp, thresholds};

use super::guard::Guard;
use crate::config::{
    self, Config, ConfigError, DEFAULT_PATH, Held, Loaded, ModeSource, Origin, Origins, Overrides,
    fragments,
};
use crate::control::{Peer, RefusalKind, Response};
use crate::host::boot_time;
use crate::observe::Alert;
use crate::status::{ConfigFacts, Health};

/// Where the configuration comes from, so that it can be read again, and what became of it.
#[derive(Debug, Default)]
pub struct Provenance {
    /// The file named on the command line; `None`: the default one if it exists.
    file: Option<PathBuf>,
    /// What the command line says in place of the file.
    overrides: Overrides,
    /// When what holds was read.
    loaded: Timestamp,
    /// The files that what holds was read from.
    files: Vec<PathBuf>,
    /// Where the settings that hold come from.
    origins: Origins,
    /// The files that were read last, applied or refused, and when they had been written.
    written: Vec<(PathBuf, Option<SystemTime>)>,
    /// The first mistake of newer files.
    refused: Option<String>,
    /// Keys whose new values wait for a restart.
    waiting: Vec<&'static str>,
}

impl Provenance {
    /// The file named on the command line, if one is, and what else is said there.
    pub fn new(file: Option<PathBuf>, overrides: Overrides) -> Self {
        Self { file, overrides, ..Self::default() }
    }

    /// Reads the configuration that is to hold from the start.
    ///
    /// # Errors
    /// It cannot be read or contains mistakes.
    pub fn load(&mut self) -> Result<Config, ConfigError> {
        let loaded = self.read()?;
        (self.files, self.origins) = (loaded.files, loaded.origins);
        Ok(loaded.config)
    }

    fn read(&mut self) -> Result<Loaded, ConfigError> {
        // Before it is read: what is written meanwhile counts as newer.
        self.written = self.last_written();
        let loaded = config::read(self.file.as_deref(), self.overrides.clone())?;
        self.loaded = boot_time();
        Ok(loaded)
    }

    /// What was read from these files holds from now on, but for what is `waiting` for a restart.
    fn take_over(&mut self, files: Vec<PathBuf>, mut origins: Origins, waiting: &[&'static str]) {
        for key in waiting {
            origins.keep(key, &self.origins);
        }
        (self.files, self.origins) = (files, origins);
        self.refused = None;
        self.waiting = waiting.to_vec();
    }

    fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
    }

    fn last_written(&self) -> Vec<(PathBuf, Option<SystemTime>)> {
        let when = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        // A directory that cannot be read is told when it is.
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

    /// What the status says about it.
    pub fn facts(&self, path: Option<PathBuf>) -> ConfigFacts {
        ConfigFacts { path, loaded: self.loaded, error: self.refused.clone() }
    }

    /// What is to be done about it. A refused file is among the [`Self::facts`].
    pub fn health(&self) -> Vec<Health> {
        let note = |path: &Path, code: &str, text: String, hint: &str| Health {
            code: code.to_owned(),
            severity: crate::status::Severity::Notice,
            subject: Some(path.display().to_string()),
            text,
            hint: hint.to_owned(),
        };
        let mut notes = Vec::new();
        if let Some(path) = self.changed() {
            let file = path.display();
            let text = format!("{file} was changed after it was read: an older one holds");
            notes.push(note(&path, "config_changed", text, "tcpguard reload"));
        }
        if !self.waiting.is_empty() {
            let (keys, path) = (self.waiting.join(", "), self.path());
            let text = format!("only a restart applies {keys} of {}", path.display());
            notes.push(note(path, "config_waits", text, "systemctl restart tcpguard"));
        }
        notes
    }
}

/// What came of a new configuration, by the names of the keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Changes {
    /// Hold from now on.
    applied: Vec<&'static str>,
    /// Hold after a restart.
    waiting: Vec<&'static str>,
}

impl Changes {
    fn apply<T: PartialEq>(&mut self, key: &'static str, running: &mut T, new: T) {
        if *running != new {
            *running = new;
            self.applied.push(key);
        }
    }

    fn wait<T: PartialEq>(&mut self, key: &'static str, running: &T, new: &T) {
        if running != new {
            self.waiting.push(key);
        }
    }

    fn in_words(&self) -> String {
        let mut words = match self.applied.as_slice() {
            [] => "nothing changed".to_owned(),
            keys => format!("applied {}", keys.join(", ")),
        };
        if !self.waiting.is_empty() {
            words += &format!("; only a restart applies {}", self.waiting.join(", "));
        }
        words
    }
}

/// `running` with everything of `new` that a running agent can take over.
fn merge(running: &Config, new: Config) -> (Config, Changes) {
    // Without `..`: whoever adds a key decides here.
    let Config {
        path,
        interfaces,
        xdp_mode,
        interface_modes,
        mode,
        mode_source: _,
        mut settings,
        drop_illegal_flags,
        drop_strays,
        beyond_bounds,
        cookie_backend,
        answers_per_network,
        answers_total,
        protect_prefixes,
        ssh_ports,
        ignore_ports,
        listeners,
        states,
        group,
        metrics_listen,
        runtime_dir: _,
        state_dir: _,
        pin_dir: _,
        bpf_log: _,
    } = new;
    let mut merged = Config { path, ..running.clone() };
    let mut changes = Changes::default();
    // The mode to start with: `tcpguard mode` is what changes the one that holds.
    changes.wait("mode", &running.mode, &mode);
    changes.wait("interfaces.names", &running.interfaces, &interfaces);
    changes.wait("interfaces.xdp_mode", &running.xdp_mode, &xdp_mode);
    changes.wait("interface", &running.interface_modes, &interface_modes);
    // The detector's windows are counted in polls.
    changes.wait("detection.poll_ms", &running.settings.poll, &settings.poll);
    settings.poll = running.settings.poll;
    // The maps are made for so many.
    changes.wait("policy.rules", &running.settings.rules, &settings.rules);
    settings.rules = running.settings.rules;
    for threshold in thresholds() {
        if threshold.get(&running.settings) != threshold.get(&settings) {
            changes.applied.extend(threshold.key);
        }
    }
    merged.settings = settings;
    let drop_illegal = &mut merged.drop_illegal_flags;
    changes.apply("policy.drop_illegal_flags", drop_illegal, drop_illegal_flags);
    changes.apply("policy.drop_strays", &mut merged.drop_strays, drop_strays);
    changes.apply("policy.beyond_bounds", &mut merged.beyond_bounds, beyond_bounds);
    changes.wait("cookies.backend", &running.cookie_backend, &cookie_backend);
    let per_network = &mut merged.answers_per_network;
    changes.apply("cookies.answers_per_network", per_network, answers_per_network);
    changes.apply("cookies.answers_total", &mut merged.answers_total, answers_total);
    changes.apply("protect.prefixes", &mut merged.protect_prefixes, protect_prefixes);
    changes.apply("protect.ssh_ports", &mut merged.ssh_ports, ssh_ports);
    changes.apply("listeners.ignore_ports", &mut merged.ignore_ports, ignore_ports);
    changes.apply("listener", &mut merged.listeners, listeners);
    // The agent does nothing with them; `tcpguard states` reads them.
    changes.apply("states", &mut merged.states, states);
    changes.wait("control.group", &running.group, &group);
    changes.wait("metrics.listen", &running.metrics_listen, &metrics_listen);
    (merged, changes)
}

impl Guard {
    /// Reads the configuration again, as `peer` or a signal asks for, and applies what can be
    /// applied. With a mistake in it, nothing is.
    pub fn reload(&mut self, peer: Option<Peer>) -> Response {
        if peer.is_none() {
            log::info!("SIGHUP: the configuration is read");
        }
        match self.provenance.read() {
            Ok(new) => self.take_over(new),
            Err(error) => self.refuse_config(&error),
        }
    }

    /// What holds, and where each setting comes from.
    pub(super) fn effective(&self) -> Response {
        let mode = self.engine.mode();
        let held = Config { mode, ..self.config.clone() };
        let mut origins = self.provenance.origins.clone();
        let by_command = self.set_mode == Some(mode) && held.mode_source == ModeSource::File;
        if by_command || mode != self.config.mode {
            origins.set("mode", Origin::ModeCommand);
        }
        let (files, settings) = (self.provenance.files.clone(), Held::all(&held, &origins));
        Response::Effective { path: held.path, files, settings }
    }

    fn take_over(&mut self, new: Loaded) -> Response {
        let Loaded { config, files, origins } = new;
        let (merged, changes) = merge(&self.config, config);
        if let Err(error) = self.engine.set_settings(merged.tuning()) {
            let text = format!(
                "the thresholds contradict each other: {error}; mend them, then: tcpguard config check"
            );
            return self.refuse(text.clone(), text);
        }
        self.config = merged;
        super::guard::apply_policy(&mut self.executor.config, &self.config);
        let kernel = self.executor.dataplane.set_config(&self.executor.config);
        // What is ignored is looked at in each poll.
        if let Err(error) = kernel.map_err(Into::into).and_then(|()| self.protect(boot_time())) {
            // Both are tried again: at the next poll, and when the protected set is read again.
            log::error!("{error:#}");
        }
        self.provenance.take_over(files, origins, &changes.waiting);
        let path = self.provenance.path().display();
        let message = format!("configuration {path} read: {}", changes.in_words());
        self.tell(Severity::Notice, "config_reloaded", message);
        let names = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Response::Reloaded { applied: names(&changes.applied), waiting: names(&changes.waiting) }
    }

    fn refuse_config(&mut self, error: &ConfigError) -> Response {
        let first = match error {
            ConfigError::Unreadable { .. } => error.to_string(),
            ConfigError::Invalid { problems, .. } => {
                for problem in problems {
                    log::error!("{problem}");
                }
                let more = match problems.len() {
                    0 | 1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                let first = problems.first().map_or_else(String::new, ToString::to_string);
                first + &more
            }
        };
        self.refuse(first, error.to_string())
    }

    /// Keeps the configuration that holds. `first` is one line, `all` may be several.
    fn refuse(&mut self, first: String, all: String) -> Response {
        let message = format!(
            "the configuration was refused, the one before holds: {first}; see all that is wrong: \
             tcpguard config check"
        );
        self.provenance.refused = Some(first);
        self.tell(Severity::Warning, "config_refused", message);
        Response::refused(RefusalKind::Invalid, all)
    }

    /// Raises an alert of the agent's own.
    pub(super) fn tell(&mut self, severity: Severity, event: &str, message: String) {
        self.tell_of_interfaces(severity, event, message, Vec::new());
    }

    /// Raises one that is about interfaces.
    pub(super) fn tell_of_interfaces(
        &mut self,
        severity: Severity,
        event: &str,
        message: String,
        interfaces: Vec<String>,
    ) {
        let (event, prefix, incident) = (event.to_owned(), None, None);
        self.raise(&Alert { severity, event, message, prefix, interfaces, incident });
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::Settings;

    use super::*;

    fn parsed(text: &str) -> Config {
        config::parse(Path::new("x.toml"), text, Overrides::default()).unwrap()
    }

    #[test]
    fn what_can_change_is_applied_and_what_cannot_is_named() {
        let running = parsed("");
        let new = parsed(
            "mode = \"enforce\"\n\
             [interfaces]\nnames = [\"eth9\"]\nxdp_mode = \"generic\"\n\
             [detection]\npoll_ms = 100\nfast_min = 128\n\
             [gate]\ndrop_items = 4\n\
             [policy]\ndrop_illegal_flags = true\ndrop_strays = true\nrules = 4096\n\
             beyond_bounds = \"drop\"\n\
             [cookies]\nanswers_per_network = 10\nanswers_total = 1000\n\
             [protect]\nprefixes = [\"192.0.2.0/24\"]\nssh_ports = [2222]\n\
             [listeners]\nignore_ports = [8080]\n\
             [states]\nsyn_recv = 30\n\
             [control]\ngroup = \"adm\"\n\
             [metrics]\nlisten = \"127.0.0.1:9469\"\n\
             [[interface]]\nname = \"eth9\"\nxdp_mode = \"native\"\n\
             [[listener]]\nat = \":25\"\nmode = \"observe\"\n",
        );
        let (merged, changes) = merge(&running, new.clone());
        assert_eq!(
            changes.applied,
            [
                "detection.fast_min",
                "gate.drop_items",
                "policy.drop_illegal_flags",
                "policy.drop_strays",
                "policy.beyond_bounds",
                "cookies.answers_per_network",
                "cookies.answers_total",
                "protect.prefixes",
                "protect.ssh_ports",
                "listeners.ignore_ports",
                "listener",
                "states"
            ]
        );
        assert_eq!(
            changes.waiting,
            [
                "mode",
                "interfaces.names",
                "interfaces.xdp_mode",
                "interface",
                "detection.poll_ms",
                "policy.rules",
                "control.group",
                "metrics.listen"
            ]
        );
        let expected = Config {
            mode: running.mode,
            interfaces: running.interfaces.clone(),
            xdp_mode: running.xdp_mode,
            interface_modes: running.interface_modes.clone(),
            group: running.group.clone(),
            metrics_listen: running.metrics_listen,
            settings: Settings {
                poll: running.settings.poll,
                rules: running.settings.rules,
                ..new.settings
            },
            ..new
        };
        assert_eq!(merged, expected);
    }

    #[test]
    fn the_same_configuration_changes_nothing() {
        let running = parsed("[detection]\nfast_min = 99\n");
        let (merged, changes) = merge(&running, running.clone());
        assert_eq!((merged, changes.in_words().as_str()), (running, "nothing changed"));
    }

    /// A directory with a configuration and one file beside it, read once.
    struct Etc {
        dir: tempfile::TempDir,
        provenance: Provenance,
    }

    impl Etc {
        fn new(main: &str, part: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("tcpguard.toml");
            std::fs::create_dir(dir.path().join("conf.d")).unwrap();
            std::fs::write(&file, main).unwrap();
            let provenance = Provenance::new(Some(file), Overrides::default());
            let mut etc = Self { dir, provenance };
            etc.write("conf.d/10-web.toml", part);
            etc.provenance.load().unwrap();
            etc
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        /// Where a setting comes from, without the directory.
        fn origin(&self, key: &str) -> String {
            let origin = self.provenance.origins.get(key).to_string();
            origin.replace(&format!("{}/", self.dir.path().display()), "")
        }

        fn notes(&self) -> Vec<(String, Option<String>)> {
            let health = self.provenance.health().into_iter();
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
    fn what_is_read_again_takes_the_place_of_what_was_but_for_what_waits() {
        let main = "mode = \"observe\"\n[interfaces]\nnames = [\"eth0\"]\n";
        let mut etc = Etc::new(main, "[gate]\ndrop_items = 4\n");
        let running = etc.provenance.load().unwrap();
        assert_eq!(etc.origin("gate.drop_items"), "conf.d/10-web.toml:2");

        let part = "mode = \"enforce\"\n\n[gate]\ndrop_items = 5\n\
                    [[listener]]\nat = \":25\"\nmode = \"off\"\n";
        etc.write("conf.d/10-web.toml", part);
        let Loaded { config, files, origins } = etc.provenance.read().unwrap();
        let (merged, changes) = merge(&running, config);
        etc.provenance.take_over(files, origins, &changes.waiting);
        assert_eq!(changes.applied, ["gate.drop_items", "listener"]);
        assert_eq!(changes.waiting, ["mode"]);
        assert_eq!((merged.settings.gate_drop, merged.mode), (5, running.mode));
        assert_eq!(etc.origin("gate.drop_items"), "conf.d/10-web.toml:4");
        assert_eq!(etc.origin("listener[\":25\"].mode"), "conf.d/10-web.toml:7");
        assert_eq!(etc.origin("mode"), "tcpguard.toml:1", "the new one waits");
        let waits =
            ("config_waits".to_owned(), Some(etc.path("tcpguard.toml").display().to_string()));
        assert_eq!(etc.notes(), [waits]);
    }

    #[test]
    fn a_mistake_beside_the_main_file_leaves_everything_as_it_was() {
        let mut etc = Etc::new("mode = \"observe\"\n", "[gate]\ndrop_items = 4\n");
        let (files, origins) = (etc.provenance.files.clone(), etc.provenance.origins.clone());
        etc.write("conf.d/10-web.toml", "[gate]\ndrop_items = 40\n");
        let error = etc.provenance.read().unwrap_err().to_string();
        let place = format!("{}:2:14: gate.drop_items: ", etc.path("conf.d/10-web.toml").display());
        assert!(error.starts_with(&place), "{error}");
        assert_eq!((&etc.provenance.files, &etc.provenance.origins), (&files, &origins));
        assert_eq!(etc.notes(), [], "that it was refused is said, not that it was changed");
        assert_eq!(files.len(), 2);
    }
}
