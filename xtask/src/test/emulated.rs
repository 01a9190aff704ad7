//! The tests of pure logic on another platform, under emulation of user space.

use anyhow::Result;

use crate::platform::Platform;
use crate::process;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;
use crate::{emulation, zig};

/// The code that the kernel shares, with all its tests, and the engine, with the tests in its modules. The engine's
/// scenarios take too long under emulation, and packages above it ask the kernel by sockets that are not emulated.
const RUNS: [&[&str]; 2] = [
    &["--package", "tcpguard-common", "--lib", "--tests"],
    &["--package", "tcpguard-engine", "--lib"],
];

/// Builds the tests for a platform and runs those that `arguments` select.
///
/// # Errors
/// When set-up, build or a test fails.
pub fn run(workspace: &Workspace, platform: Platform, arguments: &[String]) -> Result<()> {
    setup::ensure(&[Purpose::Program, Purpose::Guests, Purpose::Foreign])?;
    let runner = emulation::runner(workspace, platform)?;
    for packages in RUNS {
        let mut test = zig::cargo(workspace, "test", platform)?;
        if !runner.is_empty() {
            let words: Vec<_> = runner.iter().map(|word| word.to_string_lossy()).collect();
            // A list of strings is the same in JSON and in TOML.
            let words = serde_json::to_string(&words)?;
            test.arg(format!("--config=target.{}.runner={words}", platform.triple()));
        }
        process::run(test.arg("--no-fail-fast").args(packages).arg("--").args(arguments))?;
    }
    Ok(())
}
