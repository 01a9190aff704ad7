//! Code that runs on both sides of the kernel boundary.
//!
//! Everything here is compiled twice: for `bpfel-unknown-none`, where the
//! verifier proves each loop bounded and each access in range, and for the
//! host, where unit tests, replay and the parity test run the very same lines.
//! The crate therefore has no dependencies, no allocation, no panics on the
//! packet path, and no `cfg` on the target inside its logic.
//!
//! - [`abi`]: the contents of BPF maps: keys, values, configuration, reason codes.
//! - [`cookie`]: keyed, stateless sequence numbers.
//! - [`wire`]: the bounded walk from Ethernet to the TCP options.
//! - [`fastpath`]: flag classes, fingerprints, token buckets and [`fastpath::ingress`], the only code
//!   that decides the fate of a packet.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod cookie;
pub mod fastpath;
/// Host only.
#[cfg(not(target_arch = "bpf"))]
pub mod footprint;
/// Host only: the tables as plain collections.
#[cfg(not(target_arch = "bpf"))]
pub mod model;
pub mod wire;

/// Version of every layout in [`abi`]. It stands in the configuration map, and a
/// program that meets another number there passes all traffic.
///
/// Raise it whenever a type in [`abi`] changes; `tests/layout.rs` holds the
/// sizes and offsets that belong to this number.
pub const ABI_VERSION: u32 = 17;
