//! Arguments of verbs that query or run the agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{ValueEnum, ValueHint};
use ipnet::IpNet;
use log::LevelFilter;
use tcpguard_engine::{Limits, Mitigation, Mode, Order};

use super::{described, incident, mode_parser, one_of, prefix};
use crate::bpf::XdpMode;
use crate::cli::duration;
use crate::config::{DEFAULT_PATH, XDP_MODES};

/// `tcpguard run`
#[derive(Debug, clap::Args)]
#[command(after_help = RUN)]
pub struct RunArgs {
    /// Configuration file; without it, the default one if it exists.
    #[arg(short, long, value_name = "FILE", help = format!("Read this configuration file [default: {DEFAULT_PATH}, if it exists]"))]
    pub config: Option<PathBuf>,
    /// Protect this interface instead of those in the file; repeatable
    #[arg(short, long = "interface", value_name = "IFACE", value_hint = ValueHint::Hostname)]
    pub interfaces: Vec<String>,
    /// Set the mode, overriding the file and `tcpguard mode`
    #[arg(long, value_parser = mode_parser())]
    pub mode: Option<Mode>,
    /// Log messages of the BPF programs from this level on
    #[arg(long, value_name = "LEVEL", value_parser = level_parser())]
    pub bpf_log: Option<LevelFilter>,
    /// Attach in this XDP mode, overriding the file
    #[arg(long, value_parser = xdp_mode_parser())]
    pub xdp_mode: Option<XdpMode>,
}

const RUN: &str = "\
The agent attaches the XDP program, detects attacks and mitigates them. The service tcpguard.service
runs it. Options override the configuration file. At the end, the XDP program stays attached for the
next agent, and fails open after 30 s.

Examples:
  tcpguard run                                    # as the service does
  tcpguard run -i eth0 -i eth1 --mode observe     # without a file, detection only
  tcpguard run -c /tmp/guard.toml --runtime-dir /tmp/guard --bpf-log debug";

/// `tcpguard status`
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub struct StatusArgs {
    /// Show only the first line
    #[arg(long)]
    pub brief: bool,
    /// Show every detail: evidence, actions, rules, counters, alerts
    #[arg(long, conflicts_with = "brief")]
    pub full: bool,
    /// Show every listener, not only the busiest
    #[arg(long)]
    pub listeners: bool,
    /// Show only this interface
    #[arg(short, long = "interface", value_name = "IFACE", value_hint = ValueHint::Hostname)]
    pub interface: Option<String>,
    /// Measure the cost per packet of each BPF program for 1 s (root)
    #[arg(long, conflicts_with_all = ["wait", "brief"])]
    pub cost: bool,
    /// Refresh every SEC seconds [default: 1]
    #[arg(short, long, value_name = "SEC", num_args = 0..=1, default_missing_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// Wait for this state
    #[arg(long, value_name = "STATE", conflicts_with = "watch")]
    pub wait: Option<WaitFor>,
    /// Stop waiting after this time
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "wait", value_parser = duration::parse)]
    pub timeout: Duration,
}

const STATUS: &str = "\
The page begins with the state, followed by each attack with its mitigation, the clients that connect
compared with the baseline, and the recommended action.

Examples:
  tcpguard status
  tcpguard status --brief                         # one line
  tcpguard status --full                          # every detail
  tcpguard status -w 2 --listeners                # every listener, refreshed every 2 s
  tcpguard status -i eth0                         # one interface
  sudo tcpguard status --cost                     # cost per packet
  tcpguard status --wait healthy --timeout 60s    # in a script, after a start
  tcpguard status --json | jq .incidents";

/// States that `status --wait` can wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum WaitFor {
    /// Running without problems and without an unmitigated attack
    Healthy,
}

/// `tcpguard explain`
#[derive(Debug, clap::Args)]
#[command(after_help = EXPLAIN)]
pub struct ExplainArgs {
    /// Address, prefix, or number of an incident [default: the open or last one]
    #[arg(value_name = "PREFIX|INCIDENT", value_parser = subject)]
    pub subject: Option<Subject>,
    /// Explain the SYNs to this port only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Show also the evidence of an incident
    #[arg(long)]
    pub evidence: bool,
    /// Write a page with plots of an incident; - for standard output
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print the time series of an incident as JSON
    #[arg(long)]
    pub timeline: bool,
}

const EXPLAIN: &str = "\
For an address or prefix: the decisions about its SYNs, in the order in which the kernel takes them.
For an incident: its class, the actions, the rules, and with --evidence the measured values. The page
is one self-contained file; that of a capture is written by tcpguard replay FILE --html FILE.

Examples:
  tcpguard explain 192.0.2.7
  tcpguard explain 192.0.2.7 --port 443           # SYNs to one port
  tcpguard explain 2001:db8::/64
  tcpguard explain 1042                           # incident #1042
  tcpguard explain                                # the open incident, or the last one
  tcpguard explain 1042 --evidence                # with all values
  tcpguard explain 1042 --html attack-1042.html   # page with plots
  tcpguard explain 1042 --json | jq .record";

