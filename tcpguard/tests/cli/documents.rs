//! Every verb with `--json`: its output has the form that the schema of its document describes, and
//! nothing else.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory;
use serde_json::Value;
use tcpguard::cli::{Args, documents};
use tcpguard::control::Response;
use tcpguard::documents::AlertPage;
use tcpguard_engine::Mode;
use tcpguard_support::schema::assert_documented;

use super::agent::answer;
use super::host::Host;
use super::support::{flooded, status};

/// The command line, and the document that it prints. `DIR` stands for a directory with the files
/// of [`files`].
const LINES: [(&str, &str); 39] = [
    ("status", "tcpguard.status/1"),
    ("check", "tcpguard.check/1"),
    ("explain 198.51.100.7", "tcpguard.explanation/1"),
    ("explain 3", "tcpguard.incident/1"),
    ("explain", "tcpguard.incident/1"),
    ("explain 3 --timeline", "tcpguard.timeline/1"),
    ("incidents", "tcpguard.incidents/1"),
    ("incidents --since yesterday", "tcpguard.incidents/1"),
    ("top", "tcpguard.history/1"),
    ("events", "tcpguard.events/1"),
    ("events --since 7d", "tcpguard.events/1"),
    ("block 192.0.2.7", "tcpguard.block/1"),
    ("unblock --all", "tcpguard.unblock/1"),
    ("allow 203.0.113.0/24", "tcpguard.allow/1"),
    ("disallow 203.0.113.0/24", "tcpguard.disallow/1"),
    ("rules list", "tcpguard.rule-list/1"),
    ("rules export --all", "tcpguard.rules/1"),
    ("rules import DIR/rules.txt", "tcpguard.import/1"),
    ("confirm 192.0.2.7", "tcpguard.confirm/1"),
    ("rules flush", "tcpguard.unblock/1"),
    ("mode", "tcpguard.mode/1"),
    ("mode observe", "tcpguard.mode/1"),
    ("mitigation :443 cookies off", "tcpguard.mitigation/1"),
    ("reload", "tcpguard.reload/1"),
    ("capture -w DIR/new.pcapng -c 2 --quiet", "tcpguard.capture/1"),
    ("replay DIR/empty.pcap --quiet", "tcpguard.replay/1"),
    ("states", "tcpguard.states/1"),
    ("states --queues", "tcpguard.states/1"),
    ("listeners", "tcpguard.listeners/1"),
    ("doctor", "tcpguard.doctor/1"),
    ("tune", "tcpguard.tune/1"),
    ("detach --all", "tcpguard.detach/1"),
    ("restore-sysctls --state-dir DIR", "tcpguard.restore-sysctls/1"),
    ("config check DIR/good.toml", "tcpguard.config-check/1"),
    ("config check DIR/bad.toml", "tcpguard.config-check/1"),
    ("config show DIR/good.toml", "tcpguard.config-show/1"),
    ("config show --effective", "tcpguard.config-show/1"),
    ("config init DIR/new.toml", "tcpguard.config-init/1"),
    ("version", "tcpguard.version/1"),
];

/// Verbs that are not in that list, and the document that another test checks.
const ELSEWHERE: [(&str, Option<&str>); 8] = [
    // The agent itself.
    ("run", None),
    // Forms of its own; as JSON it is a usage error: numbers.rs.
    ("metrics", None),
    // Another program's.
    ("fleet", None),
    // Words of shells and pages of manuals.
    ("completions", None),
    ("manual", None),
    // It never ends; below.
    ("events --follow", Some("tcpguard.event/1")),
    // It changes the host: tests/tune.rs of the test kit.
    ("tune --apply", Some("tcpguard.tuned/1")),
    // It needs network namespaces of its own: tests/probe.rs of the test kit.
    ("doctor --selftest", Some("tcpguard.selftest/1")),
];

