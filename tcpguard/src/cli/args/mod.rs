//! Exactly what was typed, checked for form only. Here is what every verb shares and the list of
//! verbs; the options of each stand with those of its kind, and end in examples.

mod agent;
mod alerts;
mod checkup;
mod files;
mod host;
mod monitoring;
mod rules;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use tcpguard_engine::Mode;

use crate::config::{DEFAULT_PIN_DIR, DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR, MODES, parse_prefix};
pub use agent::*;
pub use alerts::*;
pub use checkup::*;
pub use files::*;
pub use host::*;
pub use monitoring::*;
pub use rules::*;

/// Detects and stops SYN floods in the kernel.
#[derive(Debug, Parser)]
#[command(name = "tcpguard", version, max_term_width = 100, after_help = TCPGUARD)]
#[command(help_template = TEMPLATE, before_help = groups())]
pub struct Args {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs in groups, where clap would list them in one.
const TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

{before-help}Options:
{options}{after-help}";

/// The verbs by what they are for.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Look", &["status", "top", "alerts", "events", "explain", "report", "listeners", "states"]),
    (
        "Act",
        &[
            "mode",
            "confirm",
            "block",
            "unblock",
            "allow",
            "disallow",
            "rules",
            "mitigation",
            "detach",
        ],
    ),
    ("Monitoring", &["check", "metrics"]),
    ("Host and captures", &["doctor", "tune", "selftest", "replay"]),
    ("Set-up", &["config", "reload", "run", "completions", "version"]),
];

/// Lines of `tcpguard --help` about each verb, group by group.
fn groups() -> String {
    let all = Verb::augment_subcommands(clap::Command::new("tcpguard"));
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text += &format!("{heading}:\n");
        // Without a terminal interface there is no `top`.
        for verb in names.iter().filter_map(|name| all.find_subcommand(name)) {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let aliases: Vec<_> = verb.get_visible_aliases().collect();
            let also = match aliases.as_slice() {
                [] => String::new(),
                names => format!(" [also: {}]", names.join(", ")),
            };
            text += &format!("  {:<12} {about}{also}\n", verb.get_name());
        }
        text.push('\n');
    }
    // clap puts an empty line behind it.
    text.trim_end().to_owned()
}

const TCPGUARD: &str = "\
Exit codes: 0 done, 1 refused or failed, 2 usage, 3 tcpguard is not running,
4 permission denied, 5 no such rule or interface.

Examples:
  tcpguard status                                 # what is happening, and what is done about it
  tcpguard explain 192.0.2.7                      # what decides about an address
  tcpguard mode enforce --rollback-after 60s      # drop, with automatic rollback
  tcpguard help block                             # every verb explains itself by examples";

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Tell times in UTC rather than in the time zone of this host
    #[arg(long, global = true)]
    pub utc: bool,
    /// Accepted for scripts; there is never a pager
    #[arg(long, global = true)]
    pub no_pager: bool,
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
    /// Directory of what survives a restart of the agent
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}

/// Condition for colour.
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

/// The verb and its arguments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Guard interfaces until stopped (what the service runs)
    Run(RunArgs),
    /// Show what is happening and what is done about it
    Status(StatusArgs),
    /// Look at all of it live, in the terminal
    #[cfg(feature = "tui")]
    Top(TopArgs),
    /// Say in one line, for monitoring, whether all is well
    Check(CheckArgs),
    /// Drop SYNs from an address or prefix
    Block(BlockArgs),
    /// Take back rules on an address or prefix
    Unblock(UnblockArgs),
    /// Let no rule of the guard's own drop an address or prefix
    Allow(AllowArgs),
    /// Take an address or prefix off the allowlist
    Disallow(UnallowArgs),
    /// Say what decides about an address, or what an attack was judged by
    Explain(ExplainArgs),
    /// Show what was told of attacks, rules and changes
    Alerts(AlertsArgs),
    /// Follow what is told, as it happens
    Events(EventsArgs),
    /// Look at the rules, or change them
    #[command(after_help = RULES)]
    Rules {
        /// What to do with them; without it they are listed.
        #[command(subcommand)]
        verb: Option<RulesVerb>,
    },
    /// Show or set what happens when a rule matches
    Mode(ModeArgs),
    /// Keep changes that revert unless confirmed
    Confirm(ConfirmArgs),
    /// Take a step for a listener, forbid it, or leave it to the guard again
    Mitigation(MitigationArgs),
    /// Read the configuration again and apply what can be applied
    #[command(after_help = RELOAD)]
    Reload,
    /// Say what the guard would have done about a capture
    Replay(ReplayArgs),
    /// Write a page with plots about an attack or a capture
    Report(ReportArgs),
    /// Try out which SYN cookies work on this host
    Selftest(SelftestArgs),
    /// Say what stands in the way of the guard, and what to do about it
    Doctor(DoctorArgs),
    /// Say which sysctls help on this host and which do harm; set them, and take that back
    Tune(TuneArgs),
    /// Take the filter off, also when the agent is dead
    Detach(DetachArgs),
    /// Look at the configuration
    #[command(after_help = CONFIG)]
    Config {
        /// What to do with it; without it it is shown.
        #[command(subcommand)]
        verb: Option<ConfigVerb>,
    },
    /// Count connections by state, say what is unusual, what it costs and who has them
    States(StatesArgs),
    /// Show how full the queues of each listener are, and what limits them
    Listeners(ListenersArgs),
    /// Print the status as numbers for a monitoring system
    Metrics(MetricsArgs),
    /// Print what a shell needs to complete verbs and options
    Completions(CompletionsArgs),
    /// Show the versions
    #[command(after_help = VERSION)]
    Version,
    /// Write the manual pages, for packages
    #[command(hide = true)]
    Manual(ManualArgs),
    /// Put back the sysctls that an agent changed and that ended without doing so
    #[command(hide = true, after_help = host::RESTORE_SYSCTLS)]
    RestoreSysctls,
}

