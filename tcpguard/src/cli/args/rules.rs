//! Arguments of verbs that make, change and list rules.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Subcommand, ValueEnum};
use ipnet::IpNet;

use tcpguard_engine::Limits;

use super::prefix;
use crate::cli::duration;

/// For how long a rule made by hand may be.
fn rule_lifetime() -> impl TypedValueParser<Value = Duration> {
    duration::at_most(Limits::MAX_MANUAL_RULE)
}

/// `tcpguard block`
#[derive(Debug, clap::Args)]
#[command(after_help = BLOCK)]
pub struct BlockArgs {
    /// Addresses or prefixes, such as 192.0.2.0/24
    #[arg(value_name = "PREFIX", required = true, value_parser = prefix)]
    pub prefixes: Vec<IpNet>,
    /// For how long, such as 90s, 10m or 1h30m; 24h at most
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = rule_lifetime())]
    pub lifetime: Duration,
    /// Only SYNs to these ports of this host, up to four, such as 443,80 [default: every port]
    #[arg(long = "port", value_name = "N", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Why, for whoever finds the rule
    #[arg(long, value_name = "TEXT", default_value = "blocked by hand")]
    pub reason: String,
    /// Block even what is protected, very wide, your own address, or holds validated clients; unless you
    /// confirm it in time it is rolled back
    #[arg(long)]
    pub force: bool,
    /// What becomes of it then.
    #[command(flatten)]
    pub confirm: ConfirmWithinArgs,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

const BLOCK: &str = "\
A rule ends by itself; no rule lives longer than 24 h. A second block of the same prefix takes the
place of the first, with its own end and ports. Of several prefixes all are blocked, or none.
A prefix that holds validated clients needs --force; --dry-run says how many.
What needs --force may lock you out. So it ends after a minute, also if the agent is killed, and what
it replaced is there again, unless you type: tcpguard rules confirm PREFIX

Examples:
  tcpguard block 192.0.2.7                        # for an hour
  tcpguard block 198.51.100.0/24 --for 12h --reason \"abuse report 4711\"
  tcpguard block 192.0.2.7 192.0.2.9 198.51.100.0/24
  tcpguard block 192.0.2.0/24 --port 25,587       # mail only; all else goes on
  tcpguard block 2001:db8::/48 --dry-run          # only say what would happen
  tcpguard block 10.0.0.0/8 --force --confirm 5m  # gone in five minutes, unless:
  tcpguard rules confirm 10.0.0.0/8";

/// What becomes of rules that are possible with --force only.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ConfirmWithinArgs {
    /// With --force: go back after this time unless `tcpguard rules confirm` comes before [default: 60s]
    #[arg(long, value_name = "TIME", requires = "force", value_parser = duration::parse)]
    pub confirm: Option<Duration>,
    /// With --force: stay without confirmation, for scripts that nobody can lock out
    #[arg(long, requires = "force", conflicts_with = "confirm")]
    pub no_rollback: bool,
}

impl ConfirmWithinArgs {
    /// Long enough to try whether one is still in, and to type one line; short enough to wait for.
    const WITHIN: Duration = Duration::from_secs(60);

    /// For how long a rule that is made with this `force` waits for a word, if it does.
    pub fn within(&self, force: bool) -> Option<Duration> {
        (force && !self.no_rollback).then(|| self.confirm.unwrap_or(Self::WITHIN))
    }
}

/// `tcpguard unblock`
#[derive(Debug, clap::Args)]
#[command(after_help = UNBLOCK)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct UnblockArgs {
    /// Addresses or prefixes: every source rule within is removed
    #[arg(value_name = "PREFIX", value_parser = prefix, group = "what")]
    pub prefixes: Vec<IpNet>,
    /// Remove every rule that operators made
    #[arg(long, group = "what")]
    pub all: bool,
    /// Remove the rule with this number
    #[arg(long, value_name = "N", group = "what")]
    pub rule: Option<u32>,
    /// Only rules of this origin [default: manual with --all, else all]
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<Origin>,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

const UNBLOCK: &str = "\
A rule that tcpguard made for an attack is made again while the attack goes on: after 10 minutes, or at
once with tcpguard mitigation LISTENER signature auto (or source auto) or tcpguard mode. To stop dropping:
tcpguard mode observe

Examples:
  tcpguard unblock 192.0.2.7
  tcpguard unblock 198.51.100.0/24                # every rule within it
  tcpguard unblock 198.51.100.0/24 --origin manual --dry-run
  tcpguard unblock --rule 3                       # by its number in: tcpguard rules list
  tcpguard unblock --all                          # every rule that operators made
  tcpguard unblock --all --origin all             # also those that tcpguard made itself";

/// `tcpguard allow`
#[derive(Debug, clap::Args)]
#[command(after_help = ALLOW)]
pub struct AllowArgs {
    /// Address or prefix, such as 192.0.2.0/24
    #[arg(value_parser = prefix)]
    pub prefix: IpNet,
    /// For how long, such as 90s, 10m or 1h30m; 30d at most
    #[arg(long = "for", value_name = "TIME", default_value = "30d",
          value_parser = duration::at_most(Limits::MAX_ALLOW))]
    pub lifetime: Duration,
    /// Why, for whoever finds it
    #[arg(long, value_name = "TEXT", default_value = "allowed by hand")]
    pub reason: String,
    /// Allow even what is very wide
    #[arg(long)]
    pub force: bool,
}

const ALLOW: &str = "\
Examples:
  tcpguard allow 203.0.113.0/24 --reason \"our monitoring\"
  tcpguard allow 2001:db8::7 --for 2h             # while somebody looks into it";

