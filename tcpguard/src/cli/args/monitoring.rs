//! Arguments of verbs for monitoring, by people and by monitoring systems.

use clap::ValueEnum;

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
Keys: 1 to 4 or Tab lists, arrows rows, Enter details, / filter, p hold, m mode, b block,
u release, c confirm, ? all keys, q quit. A key that changes something shows the command first
and runs it after a y. It needs a terminal of 80 columns and 24 lines.

Examples:
  tcpguard top
  tcpguard top -w 5                               # refresh every 5 s
  tcpguard top --json                             # the rates of the last five minutes
  tcpguard status --watch                         # without a terminal";

/// `tcpguard check`
#[derive(Debug, clap::Args)]
#[command(after_help = CHECK)]
pub struct CheckArgs {
    /// Warn when a number is outside of its range; may be repeated
    #[arg(long, value_name = "NAME=RANGE")]
    pub warn: Vec<Threshold>,
    /// Raise an alarm when a number is outside of its range; may be repeated
    #[arg(long, value_name = "NAME=RANGE")]
    pub crit: Vec<Threshold>,
}

const CHECK: &str = "\
Names: clients (% of the baseline that connect to what is
attacked), syn_pps, drop_pps, half_open (%), rules, attacks.
Ranges as monitoring plugins have them: 10 is 0 to 10, 10: is 10 and more, ~:10 is 10 and less,
10:20, and @10:20 is everything else.
Exit codes: 0 OK, 1 WARNING (elevated, degraded, off, an attack that is stopped, a configuration that
was refused), 2 CRITICAL (an attack that nothing stops or that keeps clients out, filter or rules
gone, the agent dead), 3 UNKNOWN (denied, usage).

Examples:
  tcpguard check
  tcpguard check --warn half_open=50 --crit half_open=90 --crit clients=50:
  tcpguard check --quiet                          # the exit code alone";

/// `tcpguard metrics`
#[derive(Debug, clap::Args)]
#[command(after_help = METRICS)]
pub struct MetricsArgs {
    /// In which form
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    pub format: MetricsFormat,
}

/// Forms of metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum MetricsFormat {
    /// OpenMetrics 1.0
    #[default]
    Openmetrics,
    /// Prometheus 0.0.4, as promtool and the textfile collector of node_exporter read it
    Prometheus,
}

const METRICS: &str = "\
Without an agent only tcpguard_up 0 is printed, and the exit code is 3.

Examples:
  tcpguard metrics
  tcpguard metrics --format prometheus | promtool check metrics
  curl --unix-socket /run/tcpguard/metrics.sock http://localhost/metrics";
