//! `tcpguard doctor` on the host that runs the tests, whatever its state: the document, and refused calls. Findings on particular hosts are tested with the checks themselves,
//! and on hosts that are broken on purpose in the root tests.

use std::process::{Command, Output};

use serde_json::Value;
use tcpguard_support::schema::assert_documented;

fn tcpguard(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpguard"));
    command.args(args).env("LC_ALL", "C.UTF-8");
    command.args(["--runtime-dir", "/nonexistent/tcpguard"]).output().unwrap()
}

fn document(output: &Output) -> Value {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_documented("doctor", &document);
    document
}

/// The exit code that a document requires.
fn code(document: &Value) -> i32 {
    let unknown = document["unknown"].as_array().unwrap();
    let findings = document["findings"].as_array().unwrap();
    // The most severe first.
    let worst = findings.first().map(|finding| finding["severity"].as_str().unwrap());
    match (worst, document["complete"].as_bool().unwrap()) {
        (Some("critical"), _) => 3,
        (_, false) => 4,
        (Some("warning"), true) => 1,
        _ if !unknown.is_empty() => 1,
        _ => 0,
    }
}

#[test]
fn the_document_is_what_the_schema_says_and_the_exit_code_what_it_says() {
    let output = tcpguard(&["doctor", "--json"]);
    let document = document(&output);
    assert_eq!(output.status.code(), Some(code(&document)), "{document:#}");
    // No agent listens where this one was sent.
    let agent = document["findings"].as_array().unwrap().iter().find(|it| it["code"] == "agent");
    assert_eq!(agent.unwrap()["severity"], "critical", "{document:#}");
}

#[test]
fn an_interface_that_is_not_there_keeps_the_agent_from_working() {
    let output = tcpguard(&["doctor", "-i", "no-such-if", "--json"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let document = document(&output);
    let findings = document["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{document:#}");
    assert_eq!(findings[0]["subject"], "no-such-if");
    let text = findings[0]["text"].as_str().unwrap();
    assert!(text.contains("lo"), "the names that exist: {text}");
}

#[test]
fn a_broken_configuration_is_reported_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tcpguard.toml");
    std::fs::write(&path, "mode = \"odd\"\n\nnonsense = 1\n").unwrap();
    let output = tcpguard(&["doctor", "-c", path.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let document = document(&output);
    let reported: Vec<&str> = document["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["code"] == "configuration")
        .map(|finding| finding["text"].as_str().unwrap())
        .collect();
    assert_eq!(reported.len(), 2, "{document:#}");
    assert!(reported[0].contains(":1:8: ") && reported[1].contains(":3:1: "), "{reported:?}");
}

#[test]
fn what_contradicts_itself_is_a_usage_error() {
    for line in [&["doctor", "-i", "eth0", "eth1"][..], &["doctor", "--selftest", "-i", "eth0"]] {
        let output = tcpguard(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{line:?}");
    }
}
