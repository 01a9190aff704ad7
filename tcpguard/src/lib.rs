//! The parts of the `tcpguard` binary, as a library so that tests can reach them.
//!
//! Each names only those before it in this order: [`bpf`], [`config`], [`documents`], [`selftest`],
//! [`text`], [`control`], [`driver`], [`telemetry`], [`replay`], [`html`], `top`, [`daemon`], [`cli`].
#![cfg_attr(not(test), warn(clippy::fn_params_excessive_bools, clippy::too_many_lines))]

pub mod bpf;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod documents;
pub mod driver;
pub mod html;
pub mod replay;
pub mod selftest;
pub mod telemetry;
pub mod text;
#[cfg(feature = "tui")]
pub mod top;
