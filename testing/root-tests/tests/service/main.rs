//! The agent as a service of systemd, and its packages.

mod package;
mod service;
