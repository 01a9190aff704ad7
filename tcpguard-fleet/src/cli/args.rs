//! The command line as typed, checked for form only.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use tcpguard_host::units;

use crate::config::DEFAULT_PATH;
use crate::daemon::{DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR};
use crate::document::{HostId, HostSelector, Label};

/// Share evidence between protected hosts, and ask routers for relief.
///
/// `tcpguard fleet …` runs the same verbs.
#[derive(Debug, Parser)]
#[command(name = "tcpguard-fleet", version, max_term_width = 100, after_help = FLEET)]
pub struct Args {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

const FLEET: &str = "\
Exit status: 0 success, 1 failed, 2 invalid command line or configuration, 4 permission denied,
5 configuration not found

Examples:
  tcpguard-fleet status                           # hosts, incidents and routes of the fleet
  tcpguard-fleet block 203.0.113.0/24 --for 2h --reason \"abuse report 4711\"
  tcpguard-fleet enroll a1b2c3d4e5f60718          # credentials for a host";

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file
    #[arg(short, long, global = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Use the sockets in this directory (of a controller by default: /run/tcpguard-fleet-relief)
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
    /// Use the state files in this directory (of a controller by default: /var/lib/tcpguard-fleet-relief)
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only data and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Increase verbosity (-vv: everything)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The verb and its arguments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Take part in the fleet, in the foreground
    #[command(after_help = RUN)]
    Run,
    /// Collect the state of the whole fleet, in the foreground
    #[command(after_help = COLLECT)]
    Collect,
    /// Control the routers of a site, in the foreground
    #[command(after_help = RELIEF)]
    Relief,
    /// Show hosts, incidents and routes of the fleet
    Status(StatusArgs),
    /// Print metrics for Prometheus
    #[command(after_help = METRICS)]
    Metrics,
    /// Drop SYNs from a prefix on hosts of the fleet
    Block(RuleArgs),
    /// Exempt a prefix from automatic rules on hosts of the fleet
    Allow(RuleArgs),
    /// End a rule of the fleet
    Unblock(RuleArgs),
    /// Keep the routes of a host for another day
    Confirm(ConfirmArgs),
    /// Print the name of this host on the bus
    #[command(after_help = NAME)]
    Name,
    /// Make the key of an operator, or print its public key
    Key(KeyArgs),
    /// Sign bus credentials for a host, and print the server's configuration
    Enroll(EnrollArgs),
    /// Make the store of operators' rules, once for a fleet
    MakeStore(MakeStoreArgs),
    /// Write the manual pages, for packagers
    #[command(hide = true)]
    Manual {
        /// Directory of the pages
        directory: PathBuf,
    },
    /// Carry the lines of ExaBGP's API
    #[command(hide = true)]
    ExabgpRelay {
        /// Socket of the controller
        socket: PathBuf,
    },
}

const RUN: &str = "\
Usually a service: systemctl start tcpguard-fleet. It reads the agent's socket, so the agent needs
listen = true under [fleet] in tcpguard.toml.

Examples:
  tcpguard-fleet run --config /etc/tcpguard/fleet.toml";

const COLLECT: &str = "\
Usually a service, on one or two hosts of a fleet: systemctl start tcpguard-fleet-collect.

Examples:
  tcpguard-fleet collect";

const RELIEF: &str = "\
Usually a service, next to the routers of a site: systemctl start tcpguard-fleet-relief. Its BGP
speaker and all routes end with it.

Examples:
  tcpguard-fleet relief";

const METRICS: &str = "\
Examples:
  tcpguard-fleet metrics > /var/lib/node_exporter/tcpguard_fleet.prom";

const NAME: &str = "\
Examples:
  tcpguard-fleet name                             # for: tcpguard-fleet enroll NAME";

