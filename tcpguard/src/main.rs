//! The `tcpguard` binary.

use std::process::ExitCode;

use clap::Parser;
use tcpguard::cli::{self, Args};

fn main() -> ExitCode {
    cli::main(Args::parse()).into()
}
