//! Code that runs on both sides of the kernel boundary.
//!
//! Everything here is compiled twice: for `bpfel-unknown-none`, where the
//! verifier proves each loop bounded and each access in range, and for the
//! host, where unit tests, replay and the parity test run the very same lines.
//! The crate therefore has no dependencies, no allocation, no panics on the
//! packet path, and no `cfg` on the target inside its logic.
//!
//! Each module imports only from those above it:
//!
//! - [`abi`]: the contents of BPF maps: keys, values, configuration, reason codes, and the fingerprints,
//!   token buckets and paces in them.
//! - [`wire`]: the bounded walk from Ethernet to the TCP options.
//! - [`cookie`]: keyed, stateless sequence numbers.
//! - [`fastpath`]: flag classes and [`fastpath::ingress`], the only code that decides the fate of a
//!   packet.
//! - `model`, on the host only: the tables as plain collections.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::fn_params_excessive_bools, clippy::too_many_lines))]

pub mod abi;
pub mod cookie;
pub mod fastpath;
/// Host only: the tables as plain collections.
#[cfg(not(target_arch = "bpf"))]
pub mod model;
pub mod wire;
