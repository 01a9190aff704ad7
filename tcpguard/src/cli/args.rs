//! Exactly what was typed, checked for form only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use log::LevelFilter;
use tcpguard_engine::{Mode, Order, Step};

use super::duration;
use crate::config::{
    DEFAULT_PATH, DEFAULT_PIN_DIR, DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR, MODES, XdpMode,
    parse_prefix,
};

/// Detects and stops SYN floods in the kernel.
#[derive(Debug, Parser)]
#[command(name = "tcpguard", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Args {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 refused or failed, 2 usage, 3 tcpguard is not running,
4 permission denied, 5 no such rule or interface.";

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Say nothing but data and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Socket of the agent, in place of those in the runtime directory
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory of the agent's sockets
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
    /// Directory on a bpffs in which links are pinned
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set; CLICOLOR_FORCE: always
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Guard interfaces until stopped (what the service runs)
    Run(RunArgs),
    /// Show what is happening and what is done about it
    Status(StatusArgs),
    /// Look at all of it live, in the terminal
    #[cfg(feature = "tui")]
    Top(super::top::TopArgs),
    /// Say in one line, for monitoring, whether all is well
    Check(super::check::CheckArgs),
    /// Drop SYNs from an address or prefix
    Block(BlockArgs),
    /// Take back rules on an address or prefix
    Unblock(UnblockArgs),
    /// Let no rule of the guard's own drop an address or prefix
    Allow(AllowArgs),
    /// Take an address or prefix off the allow-list
    Unallow(UnallowArgs),
    /// Say what decides about an address, or what an attack was judged by
    Explain(ExplainArgs),
    /// Show what was told of attacks, rules and changes
    Alerts(AlertsArgs),
    /// Follow what is told, as it happens
    Events(AlertsArgs),
    /// Look at the rules
    Rules {
        /// What to do with them.
        #[command(subcommand)]
        verb: RulesVerb,
    },
    /// Show or set what happens when a rule matches
    Mode(ModeArgs),
    /// Take a step for a listener, forbid it, or leave it to the guard again
    Step(StepArgs),
    /// Read the configuration again and apply what can be applied
    Reload,
    /// Say what the guard would have done about a capture
    Replay(ReplayArgs),
    /// Try out which SYN cookies work on this host
    Probe(ProbeArgs),
    /// Take the filter off, also when the agent is dead
    Detach(DetachArgs),
    /// Look at the configuration
    Config {
        /// What to do with it.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Show the versions
    Version,
    /// Put back the sysctls that an agent changed and that ended without doing so
    #[command(hide = true)]
    RestoreSysctls(RestoreSysctlsArgs),
}

/// `tcpguard run`
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration file; without this, the default one if it exists
    #[arg(short, long, value_name = "FILE", help = format!("Configuration file [default: {DEFAULT_PATH} if it exists]"))]
    pub config: Option<PathBuf>,
    /// Interface to guard, in place of those in the file; may be repeated
    #[arg(short, long = "interface", value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// What happens when a rule matches, in place of the file and of `tcpguard mode`
    #[arg(long, value_parser = mode_parser())]
    pub mode: Option<Mode>,
    /// Directory of what must survive a restart
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Which log lines of the kernel programs to print
    #[arg(long, value_name = "LEVEL", value_parser = level_parser())]
    pub bpf_log: Option<LevelFilter>,
    /// How to attach, in place of the file
    #[arg(long, value_parser = xdp_mode_parser())]
    pub xdp_mode: Option<XdpMode>,
}

/// `tcpguard status`
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Only the first line
    #[arg(long)]
    pub brief: bool,
    /// Every listener, not only the busiest
    #[arg(long)]
    pub listeners: bool,
    /// Again and again, every SEC seconds
    #[arg(long, value_name = "SEC", num_args = 0..=1, require_equals = true,
          default_missing_value = "1", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// Wait until the guard is in this state
    #[arg(long, value_name = "STATE", conflicts_with = "watch")]
    pub wait: Option<WaitFor>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "wait", value_parser = duration::parse)]
    pub timeout: Duration,
}

