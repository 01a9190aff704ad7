//! A new configuration for a running agent: the keys that take effect at once, and those that need a
//! restart.

use tcpguard_engine::thresholds;
use tcpguard_host::hint::{Failure, Hint as _};
use tcpguard_host::linux::boot_time;

use super::kept_config::KeptConfig;
use super::provenance::{Read, Refused};
use crate::config::{Config, Held, Loaded, ModeSource, Origin};
use crate::control::proto::Refusal;
use crate::control::{Peer, RefusalKind, Response};
use crate::daemon::agent::Agent;
use crate::daemon::hint::logged;
use crate::documents::AgentEvent;

/// Outcome of a new configuration, by the names of the keys.
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
}

/// `running` with everything of `new` that a running agent can take over.
fn merge(running: &Config, new: Config) -> (Config, Changes) {
    // Without `..`: a new key does not compile until it is handled here.
    let Config {
        path,
        interfaces,
        xdp_mode,
        interface_modes,
        next_programs,
        mode,
        mode_source: _,
        mut settings,
        drop_illegal_flags,
        drop_out_of_state,
        beyond_bounds,
        cookie_backend,
        cookie_firewall,
        cookie_mark,
        replies_per_network,
        replies_total,
        protect_prefixes,
        ssh_ports,
        ignore_ports,
        listeners,
        states,
        group,
        metrics_listen,
        fleet_listen,
        fleet_group,
        runtime_dir: _,
        state_dir: _,
        pin_dir: _,
        bpf_log: _,
    } = new;
    let mut merged = Config { path, ..running.clone() };
    let mut changes = Changes::default();
    // The mode to start with: only `tcpguard mode` changes the effective one.
    changes.wait("mode", &running.mode, &mode);
    changes.wait("interfaces.names", &running.interfaces, &interfaces);
    changes.wait("interfaces.xdp_mode", &running.xdp_mode, &xdp_mode);
    changes.wait("interface.xdp_mode", &running.interface_modes, &interface_modes);
    changes.apply("interface.next_program", &mut merged.next_programs, next_programs);
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
    changes.apply("policy.drop_out_of_state", &mut merged.drop_out_of_state, drop_out_of_state);
    changes.apply("policy.beyond_bounds", &mut merged.beyond_bounds, beyond_bounds);
    changes.wait("cookies.backend", &running.cookie_backend, &cookie_backend);
    changes.apply("cookies.firewall", &mut merged.cookie_firewall, cookie_firewall);
    changes.apply("cookies.mark", &mut merged.cookie_mark, cookie_mark);
    let per_network = &mut merged.replies_per_network;
    changes.apply("cookies.replies_per_network", per_network, replies_per_network);
    changes.apply("cookies.replies_total", &mut merged.replies_total, replies_total);
    changes.apply("protect.prefixes", &mut merged.protect_prefixes, protect_prefixes);
    changes.apply("protect.ssh_ports", &mut merged.ssh_ports, ssh_ports);
    changes.apply("listeners.ignore_ports", &mut merged.ignore_ports, ignore_ports);
    changes.apply("listener", &mut merged.listeners, listeners);
    // The agent does nothing with them; `tcpguard states` reads them.
    changes.apply("states", &mut merged.states, states);
    changes.wait("control.group", &running.group, &group);
    changes.wait("metrics.listen", &running.metrics_listen, &metrics_listen);
    changes.wait("fleet.listen", &running.fleet_listen, &fleet_listen);
    changes.wait("fleet.group", &running.fleet_group, &fleet_group);
    (merged, changes)
}

impl Agent {
    /// Reads the configuration again, as `peer` or a signal requests, and applies the keys that a running
    /// agent can apply. If it contains a mistake, nothing is applied.
    pub fn reload(&mut self, peer: Option<Peer>) -> Response {
        if peer.is_none() {
            log::info!("SIGHUP: reloading the configuration");
        }
        match self.provenance.read() {
            Ok(Read { loaded, kept }) => self.take_over(loaded, kept),
            Err(refused) => self.refuse_config(&refused),
        }
    }

