//! Child processes, with errors that name the failed command.

use std::{
    io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, anyhow, bail};

/// Runs `command` to its end, its output going where ours goes.
///
/// # Errors
/// When it cannot be started or ends unsuccessfully; the message holds the command line.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| not_started(&line(command), error))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs `command` and returns its standard output as text.
///
/// # Errors
/// As for [`run`]. Its standard error goes where ours goes.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| not_started(&line(command), error))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", line(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something other than UTF-8", line(command)))
}

/// The standard output of `command`, or nothing if it cannot be run or fails.
///
/// For questions to which "there is no such program" is an answer.
pub fn probe(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The error for a `line` that could not be started, with a hint, since mostly its program is not
/// there.
pub fn not_started(line: &str, error: io::Error) -> Error {
    anyhow!("cannot start `{line}`: {error}; see what is missing here: cargo xtask setup --check")
}

/// The command as a person would type it, without the environment.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Announces an action, on standard error.
pub fn announce(what: &str) {
    eprintln!("xtask: {what}");
}

/// Announces an action, does it, and reports its duration if that is longer than 5 s.
pub fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    announce(what);
    let start = Instant::now();
    let result = work()?;
    let took = start.elapsed();
    if took > Duration::from_secs(5) {
        announce(&format!("{what}: {} s", took.as_secs()));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_arguments() {
        let error = run(Command::new("false").arg("--really")).unwrap_err();
        assert_eq!(error.to_string(), "`false --really` failed: exit status: 1");
    }

    #[test]
    fn a_missing_program_is_named_with_how_to_get_it() {
        let error = run(Command::new("tcpguard-no-such-program").arg("now")).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("cannot start `tcpguard-no-such-program now`: "), "{said}");
        assert!(said.ends_with("cargo xtask setup --check"), "{said}");
    }

    #[test]
    fn a_missing_program_is_no_selftest_result() {
        assert_eq!(probe(&mut Command::new("tcpguard-no-such-program")), None);
        assert_eq!(probe(Command::new("echo").arg("here")).as_deref(), Some("here"));
    }
}
