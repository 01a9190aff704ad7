//! A new configuration for a running agent: what of it holds at once, and what a restart brings.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tcpguard_engine::{Severity, Timestamp, thresholds};

use super::guard::Guard;
use crate::config::{self, Config, ConfigError, DEFAULT_PATH, Overrides};
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
    /// When the file that was read last, applied or refused, had been written.
    written: Option<SystemTime>,
    /// The first mistake of a newer file.
    refused: Option<String>,
    /// Keys whose new values wait for a restart.
    waiting: Vec<&'static str>,
}

impl Provenance {
    /// The file named on the command line, if one is, and what else is said there.
    pub fn new(file: Option<PathBuf>, overrides: Overrides) -> Self {
        Self { file, overrides, ..Self::default() }
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// It cannot be read or contains mistakes.
    pub fn load(&mut self) -> Result<Config, ConfigError> {
        // Before it is read: what is written meanwhile counts as newer.
        self.written = self.last_written();
        let config = config::load(self.file.as_deref(), self.overrides.clone())?;
        self.loaded = boot_time();
        Ok(config)
    }

    fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
    }

    fn last_written(&self) -> Option<SystemTime> {
        std::fs::metadata(self.path()).and_then(|file| file.modified()).ok()
    }

    /// What the status says about it.
    pub fn facts(&self, path: Option<PathBuf>) -> ConfigFacts {
        ConfigFacts { path, loaded: self.loaded, error: self.refused.clone() }
    }

