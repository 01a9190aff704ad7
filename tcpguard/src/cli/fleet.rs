//! `tcpguard fleet`: the verbs of `tcpguard-fleet`, which is a program of its own. It speaks to other hosts, and this
//! one does not.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{env, io};

use super::args::{FleetVerb, Global};
use super::error::CliError;
use super::exit::Exit;

/// The program.
const PROGRAM: &str = "tcpguard-fleet";

/// Replaces this process by the program. It returns only if that fails.
pub(super) fn run(verb: FleetVerb, global: &Global) -> anyhow::Result<()> {
    let FleetVerb::Other(words) = verb;
    let error = Command::new(PROGRAM).args(with_options(words, global)).exec();
    Err(failure(&error).into())
}

/// Returns whether the program is where the shell finds it.
pub(super) fn is_installed() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(PROGRAM).is_file())
}

/// The arguments, with the options of this program that the other has too.
fn with_options(mut words: Vec<OsString>, global: &Global) -> Vec<OsString> {
    for (is_given, option) in [(global.json, "--json"), (global.quiet, "--quiet")] {
        if is_given && !words.iter().any(|word| word == OsStr::new(option)) {
            words.push(option.into());
        }
    }
    words
}

fn failure(error: &io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::NotFound => CliError::not_found(
            format!("{PROGRAM} is not installed on this host"),
            format!("sudo apt-get install {PROGRAM}, or: sudo dnf install {PROGRAM}"),
        ),
        _ => CliError::failed(
            Exit::of_file(error),
            format!("cannot run {PROGRAM}: {error}"),
            format!("ls -l /usr/bin/{PROGRAM}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tcpguard_host::hint::Hint as _;
    use tcpguard_support::hint_check;

    use super::super::Verb;
    use super::super::args::{Args, FleetArgs};
    use super::*;

    fn words_of(line: &str) -> Vec<OsString> {
        let args = Args::try_parse_from(line.split(' ')).expect("a command line");
        match args.verb {
            Verb::Fleet(FleetArgs { verb: FleetVerb::Other(words) }) => {
                with_options(words, &args.global)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_arguments_are_passed_on_as_they_are() {
        assert_eq!(words_of("tcpguard fleet status --json"), ["status", "--json"]);
        assert_eq!(words_of("tcpguard --json fleet status"), ["status", "--json"]);
        assert_eq!(words_of("tcpguard --json fleet status --json"), ["status", "--json"]);
        assert_eq!(
            words_of("tcpguard fleet block 203.0.113.0/24 --hosts site=fra -v"),
            ["block", "203.0.113.0/24", "--hosts", "site=fra", "-v"]
        );
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let missing = failure(&io::ErrorKind::NotFound.into());
        assert_eq!(missing.to_string(), "tcpguard-fleet is not installed on this host");
        for error in [missing, failure(&io::ErrorKind::PermissionDenied.into())] {
            assert!(hint_check::is_named(&error.hint()), "{}", error.hint());
        }
    }
}
