//! The completion script of bash, run by bash. Other shells are not on every machine.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use tcpguard_engine::Mode;

use super::host::Host;
use super::support::{flooded, status};

/// The words that bash offers for the last of `words`, beside `host`.
fn offered(host: &Host, words: &str) -> Vec<String> {
    let program = host.path().join("tcpguard");
    let command = host.command(&[]);
    let typed = std::iter::once(command.get_program()).chain(command.get_args());
    let typed: String = typed.map(|word| format!("'{}' ", word.to_str().unwrap())).collect();
    std::fs::write(&program, format!("#!/bin/sh\nexec {typed}\"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let script = format!(
        "{}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         _tcpguard tcpguard \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        host.run(&["completions", "bash"]).stdout
    );
    let path = format!("{}:{}", host.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash").args(["--norc", "-c", &script]).env("PATH", path).output();
    let output = output.unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let offered = String::from_utf8(output.stdout).unwrap();
    offered
        .lines()
        .filter(|word| !word.is_empty() && !word.starts_with('-'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn numbers_of_the_running_agent_are_offered() {
    let host = Host::with(status(flooded(Mode::Enforce)));
    let incidents = host.run(&["complete", "incidents"]);
    assert!(incidents.stdout.lines().any(|line| line == "3"), "{incidents:#?}");
    let words = offered(&host, "tcpguard explain ''");
    assert_eq!(words, incidents.stdout.lines().collect::<Vec<_>>());
    assert_eq!(offered(&host, "tcpguard explain 3"), ["3"]);
    let rules = host.run(&["complete", "rules"]);
    assert!(!rules.stdout.is_empty(), "{rules:#?}");
    let words = offered(&host, "tcpguard unblock --rule ''");
    assert_eq!(words, rules.stdout.lines().collect::<Vec<_>>());
}

#[test]
fn without_an_agent_and_beside_one_that_hangs_no_number_is_offered() {
    let host = Host::without_agent();
    for numbers in ["incidents", "rules"] {
        host.run(&["complete", numbers]).is(0, "", "");
    }
    assert_eq!(offered(&host, "tcpguard unblock --rule ''"), [""; 0]);
    let _hangs = UnixListener::bind(host.path().join("status.sock")).unwrap();
    let begun = Instant::now();
    host.run(&["complete", "rules"]).is(0, "", "");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
