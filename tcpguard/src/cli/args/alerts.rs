//! Arguments of the verbs that show alerts.

use std::time::Duration;

use clap::ValueEnum;

use crate::cli::duration;

/// `tcpguard alerts`
#[derive(Debug, clap::Args)]
#[command(after_help = ALERTS)]
pub struct AlertsArgs {
    /// Show only alerts of this severity and higher
    #[arg(long, value_name = "SEVERITY", default_value = "notice")]
    pub severity: Threshold,
    /// Show only alerts of this last period, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    pub since: Duration,
}

const ALERTS: &str = "\
The agent keeps 1,000 alerts, also of earlier runs: the last 500, and the most severe of those
before. All of them: journalctl -t tcpguard

Examples:
  tcpguard alerts                                 # of the last 24 hours
  tcpguard alerts --since 7d --severity critical
  tcpguard explain 1042                           # evidence, actions and rules of incident #1042
  tcpguard alerts --json | jq '.alerts[].message'";

/// `tcpguard events`
#[derive(Debug, clap::Args)]
#[command(after_help = EVENTS)]
pub struct EventsArgs {
    /// Show only events of this severity and higher
    #[arg(long, value_name = "SEVERITY", default_value = "notice")]
    pub severity: Threshold,
    /// Show only events of these kinds, separated by commas
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<EventKind>,
}

const EVENTS: &str = "\
The command continues when the agent restarts.

Examples:
  tcpguard events
  tcpguard events --kind alert,mode --severity warning
  tcpguard events --json | jq -r .message";

/// Kind of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum EventKind {
    /// Attacks and other incidents
    Alert,
    /// Rules and the allowlist
    Rule,
    /// Mitigations of listeners, such as SYN cookies
    Mitigation,
    /// The mode
    Mode,
    /// The configuration
    Config,
    /// Interfaces and the XDP program on them
    Interface,
}

/// Lowest severity that is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Threshold {
    /// Attacks that harm clients
    Critical,
    /// Conditions that need attention
    Warning,
    /// Every alert
    Notice,
}