/// What `status --wait` can wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum WaitFor {
    /// Running and whole, and not under an attack that nothing stops
    Healthy,
}

/// `tcpguard block`
#[derive(Debug, clap::Args)]
pub struct BlockArgs {
    /// Address or prefix, such as 192.0.2.0/24
    #[arg(value_parser = parse_prefix)]
    pub prefix: IpNet,
    /// For how long, such as 90s, 10m, 1h30m or 2d
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    pub lifetime: Duration,
    /// Why, for whoever finds the rule
    #[arg(long, value_name = "TEXT", default_value = "blocked by hand")]
    pub reason: String,
    /// Block even what is protected, very wide, or your own address
    #[arg(long)]
    pub force: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

/// `tcpguard step`
#[derive(Debug, clap::Args)]
pub struct StepArgs {
    /// Which listener: a port such as :443, or ADDRESS:PORT as status shows it
    #[arg(value_parser = ListenerName::parse)]
    pub listener: ListenerName,
    /// Which step; source and signature, which rules do, can be forbidden only
    #[arg(value_parser = step_parser())]
    pub step: Step,
    /// Take it, forbid it, or decide by the situation
    #[arg(value_parser = order_parser())]
    pub order: Order,
    /// For how long, such as 90s, 10m, 1h30m or 2d
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    pub lifetime: Duration,
}

/// A listener as it is typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListenerName {
    /// With its address.
    At(SocketAddr),
    /// The one on this port.
    Port(u16),
}

impl ListenerName {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        let port = text.strip_prefix(':').unwrap_or(text).parse().ok().filter(|port| *port > 0);
        port.map(Self::Port)
            .ok_or_else(|| "it is no port, such as :443, and no ADDRESS:PORT".to_owned())
    }
}

impl std::fmt::Display for ListenerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Port(port) => write!(f, "port {port}"),
        }
    }
}

/// `tcpguard unblock`
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct UnblockArgs {
    /// Address or prefix: every source rule within it is removed
    #[arg(value_parser = parse_prefix)]
    pub prefix: Option<IpNet>,
    /// Remove every rule, of either origin
    #[arg(long)]
    pub all: bool,
}

/// `tcpguard allow`
#[derive(Debug, clap::Args)]
pub struct AllowArgs {
    /// Address or prefix, such as 192.0.2.0/24
    #[arg(value_parser = parse_prefix)]
    pub prefix: IpNet,
    /// For how long, such as 90s, 10m, 1h30m or 30d
    #[arg(long = "for", value_name = "TIME", default_value = "30d", value_parser = duration::parse)]
    pub lifetime: Duration,
    /// Why, for whoever finds it
    #[arg(long, value_name = "TEXT", default_value = "allowed by hand")]
    pub reason: String,
    /// Allow even what is very wide
    #[arg(long)]
    pub force: bool,
}

/// `tcpguard unallow`
#[derive(Debug, clap::Args)]
pub struct UnallowArgs {
    /// Address or prefix: every exemption within it that an operator made is removed
    #[arg(value_parser = parse_prefix)]
    pub prefix: IpNet,
}

/// `tcpguard explain`
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Address or prefix, or the number of an attack
    #[arg(value_name = "PREFIX|ATTACK", value_parser = subject)]
    pub subject: Subject,
}

/// What is to be explained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// Sources.
    Prefix(IpNet),
    /// An attack, by its number.
    Incident(u64),
}

fn subject(text: &str) -> Result<Subject, String> {
    match text.strip_prefix('#').unwrap_or(text).parse() {
        Ok(id) => Ok(Subject::Incident(id)),
        Err(_) => parse_prefix(text).map(Subject::Prefix),
    }
}

