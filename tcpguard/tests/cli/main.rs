//! The command line as an operator meets it: the real binary against an agent with the responses
//! that a test gives it.

mod agent;
mod agent_gone;
mod config;
mod documents;
mod host;
mod numbers;
mod report;
mod rules;
#[path = "../support/stand_in.rs"]
mod stand_in;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod usage;
