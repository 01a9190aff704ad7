//! What can go wrong with the kernel, in the operator's words.

use std::io;
use std::path::PathBuf;

/// Each message names the situation and the way out.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Not allowed.
    #[error(
        "the kernel refuses {what}: missing {missing}; run as root, or give the service \
         CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Permission {
        /// What was tried.
        what: String,
        /// The capabilities that this process lacks.
        missing: String,
    },
    /// The verifier or the loader refused the object.
    #[error("this kernel ({release}) does not accept the BPF program {program}: {reason}")]
    Refused {
        /// Running kernel.
        release: String,
        /// Program or map.
        program: String,
        /// The kernel's words, one line.
        reason: String,
    },
    /// Another program is there.
    #[error(
        "another XDP program is attached to {interface}; see which: bpftool net show dev {interface}; \
         take it off, then start tcpguard again"
    )]
    Occupied {
        /// The interface.
        interface: String,
    },
    /// The driver has no native XDP and native was asked for.
    #[error(
        "the driver of {interface} cannot run XDP natively ({reason}); use --xdp-mode auto or generic"
    )]
    NotNative {
        /// The interface.
        interface: String,
        /// The kernel's words.
        reason: String,
    },
    /// Attaching failed for another reason.
    #[error("cannot attach {program} to {interface}: {reason}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The interface.
        interface: String,
        /// The kernel's words.
        reason: String,
    },
    /// The pin directory is not on a bpffs.
    #[error(
        "{} is not on a bpf filesystem, so the filter could not outlive a restart; mount one: \
         mount -t bpf bpf /sys/fs/bpf", path.display()
    )]
    NoBpffs {
        /// The pin directory.
        path: PathBuf,
    },
    /// A pin could not be made or removed.
    #[error("cannot {what} {}: {error}", path.display())]
    Pin {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A map operation failed.
    #[error("cannot {what} the BPF map {map}: {error}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// Name of the map.
        map: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The object lacks something, or has it with another layout.
    #[error("the BPF object does not fit this binary: {0}; rebuild both: cargo xtask build")]
    Mismatch(String),
}

/// Names of the capabilities that loading wants and this process does not have.
pub(super) fn missing_capabilities() -> String {
    const WANTED: [(u32, &str); 3] =
        [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = WANTED
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() { "a privilege (lockdown or seccomp?)".to_owned() } else { missing.join(", ") }
}
