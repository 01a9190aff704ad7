//! Arguments of verbs that query or run the agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{ValueEnum, ValueHint};
use ipnet::IpNet;
use log::LevelFilter;
use tcpguard_engine::{Limits, Mitigation, Mode, Order};

use super::{mode_parser, one_of, prefix};
use crate::bpf::XdpMode;
use crate::cli::duration;
use crate::config::{DEFAULT_PATH, XDP_MODES};

/// `tcpguard run`
#[derive(Debug, clap::Args)]
#[command(after_help = RUN)]
pub struct RunArgs {
    /// Configuration file; without this, the default one if it exists
    #[arg(short, long, value_name = "FILE", help = format!("Configuration file [default: {DEFAULT_PATH} if it exists]"))]
    pub config: Option<PathBuf>,
    /// Interface to guard, in place of those in the file; may be repeated
    #[arg(short, long = "interface", value_name = "IFACE", value_hint = ValueHint::Hostname)]
    pub interfaces: Vec<String>,
    /// What happens when a rule matches, in place of the file and of `tcpguard mode`
    #[arg(long, value_parser = mode_parser())]
    pub mode: Option<Mode>,
    /// Which log lines of the kernel programs to print
    #[arg(long, value_name = "LEVEL", value_parser = level_parser())]
    pub bpf_log: Option<LevelFilter>,
    /// How to attach, in place of the file
    #[arg(long, value_parser = xdp_mode_parser())]
    pub xdp_mode: Option<XdpMode>,
}

const RUN: &str = "\
Examples:
  tcpguard run                                    # as the service does
  tcpguard run -i eth0 -i eth1 --mode observe     # without a file, and only watch
  tcpguard run -c /tmp/guard.toml --runtime-dir /tmp/guard --bpf-log debug";

/// `tcpguard status`
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub struct StatusArgs {
    /// Only the first line
    #[arg(long)]
    pub brief: bool,
    /// Every detail: evidence, actions, rules, counters, alerts
    #[arg(long, conflicts_with = "brief")]
    pub full: bool,
    /// Every listener, not only the busiest
    #[arg(long)]
    pub listeners: bool,
    /// Of the interfaces only this one
    #[arg(short, long = "interface", value_name = "IFACE", value_hint = ValueHint::Hostname)]
    pub interface: Option<String>,
    /// Also what a packet costs; has the kernel time BPF programs for a second, as root
    #[arg(long, conflicts_with_all = ["wait", "brief"])]
    pub cost: bool,
    /// Again and again, every SEC seconds
    #[arg(long, value_name = "SEC", num_args = 0..=1, default_missing_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// Wait until the guard is in this state
    #[arg(long, value_name = "STATE", conflicts_with = "watch")]
    pub wait: Option<WaitFor>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "wait", value_parser = duration::parse)]
    pub timeout: Duration,
}

const STATUS: &str = "\
Examples:
  tcpguard status                                 # one screen
  tcpguard status --brief                         # one line
  tcpguard status --full                          # every detail
  tcpguard status --watch=2 --listeners           # again every 2 s, with every listener
  tcpguard status -i eth0                         # of the interfaces only this one
  sudo tcpguard status --cost                     # also what a packet costs each program
  tcpguard status --wait healthy --timeout 60s    # after a start, in a script
  tcpguard status --json | jq .incidents";

/// States that `status --wait` can wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum WaitFor {
    /// Running and whole, and not under an attack that nothing stops
    Healthy,
}

/// `tcpguard explain`
#[derive(Debug, clap::Args)]
#[command(after_help = EXPLAIN)]
pub struct ExplainArgs {
    /// Address or prefix, or the number of an attack
    #[arg(value_name = "PREFIX|ATTACK", value_parser = subject)]
    pub subject: Subject,
    /// Only about SYNs to this port
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Show the evidence of an incident too
    #[arg(long)]
    pub evidence: bool,
}

const EXPLAIN: &str = "\
Examples:
  tcpguard explain 192.0.2.7 --port 443           # of those to one port only
  tcpguard explain 192.0.2.7                      # what decides about its SYNs, in order
  tcpguard explain 2001:db8::/64
  tcpguard explain 1042                           # conclusion, actions and rules of incident #1042
  tcpguard explain 1042 --evidence                # also facts for your provider, and all numbers
  tcpguard explain 1042 --json | jq .record";

/// Subject of an explanation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A prefix of sources.
    Prefix(IpNet),
    /// An attack, by its number.
    Incident(u64),
}

fn subject(text: &str) -> Result<Subject, String> {
    match text.strip_prefix('#').unwrap_or(text).parse() {
        Ok(id) => Ok(Subject::Incident(id)),
        Err(_) => match prefix(text) {
            Ok(prefix) => Ok(Subject::Prefix(prefix)),
            Err(why) => Err(format!("{why}, or the number of an attack")),
        },
    }
}

