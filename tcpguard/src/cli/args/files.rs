//! Arguments of verbs that read or write files.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::{Subcommand, ValueEnum};
use tcpguard_engine::Mode;

use super::one_of;
use crate::config::DEFAULT_PATH;

/// `tcpguard replay`
#[derive(Debug, clap::Args)]
#[command(after_help = REPLAY)]
pub struct ReplayArgs {
    /// The capture: pcap or pcapng, also compressed with gzip; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What happens when a rule matches
    #[arg(long, default_value = "observe", value_parser = capture_mode_parser())]
    pub mode: Mode,
    /// Where the decision about each packet runs
    #[arg(long, value_enum, default_value_t)]
    pub backend: ReplayBackend,
    /// Configuration file whose thresholds to judge by, in place of the defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How fast packets come: max, or in times of the pace at which they were captured, such as 1x; then
    /// what is told is told on stderr as it happens
    #[arg(long, value_name = "SPEED", default_value = "max")]
    pub speed: Speed,
    /// Which incidents make the exit code 1
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t)]
    pub fail_on: FailOn,
}

const REPLAY: &str = "\
Exit codes: 0 no incident, 1 incidents (--fail-on says which count), 2 usage,
3 the capture, or most of its packets, cannot be read, 4 permission denied.

Examples:
  tcpguard replay flood.pcap.gz
  tcpguard replay flood.pcap --mode enforce -c /etc/tcpguard/tcpguard.toml
  tcpguard replay flood.pcap --speed 1x           # what would be told, and when
  tcpguard replay flood.pcap --fail-on critical   # exit code 1 for floods only
  tcpdump -i eth0 -c 100000 -w - tcp | tcpguard replay -";

/// Speed of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as this machine can.
    Max,
    /// So many times as fast as it was captured.
    Times(f64),
}

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.strip_suffix('x').unwrap_or(text).parse();
        match times {
            Ok(times) if (0.01..=1000.0).contains(&times) => Ok(Self::Times(times)),
            _ => Err("max, or a factor from 0.01x to 1000x, such as 1x"),
        }
    }
}

/// Incidents of a capture that the exit code reports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum FailOn {
    /// Every incident
    #[default]
    Notice,
    /// Floods, and what else clients suffer from
    Warning,
    /// Floods
    Critical,
    /// None
    Never,
}

/// Executor of the decision about each replayed packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ReplayBackend {
    /// In this process
    #[default]
    Host,
    /// In the loaded BPF programs, by test runs: needs root, touches no interface
    Kernel,
}

/// `tcpguard report`
#[derive(Debug, clap::Args)]
#[command(after_help = REPORT)]
pub struct ReportArgs {
    /// Number of an attack; or a capture: pcap or pcapng, also compressed with gzip; - for standard
    /// input
    #[arg(value_name = "ATTACK|CAPTURE", value_parser = report_subject)]
    pub subject: ReportSubject,
    /// File to write the page to, in place of one that is there; - for standard output
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Of a capture: what happens when a rule matches [default: observe]
    #[arg(long, value_parser = capture_mode_parser())]
    pub mode: Option<Mode>,
    /// Of a capture: configuration file whose thresholds to judge by, in place of the defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const REPORT: &str = "\
The page needs no network: it can be mailed, opened anywhere and printed. With --json the counts
that it draws are printed, a line for each attack (tcpguard.timeline/1).

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 tcpguard is not running or the capture
cannot be read, 4 permission denied, 5 no such attack.

Examples:
  tcpguard report 7 --html attack-7.html
  tcpguard report flood.pcap.gz --html flood.html
  tcpguard report 7 --json | jq '.points[].syn_pps'";

/// Subject of a report.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReportSubject {
    /// The attack with this number.
    Attack(u64),
    /// The capture in this file.
    Capture(PathBuf),
}

/// A number is an attack; a file of such a name is `./7`.
fn report_subject(text: &str) -> Result<ReportSubject, String> {
    let number = text.strip_prefix('#').unwrap_or(text).parse().ok();
    Ok(number.map_or_else(|| ReportSubject::Capture(text.into()), ReportSubject::Attack))
}

pub(super) const CONFIG: &str = "\
Examples:
  tcpguard config init                            # once
  tcpguard config check                           # after each change
  tcpguard config show                            # what a start would take
  tcpguard config show --effective                # what the running agent holds";

/// `tcpguard config …`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Report every mistake in a configuration file and those of conf.d beside it
    #[command(after_help = CHECK)]
    Check {
        /// The file
        #[arg(help = format!("The file [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
        /// The same, as `run` and `replay` have it
        #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
    },
    /// Show every setting with the value that holds and where it comes from
    Show(ShowArgs),
    /// Write a file with every setting, explained and commented out
    #[command(after_help = INIT)]
    Init {
        /// The file; an existing one is left alone; - for standard output
        #[arg(help = format!("The file; an existing one is left alone; - for standard output [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
    },
}

const CHECK: &str = "\
Examples:
  tcpguard config check
  tcpguard config check -c /tmp/guard.toml --json | jq .problems";

/// `tcpguard config show`
#[derive(Debug, Default, clap::Args)]
#[command(after_help = SHOW)]
pub struct ShowArgs {
    /// The file; those of conf.d beside it count too
    #[arg(help = format!("The file; those of conf.d beside it count too [default: {DEFAULT_PATH}]"))]
    pub file: Option<PathBuf>,
    /// The same, as `run` and `replay` have it
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    pub config: Option<PathBuf>,
    /// What the running agent holds, rather than what a start would take from the files
    #[arg(long, conflicts_with_all = ["file", "config"])]
    pub effective: bool,
    /// Where exactly each value comes from: file and line, command line, or tcpguard mode
    #[arg(long)]
    pub origin: bool,
}

const SHOW: &str = "\
Examples:
  tcpguard config show
  tcpguard config show --origin                   # which file says it, and where
  tcpguard config show --effective --origin       # what the running agent holds, and why
  tcpguard config show /tmp/guard.toml --json | jq .settings";

const INIT: &str = "\
Examples:
  tcpguard config init                            # never over a file that is there
  tcpguard config init - | less";

/// `tcpguard completions`
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

const COMPLETIONS: &str = "\
The packages bring the files. Without one:

Examples:
  tcpguard completions bash > /etc/bash_completion.d/tcpguard
  tcpguard completions zsh > /usr/local/share/zsh/site-functions/_tcpguard
  tcpguard completions fish > /etc/fish/completions/tcpguard.fish";

/// A shell.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Shell {
    /// GNU Bash, with bash-completion
    Bash,
    /// Z shell
    Zsh,
    /// Friendly interactive shell
    Fish,
}

/// `tcpguard manual`
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct ManualArgs {
    /// Where the pages are written
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

const MANUAL: &str = "\
Examples:
  tcpguard manual /tmp/manual
  man /tmp/manual/tcpguard.8";

fn capture_mode_parser() -> impl TypedValueParser<Value = Mode> {
    one_of(&[("observe", Mode::Observe), ("enforce", Mode::Enforce)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_attack_and_anything_else_a_file() {
        let file = |name: &str| Ok(ReportSubject::Capture(name.into()));
        assert_eq!(report_subject("7"), Ok(ReportSubject::Attack(7)));
        assert_eq!(report_subject("#7"), Ok(ReportSubject::Attack(7)));
        assert_eq!(report_subject("./7"), file("./7"));
        assert_eq!(report_subject("flood.pcap"), file("flood.pcap"));
        assert_eq!(report_subject("-"), file("-"));
    }
}
