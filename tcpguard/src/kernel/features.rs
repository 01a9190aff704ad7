//! The BPF features that this kernel lets this process use, found by trying them.

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{
    BpfHelper, SyscallError, is_helper_supported, is_map_supported, is_program_supported,
};

/// One feature that tcpguard needs of the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The function that does not work without it.
    pub for_what: &'static str,
    /// True if the agent does not run at all without it.
    pub needed: bool,
    /// Its availability.
    pub support: Support,
}

/// The result of a trial.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Support {
    /// It is there.
    Present,
    /// The kernel does not have it.
    Missing,
    /// The kernel refused the trial, with this errno.
    Refused(i32),
    /// The trial failed for another reason.
    Failed(String),
}

/// Tries each. Nothing stays loaded.
pub fn features() -> Vec<Feature> {
    let program = |name, kind, for_what, needed| Feature {
        name,
        for_what,
        needed,
        support: of_program(is_program_supported(kind)),
    };
    let map = |name, kind, for_what, needed| Feature {
        name,
        for_what,
        needed,
        support: of_map(is_map_supported(kind)),
    };
    vec![
        program("XDP programs", ProgramType::Xdp, "filtering", true),
        program("tc programs", ProgramType::SchedClassifier, "seeing what is answered", true),
        program(
            "raw tracepoints",
            ProgramType::RawTracePoint,
            "counting completed handshakes",
            false,
        ),
        map("hash maps", MapType::Hash, "rules", true),
        map("LRU hash maps", MapType::LruHash, "clients", true),
        map("per-CPU arrays", MapType::PerCpuArray, "counters", true),
        map("prefix maps", MapType::LpmTrie, "rules by prefix", true),
        Feature {
            name: "bpf_tcp_raw_gen_syncookie_ipv4",
            for_what: "SYN cookies of the kernel's making in XDP (Linux 6.0)",
            needed: false,
            support: of_program(is_helper_supported(
                ProgramType::Xdp,
                BpfHelper::BPF_FUNC_tcp_raw_gen_syncookie_ipv4,
            )),
        },
    ]
}

fn of_program(tried: Result<bool, ProgramError>) -> Support {
    match tried {
        Ok(found) => of(found),
        Err(ProgramError::SyscallError(error)) => of_errno(&error),
        Err(error) => Support::Failed(super::object::one_line(&error)),
    }
}

fn of_map(tried: Result<bool, SyscallError>) -> Support {
    match tried {
        Ok(found) => of(found),
        Err(error) => of_errno(&error),
    }
}

fn of(found: bool) -> Support {
    if found { Support::Present } else { Support::Missing }
}

fn of_errno(error: &SyscallError) -> Support {
    match error.io_error.raw_os_error() {
        Some(errno) => Support::Refused(errno),
        None => Support::Failed(error.io_error.to_string()),
    }
}
