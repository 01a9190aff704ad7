//! Output of the command line while no agent runs: the reason, and the last agent's memory.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use tcpguard_kit::daemon::machine::Machine;

use super::{CONFIG, booted, machine};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Output of `tcpguard status` once it contains these words, within some seconds.
#[track_caller]
fn reported(machine: &Machine, words: &str) -> String {
    let begun = Instant::now();
    loop {
        let output = machine.output("tcpguard status").unwrap();
        let said = said(&output);
        if said.contains(words) {
            assert_eq!(output.status.code(), Some(3), "{said}");
            return said;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{words:?} is missing in: {said}");
    }
}

#[test]
fn a_service_that_was_stopped_still_says_what_it_knew() {
    let (machine, _) = booted();
    machine.exec("tcpguard block 192.0.2.0/24 --reason night").unwrap();
    machine.exec("systemctl stop tcpguard").unwrap();
    let why = reported(&machine, "the service is stopped");
    assert!(why.contains("XDP program still attached to eth0"), "{why}");
    for (line, words) in [("rules list", "192.0.2.0/24"), ("events", "192.0.2.0/24")] {
        let output = machine.output(&format!("tcpguard {line}")).unwrap();
        let data = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && data.contains(words), "{line}: {data}");
        let note = said(&output);
        assert!(note.starts_with("warning: agent not running, data as of "), "{line}: {note}");
    }
    assert_eq!(machine.output("tcpguard explain 99").unwrap().status.code(), Some(5));
    let doctor = machine.output("tcpguard doctor").unwrap();
    let page = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(3), "{page}");
    let first = page.lines().find(|line| line.contains("critical agent")).map(str::to_owned);
    let critical = page.lines().find(|line| line.starts_with("✗ critical"));
    assert_eq!(first.as_deref(), critical, "{page}");
    // Members of the group may read the responses of an agent, but not its files.
    let (code, why) = super::as_user(&machine, "--groups tcpguard", "tcpguard events");
    assert!(code == Some(3) && why.contains("use sudo"), "{code:?}: {why}");
}

#[test]
fn a_service_that_fails_is_named_with_its_last_error_and_is_not_waited_for() {
    let machine = machine("mode = \"on\"\n");
    assert!(!machine.output("systemctl start tcpguard").unwrap().status.success());
    let why = reported(&machine, "the service has failed (exit-code, exit code 2): ");
    assert!(why.contains("tcpguard.toml:1:8: mode: "), "{why}");
    let begun = Instant::now();
    let waited = machine.output("tcpguard status --wait healthy --timeout 60s").unwrap();
    assert_eq!(waited.status.code(), Some(3));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(said(&waited).contains("the service has failed"), "{}", said(&waited));

    // Tried again and again: it may come yet.
    fs::write(machine.path(CONFIG), "[interfaces]\nnames = [\"nowhere0\"]\n").unwrap();
    machine.exec("systemctl --no-block restart tcpguard").unwrap();
    let why = reported(&machine, "no interface nowhere0");
    assert!(why.contains("the service restarts repeatedly ("), "{why}");
}
