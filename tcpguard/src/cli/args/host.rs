//! Arguments of verbs that change this host, and of its fleet.

use std::ffi::OsString;

use clap::{Subcommand, ValueHint};

/// `tcpguard detach`
#[derive(Debug, clap::Args)]
#[command(after_help = DETACH)]
#[group(required = true, multiple = false)]
pub struct DetachArgs {
    /// Detach from this interface
    #[arg(short, long, value_name = "IFACE", value_hint = ValueHint::Hostname)]
    pub interface: Option<String>,
    /// Detach from every interface
    #[arg(long)]
    pub all: bool,
}

const DETACH: &str = "\
Without the XDP program, the interface is not protected. The agent attaches it again when it restarts.

Examples:
  tcpguard detach -i eth0
  tcpguard detach --all                           # works without an agent
  systemctl restart tcpguard                      # attach again";

pub(in crate::cli) const RESTORE_SYSCTLS: &str = "\
While SYN cookies of the kernel are in use, the agent sets net.ipv4.tcp_syncookies to 2. The service
runs this command after each end of the agent.

Examples:
  tcpguard restore-sysctls";

/// `tcpguard fleet`
#[derive(Debug, clap::Args)]
#[command(after_help = FLEET, disable_help_subcommand = true)]
pub struct FleetArgs {
    /// The verb of tcpguard-fleet.
    #[command(subcommand)]
    pub verb: FleetVerb,
}

/// `tcpguard fleet …`
#[derive(Debug, Subcommand)]
pub enum FleetVerb {
    /// Verb of tcpguard-fleet, and its arguments.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

const FLEET: &str = "\
Runs tcpguard-fleet, which is a package of its own. Its verbs: tcpguard fleet help

Examples:
  tcpguard fleet status                           # hosts, incidents and routes of the fleet
  tcpguard fleet status --json | jq .incidents
  tcpguard fleet block 203.0.113.0/24 --for 2h --dry-run
  tcpguard fleet help block                       # help of a verb";