/// `tcpguard-fleet status`
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub struct StatusArgs {
    /// Listen to the bus instead of asking a collector
    #[arg(long)]
    pub listen: bool,
    /// Time to listen, such as 35s
    #[arg(long = "for", value_name = "TIME", default_value = "45s", requires = "listen",
          value_parser = units::parse_span)]
    pub time: Duration,
    /// Show the processes of this host only
    #[arg(long, conflicts_with = "listen")]
    pub local: bool,
}

const STATUS: &str = "\
Asks the collector of this host. Without one, the processes of this host are shown. --listen needs
credentials of a collector or an operator, and no collector: every host reports itself within 40 s.

Examples:
  tcpguard-fleet status
  tcpguard-fleet status --json | jq .incidents
  tcpguard-fleet status --listen                  # from any machine with credentials
  tcpguard-fleet status --local";

/// `tcpguard-fleet block`, `allow` and `unblock`
#[derive(Debug, clap::Args)]
#[command(after_help = RULE)]
pub struct RuleArgs {
    /// Address or prefix, such as 192.0.2.0/24
    #[arg(value_name = "PREFIX", value_parser = prefix)]
    pub prefix: IpNet,
    /// Lifetime of the rule, such as 90s, 10m or 1h30m
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = units::parse_span)]
    pub lifetime: Duration,
    /// Only at these ports, at most four [default: every port]
    #[arg(long = "port", value_name = "N", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Only on these hosts: host=NAME and site=NAME, with commas
    #[arg(long, value_name = "HOSTS", default_value = "all")]
    pub hosts: HostSelector,
    /// Reason to record with the rule
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Role of the operator [default: operator.role of the configuration]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<Label>,
    /// Key of the operator [default: operator.key of the configuration]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Show the hosts that would be reached, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

const RULE: &str = "\
The rule is signed with the operator's key. Each host decides by its own [[role]] whether it accepts
the rule, and refuses to block protected prefixes and validated clients. A later rule of the role for
the same prefix, ports and hosts replaces it. unblock needs the same --port and --hosts.

Examples:
  tcpguard-fleet block 203.0.113.0/24 --for 2h --reason \"abuse report 4711\"
  tcpguard-fleet block 198.51.100.7 --port 25,587 --hosts site=fra
  tcpguard-fleet block 203.0.113.0/24 --dry-run   # show the hosts
  tcpguard-fleet allow 192.0.2.0/24 --for 12h --reason \"our monitoring\"
  tcpguard-fleet unblock 203.0.113.0/24";

/// `tcpguard-fleet confirm`
#[derive(Debug, clap::Args)]
#[command(after_help = CONFIRM)]
pub struct ConfirmArgs {
    /// Name of the host on the bus
    pub host: HostId,
}

const CONFIRM: &str = "\
Routers relieve a host for 24 h at most without an operator's word. To be run on the controller.

Examples:
  tcpguard-fleet confirm a1b2c3d4e5f60718";

/// `tcpguard-fleet key`
#[derive(Debug, clap::Args)]
#[command(after_help = KEY)]
pub struct KeyArgs {
    /// File of the key. It is made if it does not exist
    pub file: PathBuf,
}

const KEY: &str = "\
The file stays on the operator's machine. Its public key belongs into [[role]] of each host.

Examples:
  tcpguard-fleet key /root/ops.key";

/// `tcpguard-fleet enroll`
#[derive(Debug, clap::Args)]
#[command(after_help = ENROLL)]
pub struct EnrollArgs {
    /// Name of the host, from: tcpguard-fleet name
    pub name: HostId,
    /// Part of the host in the fleet
    #[arg(long = "as", value_name = "PART", default_value = "edge")]
    pub part: Part,
    /// Lifetime of the credentials, such as 365d [default: no end]
    #[arg(long = "for", value_name = "TIME", value_parser = units::parse_span)]
    pub lifetime: Option<Duration>,
    /// File with the keys of the bus. It is made if it does not exist
    #[arg(long, value_name = "FILE", default_value = "fleet-authority.json")]
    pub authority: PathBuf,
    /// File for the credentials [default: NAME.creds]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Revoke all credentials that the host has so far
    #[arg(long, conflicts_with_all = ["part", "lifetime", "out"])]
    pub revoke: bool,
}

