//! The test kit of the root tests, of the benchmark and of `cargo xtask demo`.
//!
//! A [`net::lab::Lab`] is a host under test with a real TCP server, a client and an attacker, each in a network
//! namespace of its own. Everything a lab creates (namespaces, interfaces, mounts, files) is reachable only
//! through file descriptors and threads of the process that made it, so the kernel takes it all down when that
//! process ends, however it ends.
//!
//! - [`net`]: namespaces, cables and frames; [`traffic`]: clients, floods and servers.
//! - [`daemon`]: the agent under test, on a bare host and as a service.
//! - [`measure`]: CPU time, memory, clocks and counters.
//! - [`soak`]: all of it for an hour, and the growth of the agent.
//! - [`claims`]: the claims of a demonstration, each with its outcome.

pub mod claims;
pub mod daemon;
pub mod measure;
pub mod net;
pub mod soak;
pub mod traffic;
