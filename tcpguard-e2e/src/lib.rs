//! The test kit of the root tests and of `cargo xtask demo`.
//!
//! A [`lab::Lab`] is a host under test with a real TCP server, a client and an attacker, each in a network
//! namespace of its own. Everything a lab creates (namespaces, interfaces, mounts, files) is reachable only
//! through file descriptors and threads of the process that made it, so the kernel takes it all down when that
//! process ends, however it ends.
//!
//! - [`netns`], [`lab`], [`delay`]: the lab's network; [`server`]: the service under attack.
//! - [`packet`], [`raw`], [`live_frames`], [`shape`], [`likeness`], [`flood`]: frames and floods,
//!   bounded in number and time; [`lab_filter`]: the best that any defence could do.
//! - [`frames`], [`oracle`]: SYNs with odd fields of every kind, and a host that shows which ones it accepts.
//! - [`clients`], [`raw_client`]: legitimate clients and the outcome of their attempts; [`transfer`], [`agreed`]:
//!   long connections, and the options that their ends agreed on; [`echo`]: very many short ones; [`health`]:
//!   balancers that never complete a handshake.
//! - [`trickle`]: a few SYNs all the time, of which a rule is to drop half; [`sender`]: more of them, from
//!   the same sources again and again.
//! - [`guard`], [`status`], [`alerts`]: the agent under test, its status and its alerts; [`truth`]: whether
//!   they are true; [`heartbeat`]: the time of its last poll; [`foreign`]: a program in its way;
//!   [`hostile`]: users that keep its administrator from it; [`pins`]: its pins, as those of another
//!   version; [`tamper`]: its maps and links, changed behind its back; [`bare`]: programs to be timed;
//!   [`digest`]: a digest of the programs that an object holds.
//! - [`leak`]: SYNs of a flood that got in, by three counts; [`gap`]: a filter that is off for a moment, which
//!   these counts must show.
//! - [`source_rules`]: rules as the kernel has them, whether an agent runs or not.
//! - [`timer`]: a change that is reverted by a waiting process, which can be killed.
//! - [`armed`]: the programs alone, with the mitigations that a test starts.
//! - [`machine`], [`journald`]: the agent as a service under systemd, and the contents of its journal;
//!   [`contents`], [`package`]: the packages of the agent; [`first_use`]: the time to their first output;
//!   [`prometheus`]: the metrics in a monitoring system; [`browser`]: the rendering of a page;
//!   [`terminal`]: a terminal, for full-screen output.
//! - [`soak`]: all of it for an hour, and the growth of the agent.
//! - [`ring`], [`tcp_counters`]: packets dropped before XDP, and the counters of a host's own TCP.
//! - [`measure`]: CPU time per packet; [`peak`]: memory of the agent and of the command line; [`stall`]:
//!   whether the machine itself stood still.

pub mod agreed;
pub mod alerts;
pub mod armed;
pub mod bare;
mod bpf;
pub mod browser;
pub mod clients;
pub mod clock;
#[path = "../../xtask/src/dist/contents.rs"]
pub mod contents;
pub mod delay;
pub mod digest;
pub mod doctor;
pub mod echo;
pub mod first_use;
pub mod flood;
pub mod foreign;
pub mod frames;
pub mod gap;
pub mod guard;
pub mod health;
pub mod heartbeat;
pub mod hostile;
pub mod journald;
pub mod lab;
pub mod lab_filter;
pub mod leak;
pub mod likeness;
pub mod live_frames;
pub mod machine;
pub mod measure;
pub mod netns;
pub mod oracle;
pub mod package;
pub mod packet;
pub mod peak;
pub mod pins;
pub mod prometheus;
pub mod random;
pub mod raw;
pub mod raw_client;
#[path = "../../tcpguard-ebpf/src/recipe.rs"]
pub mod recipe;
pub mod ring;
pub mod sender;
pub mod server;
pub mod service;
pub mod shape;
pub mod soak;
pub mod source_rules;
pub mod stall;
pub mod status;
pub mod tamper;
pub mod tcp_counters;
pub mod terminal;
pub mod timer;
pub mod transfer;
pub mod trickle;
pub mod truth;
