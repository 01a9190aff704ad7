//! The host as it is: its network stack read and judged, without the agent and without BPF.
//!
//! [`linux`] asks the kernel. [`firewall`], [`states`], [`listeners`], [`tune`] and [`doctor`] are the checks
//! that an administrator would make by hand, with a judgement. They work as any user, as far as the kernel
//! shows the data to that user; a report names the data that could not be read. Each is made in the same
//! steps: `gather` reads facts from the host, and `judge` makes a report of them, a pure function.
#![cfg_attr(not(test), warn(clippy::fn_params_excessive_bools, clippy::too_many_lines))]

pub mod doctor;
mod drop_ins;
pub mod durable;
pub mod escape;
pub mod finding;
pub mod firewall;
pub mod hint;
pub mod json;
pub mod linux;
pub mod listeners;
pub mod notify;
pub mod obstacle;
pub mod random;
pub mod spelling;
pub mod states;
pub mod stderr;
pub mod time;
pub mod toml_file;
pub mod toml_value;
pub mod tune;
pub mod units;
