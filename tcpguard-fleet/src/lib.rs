//! The fleet of protected hosts: evidence and operators' rules shared over a message bus, relief by routers, and
//! hooks for other programs. It has no privileges and is a process beside the agent.
//!
//! The modules are rooms. A room uses only those before it: `document` (documents of the bus), `trust` (those of
//! others that a host accepts), `share` (evidence of hosts, hints and rules for the agent), `collect` (the fleet as
//! one picture), `relief` (routes that keep packets away), `hook` (other programs), `bus` (the message bus), `agent`
//! (the agent of this host), `config` (the operator's settings), `daemon` (the processes) and `cli` (the verbs). All
//! before `bus` but the speakers of `relief` and the deliveries of `hook` are without clock and connection: inputs
//! come with their time.
#![cfg_attr(not(test), warn(clippy::fn_params_excessive_bools, clippy::too_many_lines))]

pub mod agent;
pub mod bus;
pub mod cli;
pub mod collect;
pub mod config;
pub mod daemon;
pub mod document;
pub mod hook;
pub mod relief;
pub mod share;
pub mod trust;
