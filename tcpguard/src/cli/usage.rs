//! Parsing of the command line, and messages about mistakes in it.

use std::ffi::OsString;
use std::io::Write as _;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::args::{Args, command};
use super::exit::Exit;

/// Last line of clap, which names no command.
const TRY_HELP: &str = "\n\nFor more information, try '--help'.\n";

/// Reads a command line. Its first word is the program's name. Otherwise help and version are printed, or
/// the mistake is reported on stderr, and the exit code is returned.
///
/// # Errors
///
/// [`Exit::Done`] after help, the result of [`Exit::of_usage`] after a line that makes no sense.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Args, Exit> {
    let line: Vec<OsString> = line.into_iter().collect();
    let matches = command().try_get_matches_from(&line);
    matches.and_then(|matches| Args::from_arg_matches(&matches)).map_err(|error| {
        if !error.use_stderr() {
            // A reader that has gone has read enough.
            let _ = error.print();
            return Exit::Done;
        }
        let verbs = verbs(&line);
        // A closed stderr changes nothing about the line.
        let _ = write!(std::io::stderr(), "{}", message(&error, &verbs));
        Exit::of_usage(verbs.first().map(String::as_str))
    })
}

/// The message of clap with a hint.
fn message(error: &clap::Error, verbs: &[String]) -> String {
    let text = error.render().to_string();
    match text.strip_suffix(TRY_HELP) {
        Some(text) => {
            let verb = verbs.iter().map(|verb| format!(" {verb}")).collect::<String>();
            format!("{text}\nhint: tcpguard{verb} --help\n")
        }
        // The help itself, which ends in examples.
        None => text,
    }
}

/// The verbs of a line, as far as it can be understood: `["rules", "import"]`.
fn verbs(line: &[OsString]) -> Vec<String> {
    let understood = Args::command().ignore_errors(true).try_get_matches_from(line);
    let mut verbs = Vec::new();
    let mut below = understood.as_ref().ok().and_then(|matches| matches.subcommand());
    while let Some((verb, matches)) = below {
        verbs.push(verb.to_owned());
        below = matches.subcommand();
    }
    verbs
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_usage_error_ends_with_the_help_of_its_verb() {
        for (line, help) in [
            ("tcpguard fly", "hint: tcpguard --help"),
            ("tcpguard status --sideways", "hint: tcpguard status --help"),
            ("tcpguard mode on", "hint: tcpguard mode --help"),
            ("tcpguard --socket status mode on", "hint: tcpguard mode --help"),
            ("tcpguard --json rules import", "hint: tcpguard rules import --help"),
            ("tcpguard rules import a b", "hint: tcpguard rules import --help"),
            ("tcpguard config fly", "hint: tcpguard config --help"),
        ] {
            let line = words(line);
            let error = Args::try_parse_from(&line).expect_err("a wrong line");
            let message = message(&error, &verbs(&line));
            assert_eq!(message.lines().next_back(), Some(help), "{message}");
            assert!(message.starts_with("error: "), "{message}");
        }
    }

    #[test]
    fn without_a_verb_the_help_is_shown_with_its_examples() {
        let words = words("tcpguard");
        let error = Args::try_parse_from(&words).expect_err("no verb");
        let message = message(&error, &verbs(&words));
        let last = message.lines().next_back().unwrap_or_default();
        assert!(last.trim_start().starts_with("tcpguard "), "{message}");
    }
}