/// Subject of an explanation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A prefix of sources.
    Prefix(IpNet),
    /// An incident, by its number.
    Incident(u64),
}

fn subject(text: &str) -> Result<Subject, String> {
    match incident(text) {
        Ok(id) => Ok(Subject::Incident(id)),
        Err(_) => match prefix(text) {
            Ok(prefix) => Ok(Subject::Prefix(prefix)),
            Err(why) => Err(format!("{why}, or the number of an incident")),
        },
    }
}

/// `tcpguard mode`
#[derive(Debug, clap::Args)]
#[command(after_help = MODE)]
pub struct ModeArgs {
    /// Mode to set [default: show the current mode]
    #[arg(value_parser = mode_parser())]
    pub mode: Option<Mode>,
    /// Revert to the previous mode after this time, such as 90s or 1h30m
    #[arg(long = "for", value_name = "TIME", requires = "mode", value_parser = duration::parse)]
    pub lasts: Option<Duration>,
    /// Revert after this time unless confirmed with `tcpguard confirm`
    #[arg(long, value_name = "TIME", requires = "mode", value_parser = duration::parse)]
    pub rollback_after: Option<Duration>,
}

const MODE: &str = "\
The mode persists across restarts. With --for or --rollback-after it reverts to the last mode that
was set without them, even if the agent is killed or the host reboots.

Examples:
  tcpguard mode                                   # the current mode and its expiry
  tcpguard mode enforce --rollback-after 60s      # drop, with automatic rollback
  tcpguard confirm                                # keep it
  tcpguard mode observe --for 10m                 # drop nothing for ten minutes
  tcpguard mode observe                           # stop dropping, keep detecting";

/// `tcpguard confirm`
#[derive(Debug, clap::Args)]
#[command(after_help = CONFIRM)]
pub struct ConfirmArgs {
    /// Confirm only the rules within this prefix [default: the mode and all rules]
    #[arg(value_parser = prefix)]
    pub prefix: Option<IpNet>,
}

const CONFIRM: &str = "\
Changes made with --rollback-after, and rules made with --force, revert unless they are confirmed in
time. Before you confirm, check that you can still log in: open a second connection.

Examples:
  tcpguard confirm                                # keep the mode and every pending rule
  tcpguard confirm 10.0.0.0/8                     # keep the rules within this prefix only";

/// `tcpguard mitigation`
#[derive(Debug, clap::Args)]
#[command(after_help = MITIGATION)]
pub struct MitigationArgs {
    /// Listener, as :PORT or ADDRESS:PORT
    #[arg(value_parser = ListenerName::parse)]
    pub listener: ListenerName,
    /// Mitigation to override
    #[arg(value_parser = mitigation_parser())]
    pub mitigation: Mitigation,
    /// Override to apply
    #[arg(value_parser = order_parser())]
    pub order: Order,
    /// Duration of the override, such as 90s or 1h30m; at most 24h
    #[arg(long = "for", value_name = "TIME", default_value = "10m",
          value_parser = duration::at_most(Limits::MAX_ORDER))]
    pub lifetime: Duration,
}

const MITIGATION: &str = "\
Mitigations start and stop automatically. This command overrides one of them at one listener for a
limited time. source and signature are applied by rules, so they can only be forbidden.

Examples:
  tcpguard mitigation :443 cookies on --for 30m         # answer every SYN with a SYN cookie
  tcpguard mitigation 203.0.113.10:443 signature off    # no signature rules at this listener
  tcpguard mitigation :443 cookies auto                 # end the override";

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
            .ok_or_else(|| "not a listener; write :PORT or ADDRESS:PORT, such as :443".to_owned())
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
    described(&[
        ("signature", "Drop SYNs with the fingerprint of a flood (rules)", Mitigation::Signature),
        ("source", "Drop SYNs from dominant sources (rules)", Mitigation::Source),
        ("cookies", "Answer SYNs with SYN cookies", Mitigation::Cookies),
        ("budget", "Limit the SYN rate of sources that are not validated", Mitigation::Budget),
        ("out_of_state", "Drop segments of no known connection", Mitigation::OutOfState),
    ])
}

fn order_parser() -> impl TypedValueParser<Value = Order> {
    described(&[
        ("on", "Start the mitigation", Order::On),
        ("off", "Forbid the mitigation", Order::Off),
        ("auto", "End the override", Order::Auto),
    ])
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
                "error: invalid value 'foo' for '[PREFIX|INCIDENT]': not a prefix; write one such as \
                 192.0.2.0/24 or 2001:db8::1, or the number of an incident"
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
        assert_eq!(watch(&["tcpguard", "status", "-w", "5"]), Some(Some(5)));
        assert_eq!(watch(&["tcpguard", "status", "--watch=5"]), Some(Some(5)));
        assert_eq!(watch(&["tcpguard", "status", "--watch=0"]), None);
        assert_eq!(watch(&["tcpguard", "status", "--watch", "5"]), Some(Some(5)));
        assert_eq!(watch(&["tcpguard", "status", "--watch", "--brief"]), Some(Some(1)));
    }
}