const ENROLL: &str = "\
Prints the configuration of the NATS server, which is the same for all hosts, and writes the
credentials of this host. Copy them to /etc/tcpguard/fleet.creds there, readable by tcpguard-fleet
only. Keep the authority file off the hosts and off the server: its owner can add hosts.

--revoke changes the configuration: copy it to each server, and reload the server. The host can be
enrolled again at once.

Examples:
  tcpguard-fleet enroll a1b2c3d4e5f60718 > fleet.conf
  tcpguard-fleet enroll a1b2c3d4e5f60718 --revoke > fleet.conf
  tcpguard-fleet enroll 0f1e2d3c4b5a6978 --as collector --for 365d
  tcpguard-fleet enroll 99aabbccddeeff00 --as operator --out ada.creds";

/// Part of a host in the fleet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum Part {
    /// A protected host
    Edge,
    /// Also collects the state of the fleet
    Collector,
    /// Also controls routers
    Controller,
    /// Collects, and stores the rules of operators
    Operator,
}

/// `tcpguard-fleet make-store`
#[derive(Debug, clap::Args)]
#[command(after_help = MAKE_STORE)]
pub struct MakeStoreArgs {
    /// Number of servers that hold the rules: 1, or 3 of a cluster
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=5))]
    pub replicas: u32,
}

const MAKE_STORE: &str = "\
Needs the credentials of an operator.

Examples:
  tcpguard-fleet make-store
  tcpguard-fleet make-store --replicas 3          # on a cluster";

/// An address or prefix.
fn prefix(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    match text.parse::<IpNet>().ok().or_else(address) {
        Some(net) if net == net.trunc() => Ok(net),
        Some(net) => Err(format!("it has bits behind its length; {} is meant?", net.trunc())),
        None => Err("not an address or prefix, such as 192.0.2.0/24".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Args::command().debug_assert();
    }

    /// The words of a line of a shell, without a comment and other programs.
    fn words(line: &str) -> Vec<String> {
        let command = line.split(" # ").next().unwrap_or_default();
        let command = command.split(['|', '>']).next().unwrap_or_default();
        command
            .split('"')
            .enumerate()
            .flat_map(|(number, part)| match number % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    #[test]
    fn every_command_of_the_documentation_can_be_typed() {
        let page = include_str!("../../../docs/fleet.md");
        let page = page.replace("NAME", "a1b2c3d4").replace("PREFIX", "203.0.113.0/24");
        let mut found = 0;
        // Lines of blocks, and spans within lines.
        for text in page.lines().flat_map(|line| line.split('`')) {
            let text = text.trim().trim_start_matches("sudo ");
            if text.starts_with("tcpguard-fleet ") && !text.contains("──") {
                let words = words(text);
                Args::try_parse_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
                found += 1;
            }
        }
        assert!(found >= 25, "only {found} were found");
    }

    #[test]
    fn every_verb_has_examples_that_can_be_typed() {
        let mut all = Args::command();
        all.build();
        for verb in all.get_subcommands().filter(|verb| verb.get_name() != "help") {
            if verb.is_hide_set() {
                continue;
            }
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, examples) = help.split_once("Examples:\n").expect("examples");
            for line in examples.lines() {
                assert!(line.starts_with("  ") && line.chars().count() <= 100, "{line}");
                let words = words(line);
                Args::try_parse_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
            }
        }
    }

    #[test]
    fn a_prefix_is_read_with_its_mistake_named() {
        assert_eq!(prefix("192.0.2.7").map(|net| net.to_string()), Ok("192.0.2.7/32".to_owned()));
        assert!(prefix("192.0.2.7/24").is_err_and(|why| why.contains("192.0.2.0/24")));
        assert!(prefix("all").is_err());
    }
}