fn files(dir: &Path) {
    // Version 2.4, no packets, Ethernet.
    let pcap = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    for (name, text) in [
        ("rules.txt", &b"192.0.2.0/24\n"[..]),
        ("good.toml", b"mode = \"enforce\"\n"),
        ("bad.toml", b"mode = \"on\"\n"),
        ("empty.pcap", pcap.as_slice()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

/// Collects the names of the verbs below `command`: `status`, `rules list`, …
pub fn verbs(command: &clap::Command, above: &str, found: &mut Vec<String>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = format!("{above} {}", verb.get_name()).trim().to_owned();
        match verb.has_subcommands() {
            true => verbs(verb, &name, found),
            false => found.push(name),
        }
    }
}

#[test]
fn every_verb_and_every_document_is_looked_at() {
    let mut known = Vec::new();
    verbs(&Args::command(), "", &mut known);
    let typed = LINES.iter().map(|(line, _)| *line).chain(ELSEWHERE.map(|(verb, _)| verb));
    let typed: Vec<_> = typed.collect();
    for verb in known {
        let begins = |line: &&str| *line == verb || line.starts_with(&format!("{verb} "));
        assert!(typed.iter().any(begins), "no line with `tcpguard {verb}`: add one to LINES");
    }
    let looked_at: BTreeSet<_> = LINES.iter().map(|(_, document)| *document).collect();
    let elsewhere: BTreeSet<_> = ELSEWHERE.iter().filter_map(|(_, document)| *document).collect();
    let shipped: BTreeSet<_> = documents::ALL.iter().map(|document| document.id).collect();
    assert_eq!(looked_at.union(&elsewhere).copied().collect::<BTreeSet<_>>(), shipped);
}

#[test]
fn what_is_printed_is_what_its_schema_says() {
    let host = Host::with(status(flooded(Mode::Enforce)));
    let dir = tempfile::tempdir().unwrap();
    files(dir.path());
    let mut all = String::new();
    for (line, document) in LINES {
        let line = line.replace("DIR", dir.path().to_str().unwrap());
        let words: Vec<_> = line.split(' ').chain(["--json"]).collect();
        let outcome = host.run(&words);
        let printed = outcome.stdout.strip_suffix('\n').unwrap_or_default();
        assert!(!printed.is_empty() && !printed.contains('\n'), "one line: {outcome:#?}");
        all += &outcome.stdout;
        holds(printed, document);
    }
    a_stock_validator_accepts(&all);
}

/// Validates documents, one a line, with the package of PyPI, which knows nothing but the file of the schema.
fn a_stock_validator_accepts(documents: &str) {
    const VALIDATE: &str = "\
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
assert schema['$id'] and schema['$schema']
dialect = jsonschema.validators.validator_for(schema)
dialect.check_schema(schema)
for line in sys.stdin:
    dialect(schema).validate(json.loads(line))
";
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).expect("CARGO_HOME");
    let mut python = Command::new("/usr/bin/python3")
        .args([
            "-c",
            VALIDATE,
            concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema/tcpguard.json"),
        ])
        .env("PYTHONPATH", cargo.join("tcpguard-tools/jsonschema"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let written = python.stdin.take().unwrap().write_all(documents.as_bytes());
    assert!(
        python.wait().unwrap().success(),
        "{written:?}; without the package: cargo xtask setup"
    );
}

#[test]
fn each_event_is_a_document_on_a_line_of_its_own() {
    let status = status(flooded(Mode::Enforce));
    let mut looks = 0;
    let host = Host::answering(move |request| {
        let mut response = answer(request, &status);
        if let Response::Alerts(AlertPage { last, alerts, .. }) = &mut response {
            // No alert was raised yet at the first request.
            if looks == 0 {
                *last = 0;
                alerts.clear();
            }
            looks += 1;
        }
        response
    });
    let mut events =
        host.command(&["events", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        holds(&lines.next().unwrap().unwrap(), "tcpguard.event/1");
    }
    events.kill().unwrap();
    events.wait().unwrap();
}

#[track_caller]
fn holds(printed: &str, document: &str) {
    let found: Value = serde_json::from_str(printed).unwrap();
    assert!(printed.starts_with(&format!("{{\"schema\":\"{document}\"")), "{printed}");
    assert_documented(document.split(['.', '/']).nth(1).expect("a name"), &found);
}
