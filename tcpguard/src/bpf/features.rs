//! The BPF features that this kernel grants this process, found by trials.

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{
    BpfHelper, SyscallError, is_helper_supported, is_map_supported, is_program_supported,
};
use tcpguard_host::doctor::facts::{Feature, Support};

/// The result of a trial of each feature. Nothing stays loaded.
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
        program("tc programs", ProgramType::SchedClassifier, "detection of SYN-ACKs", true),
        program(
            "raw tracepoints",
            ProgramType::RawTracePoint,
            "count of completed handshakes",
            false,
        ),
        map("hash maps", MapType::Hash, "rules", true),
        map("LRU hash maps", MapType::LruHash, "clients", true),
        map("per-CPU arrays", MapType::PerCpuArray, "counters", true),
        map("prefix maps", MapType::LpmTrie, "rules by prefix", true),
        Feature {
            name: "bpf_tcp_raw_gen_syncookie_ipv4",
            for_what: "SYN cookies of the kernel in XDP (Linux 6.0)",
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