/// `tcpguard alerts` and `tcpguard events`
#[derive(Debug, clap::Args)]
pub struct AlertsArgs {
    /// Only these and worse
    #[arg(long, value_name = "SEVERITY", default_value = "notice")]
    pub severity: Threshold,
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

/// `tcpguard rules …`
#[derive(Debug, Subcommand)]
pub enum RulesVerb {
    /// Show every rule with its origin, reason, end and hits, and the allow-list
    List,
    /// Write the rules that operators made, one JSON object a line, for `rules import`
    Export(ExportArgs),
    /// Put the rules of a file in the place of those that operators made, all at once or not at all
    Import(ImportArgs),
    /// Remove every rule, of either origin, all at once
    Flush,
}

/// `tcpguard rules export`
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Also source rules that the guard made itself; imported, they become an operator's
    #[arg(long)]
    pub all: bool,
}

/// `tcpguard rules import`
#[derive(Debug, clap::Args)]
#[command(after_help = RULE_FILE)]
pub struct ImportArgs {
    /// The file; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Leave other rules as they are, and only add and change
    #[arg(long)]
    pub merge: bool,
    /// For how long, where the file does not say
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration::parse)]
    pub lifetime: Duration,
    /// Why, where the file does not say
    #[arg(long, value_name = "TEXT", default_value = "imported by hand")]
    pub reason: String,
    /// Also what is protected, very wide, or your own address
    #[arg(long)]
    pub force: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

const RULE_FILE: &str = "\
Each line of FILE is an address or prefix, or an object as `rules export` writes it:
{\"prefix\":\"192.0.2.0/24\",\"for_s\":3600,\"reason\":\"abuse report\"}, where only the prefix must be.
Empty lines and what follows a # are skipped. No rule lives longer than 24 h.";

/// `tcpguard mode`
#[derive(Debug, clap::Args)]
pub struct ModeArgs {
    /// The new mode; without it the mode is shown
    #[arg(value_parser = mode_parser())]
    pub mode: Option<Mode>,
}

/// `tcpguard replay`
#[derive(Debug, clap::Args)]
#[command(after_help = REPLAY_EXIT_CODES)]
pub struct ReplayArgs {
    /// The capture: pcap or pcapng, also compressed with gzip; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What happens when a rule matches
    #[arg(long, default_value = "observe", value_parser = replay_mode_parser())]
    pub mode: Mode,
    /// Where the decision about each packet runs
    #[arg(long, value_enum, default_value_t)]
    pub backend: ReplayBackend,
    /// Configuration file whose thresholds to judge by, in place of the defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const REPLAY_EXIT_CODES: &str = "\
Exit codes: 0 no incident, 1 incidents, 2 usage, 3 the capture cannot be read,
4 permission denied.";

/// Where the decision about each replayed packet runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ReplayBackend {
    /// In this process
    #[default]
    Host,
    /// In the loaded BPF programs, by test runs: needs root, touches no interface
    Kernel,
}

/// `tcpguard detach`
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct DetachArgs {
    /// Interface to take the filter off
    #[arg(value_name = "IFACE")]
    pub interface: Option<String>,
    /// Take it off everywhere
    #[arg(long)]
    pub all: bool,
}

/// `tcpguard probe`
#[derive(Debug, clap::Args)]
#[command(after_help = PROBE_EXIT_CODES)]
pub struct ProbeArgs {
    /// Directory in which the result is kept for the agent
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Only where no result is kept for this kernel, these programs and these sysctls; print nothing
    #[arg(long)]
    pub if_needed: bool,
}

const PROBE_EXIT_CODES: &str = "\
Real connections between two temporary network namespaces; nothing leaves this host.
Exit codes: 0 some SYN cookies work, 1 none do or nothing could be tried, 2 usage,
4 permission denied.";

/// `tcpguard restore-sysctls`
#[derive(Debug, clap::Args)]
pub struct RestoreSysctlsArgs {
    /// Directory in which the agent keeps what must survive a restart
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}

/// `tcpguard config …`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Report every mistake in a configuration file
    Check {
        /// The file
        #[arg(help = format!("The file [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
    },
    /// Show every setting with the value that holds and where it comes from
    Show {
        /// The file
        #[arg(help = format!("The file [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
    },
    /// Write a file with every setting, explained and commented out
    Init {
        /// The file; an existing one is left alone; - for standard output
        #[arg(help = format!("The file; an existing one is left alone; - for standard output [default: {DEFAULT_PATH}]"))]
        file: Option<PathBuf>,
    },
}

