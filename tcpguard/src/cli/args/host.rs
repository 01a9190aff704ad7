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

/// `tcpguard selftest`
#[derive(Debug, clap::Args)]
#[command(after_help = SELFTEST)]
pub struct SelftestArgs {
    /// Test only if there is no result for this kernel and these sysctls
    #[arg(long)]
    pub if_needed: bool,
}

const SELFTEST: &str = "\
Opens real connections between two temporary network namespaces. No packet leaves this host. The agent
uses the saved result to select the kind of SYN cookies.

Examples:
  tcpguard selftest
  tcpguard selftest --state-dir /tmp              # without saving the result for the agent";

pub(super) const RESTORE_SYSCTLS: &str = "\
While SYN cookies of the kernel are in use, the agent sets net.ipv4.tcp_syncookies to 2. The service
runs this command after each end of the agent.

Examples:
  tcpguard restore-sysctls";

/// `tcpguard fleet …`
#[derive(Debug, Subcommand)]
pub enum FleetVerb {
    /// Verb of tcpguard-fleet, and its arguments.
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

pub(super) const FLEET: &str = "\
Runs tcpguard-fleet, which is a package of its own. Its verbs: tcpguard fleet help

Examples:
  tcpguard fleet status                           # hosts, incidents and routes of the fleet
  tcpguard fleet status --json | jq .incidents
  tcpguard fleet block 203.0.113.0/24 --for 2h --dry-run
  tcpguard fleet help block                       # help of a verb";
