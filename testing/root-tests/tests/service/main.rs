//! The agent as a service of systemd, its packages, and its image.

mod image;
mod package;
mod service;
