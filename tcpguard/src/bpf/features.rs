//! The features that this kernel grants this process, found by trials. Release numbers say little about them, because
//! distributions add features to older releases.

use std::io;

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{
    BpfHelper, SyscallError, is_helper_supported, is_map_supported, is_program_supported,
};
use aya_obj::generated::bpf_attach_type::BPF_TCX_EGRESS;
use tcpguard_host::doctor::facts::{
    Feature, MULTI_BUFFER, RAW_TRACEPOINTS, READ_KERNEL, Support, TCX,
};
use tcpguard_host::linux::{self, kernel_release, netns};

use super::KernelError;
use super::syscall::{self, ENOTSUPP};

/// Index of the loopback interface in every network namespace (`LOOPBACK_IFINDEX`, include/net/net_namespace.h).
const LOOPBACK: u32 = 1;

/// Name of the feature that programs with functions make tail calls.
pub(super) const TAIL_CALLS: &str = "tail calls beside functions";
/// First release whose compiler for this architecture takes both in one program. No interpreter does.
pub(super) const TAIL_CALLS_SINCE: &str =
    if cfg!(target_arch = "x86_64") { "5.10 with the BPF JIT" } else { "6.0 with the BPF JIT" };

/// Features with which the agent works in another way than without them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Features {
    /// XDP programs may take frames in several buffers (Linux 5.18). Without it, an interface with an MTU above a page
    /// runs in generic mode.
    pub multi_buffer: bool,
    /// Programs may compare and exchange, and set bits, in one step (Linux 5.12). Without it, two CPUs that take a token
    /// from a bucket at once may take the same one.
    pub atomics: bool,
    /// Programs with functions may make tail calls: the JIT compiler is on and takes both. Without it, no packet is handed
    /// on to a next program.
    pub tail_calls: bool,
    /// TCX (Linux 6.6). Without it, the egress program is attached at clsact.
    pub tcx: bool,
}

impl Features {
    /// Finds them by trials. A feature counts as there if its trial is refused, so that loading or attaching says why.
    pub fn of_running_kernel() -> Self {
        let there = |support| support != Support::Missing;
        Self {
            multi_buffer: there(multi_buffer()),
            atomics: there(atomics()),
            tail_calls: there(tail_calls()),
            tcx: there(tcx()),
        }
    }
}

/// A feature, and how to try it.
struct Trial {
    name: &'static str,
    since: Option<&'static str>,
    for_what: &'static str,
    fallback: Option<&'static str>,
    support: fn() -> Support,
}

impl Trial {
    const fn new(
        name: &'static str,
        since: Option<&'static str>,
        for_what: &'static str,
        support: fn() -> Support,
    ) -> Self {
        Self { name, since, for_what, fallback: None, support }
    }

    /// The same with the agent's way of working on kernels without the feature.
    const fn or(self, fallback: &'static str) -> Self {
        Self { fallback: Some(fallback), ..self }
    }

    fn run(&self, needed: bool) -> Feature {
        let &Self { name, since, for_what, fallback, support } = self;
        Feature { name, since, for_what, fallback, needed, support: support() }
    }
}

/// The features without which the agent does not run.
static NEEDED: [Trial; 8] = [
    Trial::new("XDP programs", None, "filtering", || program(ProgramType::Xdp)),
    Trial::new("tc programs", None, "detection of SYN-ACKs", || {
        program(ProgramType::SchedClassifier)
    }),
    Trial::new("XDP links", Some("5.9"), "program that stays attached over restarts", xdp_links),
    // The newest of the helpers that the programs call on every kernel.
    Trial::new("bpf_ktime_get_boot_ns", Some("5.8"), "expiry of rules", || {
        helper(BpfHelper::BPF_FUNC_ktime_get_boot_ns)
    }),
    Trial::new("hash maps", None, "rules", || map(MapType::Hash)),
    Trial::new("LRU hash maps", None, "clients", || map(MapType::LruHash)),
    Trial::new("per-CPU arrays", None, "counters", || map(MapType::PerCpuArray)),
    Trial::new("prefix maps", None, "rules by prefix", || map(MapType::LpmTrie)),
];

/// The agent's way of working without the tracepoint.
const BY_PACKETS: &str = "completed handshakes are judged by their packets alone";

/// The features without which the agent does less.
static WANTED: [Trial; 9] = [
    Trial::new(RAW_TRACEPOINTS, None, "count of completed handshakes", || {
        program(ProgramType::RawTracePoint)
    })
    .or(BY_PACKETS),
    Trial::new(READ_KERNEL, None, "count of completed handshakes", read_kernel).or(BY_PACKETS),
    Trial::new(TAIL_CALLS, Some(TAIL_CALLS_SINCE), "next programs", tail_calls)
        .or("packets that pass go to the network stack"),
    Trial::new("atomic compare-and-exchange", Some("5.12"), "exact limits of rates", atomics)
        .or("two CPUs that take the last token of a limit at once may both get it"),
    Trial::new("batches of per-CPU arrays", Some("5.13"), "cheap reading of the counters", batches)
        .or("the counters of rules are read one by one, at a higher cost for each poll"),
    Trial::new("SO_NETNS_COOKIE", Some("5.14"), "unique number of a network namespace", || {
        match netns::has_cookies() {
            Ok(found) => of(found),
            Err(error) => Support::Failed(error.to_string()),
        }
    })
    .or("a namespace is identified by its inode, which a later namespace may get"),
    Trial::new(MULTI_BUFFER, Some("5.18"), "native XDP with an MTU above a page", multi_buffer)
        .or("such interfaces run in generic mode"),
    Trial::new(TCX, Some("6.6"), "first place among all tc programs", tcx).or(
        "the egress program is attached at clsact with priority 1, behind filters of another kind that already \
         have this priority",
    ),
    Trial::new("bpf_sk_assign_tcp_reqsk", Some("6.9"), "SYN cookies of tcpguard's own", || {
        function("bpf_sk_assign_tcp_reqsk")
    })
    .or("the kernel makes the cookies that XDP sends"),
];

