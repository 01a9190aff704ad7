//! A new configuration for a running agent: the keys that take effect at once, and those that need a
//! restart.

use tcpguard_engine::Settings;

use crate::config::Config;
use crate::config::origin::in_any_block;
use crate::config::sections::{Cookies, InterfaceConfig};
use crate::config::show::{Setting, settings};

/// Outcome of a new configuration, by the names of the keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Hold from now on.
    pub applied: Vec<String>,
    /// Hold after a restart.
    pub waiting: Vec<String>,
}

/// `running` with everything of `new` that a running agent can take over.
pub fn merge(running: &Config, new: Config) -> (Config, Changes) {
    let wanted = settings(&new);
    let running = running.clone();
    let before = settings(&running);
    // Without `..`: a new section does not compile until it is handled here.
    let merged = Config {
        detection: new.detection,
        policy: new.policy,
        protect: new.protect,
        listeners: new.listeners,
        listener: new.listener,
        // The agent does nothing with them; `tcpguard states` reads them.
        states: new.states,
        path: new.path,
        // Only `tcpguard mode` changes the effective one.
        mode: running.mode,
        mode_source: running.mode_source,
        interface: InterfaceConfig::with_modes_of(running.interface, new.interface),
        cookies: Cookies { backend: running.cookies.backend, ..new.cookies },
        // The maps are made for so many.
        settings: Settings { rules: running.settings.rules, ..new.settings },
        interfaces: running.interfaces,
        control: running.control,
        metrics: running.metrics,
        fleet: running.fleet,
        runtime_dir: running.runtime_dir,
        state_dir: running.state_dir,
        pin_dir: running.pin_dir,
        bpf_log: running.bpf_log,
    };
    let now = settings(&merged);
    let changes = Changes { applied: differing(&before, &now), waiting: differing(&now, &wanted) };
    (merged, changes)
}

/// Keys that differ, those of blocks without the names of the blocks, none twice.
fn differing(before: &[Setting], after: &[Setting]) -> Vec<String> {
    let gone = before.iter().filter(|one| after.iter().all(|other| other.key != one.key));
    let other = after.iter().filter(|one| !before.contains(one));
    let mut keys: Vec<String> = Vec::new();
    for key in other.chain(gone).map(|setting| in_any_block(&setting.key)) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::provenance::tests::Etc;
    use super::*;
    use crate::config::{self, Loaded, Overrides};

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
             [cookies]\nbackend = \"own\"\nfirewall = \"allow\"\nmark = 0x100\nreplies_per_network = 10\nreplies_total = 1000\n\
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
                "states.syn_recv",
                "interface.next_program",
                "listener.mode",
            ]
        );
        assert_eq!(
            changes.waiting,
            [
                "mode",
                "interfaces.names",
                "interfaces.xdp_mode",
                "policy.rules",
                "cookies.backend",
                "control.group",
                "metrics.listen",
                "fleet.listen",
                "fleet.group",
                "interface.xdp_mode",
            ]
        );
        assert_eq!(merged.mode, running.mode);
        assert_eq!((&merged.interfaces, &merged.control), (&running.interfaces, &running.control));
        assert_eq!((&merged.metrics, &merged.fleet), (&running.metrics, &running.fleet));
        assert_eq!(merged.xdp_mode_of("eth9"), running.xdp_mode_of("eth9"));
        assert_eq!(merged.next_programs(), new.next_programs());
        assert_eq!(merged.cookies.backend, running.cookies.backend);
        assert_eq!(merged.settings, Settings { rules: running.settings.rules, ..new.settings });
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
        assert_eq!(changes.applied, ["detection.clear_s", "listener.mode"]);
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
