//! Arguments of the verbs that show alerts.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use crate::cli::duration;

/// `tcpguard alerts`
#[derive(Debug, clap::Args)]
#[command(after_help = ALERTS)]
pub struct AlertsArgs {
    /// What to do; without it: list
    #[command(subcommand)]
    pub verb: Option<AlertsVerb>,
    /// Only these and worse
    #[arg(long, global = true, value_name = "SEVERITY", default_value = "notice")]
    pub severity: Threshold,
    /// Only those of this time before now, such as 90m, 24h or 7d
    #[arg(long, global = true, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    pub since: Duration,
}

/// `tcpguard alerts …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum AlertsVerb {
    /// Show what was told, oldest first
    #[command(after_help = LIST)]
    List,
    /// Show what an attack was judged by, as `tcpguard explain ID` does
    #[command(after_help = SHOW)]
    Show {
        /// Number of the attack
        #[arg(value_parser = incident_number)]
        id: u64,
    },
}

const ALERTS: &str = "\
The last 1,000 alerts are known, of earlier runs of the agent too; all: journalctl -t tcpguard

Examples:
  tcpguard alerts                                 # of the last 24 hours
  tcpguard alerts --since 7d --severity critical
  tcpguard alerts show 1042                       # what an attack was judged by
  tcpguard alerts --json | jq '.alerts[].message'";

const LIST: &str = "\
Examples:
  tcpguard alerts list                            # as without list
  tcpguard alerts list --since 90m --severity warning";

const SHOW: &str = "\
Examples:
  tcpguard alerts show 1042
  tcpguard alerts show 1042 --json | jq .record";

fn incident_number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    digits.parse().map_err(|_| "it is no number of an attack, such as 1042".to_owned())
}

/// `tcpguard events`
#[derive(Debug, clap::Args)]
#[command(after_help = EVENTS)]
pub struct EventsArgs {
    /// Only these and worse
    #[arg(long, value_name = "SEVERITY", default_value = "notice")]
    pub severity: Threshold,
    /// Only what is about these; several with commas between them
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<EventKind>,
}

const EVENTS: &str = "\
It goes on when the agent is started again.

Examples:
  tcpguard events
  tcpguard events --kind alert,mode --severity warning
  tcpguard events --json | jq -r .message";

/// Subject of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum EventKind {
    /// Attacks and other incidents
    Alert,
    /// Rules and the allowlist
    Rule,
    /// Steps beside rules, such as cookies
    Mitigation,
    /// The mode
    Mode,
    /// The configuration
    Config,
    /// Interfaces and the filter on them
    Interface,
}

/// From which severity on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Threshold {
    /// Everything
    Notice,
    /// What needs attention
    Warning,
    /// Attacks
    Critical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_is_named_by_its_number() {
        assert_eq!((incident_number("1042"), incident_number("#7")), (Ok(1042), Ok(7)));
        assert!(incident_number("rule").is_err());
    }
}
