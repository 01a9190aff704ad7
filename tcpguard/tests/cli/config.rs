//! Configuration and mode.

use serde_json::Value;

use super::host::Host;
use super::support::{calm, status};

#[test]
fn a_configuration_is_written_once_and_shown() {
    let host = Host::without_agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("etc/tcpguard.toml");
    let file = file.to_str().unwrap();
    let written = host.run(&["config", "init", file]);
    assert_eq!((written.code, written.stdout), (Some(0), format!("wrote {file}\n")));
    let again = host.run(&["config", "init", file]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("exists and was left alone"), "{again:#?}");
    assert_eq!(host.run(&["config", "check", file]).code, Some(0));
    let shown = host.run(&["config", "show", file]);
    assert!(shown.stdout.contains("detection.poll_ms = 250 "), "{shown:#?}");
    assert!(shown.stdout.lines().all(|line| line.ends_with("# default")), "{shown:#?}");
}

#[test]
fn a_configuration_is_checked_with_all_its_mistakes() {
    let host = Host::without_agent();
    let file = host.path().join("guard.toml");
    let path = file.to_str().unwrap();

    std::fs::write(&file, "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n").unwrap();
    host.run(&["config", "check", path]).is(
        0,
        &format!("{path}: valid; mode enforce, interfaces: eth0\n"),
        "apply it: tcpguard reload\n",
    );
    assert_eq!(host.run(&["config", "check", path, "--json"]).json()["valid"], true);

    std::fs::write(&file, "mode = \"on\"\n[detection]\npol_ms = 1\n").unwrap();
    let mistakes = format!(
        "tcpguard: {path}:1: mode: \"on\" is not known; write one of \"observe\", \"enforce\", \"off\"\n\
         {path}:3: unknown key detection.pol_ms; did you mean detection.poll_ms?\n\
         2 mistakes, nothing was applied; edit the file, then: tcpguard config check {path}\n"
    );
    host.run(&["config", "check", path]).is(1, "", &mistakes);
    let json = host.run(&["config", "check", path, "--json"]);
    assert_eq!(json.code, Some(1));
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["problems"][1]["line"], 3);

    let run = host.run(&["run", "-c", path, "-i", "lo"]);
    run.is(2, "", &mistakes);
    assert!(!host.path().join("status.sock").exists());
}

#[test]
fn the_mode_is_shown_and_set() {
    let host = Host::with(status(calm()));
    host.run(&["mode"]).is(0, "enforce\n", "");
    host.run(&["mode", "--json"]).is(
        0,
        "{\"schema\":\"tcpguard.mode/1\",\"mode\":\"enforce\",\"ends\":null}\n",
        "",
    );
    host.run(&["mode", "observe"]).is(
        0,
        "mode observe (was enforce)\n",
        "rules only count from now on; see what they would drop: tcpguard status\n",
    );
    host.run(&["mode", "off", "--json", "-q"]).is(
        0,
        "{\"schema\":\"tcpguard.mode/1\",\"mode\":\"off\",\"was\":\"enforce\",\"ends\":null}\n",
        "",
    );
}

#[test]
fn reload_says_what_holds_and_what_waits() {
    let host = Host::with(status(calm()));
    host.run(&["reload"]).is(
        0,
        "applied detection, protect.prefixes\n",
        "only a restart applies interfaces.names: systemctl restart tcpguard\n",
    );
    let json = host.run(&["reload", "--json"]).json();
    assert_eq!(json["applied"][1], "protect.prefixes");
    assert_eq!(json["waiting"][0], "interfaces.names");
}

#[test]
fn running_without_an_interface_is_a_usage_error() {
    let host = Host::without_agent();
    let file = host.path().join("empty.toml");
    std::fs::write(&file, "").unwrap();
    let stderr = format!(
        "tcpguard: no interface to guard; name one with -i, or in {} under [interfaces]: names = [\"eth0\"]\n",
        file.display()
    );
    host.run(&["run", "-c", file.to_str().unwrap()]).is(2, "", &stderr);
}
