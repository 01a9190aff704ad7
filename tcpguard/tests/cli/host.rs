//! The real binary beside an agent with the responses that a test gives it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tcpguard::control::{Request, Response};
use tcpguard::documents::Status;

use super::agent::answer;
use super::stand_in::StandIn;
use tcpguard_support::hint_check;

/// A runtime directory, and possibly an agent that listens in it.
pub struct Host {
    dir: tempfile::TempDir,
    _agent: Option<StandIn>,
}

impl Host {
    pub fn without_agent() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), _agent: None }
    }

    /// An agent in this situation.
    pub fn with(status: Status) -> Self {
        Self::answering(move |request| answer(request, &status))
    }

    /// An agent that answers so.
    pub fn answering(answer: impl FnMut(&Request) -> Response + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = StandIn::in_dir(dir.path(), answer);
        Self { dir, _agent: Some(agent) }
    }

    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcpguard"));
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            // The tests may run under SSH: nothing of that may show.
            .env("SSH_CONNECTION", "203.0.113.5 50022 203.0.113.1 22")
            .arg("--runtime-dir")
            .arg(self.dir.path())
            .arg("--pin-dir")
            .arg(self.dir.path().join("pins"))
            .args(line);
        command
    }

    #[track_caller]
    pub fn run(&self, line: &[&str]) -> Outcome {
        Outcome::of(line, self.command(line).output().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The outcome of a command, for assertions that show all of it when they fail.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub line: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The outcome of `line`. In every case its stderr must name a next step.
    #[track_caller]
    pub fn of(line: &[&str], output: Output) -> Self {
        let outcome = Self {
            line: line.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(hint_check::is_named(&outcome.stderr), "no command and no file in {outcome:#?}");
        outcome
    }

    #[track_caller]
    pub fn is(&self, code: i32, stdout: &str, stderr: &str) {
        let expected = Self {
            line: self.line.clone(),
            code: Some(code),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        assert!(*self == expected, "found {self:#?}\nexpected {expected:#?}");
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}
