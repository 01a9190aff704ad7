//! The `tcpguard-fleet` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use tcpguard_fleet::cli;

fn main() -> ExitCode {
    cli::main(std::env::args_os())
}
