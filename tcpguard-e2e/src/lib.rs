//! The test kit of the root tests and of `cargo xtask demo`.
//!
//! A [`lab::Lab`] is a guarded host with a real TCP server, a client and an attacker, each in a
//! network namespace of its own. Everything a lab creates (namespaces, interfaces, mounts, files)
//! is reachable only through file descriptors and threads of the process that made it, so the
//! kernel takes it all down when that process ends, however it ends.
//!
//! - [`netns`], [`lab`], [`delay`]: the stage; [`server`]: the service under attack.
//! - [`packet`], [`raw`], [`live_frames`], [`shape`], [`likeness`], [`flood`]: frames and floods,
//!   bounded in number and time; [`lab_filter`]: the best that any defence could do.
//! - [`frames`], [`oracle`]: SYNs that are odd in every way, and a host that says which it answers.
//! - [`clients`], [`raw_client`]: people who just want to connect, and what became of them;
//!   [`transfer`], [`agreed`]: long connections, and what their ends agreed on; [`echo`]: very many
//!   short ones; [`health`]: balancers that never mean to connect.
//! - [`trickle`]: a few SYNs all the time, of which a rule is to drop half; [`sender`]: more of them, from
//!   the same sources again and again.
//! - [`guard`], [`status`], [`alerts`]: the daemon under test, what it says and what it has told;
//!   [`truth`]: whether that is so; [`heartbeat`]: when it last polled; [`foreign`]: a program in its way;
//!   [`hostile`]: users who keep its administrator from it; [`pins`]: what it pinned, as another
//!   version's; [`tamper`]: its maps and links, changed behind its back; [`bare`]: programs to be timed;
//!   [`digest`]: which programs an object holds.
//! - [`leak`]: what of a flood got in, by three books; [`gap`]: a filter that is off for a moment, which
//!   they must show.
//! - [`source_rules`]: rules as the kernel has them, whoever lives.
//! - [`timer`]: a change taken back by a process that waits, and can be killed.
//! - [`armed`]: the programs alone, with the steps that a test wants taken.
//! - [`machine`], [`journald`]: the daemon as a service under systemd, and what its journal holds;
//!   [`contents`], [`package`]: the packages it comes in; [`first_use`]: how soon they answer;
//!   [`prometheus`]: what a monitoring system makes of its numbers; [`browser`]: how a page looks;
//!   [`terminal`]: a terminal, for what is drawn on one.
//! - [`soak`]: all of it for an hour, and whether it cost the agent anything.
//! - [`ring`], [`tcp_counters`]: what never came as far as the guard, and what a host's own TCP has counted.
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
