//! Sources of the facts. Only this module reads them; it changes nothing.

mod interfaces;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tcpguard_host::doctor::facts::{
    ConfigFacts, Filesystem, FirewallFacts, Kernel, Owner, Pins, Privileges, Report, Service,
};
use tcpguard_host::doctor::{self, checks};
use tcpguard_host::firewall::FirewallChoice;
use tcpguard_host::linux::local_routes::all_addresses;
use tcpguard_host::linux::netfilter::Netfilter;
use tcpguard_host::linux::xdp_driver::page_bytes;
use tcpguard_host::linux::{
    self, Sysctls, accounts, capabilities, container, kernel_release, netns,
};
use tcpguard_host::time::Time;
use tcpguard_host::tune::{HostFacts, Tune};
use tcpguard_host::{listeners, states};

use super::facts::{Agent, Facts, SelfTested};
use crate::bpf::features::features;
use crate::bpf::{Layout, is_bpffs, layouts};
use crate::cli::args::DoctorArgs;
use crate::cli::session::Session;
use crate::config::{self, ConfigError, Overrides};
use crate::control::{Client, ClientError, Request, Response};
use crate::documents::selftest::{CookieBackend, Hook, Host};
use crate::selftest;

/// Everything that the checks look at.
pub(super) fn gather(
    args: &DoctorArgs,
    session: &Session<'_>,
    host: HostFacts,
    tune: Tune,
) -> Facts {
    let (file, pin_dir) = (args.config.as_deref(), &session.pin_dir);
    let config = configuration(file);
    let (layouts, netns) = (layouts(pin_dir), netns::cookie().ok());
    let names = match &args.interface {
        Some(name) => vec![name.clone()],
        None => attached(&config, &layouts, netns),
    };
    let agent = agent(&session.client);
    let layouts = layouts.into_iter().map(|layout| {
        let usage = layout.usage(pin_dir);
        (layout, usage)
    });
    Facts {
        of_host: doctor::Facts {
            kernel: kernel(),
            privileges: privileges(),
            interfaces: interfaces::of(&names),
            pins: pins(pin_dir),
            host,
            tune,
            listeners: listeners(),
            states: states(file),
            service: service(),
            config,
            agent_runs: matches!(agent, Agent::Running(_)),
            firewall: firewall(file),
        },
        agent,
        selftest: self_tested(&session.state_dir),
        layouts: layouts.collect(),
        netns,
    }
}

fn listeners() -> Report {
    let facts =
        listeners::gather(Time(jiff::Timestamp::now())).map_err(|error| error.to_string())?;
    Ok(listeners::judge(&facts).findings)
}

fn states(config: Option<&Path>) -> Report {
    let facts = states::gather(Time(jiff::Timestamp::now()), false);
    let config = config::read(config, Overrides::default());
    let limits = config.map(|loaded| loaded.config.states).unwrap_or_default();
    Ok(states::judge(&facts.map_err(|error| error.to_string())?, &limits.into()).findings)
}

fn service() -> Service {
    // As sd_booted(3) determines it.
    let systemd = Path::new("/run/systemd/system").is_dir();
    let unit = systemd.then(|| linux::service::properties(&checks::PROPERTIES));
    Service { systemd, unit: unit.unwrap_or_default() }
}

fn firewall(config: Option<&Path>) -> FirewallFacts {
    let rules = Netfilter::default().read(&Sysctls::default());
    let config = config::read(config, Overrides::default()).ok().map(|loaded| loaded.config);
    FirewallFacts {
        rules: rules.map_err(|error| error.to_string()),
        choice: config.as_ref().map_or_else(FirewallChoice::default, |one| one.cookies.firewall),
        mark: config.map_or(0, |config| config.cookies.mark),
        own: all_addresses().unwrap_or_default(),
    }
}

fn kernel() -> Kernel {
    Kernel {
        release: kernel_release().ok(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        features: features(),
        lockdown: lockdown(Path::new("/sys/kernel")),
        jit: Sysctls::default().read_number("net.core.bpf_jit_enable").ok().flatten(),
        page_bytes: page_bytes(),
    }
}

/// The lockdown of the kernel by its directory in sysfs; `None` where it cannot be read.
fn lockdown(kernel: &Path) -> Option<String> {
    let security = kernel.join("security");
    match fs::read_to_string(security.join("lockdown")) {
        Ok(text) => chosen(&text).map(str::to_owned),
        // A kernel that cannot be locked down has other files there, or not even the directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_mounted = fs::read_dir(&security).is_ok_and(|mut files| files.next().is_some());
            let is_absent = kernel.is_dir() && !security.exists();
            (is_mounted || is_absent).then(|| "none".to_owned())
        }
        Err(_) => None,
    }
}

