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

/// Parser of the lifetime of an operator's rule.
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
    /// Lifetime of the rules, such as 90s, 10m or 1h30m; at most 24h
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = rule_lifetime())]
    pub lifetime: Duration,
    /// Drop SYNs to these ports only, at most four [default: every port]
    #[arg(long = "port", value_name = "N", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Reason to record with the rule
    #[arg(long, value_name = "TEXT", default_value = "blocked by hand")]
    pub reason: String,
    /// Override the safety checks; the rule needs a confirmation
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub rollback: RollbackArgs,
    /// Show the effect without changing anything
    #[arg(long)]
    pub dry_run: bool,
}

const BLOCK: &str = "\
Every rule expires, after 24 h at the latest. A second block of the same prefix replaces the first.
Several prefixes are blocked together or not at all.
Safety checks refuse protected prefixes, your own address, prefixes wider than /16 (IPv6: /32) and
prefixes with validated clients. --dry-run shows the number of these clients.
A rule made with --force is rolled back after a minute, even if the agent is killed, unless you
confirm it. The rollback restores the rule that it replaced.

Examples:
  tcpguard block 192.0.2.7                        # for 1 h
  tcpguard block 198.51.100.0/24 --for 12h --reason \"abuse report 4711\"
  tcpguard block 192.0.2.7 192.0.2.9 198.51.100.0/24
  tcpguard block 192.0.2.0/24 --port 25,587       # mail only
  tcpguard block 2001:db8::/48 --dry-run          # show the effect
  tcpguard block 10.0.0.0/8 --force --rollback-after 5m
  tcpguard confirm 10.0.0.0/8                     # keep it";

/// Rollback of rules that need --force.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct RollbackArgs {
    /// Time to confirm a rule made with --force; never: no rollback
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "force",
          value_parser = Rollback::parse)]
    pub rollback_after: Rollback,
}

/// Time of a rollback.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rollback {
    /// After this time, unless the change is confirmed.
    After(Duration),
    /// For scripts, which cannot confirm.
    Never,
}

impl Rollback {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            time => duration::parse(time).map(Self::After),
        }
    }
}

impl RollbackArgs {
    /// Time within which a rule that is made with this `force` must be confirmed, if it must.
    pub fn within(&self, force: bool) -> Option<Duration> {
        match self.rollback_after {
            Rollback::After(time) => force.then_some(time),
            Rollback::Never => None,
        }
    }
}

/// `tcpguard unblock`
#[derive(Debug, clap::Args)]
#[command(after_help = UNBLOCK)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct UnblockArgs {
    /// Remove every source rule within these addresses or prefixes
    #[arg(value_name = "PREFIX", value_parser = prefix, group = "what")]
    pub prefixes: Vec<IpNet>,
    /// Remove every rule made by operators
    #[arg(long, group = "what")]
    pub all: bool,
    /// Remove the rule with this number
    #[arg(long, value_name = "RULE", group = "what")]
    pub rule: Option<u32>,
    /// Remove only rules of this origin [default: manual with --all, else all]
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<Origin>,
    /// Show the rules without removing them
    #[arg(long)]
    pub dry_run: bool,
}

const UNBLOCK: &str = "\
While an attack continues, tcpguard restores the rule that it made against it after 10 minutes, or at
once after: tcpguard mitigation LISTENER signature auto. To stop dropping: tcpguard mode observe

Examples:
  tcpguard unblock 192.0.2.7
  tcpguard unblock 198.51.100.0/24                # every rule within this prefix
  tcpguard unblock 198.51.100.0/24 --origin manual --dry-run
  tcpguard unblock --rule 3                       # number from: tcpguard rules list
  tcpguard unblock --all                          # every rule made by operators
  tcpguard unblock --all --origin all             # also the rules made by tcpguard";

/// `tcpguard allow`
#[derive(Debug, clap::Args)]
#[command(after_help = ALLOW)]
pub struct AllowArgs {
    /// Address or prefix, such as 192.0.2.0/24
    #[arg(value_parser = prefix)]
    pub prefix: IpNet,
    /// Lifetime of the exemption, such as 2h or 7d; at most 30d
    #[arg(long = "for", value_name = "TIME", default_value = "30d",
          value_parser = duration::at_most(Limits::MAX_ALLOW))]
    pub lifetime: Duration,
    /// Reason to record with the exemption
    #[arg(long, value_name = "TEXT", default_value = "allowed by hand")]
    pub reason: String,
    /// Allow even a very wide prefix
    #[arg(long)]
    pub force: bool,
}

const ALLOW: &str = "\
No automatic source rule drops exempt addresses, and 20 SYNs a second of each pass signature rules
and limits. Manual blocks still drop them. The exemption persists across restarts and ends after its
lifetime. For one without an end, write the prefix to [protect] prefixes in the configuration, and
reload it.

Examples:
  tcpguard allow 203.0.113.0/24 --reason \"our monitoring\"
  tcpguard allow 2001:db8::7 --for 2h             # during an investigation";

/// `tcpguard disallow`
#[derive(Debug, clap::Args)]
#[command(after_help = DISALLOW)]
pub struct DisallowArgs {
    /// Remove every operator's exemption within this address or prefix
    #[arg(value_parser = prefix)]
    pub prefix: IpNet,
}

