//! Errors of the kernel interface, in the operator's words.

use std::io;
use std::path::PathBuf;

use tcpguard_host::hint::Hint;
use tcpguard_host::linux::{capabilities, container};

use super::features::{TAIL_CALLS, TAIL_CALLS_SINCE};

/// The result of a call of the kernel.
pub type Result<T, E = KernelError> = std::result::Result<T, E>;

/// An error of the kernel interface.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel does not permit the operation.
    #[error("the kernel refuses {what}: missing {missing}")]
    Permission {
        /// The operation that was tried.
        what: String,
        /// The capabilities that this process lacks.
        missing: String,
    },
    /// The kernel lacks features without which no agent runs. Nothing was changed.
    #[error("unsupported kernel {release}: tcpguard needs {needs}")]
    Lacking {
        /// Release of the running kernel.
        release: String,
        /// The features, each with the release that has it first.
        needs: String,
    },
    /// The verifier or the loader refused the object.
    #[error("BPF program {program} rejected by Linux {release}: {reason}")]
    Refused {
        /// Release of the running kernel.
        release: String,
        /// Name of the program or map.
        program: String,
        /// The kernel's words, one line.
        reason: String,
    },
    /// There is no memory, or the service may not have more.
    #[error(
        "no memory for {what}: the BPF maps take 30 to 200 MiB, by the number of CPUs, which count towards MemoryMax= of the \
         service"
    )]
    Memory {
        /// Name of the program or map.
        what: String,
    },
    /// Cookies need a function that this kernel lacks.
    #[error(
        "Linux {release} has no {function} ({reason}), which the validation of SYN cookies requires \
         (Linux 6.9 or later)"
    )]
    MissingFunction {
        /// Release of the running kernel.
        release: String,
        /// Name of the kernel's function.
        function: String,
        /// Result of the search for it.
        reason: String,
    },
    /// Another XDP program is attached, to the interface itself or to one directly above it.
    #[error("another XDP program is attached to {place}{by}")]
    Occupied {
        /// The interface that has it, and its relation to the one that was to be attached.
        place: String,
        /// Its hook and description, in brackets, as far as they can be seen.
        by: String,
        /// The command that detaches it, or that shows how to.
        way_out: String,
        /// The steps by which it runs behind tcpguard's program, if it can.
        keep: Option<String>,
    },
    /// The driver has no native XDP and native was asked for.
    #[error("the driver of {interface} does not support native XDP: {reason}")]
    NotNative { interface: String, reason: String },
    /// Its packets do not begin with the header that the programs read first.
    #[error("{interface} carries no Ethernet frames (ARPHRD type {link_type}, such as a tunnel)")]
    NoEthernet {
        interface: String,
        /// Its `ARPHRD_…` type, include/uapi/linux/if_arp.h.
        link_type: u16,
    },
    /// Another interface that is attached is above or below it.
    #[error("{interface} and {other} are of one stack: each packet would count twice")]
    Stacked { interface: String, other: String },
    /// The counters have no room.
    #[error("too many interfaces: {wanted} are named, at most {limit} can be protected")]
    TooManyInterfaces {
        /// Number of interfaces that are named.
        wanted: usize,
        /// Number of interfaces for which there is room.
        limit: usize,
    },
    /// Attaching failed for another reason.
    #[error("cannot attach {program} to {interface}: {reason}")]
    Attach {
        program: &'static str,
        /// The interface, or the tracepoint.
        interface: String,
        reason: String,
    },
    /// The pin directory is not on a bpffs.
    #[error("{} is not on a bpf filesystem, so the XDP program could not survive a restart", path.display())]
    NoBpffs {
        path: PathBuf,
        /// True in a container, which can mount nothing itself.
        container: bool,
    },
    /// Another agent protects this network namespace.
    #[error("another tcpguard agent protects this network namespace (it holds {})", path.display())]
    Locked {
        /// Directory of its pins.
        path: PathBuf,
    },
    /// A pin could not be made or removed.
    #[error("cannot {what} {}: {error}", path.display())]
    Pin {
        /// The operation that was tried.
        what: &'static str,
        /// The path that it was tried on.
        path: PathBuf,
        error: io::Error,
    },
    /// The kernel makes no tail calls from programs with functions, as tcpguard's are.
    #[error("this kernel hands no packets on: it has no {TAIL_CALLS} (Linux {TAIL_CALLS_SINCE})")]
    NoTailCalls,
    /// Nothing is pinned under the name of a next program.
    #[error("no program is pinned at {}", path.display())]
    NoNextProgram { path: PathBuf },
    /// The pin of a next program belongs to another user.
    #[error("the agent may not open {}", path.display())]
    NextProgramDenied { path: PathBuf },
    /// Another object is pinned under the name of a next program.
    #[error("{} is no XDP program", path.display())]
    NoXdpProgram { path: PathBuf },
    /// The kernel does not run a program behind tcpguard's.
    #[error("the kernel refuses {} as the next program: {reason}", path.display())]
    NextProgramRefused {
        /// Path of the program's pin.
        path: PathBuf,
        reason: &'static str,
        /// The change that it needs.
        way_out: String,
    },
    /// The host could not be asked for its release or its network namespace.
    #[error(transparent)]
    Host(#[from] tcpguard_host::linux::Error),
    /// A map operation failed.
    #[error("cannot {what} the BPF map {map}: {error}")]
    Map {
        /// The operation that was tried.
        what: &'static str,
        /// Name of the map.
        map: &'static str,
        error: io::Error,
    },
    /// The object lacks something, or has it with another layout.
    #[error("the BPF object does not match this binary: {0}")]
    Mismatch(String),
}