/// The result of a trial of each feature. Nothing stays loaded.
pub fn features() -> Vec<Feature> {
    let needed = NEEDED.iter().map(|trial| trial.run(true));
    needed.chain(WANTED.iter().map(|trial| trial.run(false))).collect()
}

/// Refuses a kernel that lacks a feature without which the agent does not run.
///
/// # Errors
/// [`KernelError::Lacking`] with all of these features.
pub fn require_features() -> Result<(), KernelError> {
    require(NEEDED.iter().map(|trial| trial.run(true)))
}

fn require(features: impl Iterator<Item = Feature>) -> Result<(), KernelError> {
    let missing = features.filter(|feature| feature.support == Support::Missing);
    let needs: Vec<String> = missing.map(|feature| feature.requirement()).collect();
    match needs.is_empty() {
        true => Ok(()),
        false => Err(KernelError::Lacking { release: kernel_release()?, needs: needs.join(", ") }),
    }
}

fn multi_buffer() -> Support {
    tried(syscall::try_multi_buffer())
}

fn atomics() -> Support {
    tried(syscall::try_compare_exchange())
}

fn tail_calls() -> Support {
    tried(syscall::try_tail_call())
}

fn batches() -> Support {
    match aya::util::nr_cpus() {
        Ok(cpus) => tried(syscall::try_per_cpu_batch(cpus)),
        Err((file, error)) => Support::Failed(format!("{file}: {error}")),
    }
}

fn tcx() -> Support {
    tried(syscall::tcx_programs(LOOPBACK, BPF_TCX_EGRESS))
}

/// Asks for a native link at the loopback interface. Every kernel refuses that, and one that does not know XDP links by
/// another errno.
fn xdp_links() -> Support {
    match tried(syscall::try_native_link(LOOPBACK)) {
        Support::Refused(errno) if !matches!(errno, libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            Support::Present
        }
        support => support,
    }
}

fn program(kind: ProgramType) -> Support {
    of_program(is_program_supported(kind))
}

fn helper(helper: BpfHelper) -> Support {
    of_program(is_helper_supported(ProgramType::Xdp, helper))
}

/// Loads a program for a raw tracepoint that reads kernel memory. A kernel that is locked down for confidentiality has no
/// such helper for it, since Linux 5.13 and in later updates of 5.10.
fn read_kernel() -> Support {
    let helper = BpfHelper::BPF_FUNC_probe_read_kernel;
    of_program(is_helper_supported(ProgramType::RawTracePoint, helper))
}

fn map(kind: MapType) -> Support {
    match is_map_supported(kind) {
        Ok(found) => of(found),
        Err(SyscallError { io_error, .. }) => refused(&io_error),
    }
}

/// Looks for a function of the kernel in its BTF.
fn function(name: &'static str) -> Support {
    match linux::functions(&[name]) {
        Ok(found) => of(found.contains_key(name)),
        Err(error) => Support::Failed(error.to_string()),
    }
}

fn of_program(result: Result<bool, ProgramError>) -> Support {
    match result {
        Ok(found) => of(found),
        Err(ProgramError::SyscallError(SyscallError { io_error, .. })) => refused(&io_error),
        Err(error) => Support::Failed(super::object::one_line(&error)),
    }
}

/// The result of a system call that is valid on kernels with the feature. `ENOTSUPP` is the answer where the compiler of
/// this architecture does not know an instruction.
fn tried<T>(result: io::Result<T>) -> Support {
    match result {
        Ok(_) => Support::Present,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | ENOTSUPP)) => {
            Support::Missing
        }
        Err(error) => refused(&error),
    }
}

fn of(found: bool) -> Support {
    if found { Support::Present } else { Support::Missing }
}

fn refused(error: &io::Error) -> Support {
    match error.raw_os_error() {
        Some(errno) => Support::Refused(errno),
        None => Support::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(since: Option<&'static str>, support: Support) -> Feature {
        let (name, for_what, fallback) = ("XDP links", "a test", None);
        Feature { name, since, for_what, fallback, needed: true, support }
    }

    #[test]
    fn a_kernel_is_refused_for_features_that_are_missing_with_the_release_that_has_them() {
        let features = [
            feature(Some("5.9"), Support::Missing),
            feature(None, Support::Present),
            // Loading says why.
            feature(None, Support::Refused(libc::EPERM)),
        ];
        assert!(require(features[1..].iter().cloned()).is_ok());
        let error = require(features.into_iter()).unwrap_err().to_string();
        let end = ": tcpguard needs XDP links (Linux 5.9, or a kernel with it backported)";
        assert!(error.starts_with("unsupported kernel ") && error.ends_with(end), "{error}");
    }

    #[test]
    fn the_page_of_kernels_has_the_fallback_of_each_feature() {
        let page = include_str!("../../../docs/evidence/kernel-support.md");
        for trial in &WANTED {
            let fallback = trial.fallback.unwrap_or_else(|| panic!("{} has none", trial.name));
            assert!(page.contains(fallback), "{}: {fallback}", trial.name);
        }
    }

    #[test]
    fn an_invalid_call_is_a_missing_feature_and_another_error_is_none() {
        let of = |errno| tried::<()>(Err(io::Error::from_raw_os_error(errno)));
        assert_eq!((of(libc::EINVAL), of(ENOTSUPP)), (Support::Missing, Support::Missing));
        assert_eq!(of(libc::EPERM), Support::Refused(libc::EPERM));
        assert_eq!(tried(Ok(())), Support::Present);
    }
}
