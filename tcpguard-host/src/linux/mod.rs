//! The host's own view of TCP: the data that the agent reads from the kernel outside BPF, and the
//! changes that it makes there.
//!
//! Everything here is synchronous and bounded: each call is one question to the kernel or one
//! small file, and returns within [`ANSWER_TIMEOUT`] even if the kernel does not answer. Nothing
//! is cached and nothing is judged; that is the agent's and the engine's business.
//!
//! All of it refers to the network namespace of the calling thread, and sockets that are kept
//! open stay in the namespace in which they were opened.

pub mod accounts;
pub mod attachments;
pub mod btf;
pub mod capabilities;
pub mod client_routes;
pub mod clock;
pub mod conntrack;
pub mod container;
mod default_gateways;
pub mod device;
pub mod device_queues;
mod error;
mod ethernet_addresses;
pub mod file_locks;
pub mod files;
pub mod interfaces;
pub mod link_stats;
pub mod link_watch;
pub mod local_routes;
pub mod memory;
pub mod netfilter;
mod netlink;
pub mod netns;
pub mod netstat;
mod proc_file;
pub mod processes;
pub mod programs;
pub mod protected;
mod release;
pub mod routes;
pub mod rtnetlink;
pub mod service;
pub mod sock_diag;
pub mod sockstat;
pub mod softnet;
mod ssh_sessions;
pub mod sysctl;
mod time_namespace;
pub mod veth;
pub mod virtio;
pub mod xdp_driver;
mod xdp_refusal;

pub use btf::{QueueOffsets, SocketOffsets, functions};
pub use client_routes::{ClientRoutes, Reach, client_routes};
pub use clock::{WallClock, boot_id, boot_time, cpu_time};
pub use conntrack::{Conntrack, conntrack};
pub use default_gateways::default_gateways;
pub use error::Error;
pub use ethernet_addresses::ethernet_addresses;
pub use file_locks::{LockOwner, lock_owner};
pub use files::{FileHandles, file_handles};
pub use interfaces::{Below, Interface, Xdp};
pub use link_stats::{LinkStats, link_stats};
pub use link_watch::{LinkEvent, LinkWatch};
pub use memory::{Memory, memory};
pub use netlink::ANSWER_TIMEOUT;
pub use netstat::{TcpSegments, tcp_ext, tcp_ext_counter, tcp_segments};
pub use processes::{DescriptorUse, Owners, PROC, Process};
pub use protected::{Addresses, MOST_PROTECTED, MOST_SSH_CLIENTS, OWN, Protected, ProtectedSet};
pub use release::kernel_release;
pub use routes::{RouteChanges, RouteTable, Way};
pub use service::Service;
pub use sock_diag::{
    Connection, HalfOpen, Incoming, ListenerGroup, ListeningSocket, SockDiag, TcpState, is_queued,
};
pub use sockstat::{SockStat, sockstat};
pub use softnet::{SoftnetCpu, softnet};
pub use sysctl::{CookieSettings, Sysctls};
pub use xdp_refusal::native_xdp_refusal;