/// The word in brackets of `none [integrity] confidentiality`.
fn chosen(lockdown: &str) -> Option<&str> {
    lockdown.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

fn privileges() -> Privileges {
    Privileges {
        root: rustix::process::geteuid().is_root(),
        container: container::is_container(),
        effective: capabilities::effective().unwrap_or(0),
    }
}

fn pins(dir: &Path) -> Pins {
    let owner = fs::metadata(dir).ok();
    Pins {
        dir: dir.to_owned(),
        filesystem: filesystem(dir),
        owner: owner.map(|owner| Owner { uid: owner.uid(), mode: owner.mode() & 0o7777 }),
        service_uid: accounts::user_id("tcpguard"),
    }
}

/// The file system that a directory is on, or would be.
fn filesystem(dir: &Path) -> Filesystem {
    let Some(there) = dir.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
        return Filesystem::Unknown;
    };
    let Ok(stat) = rustix::fs::statvfs(there) else { return Filesystem::Unknown };
    match is_bpffs(there) {
        Ok(true) => {
            let read_only = stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
            return Filesystem::Bpf { read_only };
        }
        Ok(false) => {}
        Err(_) => return Filesystem::Unknown,
    }
    // Below a directory that may not be entered nothing seems to exist.
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Filesystem::Unknown,
        _ => Filesystem::Other,
    }
}

fn configuration(named: Option<&Path>) -> ConfigFacts {
    let path = named.unwrap_or(Path::new(config::DEFAULT_PATH)).to_owned();
    match config::read(named, Overrides::default()) {
        Ok(loaded) if loaded.files.is_empty() => ConfigFacts::Absent { path },
        Ok(loaded) => ConfigFacts::Valid { path, interfaces: loaded.config.interfaces.names },
        Err(ConfigError::Invalid { problems, .. }) => ConfigFacts::Invalid {
            path,
            problems: problems.iter().map(ToString::to_string).collect(),
        },
        Err(ConfigError::Unreadable { path, source, .. }) => {
            ConfigFacts::Unreadable { path, reason: source.to_string() }
        }
    }
}

/// The interfaces that the configuration names, or else those with a filter on.
fn attached(config: &ConfigFacts, layouts: &[Layout], netns: Option<u64>) -> Vec<String> {
    if let ConfigFacts::Valid { interfaces, .. } = config
        && !interfaces.is_empty()
    {
        return interfaces.clone();
    }
    let here = layouts.iter().filter(|layout| Some(layout.netns) == netns);
    let mut names: Vec<String> = here.flat_map(|layout| layout.interfaces.clone()).collect();
    if names.is_empty() {
        names = interfaces::hardware();
    }
    names.sort();
    names.dedup();
    names
}

fn agent(client: &Client) -> Agent {
    match client.call(Request::Status) {
        Ok(Response::Status(status)) => Agent::Running(status),
        Ok(_) => Agent::Silent("the agent answers another question than the one asked".to_owned()),
        Err(ClientError::NotRunning { .. }) => Agent::NotRunning,
        Err(error @ ClientError::Denied { .. }) => Agent::Denied(error.to_string()),
        Err(error) => Agent::Silent(error.to_string()),
    }
}

fn self_tested(state_dir: &Path) -> SelfTested {
    if !selftest::may_be_seen(state_dir) {
        return SelfTested::Hidden;
    }
    let known = Host::running().ok().and_then(|host| selftest::load(state_dir, &host));
    let Some(known) = known else { return SelfTested::Stale };
    let words = |(backend, hook): (CookieBackend, Hook)| {
        format!("{} work ({})", backend.name(), hook.name())
    };
    let best =
        [Hook::Native, Hook::Generic].into_iter().find_map(|hook| Some((known.best(hook)?, hook)));
    SelfTested::Known { best: best.map(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_brackets_holds() {
        assert_eq!(chosen("none [integrity] confidentiality\n"), Some("integrity"));
        assert_eq!(chosen("[none] integrity confidentiality"), Some("none"));
        for odd in ["", "none", "[", "[none", "none]"] {
            assert_eq!(chosen(odd), None, "{odd}");
        }
    }

    #[test]
    fn lockdown_is_unknown_where_securityfs_is_not_mounted() {
        let kernel = tempfile::tempdir().expect("temporary directory");
        let none = Some("none".to_owned());
        assert_eq!(lockdown(&kernel.path().join("no sysfs")), None);
        assert_eq!(lockdown(kernel.path()), none, "a kernel without securityfs");
        let security = kernel.path().join("security");
        fs::create_dir(&security).expect("directory");
        assert_eq!(lockdown(kernel.path()), None);
        fs::write(security.join("lsm"), "capability").expect("file");
        assert_eq!(lockdown(kernel.path()), none, "a kernel without lockdown");
        fs::write(security.join("lockdown"), "none integrity [confidentiality]\n").expect("file");
        assert_eq!(lockdown(kernel.path()), Some("confidentiality".to_owned()));
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_on_what_is_above_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(filesystem(&dir.path().join("not/there")), Filesystem::Other);
    }

    #[test]
    fn a_configuration_is_absent_valid_or_wrong_line_by_line() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("tcpguard.toml");
        let of = |text: &str| {
            fs::write(&path, text).expect("file");
            configuration(Some(&path))
        };
        let valid = of("[interfaces]\nnames = [\"eth0\"]\n");
        assert_eq!(
            valid,
            ConfigFacts::Valid { path: path.clone(), interfaces: vec!["eth0".to_owned()] }
        );
        let ConfigFacts::Invalid { problems, .. } = of("mode = \"odd\"\nnonsense = 1\n") else {
            panic!("two mistakes")
        };
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains(":1:8: ") && problems[1].contains(":2:1: "), "{problems:?}");
        let missing = configuration(Some(Path::new("/no/such/file")));
        assert!(matches!(missing, ConfigFacts::Unreadable { .. }), "{missing:?}");
    }
}
