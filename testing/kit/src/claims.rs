//! Claims of a demonstration, each printed with its outcome.

use std::process::ExitCode;

use anyhow::Result;

/// Claims so far.
#[derive(Debug, Default)]
pub struct Claims {
    broken: u32,
}

impl Claims {
    /// Prints a claim, and notes whether it holds.
    pub fn check(&mut self, holds: bool, claim: &str) {
        println!("  {} {claim}", if holds { "[ok]    " } else { "[NOT SO]" });
        self.broken += u32::from(!holds);
    }
}

/// Prints the title of a scene.
pub fn scene(title: &str) {
    println!("\n== {title}");
}

/// The exit code of a demonstration, with its last words.
pub fn outcome(played: Result<Claims>) -> ExitCode {
    match played {
        Ok(Claims { broken: 0 }) => {
            println!("\nEvery claim held.");
            ExitCode::SUCCESS
        }
        Ok(Claims { broken }) => {
            println!("\n{broken} claim(s) did not hold.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the demonstration could not go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}