fn mode_parser() -> impl TypedValueParser<Value = Mode> {
    one_of(&MODES)
}

fn step_parser() -> impl TypedValueParser<Value = Step> {
    one_of(&[
        ("strays", Step::Strays),
        ("source", Step::Source),
        ("signature", Step::Signature),
        ("cookies", Step::Cookies),
        ("overload", Step::Overload),
        ("budget", Step::Budget),
    ])
}

fn order_parser() -> impl TypedValueParser<Value = Order> {
    one_of(&[("on", Order::On), ("off", Order::Off), ("auto", Order::Auto)])
}

fn replay_mode_parser() -> impl TypedValueParser<Value = Mode> {
    one_of(&[("observe", Mode::Observe), ("enforce", Mode::Enforce)])
}

fn xdp_mode_parser() -> impl TypedValueParser<Value = XdpMode> {
    one_of(&crate::config::XDP_MODES)
}

fn level_parser() -> impl TypedValueParser<Value = LevelFilter> {
    one_of(&[
        ("off", LevelFilter::Off),
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
        ("trace", LevelFilter::Trace),
    ])
}

/// One of the named values; clap lists the names in help and errors.
fn one_of<T: Copy + Send + Sync + 'static>(
    values: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(values.iter().map(|(name, _)| *name)).try_map(|typed| {
        let found = values.iter().find(|(name, _)| *name == typed);
        found.map(|(_, value)| *value).ok_or("not one of the possible values")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_number_is_an_attack_and_anything_else_a_prefix() {
        assert_eq!(subject("1042"), Ok(Subject::Incident(1042)));
        assert_eq!(subject("#7"), Ok(Subject::Incident(7)));
        assert_eq!(subject("192.0.2.1"), Ok(Subject::Prefix("192.0.2.1/32".parse().unwrap())));
        assert!(subject("192.0.2").is_err());
    }

    #[test]
    fn a_listener_is_named_by_its_port_or_with_its_address() {
        let at = |text: &str| ListenerName::At(text.parse().unwrap());
        assert_eq!(ListenerName::parse(":443"), Ok(ListenerName::Port(443)));
        assert_eq!(ListenerName::parse("443"), Ok(ListenerName::Port(443)));
        assert_eq!(ListenerName::parse("192.0.2.1:443"), Ok(at("192.0.2.1:443")));
        assert_eq!(ListenerName::parse("[::]:443"), Ok(at("[::]:443")));
        for wrong in ["", ":", ":0", "https", "192.0.2.1", ":65536"] {
            assert!(ListenerName::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_step_can_be_typed() {
        for step in Step::ALL {
            let line = ["tcpguard", "step", ":443", step.name(), "off"];
            assert!(Args::try_parse_from(line).is_ok(), "{}", step.name());
        }
    }

    #[test]
    fn watch_takes_its_seconds_only_after_an_equals_sign() {
        let watch = |line: &[&str]| {
            let args = Args::try_parse_from(line).ok()?;
            match args.verb {
                Verb::Status(status) => Some(status.watch),
                _ => None,
            }
        };
        assert_eq!(watch(&["tcpguard", "status"]), Some(None));
        assert_eq!(watch(&["tcpguard", "status", "--watch"]), Some(Some(1)));
        assert_eq!(watch(&["tcpguard", "status", "--watch=5"]), Some(Some(5)));
        assert_eq!(watch(&["tcpguard", "status", "--watch=0"]), None);
        assert_eq!(watch(&["tcpguard", "status", "--watch", "5"]), None);
    }
}