const RELOAD: &str = "\
A configuration with mistakes is refused, and the old one holds.

Examples:
  tcpguard config check                           # every mistake, without applying anything
  tcpguard reload";

const VERSION: &str = "\
Examples:
  tcpguard version
  tcpguard version --json | jq -r .version";

/// An address or prefix. clap says what was typed, so that the reason need not.
fn prefix(text: &str) -> Result<IpNet, String> {
    parse_prefix(text).map_err(|why| why.replacen(&format!("\"{text}\" is "), "", 1))
}

fn mode_parser() -> impl TypedValueParser<Value = Mode> {
    one_of(&MODES)
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
    use clap::{Command, CommandFactory};

    use super::*;
    use tcpguard_support::hint_check;

    /// Every verb, hidden ones and those above others included.
    fn verbs() -> Vec<Command> {
        fn collect(command: &Command, verbs: &mut Vec<Command>) {
            verbs.push(command.clone());
            let below = command.get_subcommands().filter(|verb| verb.get_name() != "help");
            below.for_each(|verb| collect(verb, verbs));
        }
        let mut all = Args::command();
        all.build();
        let mut verbs = Vec::new();
        collect(&all, &mut verbs);
        verbs
    }

    /// The words of an example, as a shell would take them apart; `None` where it is another
    /// program's.
    fn words(line: &str) -> Option<Vec<String>> {
        let command = line.split(" # ").next()?.split(" | ").map(str::trim);
        let mut plain = command.map(|part| part.strip_prefix("sudo ").unwrap_or(part));
        let own = plain.find(|part| part.starts_with("tcpguard "))?;
        let own = own.split(['<', '>']).next()?;
        let mut words = Vec::new();
        for (number, part) in own.split('"').enumerate() {
            match number % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        Some(words)
    }

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Args::command().debug_assert();
    }

    #[test]
    #[cfg(feature = "tui")]
    fn hints_are_held_to_the_verbs_that_there_are() {
        let mut all = Args::command();
        all.build();
        let mut verbs: Vec<&str> = all.get_subcommands().map(Command::get_name).collect();
        verbs.sort_unstable();
        assert_eq!(verbs, hint_check::VERBS);
    }

    #[test]
    fn every_verb_is_in_one_group_of_the_help() {
        let all = Args::command();
        let shown = all.get_subcommands().filter(|verb| !verb.is_hide_set());
        for name in shown.map(Command::get_name) {
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&name)).count();
            assert_eq!(groups, 1, "{name}");
        }
        let help = Args::command().render_help().to_string();
        assert!(help.contains("\nAct:\n  mode "), "{help}");
        assert!(groups().lines().all(|line| line.chars().count() <= 100), "{help}");
    }

    #[test]
    fn what_belongs_to_a_verb_stands_above_what_belongs_to_all() {
        let mut all = Args::command();
        all.build();
        let status = all.find_subcommand_mut("status").expect("a verb").render_help().to_string();
        let options = status.split("Examples:").next().unwrap_or_default();
        let (own, every) = options.split_once("Options of every verb:").expect("two headings");
        assert!(own.contains("--brief") && !own.contains("--socket"), "{status}");
        assert!(every.contains("--socket") && !every.contains("--brief"), "{status}");
    }

    #[test]
    fn the_help_of_every_verb_ends_in_examples_that_can_be_typed() {
        for verb in verbs() {
            let name = verb.get_bin_name().unwrap_or_default().to_owned();
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.split_once("Examples:\n").map(|(_, examples)| examples);
            let lines: Vec<_> = examples.unwrap_or_default().lines().collect();
            let typed: Vec<_> = lines.iter().filter_map(|line| words(line)).collect();
            assert!(lines.iter().all(|line| line.starts_with("  ")), "{name}: {help}");
            assert!(lines.iter().all(|line| line.chars().count() <= 100), "{name}: {help}");
            let of_its_own = |words: &Vec<String>| words.join(" ").starts_with(&name);
            assert!(typed.iter().any(of_its_own), "{name} has no example: {help}");
            for words in typed {
                if let Err(error) = Args::try_parse_from(&words) {
                    assert!(!error.use_stderr(), "{words:?}: {error}");
                }
            }
        }
    }
}