    /// What is to be done about it. A refused file is among the [`Self::facts`].
    pub fn health(&self) -> Vec<Health> {
        let path = self.path().display().to_string();
        let note = |code: &str, text: String, hint: &str| Health {
            code: code.to_owned(),
            severity: crate::status::Severity::Notice,
            subject: Some(path.clone()),
            text,
            hint: hint.to_owned(),
        };
        let mut notes = Vec::new();
        if self.last_written() != self.written {
            let text = format!("{path} was changed after it was read: an older one holds");
            notes.push(note("config_changed", text, "tcpguard reload"));
        }
        if !self.waiting.is_empty() {
            let text = format!("only a restart applies {} of {path}", self.waiting.join(", "));
            notes.push(note("config_waits", text, "systemctl restart tcpguard"));
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
        mode,
        mode_source: _,
        mut settings,
        drop_illegal_flags,
        drop_strays,
        cookie_backend,
        answers_per_network,
        answers_total,
        protect_prefixes,
        ssh_ports,
        ignore_ports,
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
    // The detector's windows are counted in polls.
    changes.wait("detection.poll_ms", &running.settings.poll, &settings.poll);
    settings.poll = running.settings.poll;
    for threshold in thresholds() {
        if threshold.get(&running.settings) != threshold.get(&settings) {
            changes.applied.extend(threshold.key);
        }
    }
    merged.settings = settings;
    let drop_illegal = &mut merged.drop_illegal_flags;
    changes.apply("policy.drop_illegal_flags", drop_illegal, drop_illegal_flags);
    changes.apply("policy.drop_strays", &mut merged.drop_strays, drop_strays);
    changes.wait("cookies.backend", &running.cookie_backend, &cookie_backend);
    let per_network = &mut merged.answers_per_network;
    changes.apply("cookies.answers_per_network", per_network, answers_per_network);
    changes.apply("cookies.answers_total", &mut merged.answers_total, answers_total);
    changes.apply("protect.prefixes", &mut merged.protect_prefixes, protect_prefixes);
    changes.apply("protect.ssh_ports", &mut merged.ssh_ports, ssh_ports);
    changes.apply("listeners.ignore_ports", &mut merged.ignore_ports, ignore_ports);
    changes.wait("control.group", &running.group, &group);
    changes.wait("metrics.listen", &running.metrics_listen, &metrics_listen);
    (merged, changes)
}

impl Guard {
    /// Reads the configuration again, as `peer` or a signal asks for, and applies what can be
    /// applied. With a mistake in it, nothing is.
    pub fn reload(&mut self, peer: Option<Peer>) -> Response {
        match peer {
            Some(peer) => log::info!("uid {} asks for the configuration to be read", peer.uid),
            None => log::info!("SIGHUP: the configuration is read"),
        }
        match self.provenance.load() {
            Ok(new) => self.take_over(new),
            Err(error) => self.refuse_config(&error),
        }
    }

    fn take_over(&mut self, new: Config) -> Response {
        let (merged, changes) = merge(&self.config, new);
        if let Err(error) = self.engine.set_settings(merged.settings.clone()) {
            let text = format!(
                "the thresholds contradict each other: {error}; mend them, then: tcpguard config check"
            );
            return self.refuse(text.clone(), text);
        }
        self.config = merged;
        super::guard::apply_policy(&mut self.executor.config, &self.config);
        let kernel = self.executor.dataplane.set_config(&self.executor.config);
        // Ignored ports are looked at in each poll.
        if let Err(error) = kernel.map_err(Into::into).and_then(|()| self.protect()) {
            // Both are tried again: at the next poll, and when the protected set is read again.
            log::error!("{error:#}");
        }
        self.provenance.refused = None;
        self.provenance.waiting.clone_from(&changes.waiting);
        let path = self.provenance.path().display();
        let message = format!("configuration {path} read: {}", changes.in_words());
        self.tell(Severity::Notice, "config_reloaded", message);
        let names = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Response::Reloaded { applied: names(&changes.applied), waiting: names(&changes.waiting) }
    }

    fn refuse_config(&mut self, error: &ConfigError) -> Response {
        let first = match error {
            ConfigError::Unreadable { .. } => error.to_string(),
            ConfigError::Invalid { path, problems } => {
                let place = path.display();
                for problem in problems {
                    log::error!("{place}:{}: {}", problem.line, problem.text);
                }
                let more = match problems.len() {
                    0 | 1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                let first = problems.first().map_or_else(String::new, |problem| {
                    format!("{place}:{}: {}", problem.line, problem.text)
                });
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
             [policy]\ndrop_illegal_flags = true\ndrop_strays = true\n\
             [cookies]\nanswers_per_network = 10\nanswers_total = 1000\n\
             [protect]\nprefixes = [\"192.0.2.0/24\"]\nssh_ports = [2222]\n\
             [listeners]\nignore_ports = [8080]\n\
             [control]\ngroup = \"adm\"\n\
             [metrics]\nlisten = \"127.0.0.1:9469\"\n",
        );
        let (merged, changes) = merge(&running, new.clone());
        assert_eq!(
            changes.applied,
            [
                "detection.fast_min",
                "gate.drop_items",
                "policy.drop_illegal_flags",
                "policy.drop_strays",
                "cookies.answers_per_network",
                "cookies.answers_total",
                "protect.prefixes",
                "protect.ssh_ports",
                "listeners.ignore_ports"
            ]
        );
        assert_eq!(
            changes.waiting,
            [
                "mode",
                "interfaces.names",
                "interfaces.xdp_mode",
                "detection.poll_ms",
                "control.group",
                "metrics.listen"
            ]
        );
        let expected = Config {
            mode: running.mode,
            interfaces: running.interfaces.clone(),
            xdp_mode: running.xdp_mode,
            group: running.group.clone(),
            metrics_listen: running.metrics_listen,
            settings: Settings { poll: running.settings.poll, ..new.settings },
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

    #[test]
    fn a_file_written_after_it_was_read_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tcpguard.toml");
        std::fs::write(&file, "").unwrap();
        let mut provenance = Provenance::new(Some(file.clone()), Overrides::default());
        provenance.load().unwrap();
        assert_eq!(provenance.health(), []);
        let later = SystemTime::now() + std::time::Duration::from_secs(1);
        std::fs::File::open(&file).unwrap().set_modified(later).unwrap();
        let codes: Vec<_> = provenance.health().into_iter().map(|note| note.code).collect();
        assert_eq!(codes, ["config_changed"]);
    }
}