impl Hint for KernelError {
    fn hint(&self) -> String {
        let hint = match self {
            Self::Permission { .. } => {
                "run as root, or give the service CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; check: tcpguard \
                 doctor"
            }
            Self::Lacking { .. }
            | Self::Refused { .. }
            | Self::MissingFunction { .. }
            | Self::Attach { .. }
            | Self::Map { .. } => "tcpguard doctor",
            Self::Memory { .. } => "systemctl edit tcpguard ([Service] MemoryMax=), or: free -m",
            Self::Occupied { way_out, keep, .. } => {
                let keep = keep.as_deref().map_or_else(String::new, |keep| {
                    format!(". Or keep it as the next program. First pin it: {keep}")
                });
                return format!("{way_out}, then: systemctl start tcpguard{keep}");
            }
            Self::NotNative { .. } => "use --xdp-mode auto or generic",
            Self::NoEthernet { .. } => {
                "name an Ethernet interface, such as the uplink: ip -br link"
            }
            Self::Stacked { .. } => "name one of them under [interfaces] names: ip -details link",
            Self::TooManyInterfaces { .. } => {
                "name fewer in the configuration ([interfaces] names) or with --interface"
            }
            Self::NoBpffs { container: true, .. } => container::MOUNT_BPFFS,
            Self::NoBpffs { container: false, .. } => "sudo mount -t bpf bpf /sys/fs/bpf",
            Self::Locked { .. } => "systemctl stop tcpguard",
            Self::Pin { path, .. } => return format!("ls -ld {}", path.display()),
            Self::NoTailCalls => {
                "sysctl -w net.core.bpf_jit_enable=1, then: systemctl restart tcpguard"
            }
            Self::NoNextProgram { path } => {
                return format!("sudo bpftool prog pin id ID {}", path.display());
            }
            Self::NextProgramDenied { path } => {
                let directory = path.parent().unwrap_or(path);
                return format!("sudo chown -R tcpguard:tcpguard {}", directory.display());
            }
            Self::NoXdpProgram { path } => {
                return format!("look at it: sudo bpftool prog show pinned {}", path.display());
            }
            Self::NextProgramRefused { way_out, .. } => return way_out.clone(),
            Self::Host(error) => return error.hint(),
            Self::Mismatch(_) => "reinstall the package, or rebuild both: cargo xtask build",
        };
        hint.to_owned()
    }
}