const DISALLOW: &str = "\
Removes exemptions made with tcpguard allow. Prefixes of the configuration (protect) stay exempt.

Examples:
  tcpguard disallow 203.0.113.0/24                # every exemption within this prefix
  tcpguard rules list                             # also lists the allowlist";

/// `tcpguard rules`
#[derive(Debug, clap::Args)]
#[command(after_help = RULES)]
pub struct RulesArgs {
    /// The operation; without it the rules are listed.
    #[command(subcommand)]
    pub verb: Option<RulesVerb>,
}

const RULES: &str = "\
A rule drops SYNs by source or by signature. Without a command, the rules are listed.

Examples:
  tcpguard rules list
  tcpguard rules export > rules.json
  tcpguard rules import rules.json --dry-run";

/// `tcpguard rules …`
#[derive(Debug, Subcommand)]
pub enum RulesVerb {
    /// List the rules and the allowlist
    List(ListArgs),
    /// Print the operators' rules as JSON lines for `rules import`
    Export(ExportArgs),
    /// Add or replace rules from a file, all or none
    Import(ImportArgs),
    /// Remove the operators' rules, all at once
    Flush(FlushArgs),
}

/// `tcpguard rules flush`
#[derive(Debug, clap::Args)]
#[command(after_help = FLUSH)]
pub struct FlushArgs {
    /// Remove only rules of this origin
    #[arg(long, value_name = "ORIGIN", default_value = "manual")]
    pub origin: Origin,
    /// Show the rules without removing them
    #[arg(long)]
    pub dry_run: bool,
}

const FLUSH: &str = "\
The allowlist and the rules that tcpguard made against attacks stay. If you remove those too, with
--origin auto or all, tcpguard restores them after 10 minutes while the attack continues, or at once
after: tcpguard mitigation LISTENER signature auto. To stop dropping: tcpguard mode observe

Examples:
  tcpguard rules export > rules.json              # backup
  tcpguard rules flush
  tcpguard rules flush --origin all --dry-run";

/// `tcpguard rules list`
#[derive(Debug, Default, clap::Args)]
#[command(after_help = LIST)]
pub struct ListArgs {
    /// Show only prefixes that contain this address
    #[arg(long, value_name = "IP")]
    pub contains: Option<IpAddr>,
    /// Show only prefixes within this prefix
    #[arg(long, value_name = "NET", value_parser = prefix)]
    pub within: Option<IpNet>,
    /// Show only rules of this origin
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<Origin>,
    /// Print only the prefixes that are blocked on every port, one per line
    #[arg(long)]
    pub raw: bool,
}

const LIST: &str = "\
A signature rule has no prefix, so --contains, --within and --raw omit it. --raw also omits rules for
certain ports.

Examples:
  tcpguard rules list
  tcpguard rules list --contains 203.0.113.7      # rules over this address
  tcpguard rules list --within 203.0.113.0/24 --origin manual
  tcpguard rules list --origin auto --raw         # for scripts
  tcpguard rules list --json | jq .rules";

/// `tcpguard rules export`
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT)]
pub struct ExportArgs {
    /// Export also the source rules made by tcpguard
    #[arg(long)]
    pub all: bool,
}

const EXPORT: &str = "\
Each line is a JSON object with prefix, ports, remaining lifetime and reason. Signature rules are not
exported. An imported rule is an operator's.

Examples:
  tcpguard rules export > rules.json              # one rule per line
  tcpguard rules export --all --json              # one document, with tcpguard's own rules";

/// `tcpguard rules import`
#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT)]
pub struct ImportArgs {
    /// File with the rules; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Remove all other rules made by operators
    #[arg(long)]
    pub replace: bool,
    /// Lifetime of rules without one in the file; at most 24h [default: 1h]
    #[arg(long = "for", value_name = "TIME", value_parser = rule_lifetime())]
    pub lifetime: Option<Duration>,
    /// Reason of rules without one in the file
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Override the safety checks; risky rules need a confirmation
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub rollback: RollbackArgs,
    /// Show the effect without changing anything
    #[arg(long)]
    pub dry_run: bool,
}

const IMPORT: &str = "\
Each line of FILE is an address or a prefix, with ports behind it or without (192.0.2.0/24 80,443), or an
object from `rules export`:
{\"prefix\":\"192.0.2.0/24\",\"ports\":[443],\"for_s\":3600,\"reason\":\"abuse report\"}. Only the prefix is
required. Without ports the rule is for every port. Empty lines and # comments are skipped.
Rules that are not in the file stay, unless --replace is given. A rule that exists already keeps its
reason and its expiry if that is later, unless the file, --reason or --for sets another.
Rules that need --force are rolled back after a minute, even if the agent is killed, unless you
confirm them. The rollback restores the rules that they replaced.

Examples:
  tcpguard rules import rules.json --dry-run      # show the effect
  tcpguard rules import bad-hosts.txt --for 6h --reason \"today's list\"
  tcpguard rules import rules.json --replace      # remove all other rules
  tcpguard rules import - < rules.json";

/// Origin of a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Origin {
    /// Rules made by tcpguard against attacks
    Auto,
    /// Rules made by operators of this host
    Manual,
    /// Rules made by operators of the fleet
    Fleet,
    /// All rules
    All,
}
