//! `tcpguard rules export` and `rules import` as an operator meets them: the real binary against an
//! agent with the responses that a test gives it.

#[path = "support/stand_in.rs"]
mod stand_in;
mod support;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stand_in::StandIn;
use support::{degraded, flooded, status};
use tcpguard::control::proto::{Change, RefusedRule};
use tcpguard::control::{Refusal, RefusalKind, Request, Response};
use tcpguard::documents::{Import, ModeShown, Rule, RuleList};
use tcpguard_common::abi::maps;
use tcpguard_engine as engine;
use tcpguard_engine::{Force, ImportReport, Mitigation, Mode, RuleToImport};

/// An agent with these rules. It takes every import except for prefixes within 203.0.113.0/24.
struct Agent {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Request>>>,
    _listening: StandIn,
}

impl Agent {
    fn with(rules: Vec<Rule>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let listening = StandIn::in_dir(dir.path(), move |request| {
            seen.lock().unwrap().push(request.clone());
            answer(request, &rules)
        });
        Self { dir, asked, _listening: listening }
    }

    fn run(&self, line: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tcpguard"))
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("SSH_CONNECTION", "203.0.113.5 50022 203.0.113.1 22")
            .arg("--runtime-dir")
            .arg(self.dir.path())
            .args(line)
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that refuses its arguments may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    /// The imports it was asked for: the rules, the options `merge` and `dry_run`, and the permission.
    fn imports(&self) -> Vec<(Vec<RuleToImport>, [bool; 2], Force)> {
        let asked = self.asked.lock().unwrap();
        let import = |request: &Request| match request {
            Request::Change { change: Change::ImportRules { rules, merge, force }, dry_run } => {
                Some((rules.clone(), [*merge, *dry_run], *force))
            }
            _ => None,
        };
        asked.iter().filter_map(import).collect()
    }
}

fn answer(request: &Request, rules: &[Rule]) -> Response {
    match request {
        Request::Rules => Response::Rules(RuleList { rules: rules.to_vec(), allowed: Vec::new() }),
        Request::Mode => Response::Mode(ModeShown { mode: Mode::Observe, was: None, ends: None }),
        Request::Change { change: Change::ImportRules { rules, force, .. }, dry_run } => {
            let net: ipnet::IpNet = "203.0.113.0/24".parse().unwrap();
            let bad = rules.iter().enumerate().filter(|(_, rule)| net.contains(&rule.net));
            let bad: Vec<RefusedRule> = bad
                .map(|(index, _)| RefusedRule { index, message: "protected".to_owned() })
                .collect();
            if !bad.is_empty() && *force == Force::No {
                let refusal =
                    Refusal::new(RefusalKind::Protected, "not all of them", "use --force");
                return Response::Refused(Refusal { rules: bad, ..refusal });
            }
            let added = rules.len() as u32;
            let pending_confirmation = bad.len() as u32;
            let imported =
                ImportReport { added, kept: 0, removed: 4, total: added + 1, pending_confirmation };
            Response::Imported(Import { imported, dry_run: *dry_run })
        }
        other => panic!("{other:?}"),
    }
}

/// A rule of an operator, one of the agent's own against a source, and one against a signature.
fn rules() -> Vec<Rule> {
    let operators = status(degraded()).rules.list.remove(0);
    let signature = status(flooded(Mode::Enforce)).rules.list.remove(0);
    let matches = "198.51.100.7/32".to_owned();
    let own = Rule { kind: Mitigation::Source, matches, ..signature.clone() };
    vec![operators, signature, own]
}

const LINE: &str = "{\"prefix\":\"192.0.2.0/24\",\"for_s\":3590,\"reason\":\"blocked by hand\",\
                    \"origin\":\"operator\"}\n";

#[test]
fn ports_are_exported_and_read_again() {
    let ports = engine::Ports::new(&[443, 80]).unwrap();
    let [mut rule, ..] = <[Rule; 3]>::try_from(rules()).unwrap();
    rule.ports = ports;
    let agent = Agent::with(vec![rule]);
    let (_, line, _) = agent.run(&["rules", "export"], "");
    assert!(
        line.starts_with("{\"prefix\":\"192.0.2.0/24\",\"ports\":[80,443],\"for_s\""),
        "{line}"
    );
    assert_eq!(agent.run(&["rules", "import", "-"], &line).0, Some(0));
    assert_eq!(agent.imports()[0].0[0].ports, ports);
}

#[test]
fn what_operators_made_is_exported_line_by_line() {
    let agent = Agent::with(rules());
    assert_eq!(agent.run(&["rules", "export"], ""), (Some(0), LINE.to_owned(), String::new()));
    let (_, all, _) = agent.run(&["rules", "export", "--all"], "");
    assert_eq!(all.lines().count(), 2, "no signatures: {all}");
    assert!(all.starts_with(LINE) && all.contains("\"origin\":\"incident\""), "{all}");
    let (_, document, _) = agent.run(&["rules", "export", "--json"], "");
    let line = LINE.trim();
    assert_eq!(document, format!("{{\"schema\":\"tcpguard.rules/1\",\"rules\":[{line}]}}\n"));

    // An import reads both forms.
    for text in [LINE.to_owned(), document] {
        let (code, said, _) = agent.run(&["rules", "import", "-"], &text);
        assert_eq!(code, Some(0), "{said}");
    }
    let imports = agent.imports();
    assert_eq!(imports[0], imports[1]);
    assert_eq!(imports[0].0[0].lifetime, Some(Duration::from_secs(3590)));
    assert_eq!((imports[0].1, imports[0].2), ([true, false], Force::No));
}

#[test]
fn an_import_says_what_became_of_the_rules() {
    let agent = Agent::with(Vec::new());
    let list = "192.0.2.1\n192.0.2.2 # scans\n";
    let file = agent.dir.path().join("list");
    std::fs::write(&file, list).unwrap();
    let options = ["--for", "6h", "--reason", "a list"];
    let (code, said, talk) =
        agent.run(&[&["rules", "import", file.to_str().unwrap()], &options[..]].concat(), "");
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "imported 2 rules: 2 new, 0 unchanged; 4 others removed\nnow in all: 3 rules\n")
    );
    assert_eq!(
        talk,
        "warning: mode observe: rules drop nothing\nhint: tcpguard mode enforce --rollback-after 60s\n"
    );
    let (rules, words, force) = agent.imports().remove(0);
    assert_eq!((words, force), ([true, false], Force::No), "others stay");
    let reported = |rule: &RuleToImport| {
        rule.lifetime == Some(Duration::from_secs(21_600))
            && rule.reason.as_deref() == Some("a list")
    };
    assert!(rules.iter().all(reported), "{rules:?}");

    let longer = list.replace("192.0.2.1", "{\"prefix\":\"192.0.2.1\",\"for_s\":172800}");
    let (_, _, talk) = agent.run(&["rules", "import", "-", "--replace"], &longer);
    assert!(
        talk.starts_with("warning: lifetime of 1 rule reduced to 24h\nhint: tcpguard rules list\n"),
        "{talk}"
    );
    let (rules, words, force) = agent.imports().remove(1);
    assert_eq!((words, force), ([false; 2], Force::No), "the others go");
    assert_eq!(
        (rules[1].lifetime, &rules[1].reason),
        (None, &None),
        "as it is there, or the default"
    );
    let (code, _, refused) = agent.run(&["rules", "import", "-", "--for", "25h"], list);
    assert_eq!(code, Some(2));
    assert!(refused.contains("1d is the longest"), "{refused}");

    let (code, said, talk) = agent.run(&["rules", "import", "-", "--dry-run"], list);
    assert_eq!(
        (code, said.lines().next()),
        (Some(0), Some("would import 2 rules: 2 new, 0 unchanged; 4 others removed"))
    );
    assert_eq!(talk, "dry run, nothing was changed: repeat without --dry-run\n");
    let (_, json, _) = agent.run(&["rules", "import", "-", "--json"], list);
    let imported =
        r#""imported":{"added":2,"kept":0,"removed":4,"total":3,"pending_confirmation":0}"#;
    let expected = format!(r#"{{"schema":"tcpguard.import/1",{imported},"dry_run":false}}"#);
    assert_eq!(json.trim(), expected);
}

