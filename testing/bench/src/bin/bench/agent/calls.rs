//! The time that a caller waits for the agent's response.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use tcpguard_kit::daemon::agent::cli;
use tcpguard_kit::net::netns::Netns;

use crate::samples::Samples;

const QUESTIONS: [&str; 3] = ["status", "status --json", "rules list"];
/// All calls of a situation end within this time: under a flood a machine may be slow.
const LIMIT: Duration = Duration::from_secs(20);

/// Wall time of one command, from its start to its end.
#[derive(Clone, Debug, Serialize)]
pub struct Calls {
    pub command: String,
    pub took: Samples,
}

impl Calls {
    /// Every command that is timed.
    pub fn all() -> Vec<Self> {
        let command = |words: &str| Self { command: words.to_owned(), took: Samples::default() };
        QUESTIONS.map(command).into()
    }

    fn time(&mut self, host: &Netns) -> Result<()> {
        let words: Vec<&str> = self.command.split(' ').collect();
        let begun = Instant::now();
        let output = cli(host, &words)?;
        let took = begun.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tcpguard {}: {}", self.command, said.trim());
        self.took.push(took.as_secs_f64() * 1e3);
        Ok(())
    }
}

/// Times every command `times` times, in turn.
pub fn time(all: &mut [Calls], host: &Netns, times: usize) -> Result<()> {
    let begun = Instant::now();
    for _ in 0..times {
        for calls in &mut *all {
            calls.time(host)?;
        }
        if begun.elapsed() > LIMIT {
            break;
        }
    }
    Ok(())
}
