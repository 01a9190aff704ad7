//! The advice of `tcpguard doctor`, carried out.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::daemon::agent::{CONFIG, RUNTIME_DIR, STATE_DIR, binary};
use crate::net::netns::Netns;

/// Runs the commands that `tcpguard doctor` prints for the packet filter of a host with a running agent, once
/// each. They insert the rules that accept the mark. tcpguard reads the rules once a second.
pub fn accept_mark(host: &Netns) -> Result<()> {
    let mut doctor = host.command(binary()?)?;
    doctor.args(["doctor", "--json", "-c", CONFIG]);
    doctor.args(["--runtime-dir", RUNTIME_DIR, "--state-dir", STATE_DIR]);
    let output = doctor.output().context("cannot start tcpguard")?;
    let document: Value =
        serde_json::from_slice(&output.stdout).context("the doctor printed no JSON")?;
    let findings = document["findings"].as_array().context("the doctor printed no findings")?;
    let hints: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["code"] == "firewall_rules" && finding["severity"] == "warning")
        .filter_map(|finding| finding["hint"].as_str())
        .collect();
    ensure!(!hints.is_empty(), "the doctor names no rules that accept the mark: {document:#}");
    for hint in hints {
        println!("doctor: {hint}");
        let output = host.command("sh")?.args(["-c", hint]).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{hint}: {}", error.trim());
    }
    Ok(())
}
