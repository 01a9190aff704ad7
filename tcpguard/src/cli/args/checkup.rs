//! Arguments of the host checks, which need no agent.

use clap::ValueHint;
use std::path::PathBuf;

use crate::config::DEFAULT_PATH;

/// `tcpguard doctor`
#[derive(Debug, clap::Args)]
#[command(after_help = DOCTOR)]
pub struct DoctorArgs {
    /// Check only this interface
    #[arg(short, long, value_name = "IFACE", value_hint = ValueHint::Hostname)]
    pub interface: Option<String>,
    /// Only what to do, a command a line
    #[arg(long, conflicts_with = "bundle")]
    pub fix_hints: bool,
    /// Write all that somebody who helps would ask for into a new archive
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Replace addresses and the host's name in the archive by pseudonyms
    #[arg(long, requires = "bundle")]
    pub anonymous: bool,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", help = format!("Configuration file [default: {DEFAULT_PATH} if it exists]"))]
    pub config: Option<PathBuf>,
}

const DOCTOR: &str = "\
It changes nothing, and works without the agent.
Exit codes: 0 no finding or notices, 1 warnings, 2 usage, 3 critical findings, 4 not everything
could be checked without root.

Examples:
  sudo tcpguard doctor                            # everything
  sudo tcpguard doctor -i eth0                    # one interface
  sudo tcpguard doctor --fix-hints                # only what to do
  sudo tcpguard doctor --bundle help.tar.gz       # for somebody who helps, with addresses
  sudo tcpguard doctor --bundle help.tar.gz --anonymous";

/// `tcpguard tune`
#[derive(Debug, clap::Args)]
#[command(after_help = TUNE)]
pub struct TuneArgs {
    /// Print a file for /etc/sysctl.d, and change nothing
    #[arg(long, conflicts_with_all = ["apply", "undo"])]
    pub sysctl: bool,
    /// Set the sysctls as advised, until the next boot
    #[arg(long, conflicts_with = "undo")]
    pub apply: bool,
    /// Also after each boot, by a file in /etc/sysctl.d
    #[arg(long, requires = "apply")]
    pub persist: bool,
    /// Give every sysctl back what it was before --apply, and remove the file
    #[arg(long)]
    pub undo: bool,
}

const TUNE: &str = "\
Nothing is changed without --apply, and then only sysctls. Network cards are left to you.

Examples:
  tcpguard tune                                   # what should change on this host, and why
  tcpguard tune --json | jq .settings             # the same for programs
  tcpguard tune --sysctl                          # as a file for /etc/sysctl.d
  sudo tcpguard tune --apply                      # set it, until the next boot
  sudo tcpguard tune --apply --persist            # set it for good
  sudo tcpguard tune --undo                       # take it back";

/// `tcpguard states`
#[derive(Debug, clap::Args)]
#[command(after_help = STATES)]
pub struct StatesArgs {
    /// Also what waits in connections: data that applications have not read, and that clients have
    /// not acknowledged
    #[arg(long)]
    pub queues: bool,
    /// Configuration file
    #[arg(short, long, value_name = "FILE", help = format!("Configuration file with limits of your own [default: {DEFAULT_PATH} if it exists]"))]
    pub config: Option<PathBuf>,
}

const STATES: &str = "\
Needs no running tcpguard. Processes of other users are shown to root only.

Examples:
  tcpguard states                                 # is any number unusual, is anything used up?
  sudo tcpguard states --queues                   # whose connections are stuck?
  tcpguard states --json | jq '.states[] | select(.state == \"time_wait\")'";

/// `tcpguard listeners`
#[derive(Debug, clap::Args)]
#[command(after_help = LISTENERS)]
pub struct ListenersArgs {
    /// Every listener, not only the most interesting
    #[arg(long)]
    pub all: bool,
    /// Refresh every SEC seconds, with drops per second [default: 1]
    #[arg(short, long, value_name = "SEC", num_args = 0..=1, default_missing_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
}

const LISTENERS: &str = "\
Needs no running tcpguard. Processes of other users are shown to root only.

Examples:
  sudo tcpguard listeners                         # whose queues are full, and what limits them?
  tcpguard listeners -w 5                         # does a listener still drop clients?
  tcpguard listeners --json | jq '.listeners[] | select(.accept.waiting > .accept.limit)'";
