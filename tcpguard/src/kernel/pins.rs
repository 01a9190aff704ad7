//! Where links are pinned, so that the filter outlives the agent.
//!
//! `<pin dir>/v<ABI version>/links/<ifindex>-<name>` holds the XDP link of an interface,
//! `<pin dir>/v<ABI version>/egress/<ifindex>-<name>` its TCX link.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tcpguard_common::ABI_VERSION;

use super::KernelError;

/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// The pins of one agent.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Pins below `dir`, which is created if need be.
    ///
    /// # Errors
    /// When it cannot be, or is not on a bpffs.
    pub fn open(dir: &Path) -> Result<Self, KernelError> {
        let pin = |what, path: &Path| {
            let path = path.to_owned();
            move |error| KernelError::Pin { what, path, error }
        };
        let parent = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
        let stat = rustix::fs::statfs(parent)
            .map_err(|error| pin("look at", parent)(io::Error::from(error)))?;
        if stat.f_type as u64 != BPF_FS_MAGIC {
            return Err(KernelError::NoBpffs { path: dir.to_owned() });
        }
        let root = dir.join(format!("v{ABI_VERSION}"));
        for kind in ["links", "egress"] {
            let path = root.join(kind);
            fs::create_dir_all(&path).map_err(pin("create", &path))?;
        }
        Ok(Self { root })
    }

    pub(super) fn ingress(&self, ifindex: u32, name: &str) -> PathBuf {
        self.root.join("links").join(format!("{ifindex}-{name}"))
    }

    pub(super) fn egress(&self, ifindex: u32, name: &str) -> PathBuf {
        self.root.join("egress").join(format!("{ifindex}-{name}"))
    }
}

/// Removes the pinned links of `interfaces` (all when empty) of any layout version below `dir`,
/// which takes the filter off. Returns the names of the interfaces. Works without an agent.
///
/// # Errors
/// When a pin cannot be removed.
pub fn detach(dir: &Path, interfaces: &[String]) -> Result<Vec<String>, KernelError> {
    let mut names = Vec::new();
    for version in entries(dir) {
        for kind in ["links", "egress"] {
            for pin in entries(&version.join(kind)) {
                let name = pin.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let Some((_, name)) = name.split_once('-') else { continue };
                if !interfaces.is_empty() && !interfaces.iter().any(|wanted| wanted == name) {
                    continue;
                }
                let name = name.to_owned();
                fs::remove_file(&pin).map_err(|error| KernelError::Pin {
                    what: "remove",
                    path: pin,
                    error,
                })?;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    Ok(names)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