/// `tcpguard mode`
#[derive(Debug, clap::Args)]
#[command(after_help = MODE)]
pub struct ModeArgs {
    /// The new mode; without it the mode is shown
    #[arg(value_parser = mode_parser())]
    pub mode: Option<Mode>,
    /// Go back to the mode before after this time, such as 90s, 10m or 1h30m
    #[arg(long = "for", value_name = "TIME", requires = "mode", value_parser = duration::parse)]
    pub lasts: Option<Duration>,
    /// Go back after this time unless `tcpguard mode MODE --yes` comes before, also if the agent is
    /// killed or the host starts again
    #[arg(long, value_name = "TIME", requires = "mode", value_parser = duration::parse)]
    pub confirm: Option<Duration>,
    /// Let the mode stay that was set with --confirm
    #[arg(long, requires = "mode", conflicts_with_all = ["lasts", "confirm"])]
    pub yes: bool,
}

const MODE: &str = "\
Modes: observe: rules only count; enforce: rules drop; off: nothing is matched.
A mode that is set here holds over restarts. With --for or --confirm it goes back to the
mode that was set last without them, also if the agent is killed or the host starts again.

Examples:
  tcpguard mode                                   # which holds, and for how long
  tcpguard mode enforce --confirm 60s             # drop, back in a minute unless confirmed
  tcpguard mode enforce --yes                     # it may stay
  tcpguard mode observe --for 10m                 # drop nothing for ten minutes
  tcpguard mode observe                           # stop dropping, and go on watching";

/// `tcpguard mitigation`
#[derive(Debug, clap::Args)]
#[command(after_help = STEP)]
pub struct MitigationArgs {
    /// Which listener: a port such as :443, or ADDRESS:PORT as status shows it
    #[arg(value_parser = ListenerName::parse)]
    pub listener: ListenerName,
    /// Which step; source and signature, which rules do, can be forbidden only
    #[arg(value_parser = mitigation_parser())]
    pub mitigation: Mitigation,
    /// Take it, forbid it, or decide by the situation
    #[arg(value_parser = order_parser())]
    pub order: Order,
    /// For how long, such as 90s, 10m or 1h30m; 24h at most
    #[arg(long = "for", value_name = "TIME", default_value = "10m",
          value_parser = duration::at_most(Limits::MAX_ORDER))]
    pub lifetime: Duration,
}

const STEP: &str = "\
Examples:
  tcpguard mitigation :443 cookies on --for 30m         # answer with SYN cookies, whatever comes
  tcpguard mitigation 203.0.113.10:443 signature off    # drop nothing by signature there
  tcpguard mitigation :443 cookies auto                 # let the guard decide again";

/// A listener as it is typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListenerName {
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

fn mitigation_parser() -> impl TypedValueParser<Value = Mitigation> {
    one_of(&[
        ("out_of_state", Mitigation::OutOfState),
        ("source", Mitigation::Source),
        ("signature", Mitigation::Signature),
        ("cookies", Mitigation::Cookies),
        ("overload", Mitigation::Overload),
        ("budget", Mitigation::Budget),
    ])
}

fn order_parser() -> impl TypedValueParser<Value = Order> {
    one_of(&[("on", Order::On), ("off", Order::Off), ("auto", Order::Auto)])
}

fn xdp_mode_parser() -> impl TypedValueParser<Value = XdpMode> {
    one_of(&XDP_MODES)
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Args, Verb};

    #[test]
    fn a_number_is_an_attack_and_anything_else_a_prefix() {
        assert_eq!(subject("1042"), Ok(Subject::Incident(1042)));
        assert_eq!(subject("#7"), Ok(Subject::Incident(7)));
        assert_eq!(subject("192.0.2.1"), Ok(Subject::Prefix("192.0.2.1/32".parse().unwrap())));
        assert!(subject("192.0.2").is_err());
    }

    #[test]
    fn neither_a_prefix_nor_a_number_is_one_error_that_names_both() {
        let line = ["tcpguard", "explain", "foo"];
        let said = Args::try_parse_from(line).expect_err("neither").to_string();
        assert!(
            said.starts_with(
                "error: invalid value 'foo' for '<PREFIX|ATTACK>': not a prefix; write one such as \
                 192.0.2.0/24 or 2001:db8::1, or the number of an attack"
            ),
            "{said}"
        );
        let said = Args::try_parse_from(["tcpguard", "block", "300.1.1.1"]).expect_err("none");
        assert_eq!(said.to_string().matches("300.1.1.1").count(), 1, "{said}");
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
    fn every_mitigation_can_be_typed() {
        for mitigation in Mitigation::ALL {
            let line = ["tcpguard", "mitigation", ":443", mitigation.name(), "off"];
            assert!(Args::try_parse_from(line).is_ok(), "{}", mitigation.name());
        }
    }

    #[test]
    fn watch_takes_its_seconds_with_or_without_an_equals_sign() {
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
        assert_eq!(watch(&["tcpguard", "status", "--watch", "5"]), Some(Some(5)));
        assert_eq!(watch(&["tcpguard", "status", "--watch", "--brief"]), Some(Some(1)));
    }
}
