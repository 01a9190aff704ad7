//! Where the facts come from. The one place that reads; nothing is changed.

mod interfaces;
mod service;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::facts::{
    Agent, ConfigFacts, Facts, Filesystem, Kernel, Layout, Owner, Pins, Privileges, Probed,
};
use crate::checkup::tune::{HostFacts, Tune};
use crate::config::{self, ConfigError, Overrides};
use crate::control::{Client, ClientError, Request, Response};
use crate::host::{KernelRelease, Sysctls, accounts, capabilities, netns};
use crate::kernel::features::features;
use crate::probe::{self, CookieBackend, Hook, Host};

/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Directories of a layout in which links of interfaces are pinned.
const LINKS: [&str; 3] = ["links", "egress", "redeem"];

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// The configuration; `None`: the default one.
    pub config: Option<PathBuf>,
    /// Directory of what survives a restart.
    pub state_dir: PathBuf,
    /// Directory of the pins.
    pub pin_dir: PathBuf,
    /// Only this interface.
    pub interface: Option<String>,
}

/// Everything that the checks look at.
pub fn gather(places: &Places, client: &Client, host: HostFacts, tune: Tune) -> Facts {
    let config = configuration(places.config.as_deref());
    let pins = pins(&places.pin_dir);
    let names = match &places.interface {
        Some(name) => vec![name.clone()],
        None => guarded(&config, &pins),
    };
    Facts {
        kernel: kernel(),
        privileges: privileges(),
        interfaces: interfaces::of(&names),
        pins,
        host,
        tune,
        service: service::gather(Path::new("/")),
        config,
        agent: agent(client),
        probe: probed(&places.state_dir),
    }
}

fn kernel() -> Kernel {
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").ok();
    Kernel {
        release: KernelRelease::running().ok(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        features: features(),
        lockdown: lockdown.as_deref().and_then(chosen).map(str::to_owned),
        jit: Sysctls::default().read_number("net.core.bpf_jit_enable").ok().flatten(),
    }
}

/// The word in brackets of `none [integrity] confidentiality`.
fn chosen(lockdown: &str) -> Option<&str> {
    lockdown.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

fn privileges() -> Privileges {
    Privileges {
        root: rustix::process::geteuid().is_root(),
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
        layouts: layouts(dir),
        netns: netns::cookie().ok(),
    }
}

/// What a directory is on, or would be.
fn filesystem(dir: &Path) -> Filesystem {
    let Some(there) = dir.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
        return Filesystem::Unknown;
    };
    let Ok(stat) = rustix::fs::statvfs(there) else { return Filesystem::Unknown };
    let Ok(kind) = rustix::fs::statfs(there) else { return Filesystem::Unknown };
    if kind.f_type as u64 == BPF_FS_MAGIC {
        let read_only = stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        return Filesystem::Bpf { read_only };
    }
    // Below a directory that may not be entered nothing seems to exist.
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Filesystem::Unknown,
        _ => Filesystem::Other,
    }
}

/// The pins below `dir`, by version of their layout and network namespace.
fn layouts(dir: &Path) -> Vec<Layout> {
    let mut found: Vec<Layout> = names(dir)
        .iter()
        .filter_map(|name| {
            let (version, netns) = name.strip_prefix('v')?.split_once('-')?;
            let (version, netns) = (version.parse().ok()?, netns.parse().ok()?);
            let links = LINKS.iter().flat_map(|kind| names(&dir.join(name).join(kind)));
            let mut interfaces: Vec<String> =
                links.filter_map(|link| Some(link.split_once('-')?.1.to_owned())).collect();
            interfaces.sort();
            interfaces.dedup();
            Some(Layout { version, netns, interfaces })
        })
        .collect();
    found.sort_by_key(|layout| (layout.version, layout.netns));
    found
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let name = |name: &OsStr| name.to_str().map(str::to_owned);
    entries.flatten().filter_map(|entry| name(&entry.file_name())).collect()
}

fn configuration(named: Option<&Path>) -> ConfigFacts {
    let path = named.unwrap_or(Path::new(config::DEFAULT_PATH)).to_owned();
    match config::load(named, Overrides::default()) {
        Ok(config) if config.path.is_none() => ConfigFacts::Absent { path },
        Ok(config) => ConfigFacts::Valid { path, interfaces: config.interfaces },
        Err(ConfigError::Invalid { problems, .. }) => {
            let problem =
                |problem: &config::Problem| format!("line {}: {}", problem.line, problem.text);
            ConfigFacts::Invalid { path, problems: problems.iter().map(problem).collect() }
        }
        Err(ConfigError::Unreadable { source, .. }) => {
            ConfigFacts::Unreadable { path, reason: source.to_string() }
        }
    }
}

/// The interfaces that the configuration names, or else those with a filter on.
fn guarded(config: &ConfigFacts, pins: &Pins) -> Vec<String> {
    if let ConfigFacts::Valid { interfaces, .. } = config
        && !interfaces.is_empty()
    {
        return interfaces.clone();
    }
    let here = pins.layouts.iter().filter(|layout| Some(layout.netns) == pins.netns);
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

fn probed(state_dir: &Path) -> Probed {
    let known = Host::running().ok().and_then(|host| probe::load(state_dir, &host));
    let Some(known) = known else { return Probed::Stale };
    let words = |(backend, hook): (CookieBackend, Hook)| {
        format!("{} work ({})", backend.name(), hook.name())
    };
    let best =
        [Hook::Native, Hook::Generic].into_iter().find_map(|hook| Some((known.best(hook)?, hook)));
    Probed::Known { best: best.map(words) }
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
    fn pins_are_known_by_version_and_namespace() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for pin in ["v1-7/links/2-eth0", "v1-7/egress/2-eth0", "v0-7/links/3-eth-1", "v1-8/maps/X"]
        {
            let path = dir.path().join(pin);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            fs::write(path, "").expect("pin");
        }
        for other in ["other", "v-7", "vx-7", "v1-"] {
            fs::create_dir(dir.path().join(other)).expect("directory");
        }
        let layout = |version, netns, interfaces: &[&str]| Layout {
            version,
            netns,
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(
            layouts(dir.path()),
            [layout(0, 7, &["eth-1"]), layout(1, 7, &["eth0"]), layout(1, 8, &[])]
        );
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
        assert!(problems[0].starts_with("line 1: ") && problems[1].starts_with("line 2: "));
        let missing = configuration(Some(Path::new("/no/such/file")));
        assert!(matches!(missing, ConfigFacts::Unreadable { .. }), "{missing:?}");
    }
}
