//! Arguments of the host checks.

use clap::ValueHint;
use std::path::PathBuf;

use super::with_exit_status;
use crate::config::DEFAULT_PATH;

/// `tcpguard doctor`
#[derive(Debug, clap::Args)]
#[command(after_help = with_exit_status("doctor", DOCTOR))]
pub struct DoctorArgs {
    /// Check this interface only, with the kernel and the privileges
    #[arg(short, long, value_name = "IFACE", value_hint = ValueHint::Hostname)]
    pub interface: Option<String>,
    /// Test which SYN cookies work on this host, and save the result
    #[arg(long, conflicts_with = "interface")]
    pub selftest: bool,
    /// Test only if there is no result for this kernel and these sysctls
    #[arg(long, requires = "selftest")]
    pub if_needed: bool,
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", help = format!("Read this configuration file [default: {DEFAULT_PATH}, if it exists]"))]
    pub config: Option<PathBuf>,
}

const DOCTOR: &str = "\
The checks cover the kernel, interfaces, drivers, firewall, service and configuration. They change
nothing and work without an agent. Some require root.
--selftest opens real connections between two temporary network namespaces. No packet leaves this host.
The agent uses the saved result to select the kind of SYN cookies. Exit code 1: no SYN cookies work.

Examples:
  sudo tcpguard doctor                            # every check
  sudo tcpguard doctor -i eth0                    # one interface
  sudo tcpguard doctor --json | jq -r '.findings[].hint'
  sudo tcpguard doctor --selftest                 # kinds of SYN cookies that work on this host";

/// `tcpguard tune`
#[derive(Debug, clap::Args)]
#[command(after_help = TUNE)]
pub struct TuneArgs {
    /// Print advised and applied sysctls as a file for /etc/sysctl.d
    #[arg(long, conflicts_with_all = ["apply", "undo"])]
    pub sysctl: bool,
    /// Set the sysctls as advised until the next boot
    #[arg(long, conflicts_with = "undo")]
    pub apply: bool,
    /// Restore the sysctls from before --apply
    #[arg(long)]
    pub undo: bool,
}

const TUNE: &str = "\
Each advice has a reason, a risk and a way to undo it. Only --apply and --undo change anything, and
only sysctls. Settings of network cards are up to you.

Examples:
  tcpguard tune                                   # advice for this host
  tcpguard tune --json | jq .settings
  sudo tcpguard tune --apply                      # until the next boot
  sudo tcpguard tune --sysctl | sudo tee /etc/sysctl.d/90-tcpguard.conf    # at each boot
  sudo tcpguard tune --undo                       # restore";

/// `tcpguard states`
#[derive(Debug, clap::Args)]
#[command(after_help = STATES)]
pub struct StatesArgs {
    /// Show also unread and unacknowledged data by process
    #[arg(long)]
    pub queues: bool,
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", help = format!("Read the limits from this file [default: {DEFAULT_PATH}, if it exists]"))]
    pub config: Option<PathBuf>,
}

const STATES: &str = "\
Shows connections by state and the resources that they use, with limits and unusual values. No agent
is required. Processes of other users are visible to root only.

Examples:
  tcpguard states
  sudo tcpguard states --queues                   # stuck connections by process
  tcpguard states --json | jq '.states[] | select(.state == \"time_wait\")'";

/// `tcpguard listeners`
#[derive(Debug, clap::Args)]
#[command(after_help = LISTENERS)]
pub struct ListenersArgs {
    /// Show every listener, not only those with findings
    #[arg(long)]
    pub all: bool,
    /// Refresh every SEC seconds, with drops per second [default: 1]
    #[arg(short, long, value_name = "SEC", num_args = 0..=1, default_missing_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
}

const LISTENERS: &str = "\
Shows the SYN queue and the accept queue of each listener, their limits and drops. No agent is
required. Processes of other users are visible to root only.

Examples:
  sudo tcpguard listeners
  tcpguard listeners -w 5                         # refreshed every 5 s
  tcpguard listeners --json | jq '.listeners[] | select(.accept.waiting > .accept.limit)'";