/// Fails at once where loading or attaching would only fail halfway, and names all that is missing.
pub(super) fn require_capabilities() -> Result<(), KernelError> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(KernelError::Permission {
        what: "to load and attach BPF programs".to_owned(),
        missing: missing.join(", "),
    })
}

/// Returns the reason why something was not permitted, as far as capabilities show.
pub(super) fn missing_capabilities() -> String {
    let missing = missing();
    if missing.is_empty() {
        "a privilege beyond capabilities (lockdown, seccomp or an LSM)".to_owned()
    } else {
        missing.join(", ")
    }
}

/// The capabilities that this thread lacks; none where its set cannot be read, so that the kernel
/// decides.
fn missing() -> Vec<&'static str> {
    capabilities::missing(capabilities::effective().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_has_a_hint() {
        let name = || "eth0".to_owned();
        let reason = || "Operation not permitted (os error 1)".to_owned();
        let release = || "6.1.0".to_owned();
        let path = || PathBuf::from("/sys/fs/bpf/tcpguard");
        let error = || io::Error::from_raw_os_error(1);
        for error in [
            KernelError::Permission { what: "it".to_owned(), missing: missing_capabilities() },
            KernelError::Lacking { release: release(), needs: name() },
            KernelError::Refused { release: release(), program: name(), reason: reason() },
            KernelError::Memory { what: name() },
            KernelError::MissingFunction { release: release(), function: name(), reason: reason() },
            KernelError::Occupied { place: name(), by: String::new(), way_out: name(), keep: None },
            KernelError::NotNative { interface: name(), reason: reason() },
            KernelError::NoEthernet { interface: name(), link_type: 65534 },
            KernelError::Stacked { interface: name(), other: "eth0.7".to_owned() },
            KernelError::TooManyInterfaces { wanted: 65, limit: 64 },
            KernelError::Attach { program: "ingress", interface: name(), reason: reason() },
            KernelError::NoBpffs { path: path(), container: false },
            KernelError::NoBpffs { path: path(), container: true },
            KernelError::Locked { path: path() },
            KernelError::Pin { what: "make", path: path(), error: error() },
            KernelError::NoTailCalls,
            KernelError::NoNextProgram { path: path() },
            KernelError::NextProgramDenied { path: path() },
            KernelError::NoXdpProgram { path: path() },
            KernelError::NextProgramRefused {
                path: path(),
                reason: "no",
                way_out: "bpftool prog".to_owned(),
            },
            KernelError::Host(tcpguard_host::linux::Error::NoSockDiag),
            KernelError::Map { what: "read", map: "sources", error: error() },
            KernelError::Mismatch("no map sources".to_owned()),
        ] {
            assert!(hint_check::is_named(&error.hint()), "{error}");
            // Every one there is stands above.
            match error {
                KernelError::Permission { .. }
                | KernelError::Lacking { .. }
                | KernelError::Refused { .. }
                | KernelError::Memory { .. }
                | KernelError::MissingFunction { .. }
                | KernelError::Occupied { .. }
                | KernelError::NotNative { .. }
                | KernelError::NoEthernet { .. }
                | KernelError::Stacked { .. }
                | KernelError::TooManyInterfaces { .. }
                | KernelError::Attach { .. }
                | KernelError::NoBpffs { .. }
                | KernelError::Locked { .. }
                | KernelError::Pin { .. }
                | KernelError::NoTailCalls
                | KernelError::NoNextProgram { .. }
                | KernelError::NextProgramDenied { .. }
                | KernelError::NoXdpProgram { .. }
                | KernelError::NextProgramRefused { .. }
                | KernelError::Host(_)
                | KernelError::Map { .. }
                | KernelError::Mismatch(_) => {}
            }
        }
    }
}
