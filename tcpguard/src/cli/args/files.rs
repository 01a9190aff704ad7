//! Arguments of verbs that read or write files.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Subcommand, ValueEnum};
use tcpguard_engine::Mode;

use super::{described, with_exit_status};
use crate::cli::duration;
use crate::config::DEFAULT_PATH;

/// `tcpguard replay`
#[derive(Debug, clap::Args)]
#[command(after_help = with_exit_status("replay", REPLAY))]
pub struct ReplayArgs {
    /// Captures: pcap or pcapng, also compressed; - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Replay in this mode
    #[arg(long, default_value = "observe", value_parser = capture_mode_parser())]
    pub mode: Mode,
    /// Write a page with plots to this file; - for standard output only
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Execute the data path here
    #[arg(long, value_enum, default_value_t)]
    pub backend: ReplayBackend,
    /// Use the thresholds of this configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Replay speed: max, or a factor such as 1x (alerts go to stderr)
    #[arg(long, value_name = "SPEED", default_value = "max")]
    pub speed: Speed,
    /// Exit with code 1 on incidents of this severity and higher
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t)]
    pub fail_on: FailOn,
}

const REPLAY: &str = "\
Runs detection and mitigation on a capture, with the default thresholds unless -c names a file. No
agent is required, and no packet is sent. Several captures are one recording, in the order of their
times.

Examples:
  tcpguard replay flood.pcap.gz
  tcpguard replay eth0.pcap eth1.pcapng           # both at once, or parts of tcpdump -C
  tcpguard replay flood.pcap --mode enforce -c /etc/tcpguard/tcpguard.toml
  tcpguard replay flood.pcap --html flood.html    # also a page with plots
  tcpguard replay flood.pcap --speed 1x           # alerts in real time
  tcpguard replay flood.pcap --fail-on critical   # exit code 1 for floods only
  tcpdump -i eth0 -c 100000 -w - tcp | tcpguard replay -
  sudo tcpguard capture -w - | tcpguard replay -  # SYNs that XDP drops or answers";

/// `tcpguard capture`
#[derive(Debug, clap::Args)]
#[command(after_help = CAPTURE)]
pub struct CaptureArgs {
    /// Write the pcapng to this file, which must not exist; - for stdout
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,
    /// Stop after so many packets
    #[arg(short, long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// Stop after this time, such as 60s or 10m
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration::at_most(LONGEST_CAPTURE))]
    pub time: Duration,
    /// Stop before the file is larger than so many MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub max_size: u64,
    /// Overwrite the file
    #[arg(long)]
    pub force: bool,
}

/// Longest time for which SYNs are recorded.
const LONGEST_CAPTURE: Duration = Duration::from_secs(24 * 3600);

const CAPTURE: &str = "\
Packet sockets come after XDP: tcpdump and an IDS on this host do not see the SYNs that XDP drops or
answers. This command records a sample of their headers, at most some 130 a second, without data.
Each packet has its verdict, the reason and the sampling rate as its comment. Ctrl-C ends it, too.
Not recorded: SYNs to ports on which nothing listens, and packets that are no SYNs.

Examples:
  sudo tcpguard capture -w dropped.pcapng
  sudo tcpguard capture -w dropped.pcapng --for 10m -c 50000
  sudo tcpguard capture -w - | tcpdump -n -r -
  tcpguard replay dropped.pcapng                  # what it shows, with the sampling rate";

/// Speed of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// The highest speed of this machine.
    Max,
    /// A multiple of the speed at which it was captured.
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
            _ => Err("not a speed; write max, or a factor from 0.01x to 1000x"),
        }
    }
}

/// Incidents of a capture that the exit code reports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum FailOn {
    /// Every incident
    #[default]
    Notice,
    /// Floods and incidents that affect clients
    Warning,
    /// Floods alone
    Critical,
    /// No incident
    Never,
}

/// Executor of the decision about each replayed packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ReplayBackend {
    /// In this process
    #[default]
    Host,
    /// In the kernel, as test runs of the BPF programs (root)
    Kernel,
}

/// `tcpguard config`
#[derive(Debug, clap::Args)]
#[command(after_help = CONFIG)]
pub struct ConfigArgs {
    /// The operation; without it the settings are shown.
    #[command(subcommand)]
    pub verb: Option<ConfigVerb>,
}

const CONFIG: &str = "\
The configuration is /etc/tcpguard/tcpguard.toml with the files of conf.d beside it. tcpguard.toml(5)
describes every key. Without a command, the settings are shown.

Examples:
  tcpguard config init                            # once
  tcpguard config check                           # after each change
  tcpguard config show                            # settings of the files
  tcpguard config show --effective                # settings of the running agent";

/// `tcpguard config …`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check a configuration file and its conf.d
    #[command(after_help = CHECK)]
    Check {
        /// Configuration file.
        #[arg(help = format!("Configuration file [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
        /// Read this configuration file
        #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
    },
    /// Show every setting with its value and origin
    Show(ShowArgs),
    /// Write a commented file with every setting
    #[command(after_help = INIT)]
    Init {
        /// The new file.
        #[arg(help = format!("New file; - for standard output [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
    },
}

const CHECK: &str = "\
Reports every mistake with file, line and column, and warns of interfaces that do not exist. Nothing
is applied.

Examples:
  tcpguard config check
  tcpguard config check -c /tmp/guard.toml --json | jq .problems";

/// `tcpguard config show`
#[derive(Debug, Default, clap::Args)]
#[command(after_help = SHOW)]
pub struct ShowArgs {
    /// Configuration file.
    #[arg(help = format!("Configuration file [default: {DEFAULT_PATH}]"))]
    pub file: Option<PathBuf>,
    /// Read this configuration file
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    pub config: Option<PathBuf>,
    /// Show the settings of the running agent instead of the files
    #[arg(long, conflicts_with_all = ["file", "config"])]
    pub effective: bool,
    /// Show the exact origin of each value: file and line, or command
    #[arg(long)]
    pub origin: bool,
}

const SHOW: &str = "\
The files are read as a start of the agent would read them. A running agent may have an older version
of the files, and a mode that was set by tcpguard mode: --effective shows its settings.

Examples:
  tcpguard config show
  tcpguard config show --origin                   # with file and line
  tcpguard config show --effective --origin       # of the running agent
  tcpguard config show /tmp/guard.toml --json | jq .settings";

const INIT: &str = "\
Every setting is explained and commented out, with its default. An existing file is not overwritten.

Examples:
  tcpguard config init
  tcpguard config init - | less";

/// `tcpguard completions`
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub struct CompletionsArgs {
    /// Shell of the script
    #[arg(value_enum)]
    pub shell: Shell,
}

const COMPLETIONS: &str = "\
The packages install these files. Without a package:

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
    /// Directory of the pages
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

const MANUAL: &str = "\
Writes a page of section 8 for tcpguard and for each command, and tcpguard.toml(5).

Examples:
  tcpguard manual /tmp/manual
  man /tmp/manual/tcpguard.8";

fn capture_mode_parser() -> impl TypedValueParser<Value = Mode> {
    described(&[
        ("observe", "Count the SYNs that rules match", Mode::Observe),
        ("enforce", "Drop the SYNs that rules match", Mode::Enforce),
    ])
}
