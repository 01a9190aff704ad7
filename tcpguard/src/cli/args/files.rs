//! What is read from files and written to them.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Subcommand, ValueEnum};
use tcpguard_engine::Mode;

use super::one_of;
use crate::config::DEFAULT_PATH;

/// `tcpguard replay`
#[derive(Debug, clap::Args)]
#[command(after_help = REPLAY)]
pub struct ReplayArgs {
    /// The capture: pcap or pcapng, also compressed with gzip; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What happens when a rule matches
    #[arg(long, default_value = "observe", value_parser = replay_mode_parser())]
    pub mode: Mode,
    /// Where the decision about each packet runs
    #[arg(long, value_enum, default_value_t)]
    pub backend: ReplayBackend,
    /// Configuration file whose thresholds to judge by, in place of the defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const REPLAY: &str = "\
Exit codes: 0 no incident, 1 incidents, 2 usage, 3 the capture cannot be read,
4 permission denied.

Examples:
  tcpguard replay flood.pcap.gz
  tcpguard replay flood.pcap --mode enforce -c /etc/tcpguard/tcpguard.toml
  tcpdump -i eth0 -c 100000 -w - tcp | tcpguard replay -";

/// Where the decision about each replayed packet runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ReplayBackend {
    /// In this process
    #[default]
    Host,
    /// In the loaded BPF programs, by test runs: needs root, touches no interface
    Kernel,
}

pub(super) const CONFIG: &str = "\
Examples:
  tcpguard config init                            # once
  tcpguard config check                           # after each change
  tcpguard config show                            # what a start would take
  tcpguard config show --effective                # what the running agent holds";

/// `tcpguard config …`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Report every mistake in a configuration file and those of conf.d beside it
    #[command(after_help = CHECK)]
    Check {
        /// The file
        #[arg(help = format!("The file [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
    },
    /// Show every setting with the value that holds and where it comes from
    Show(ShowArgs),
    /// Write a file with every setting, explained and commented out
    #[command(after_help = INIT)]
    Init {
        /// The file; an existing one is left alone; - for standard output
        #[arg(help = format!("The file; an existing one is left alone; - for standard output [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
    },
}

const CHECK: &str = "\
Examples:
  tcpguard config check
  tcpguard config check /tmp/guard.toml --json | jq .problems";

/// `tcpguard config show`
#[derive(Debug, clap::Args)]
#[command(after_help = SHOW)]
pub struct ShowArgs {
    /// The file; those of conf.d beside it count too
    #[arg(help = format!("The file; those of conf.d beside it count too [default: {DEFAULT_PATH}]"))]
    pub file: Option<PathBuf>,
    /// What the running agent holds, rather than what a start would take from the files
    #[arg(long, conflicts_with = "file")]
    pub effective: bool,
    /// Where exactly each value comes from: file and line, command line, or tcpguard mode
    #[arg(long)]
    pub origin: bool,
}

const SHOW: &str = "\
Examples:
  tcpguard config show
  tcpguard config show --origin                   # which file says it, and where
  tcpguard config show --effective --origin       # what the running agent holds, and why
  tcpguard config show /tmp/guard.toml --json | jq .settings";

const INIT: &str = "\
Examples:
  tcpguard config init                            # never over a file that is there
  tcpguard config init - | less";

fn replay_mode_parser() -> impl TypedValueParser<Value = Mode> {
    one_of(&[("observe", Mode::Observe), ("enforce", Mode::Enforce)])
}
