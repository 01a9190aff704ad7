//! The `tcpguard` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use tcpguard::cli;

fn main() -> ExitCode {
    cli::parse(std::env::args_os()).map_or_else(|exit| exit, cli::main).into()
}
