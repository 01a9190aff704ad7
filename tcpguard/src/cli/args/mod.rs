//! The command line as typed, checked for form only: the options that all verbs share. Those of each verb are in
//! the module of its kind, and end in examples.

mod agent;
mod checkup;
mod events;
mod files;
mod host;
mod monitoring;
mod rules;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, Command, CommandFactory as _, Parser, ValueEnum};
use ipnet::IpNet;
use tcpguard_engine::Mode;

use super::exit::Exit;
use super::{Verb, help};
use crate::config::{DEFAULT_PIN_DIR, DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR, parse_prefix};
pub use agent::*;
pub use checkup::*;
pub use events::*;
pub use files::*;
pub use host::*;
pub use monitoring::*;
pub use rules::*;

/// Detect and mitigate SYN floods with XDP.
#[derive(Debug, Parser)]
#[command(name = "tcpguard", version, max_term_width = 100, after_help = with_exit_status("", TCPGUARD))]
#[command(help_template = TEMPLATE, before_help = help())]
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

{before-help}Global options:
{options}{after-help}";

/// Help of a verb: its own options only.
const VERB: &str = "\
{about-with-newline}
{usage-heading} {usage}

{all-args}

Global options, such as --json: tcpguard help{after-help}";

/// The command line, of which only the help of the program itself shows the options of every verb.
pub fn command() -> Command {
    fn own(verb: Command, global: &[Arg]) -> Command {
        let verb = verb.help_template(VERB).args(global);
        verb.mut_subcommands(|verb| own(verb, global))
    }
    let all = Args::command();
    let global = all.get_arguments().filter(|arg| arg.is_global_set());
    let global: Vec<Arg> = global.map(|arg| arg.clone().hide(true)).collect();
    all.mut_subcommands(|verb| own(verb, &global))
}

const TCPGUARD: &str = "\
Examples:
  tcpguard status                                 # attacks, mitigations and clients
  tcpguard explain 192.0.2.7                      # decisions about an address
  tcpguard mode enforce --rollback-after 60s      # drop, with automatic rollback
  tcpguard help block                             # help of a command";

/// Heading of the exit codes in help.
pub(super) const EXIT_STATUS: &str = "Exit status:";

/// Text below the options of a verb with its exit codes before the examples.
fn with_exit_status(verb: &str, text: &str) -> String {
    let (notes, examples) = text.split_at(text.find("Examples:").unwrap_or(text.len()));
    let codes =
        Exit::table(verb).iter().map(|(exit, meaning)| format!("  {}  {meaning}\n", exit.code()));
    format!("{notes}{EXIT_STATUS}\n{}\n{examples}", codes.collect::<String>())
}

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Use color: auto, always or never
    // Values with help would spread the help of every verb over twice the lines.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub color: Color,
    /// Show times in UTC instead of the time zone of this host
    #[arg(long, global = true)]
    pub utc: bool,
    /// Print only data and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Increase verbosity (-vv: debug)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Use this socket of the agent instead of the runtime directory
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Use the agent's sockets in this directory
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
    /// Use the BPF pins in this directory of a bpffs
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,
    /// Use the agent's state files in this directory
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}

/// Condition for color.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set (CLICOLOR_FORCE: always)
    #[default]
    Auto,
    /// In every case
    Always,
    /// In no case
    Never,
}

/// An address or prefix. clap quotes the input, so the reason does not.
fn prefix(text: &str) -> Result<IpNet, String> {
    parse_prefix(text).map_err(|why| why.replacen(&format!("\"{text}\" is "), "", 1))
}

/// The number of an incident: `1042` or `#1042`.
fn incident(text: &str) -> Result<u64, &'static str> {
    let number = text.strip_prefix('#').unwrap_or(text);
    number.parse().map_err(|_| "not the number of an incident, such as 1042")
}

fn mode_parser() -> impl TypedValueParser<Value = Mode> {
    described(&[
        ("observe", "Count the SYNs that rules match", Mode::Observe),
        ("enforce", "Drop the SYNs that rules match", Mode::Enforce),
        ("off", "Match no rules", Mode::Off),
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

/// One of the named values, each with its help.
fn described<T: Copy + Send + Sync + 'static>(
    values: &'static [(&'static str, &'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let named = values.iter().map(|(name, help, _)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(named).try_map(|typed| {
        let found = values.iter().find(|(name, ..)| *name == typed);
        found.map(|(_, _, value)| *value).ok_or("not one of the possible values")
    })
}

#[cfg(test)]
mod tests {
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

    /// The words of an example as a shell would split them; `None` where it is another program's.
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
        assert_eq!(verbs, hint_check::verbs());
    }

    #[test]
    fn global_options_are_shown_once() {
        let mut all = command();
        all.build();
        let program = all.render_help().to_string();
        assert!(program.contains("--socket") && program.contains("--json"), "{program}");
        let status = all.find_subcommand_mut("status").expect("a verb").render_help().to_string();
        assert!(status.contains("--brief") && !status.contains("--socket"), "{status}");
        assert!(status.contains("--json: tcpguard help\n"), "{status}");
    }

    #[test]
    fn help_lines_have_at_most_70_characters() {
        for verb in verbs() {
            let name = verb.get_bin_name().unwrap_or_default().to_owned();
            let values = |argument: &Arg| argument.get_possible_values();
            let values = verb.get_arguments().flat_map(values);
            let values: Vec<_> = values.filter_map(|value| value.get_help().cloned()).collect();
            let options = verb.get_arguments().filter_map(|argument| argument.get_help());
            for help in verb.get_about().into_iter().chain(options).chain(&values) {
                let help = help.to_string();
                let line = help.split(" [default").next().unwrap_or_default();
                assert!(line.chars().count() <= 70, "{name}: {line}");
                assert!(!line.ends_with('.'), "{name}: {line}");
            }
        }
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