    /// The effective settings and the origin of each.
    pub(in crate::daemon) fn effective(&self) -> Response {
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

    fn take_over(&mut self, new: Loaded, kept: KeptConfig) -> Response {
        let Loaded { config, files, origins } = new;
        let (merged, changes) = merge(&self.config, config);
        if let Err(error) = self.engine.set_settings(merged.tuning()) {
            let text = format!("the thresholds contradict each other: {error}");
            return self.refuse(text.clone(), Failure::new(text, "tcpguard config check"));
        }
        self.config = merged;
        crate::daemon::agent::apply_policy(&mut self.executor.config, &self.config, self.pressed);
        let kernel = self.executor.dataplane.set_config(&self.executor.config);
        // Ignored listeners are determined at each poll.
        if let Err(error) = kernel.map_err(Into::into).and_then(|()| self.protect(boot_time())) {
            // Both are tried again: at the next poll, and when the protected set is read again.
            log::error!("configuration not yet in effect in the kernel: {}", logged(&error));
        }
        self.interfaces
            .set_next_programs(self.config.next_programs.clone(), &self.executor.dataplane);
        self.provenance.take_over(files, origins, &changes.waiting);
        self.config_file.keep(kept);
        let names = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let (applied, waiting) = (names(&changes.applied), names(&changes.waiting));
        let event =
            AgentEvent::ConfigReloaded { applied: applied.clone(), waiting: waiting.clone() };
        self.raise_own(event);
        Response::Reloaded { applied, waiting }
    }

    fn refuse_config(&mut self, refused: &Refused) -> Response {
        for problem in refused.problems() {
            log::error!("{problem}");
        }
        self.refuse(refused.in_brief(), Failure::new(refused.to_string(), refused.hint()))
    }

    /// Keeps the configuration that holds. `first` is one line, `all` may be several.
    fn refuse(&mut self, first: String, all: Failure) -> Response {
        self.provenance.refused = Some(first.clone());
        self.raise_own(AgentEvent::ConfigRefused { error: first, valid_from: None });
        Response::Refused(Refusal::of(RefusalKind::Invalid, all))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tcpguard_engine::Settings;

    use super::super::provenance::tests::Etc;
    use super::*;
    use crate::config::{self, Overrides};

    fn parsed(text: &str) -> Config {
        config::parse(Path::new("x.toml"), text, Overrides::default()).unwrap()
    }

    #[test]
    fn what_can_change_is_applied_and_what_cannot_is_named() {
        let running = parsed("");
        let new = parsed(
            "mode = \"enforce\"\n\
             [interfaces]\nnames = [\"eth9\"]\nxdp_mode = \"generic\"\n\
             [detection]\nfast_min = 128\nclear_s = 60\n\
             [policy]\ndrop_illegal_flags = true\ndrop_out_of_state = true\nrules = 4096\n\
             beyond_bounds = \"drop\"\n\
             [cookies]\nfirewall = \"allow\"\nmark = 0x100\nreplies_per_network = 10\nreplies_total = 1000\n\
             [protect]\nprefixes = [\"192.0.2.0/24\"]\nssh_ports = [2222]\n\
             [listeners]\nignore_ports = [8080]\n\
             [states]\nsyn_recv = 30\n\
             [control]\ngroup = \"adm\"\n\
             [metrics]\nlisten = \"127.0.0.1:9469\"\n\
             [fleet]\nlisten = true\ngroup = \"adm\"\n\
             [[interface]]\nname = \"eth9\"\nxdp_mode = \"native\"\nnext_program = \"balancer\"\n\
             [[listener]]\nat = \":25\"\nmode = \"observe\"\n",
        );
        let (merged, changes) = merge(&running, new.clone());
        assert_eq!(
            changes.applied,
            [
                "interface.next_program",
                "detection.fast_min",
                "detection.clear_s",
                "policy.drop_illegal_flags",
                "policy.drop_out_of_state",
                "policy.beyond_bounds",
                "cookies.firewall",
                "cookies.mark",
                "cookies.replies_per_network",
                "cookies.replies_total",
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
                "interface.xdp_mode",
                "policy.rules",
                "control.group",
                "metrics.listen",
                "fleet.listen",
                "fleet.group"
            ]
        );
        let expected = Config {
            mode: running.mode,
            interfaces: running.interfaces.clone(),
            xdp_mode: running.xdp_mode,
            interface_modes: running.interface_modes.clone(),
            group: running.group.clone(),
            metrics_listen: running.metrics_listen,
            fleet_listen: running.fleet_listen,
            fleet_group: running.fleet_group.clone(),
            settings: Settings { rules: running.settings.rules, ..new.settings },
            ..new
        };
        assert_eq!(merged, expected);
    }

    #[test]
    fn the_same_configuration_changes_nothing() {
        let running = parsed("[detection]\nfast_min = 99\n");
        let (merged, changes) = merge(&running, running.clone());
        assert_eq!((merged, changes), (running, Changes::default()));
    }

    #[test]
    fn what_is_read_again_takes_the_place_of_what_was_but_for_what_waits() {
        let main = "mode = \"observe\"\n[interfaces]\nnames = [\"eth0\"]\n";
        let mut etc = Etc::new(main, "[detection]\nclear_s = 60\n");
        let running = etc.provenance.load().unwrap();
        assert_eq!(etc.origin("detection.clear_s"), "conf.d/10-web.toml:2");

        let part = "mode = \"enforce\"\n\n[detection]\nclear_s = 90\n\
                    [[listener]]\nat = \":25\"\nmode = \"off\"\n";
        etc.write("conf.d/10-web.toml", part);
        let Loaded { config, files, origins } = etc.provenance.read().unwrap().loaded;
        let (merged, changes) = merge(&running, config);
        etc.provenance.take_over(files, origins, &changes.waiting);
        assert_eq!(changes.applied, ["detection.clear_s", "listener"]);
        assert_eq!(changes.waiting, ["mode"]);
        assert_eq!((merged.settings.quiet.as_secs(), merged.mode), (90, running.mode));
        assert_eq!(etc.origin("detection.clear_s"), "conf.d/10-web.toml:4");
        assert_eq!(etc.origin("listener[\":25\"].mode"), "conf.d/10-web.toml:7");
        assert_eq!(etc.origin("mode"), "tcpguard.toml:1", "the new one waits");
        let waits =
            ("config_waits".to_owned(), Some(etc.path("tcpguard.toml").display().to_string()));
        assert_eq!(etc.notes(), [waits]);
    }
}
