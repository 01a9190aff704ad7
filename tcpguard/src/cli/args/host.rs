//! Arguments of verbs that change this host, with an agent or without.

use clap::ValueHint;

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
Examples:
  tcpguard detach -i eth0
  tcpguard detach --all                           # works without an agent
  systemctl restart tcpguard                      # attach again";

/// `tcpguard selftest`
#[derive(Debug, clap::Args)]
#[command(after_help = SELFTEST)]
pub struct SelftestArgs {
    /// Only where no result is kept for this kernel, these programs and these sysctls; print nothing
    #[arg(long)]
    pub if_needed: bool,
}

const SELFTEST: &str = "\
Real connections between two temporary network namespaces; nothing leaves this host.
Exit codes: 0 some SYN cookies work, 1 none do or nothing could be tried, 2 usage,
4 permission denied.

Examples:
  tcpguard selftest
  tcpguard selftest --state-dir /tmp                 # and leave what the agent goes by alone";

pub(super) const RESTORE_SYSCTLS: &str = "\
Examples:
  tcpguard restore-sysctls                        # the service does so after each end";
