//! What the status is printed as for monitoring systems.

use clap::ValueEnum;

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