#[test]
fn every_mistake_is_named_at_once_and_nothing_is_changed() {
    let agent = Agent::with(Vec::new());
    let refused = |line: &[&str], text: &str, expected: &str| {
        let expected = (Some(1), String::new(), expected.to_owned());
        assert_eq!(agent.run(line, text), expected);
    };
    refused(
        &["rules", "import", "-"],
        "192.0.2.1\nmallory\n\n192.0.2.1\n203.0.113.200\n",
        "error: 3 mistakes in -, nothing was changed\n  \
         line 2: \"mallory\" is not a prefix; write one such as 192.0.2.0/24 or 2001:db8::1\n  \
         line 4: duplicate of line 1: 192.0.2.1/32\n  \
         line 5: protected\n\
         hint: correct them, then: tcpguard rules import -\n",
    );
    refused(
        &["rules", "import", "-"],
        "192.0.2.1\n203.0.113.0/25\n203.0.113.200\n",
        "error: 2 mistakes in -, nothing was changed\n  \
         line 2: 203.0.113.0/25 contains 203.0.113.5, the address of your SSH session\n  \
         line 3: protected\n\
         hint: correct them (or use --force), then: tcpguard rules import -\n",
    );
    refused(
        &["rules", "import", "-"],
        "# nothing\n",
        "error: no rules in -, nothing was changed\n\
         hint: to remove every rule: tcpguard rules flush\n",
    );
    let only_tried =
        |imports: Vec<(_, [bool; 2], _)>| imports.iter().all(|(_, [_, dry_run], _)| *dry_run);
    assert_eq!(agent.imports().len(), 2);
    assert!(only_tried(agent.imports()));
    // A mistake that only the agent can find is reported with its line.
    refused(
        &["rules", "import", "-"],
        "# list\n192.0.2.1\n\n203.0.113.200\n",
        "error: 1 mistake in -, nothing was changed\n  line 4: protected\n\
         hint: correct them (or use --force), then: tcpguard rules import -\n",
    );
    let risky = "192.0.2.1\n203.0.113.0/25\n";
    let (code, _, said) = agent.run(&["rules", "import", "-", "--force"], risky);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with(
            "warning: 1 of them expire after 1m unless confirmed\nhint: tcpguard confirm\n"
        ),
        "{said}"
    );
    agent.run(&["rules", "import", "-", "--force", "--rollback-after", "never"], risky);
    agent.run(&["rules", "import", "-"], "192.0.2.1\n");
    let within = Duration::from_secs(60);
    let minute = Force::PendingConfirmation { within, caller: "203.0.113.5".parse().ok() };
    let forces: Vec<Force> = agent.imports().into_iter().map(|(.., force)| force).collect();
    assert_eq!(forces[forces.len() - 3..], [minute, Force::ForGood, Force::No]);
    let (code, _, said) = agent.run(&["rules", "import", "no-such-file"], "");
    assert_eq!(code, Some(5));
    assert!(said.starts_with("error: cannot read no-such-file: "), "{said}");
}

/// The largest set of rules, each with the longest reason, fits into one request.
#[test]
fn a_full_set_fits_into_a_request() {
    let agent = Agent::with(Vec::new());
    let rule = |n: u128| {
        let addr = std::net::Ipv6Addr::from_bits(0x2001_0db8_ffff_ffff_ffff_ffff_fff0_0000 + n);
        let reason = "\u{e9}".repeat(100);
        format!("{{\"prefix\":\"{addr}\",\"for_s\":86400,\"reason\":\"{reason}\"}}\n")
    };
    let text: String = (0..u128::from(maps::MAX_RULES)).map(rule).collect();
    for (line, did) in [
        (&["rules", "import", "-"][..], "imported"),
        (&["rules", "import", "-", "--dry-run"], "would import"),
    ] {
        let (code, said, talk) = agent.run(line, &text);
        assert_eq!(code, Some(0), "{said}{talk}");
        assert!(said.starts_with(&format!("{did} 131k rules: ")), "{said}");
    }
}
