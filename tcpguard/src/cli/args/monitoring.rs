//! Arguments of verbs for monitoring.

use super::with_exit_status;
use crate::documents::monitoring::Threshold;

/// `tcpguard top`
#[cfg(feature = "tui")]
#[derive(Debug, clap::Args)]
#[command(after_help = TOP)]
pub struct TopArgs {
    /// Refresh every SEC seconds
    #[arg(short, long, value_name = "SEC", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub watch: u64,
}

#[cfg(feature = "tui")]
const TOP: &str = "\
Keys: 1 to 4 or Tab: lists, arrows: rows, Enter: details, /: filter, p: pause, m: mode, b: block,
u: release, c: confirm, ?: all keys, q: quit. A key that changes something shows the command first
and runs it after a y. The terminal must have 80 columns and 24 lines.

Examples:
  tcpguard top
  tcpguard top -w 5                               # refreshed every 5 s
  tcpguard top --json                             # the rates of the last five minutes
  tcpguard status --watch                         # without a full-screen terminal";

/// `tcpguard check`
#[derive(Debug, clap::Args)]
#[command(after_help = with_exit_status("check", CHECK))]
pub struct CheckArgs {
    /// Return WARNING if a value is outside its range; repeatable
    #[arg(long, value_name = "NAME=RANGE")]
    pub warn: Vec<Threshold>,
    /// Return CRITICAL if a value is outside its range; repeatable
    #[arg(long, value_name = "NAME=RANGE")]
    pub crit: Vec<Threshold>,
}

const CHECK: &str = "\
A plugin for Nagios, Icinga and others: one line with performance data.
WARNING: elevated, degraded, off, a mitigated attack, a refused configuration.
CRITICAL: an unmitigated attack, clients that cannot connect, a missing XDP program, no agent.
Names: clients (% of the handshakes that clients attempt), syn_pps, drop_pps, half_open (%), rules,
incidents. Ranges: 10 is 0 to 10, 10: is 10 and more, ~:10 is 10 and less, 10:20, and @10:20 is
everything outside.

Examples:
  tcpguard check
  tcpguard check --warn half_open=50 --crit half_open=90 --crit clients=50:
  tcpguard check --quiet                          # exit code only";

pub(in crate::cli) const METRICS: &str = "\
The text format of Prometheus. The agent also serves it on /run/tcpguard/metrics.sock and, if
configured, over TCP. Without an agent only tcpguard_up 0 is printed.

Examples:
  tcpguard metrics
  tcpguard metrics | promtool check metrics
  curl --unix-socket /run/tcpguard/metrics.sock http://localhost/metrics";
