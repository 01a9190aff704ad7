//! Hooks: a command and a webhook that are called when an incident starts, changes and ends, and when routers relieve
//! it.
//!
//! [`document`] is their input, `tcpguard.hook/1`. [`dispatch`] holds the documents of one target in a [`queue`] and
//! delivers them one at a time. [`command`] and [`webhook`] are the targets.

pub mod command;
pub mod dispatch;
pub mod document;
pub mod id;
pub mod provider;
pub mod queue;
pub mod secret;
pub mod webhook;