/// `tcpguard disallow`
#[derive(Debug, clap::Args)]
#[command(after_help = UNALLOW)]
pub struct UnallowArgs {
    /// Address or prefix: every exemption within it that an operator made is removed
    #[arg(value_parser = prefix)]
    pub prefix: IpNet,
}

const UNALLOW: &str = "\
Examples:
  tcpguard disallow 203.0.113.0/24                 # everything within it
  tcpguard rules list                             # what is on the allowlist";

pub(super) const RULES: &str = "\
Examples:
  tcpguard rules list
  tcpguard rules export > rules.json              # and read them in elsewhere:
  tcpguard rules import rules.json --dry-run";

/// `tcpguard rules …`
#[derive(Debug, Subcommand)]
pub enum RulesVerb {
    /// Show every rule with its origin, reason, end and hits, and the allowlist
    List(ListArgs),
    /// Write the rules that operators made, one JSON object a line, for `rules import`
    Export(ExportArgs),
    /// Add the rules of a file to those that there are, all at once or not at all
    Import(ImportArgs),
    /// Let rules stay that were made with --force and end soon otherwise
    Confirm(ConfirmArgs),
    /// Remove every rule that operators made, all at once
    Flush(FlushArgs),
}

/// `tcpguard rules confirm`
#[derive(Debug, clap::Args)]
#[command(after_help = CONFIRM)]
pub struct ConfirmArgs {
    /// Only those within this address or prefix [default: all that wait]
    #[arg(value_parser = prefix)]
    pub prefix: Option<IpNet>,
}

const CONFIRM: &str = "\
Try first whether you can still log in: open a second connection.

Examples:
  tcpguard rules list                             # which rules wait, and until when
  tcpguard rules confirm
  tcpguard rules confirm 10.0.0.0/8";

/// `tcpguard rules flush`
#[derive(Debug, clap::Args)]
#[command(after_help = FLUSH)]
pub struct FlushArgs {
    /// Only rules of this origin
    #[arg(long, value_name = "ORIGIN", default_value = "manual")]
    pub origin: Origin,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

const FLUSH: &str = "\
The allowlist stays as it is, and so do the rules that tcpguard made for an attack: they stop it.
Removed with --origin auto or --origin all, they are made again while the attack goes on: after 10
minutes, or at once with tcpguard mitigation LISTENER signature auto. To stop dropping: tcpguard mode observe.

Examples:
  tcpguard rules export > rules.json              # keep them first
  tcpguard rules flush
  tcpguard rules flush --origin all --dry-run";

/// `tcpguard rules list`
#[derive(Debug, Default, clap::Args)]
#[command(after_help = LIST)]
pub struct ListArgs {
    /// Only what covers this address
    #[arg(long, value_name = "IP")]
    pub contains: Option<IpAddr>,
    /// Only what lies within this prefix
    #[arg(long, value_name = "NET", value_parser = prefix)]
    pub within: Option<IpNet>,
    /// Only rules of this origin
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<Origin>,
    /// Print the prefixes that are dropped to every port, one a line, and nothing else
    #[arg(long)]
    pub raw: bool,
}

const LIST: &str = "\
A rule that drops a signature has no prefix: --contains, --within and --raw leave it out. So does
--raw with a rule for certain ports.

Examples:
  tcpguard rules list
  tcpguard rules list --contains 203.0.113.7      # what touches this address
  tcpguard rules list --within 203.0.113.0/24 --origin manual
  tcpguard rules list --origin auto --raw         # for another program
  tcpguard rules list --json | jq .rules";

/// `tcpguard rules export`
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT)]
pub struct ExportArgs {
    /// Also source rules that the guard made itself; imported, they become an operator's
    #[arg(long)]
    pub all: bool,
}

const EXPORT: &str = "\
Examples:
  tcpguard rules export > rules.json              # one rule a line
  tcpguard rules export --all --json              # one document, also of the guard's own";

/// `tcpguard rules import`
#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT)]
pub struct ImportArgs {
    /// The file; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Remove all other rules that operators made
    #[arg(long)]
    pub replace: bool,
    /// Accepted for scripts of before: other rules stay unless --replace is given
    #[arg(long, hide = true, conflicts_with = "replace")]
    pub merge: bool,
    /// For how long, where the file does not say; 24h at most [default: 1h, or as long as such a rule
    /// is there already]
    #[arg(long = "for", value_name = "TIME", value_parser = rule_lifetime())]
    pub lifetime: Option<Duration>,
    /// Why, where the file does not say [default: as such a rule that is there already says]
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Also what is protected, very wide, or your own address; unless you confirm that in time it goes
    /// back
    #[arg(long)]
    pub force: bool,
    /// What becomes of them then.
    #[command(flatten)]
    pub confirm: ConfirmWithinArgs,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}

const IMPORT: &str = "\
Each line of FILE is an address or prefix, or an object as `rules export` writes it:
{\"prefix\":\"192.0.2.0/24\",\"ports\":[443],\"for_s\":3600,\"reason\":\"abuse report\"}, where only the
prefix must be, and without ports every port is meant.
Empty lines and what follows a # are skipped. No rule lives longer than 24 h.
Rules that are not in the file stay as they are, unless --replace is given. A rule that is there already
over the same prefix and ports keeps its reason, and its end if that is later than in an hour, where
neither the file nor --reason and --for say otherwise.
What needs --force may lock you out. So those rules of the file end after a minute, also if the agent
is killed, and what they replaced is there again, unless you type: tcpguard rules confirm

Examples:
  tcpguard rules import rules.json --dry-run      # only say what would happen
  tcpguard rules import bad-hosts.txt --for 6h --reason \"today's list\"
  tcpguard rules import rules.json --replace      # these, and no others
  tcpguard rules import - < rules.json";

/// On whose word a rule exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Origin {
    /// The guard's own
    Auto,
    /// An operator's
    Manual,
    /// Either
    All,
}
