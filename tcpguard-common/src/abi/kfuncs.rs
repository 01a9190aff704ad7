//! Functions of the kernel that BPF programs call by the id of their type (kfuncs).
//!
//! aya 0.14 cannot name them. The programs call a number that no helper has, and the loader replaces it
//! with the id from the running kernel's BTF before the kernel sees the program.

/// One such function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kfunc {
    /// The number that the programs call.
    pub placeholder: u32,
    /// Its name in the kernel's BTF.
    pub name: &'static str,
}

/// Hands a connection with a checked cookie to its listener: `bpf_sk_assign_tcp_reqsk` of
/// net/core/filter.c, since Linux 6.9.
pub const ASSIGN_TCP_REQSK: Kfunc =
    Kfunc { placeholder: 0x0f00_0001, name: "bpf_sk_assign_tcp_reqsk" };

/// All of them.
pub const KFUNCS: [Kfunc; 1] = [ASSIGN_TCP_REQSK];
