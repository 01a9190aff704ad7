//! Verbs with a time or a number: the mode for a while, alerts and the events that follow, rules by
//! origin and address. The real binary runs beside an agent that notes its requests.

#[path = "support/stand_in.rs"]
mod stand_in;
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use stand_in::StandIn;
use support::{calm, clock, degraded, flooded, status};
use tcpguard::control::proto::Change;
use tcpguard::control::{RefusalKind, Request, Response};
use tcpguard::documents::{
    AgentEvent, AlertEntry, AlertEvent, AlertPage, Confirmed, Explanation, ModeRevert, ModeShown,
    Rule, RuleList, Unblocked,
};
use tcpguard::telemetry::History;
use tcpguard::text::{self, View};
use tcpguard_engine as engine;
use tcpguard_engine::{ClientsWithin, Event, Mode, RemovalReason, Which, Whose};
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;
use tcpguard_support::schema::{assert_documented, assert_formed};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn command(dir: &Path, line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpguard"));
    command.env_clear().env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command.arg("--runtime-dir").arg(dir).arg("--pin-dir").arg(dir.join("pins")).args(line);
    command
}

/// The outcome of a command line: its code, its output, and its requests to the agent.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    asked: Vec<Request>,
}

impl Outcome {
    #[track_caller]
    fn is(&self, code: i32, stdout: &str, stderr: &str) {
        let found = (self.code, &*self.stdout, &*self.stderr);
        assert_eq!(found, (Some(code), stdout, stderr), "{self:#?}");
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}

/// Runs `line` beside an agent that answers so.
fn run(line: &[&str], answer: impl Fn(&Request) -> Response + Send + 'static) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let agent = StandIn::in_dir(dir.path(), move |request| {
        notes.lock().unwrap().push(request.clone());
        answer(request)
    });
    let output = command(dir.path(), line).output().unwrap();
    drop(agent);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        asked: asked.lock().unwrap().clone(),
    }
}

#[test]
fn a_line_that_makes_no_sense_has_code_2_and_asks_nothing() {
    for line in [
        &["mode", "--for", "10m"][..],
        &["mode", "--rollback-after", "60s"],
        &["confirm", "--rollback-after", "60s"],
        &["confirm", "--for", "60s"],
        &["mode", "enforce", "--for", "60"],
        &["mode", "enforce", "--for", "31d"],
        &["mode", "enforce", "--for", "60s", "--rollback-after", "60s"],
        &["rules", "list", "--raw", "--json"],
        &["rules", "list", "--contains", "192.0.2.0/24"],
        &["rules", "list", "--within", "192.0.2.1/24"],
        &["rules", "list", "--origin", "operator"],
        &["unblock", "--origin", "auto"],
        &["unblock", "--dry-run"],
        &["unblock", "192.0.2.1", "--all", "--dry-run"],
        &["explain", "7", "--port", "443"],
        &["explain", "192.0.2.1", "--port", "0"],
        &["explain", "192.0.2.1", "--port", "65536"],
        &["events", "1042"],
        &["explain", "rule"],
        &["events", "--since", "7"],
        &["events", "--kind", "weather"],
    ] {
        let outcome = run(line, |_| Response::refused(RefusalKind::Failed, "not to be asked", ""));
        assert_eq!((outcome.code, &*outcome.stdout), (Some(2), ""), "{line:?}: {outcome:#?}");
        assert!(!outcome.stderr.is_empty() && outcome.asked.is_empty(), "{line:?}: {outcome:#?}");
    }
}

fn at(seconds: u64) -> Time {
    clock().time_at(clock().now + Duration::from_secs(seconds))
}

/// An agent in mode observe.
fn mode_agent(request: &Request) -> Response {
    let observe = Mode::Observe;
    let ends = |confirm_by: Option<u64>, until: Option<u64>| {
        let in_s = confirm_by.or(until).unwrap();
        Some(ModeRevert {
            revert_to: observe,
            confirm_by: confirm_by.map(at),
            until: until.map(at),
            in_s,
        })
    };
    match request {
        Request::Mode => {
            let ends = ends(None, Some(500));
            Response::Mode(ModeShown { mode: Mode::Enforce, was: None, ends })
        }
        Request::SetMode { mode: Mode::Observe, .. } => {
            Response::Mode(ModeShown { mode: observe, was: Some(observe), ends: None })
        }
        Request::SetMode { mode, for_s, rollback_after_s } => {
            let ends = ends(*rollback_after_s, *for_s);
            Response::Mode(ModeShown { mode: *mode, was: Some(observe), ends })
        }
        Request::Confirm { net: None } => {
            let mode = Some(Mode::Enforce);
            Response::Confirmed(Confirmed { mode, ends: None, rules: Vec::new() })
        }
        other => Response::refused(RefusalKind::NotFound, format!("none for {other:?}"), ""),
    }
}

#[test]
fn a_temporary_mode_says_when_it_reverts_and_how_to_keep_it() {
    let enforced = "rules drop now; watch their effect: tcpguard status --watch\n";
    let outcome = run(&["mode", "enforce", "--rollback-after", "60s"], mode_agent);
    outcome.is(
        0,
        "mode enforce (was observe)\n",
        &format!(
            "{enforced}mode enforce reverts to observe in 1m (at 14:06:31) unless confirmed: sudo tcpguard \
             confirm\n"
        ),
    );
    let mode = Mode::Enforce;
    let asked = Request::SetMode { mode, for_s: None, rollback_after_s: Some(60) };
    assert_eq!(outcome.asked, [asked]);

    let outcome =
        run(&["mode", "off", "--for", "10m", "--rollback-after", "90s", "-q"], mode_agent);
    outcome.is(0, "mode off (was observe)\n", "");
    let asked = Request::SetMode { mode: Mode::Off, for_s: Some(600), rollback_after_s: Some(90) };
    assert_eq!(outcome.asked, [asked]);

    run(&["mode", "observe", "--for", "10m"], mode_agent).is(
        0,
        "mode observe (was observe)\n",
        "rules only count now; see what they would drop: tcpguard status\n\
         the mode was observe already, so it does not revert; see: tcpguard mode\n",
    );
    run(&["mode"], mode_agent).is(
        0,
        "enforce\n",
        "mode enforce reverts to observe in 8m20s (at 14:13:51). To keep it: sudo tcpguard mode enforce\n",
    );
    let json = run(&["mode", "enforce", "--rollback-after", "60s", "--json"], mode_agent).json();
    assert_eq!(json["ends"]["revert_to"], "observe");
    assert_eq!((&json["ends"]["in_s"], &json["ends"]["until"]), (&60.into(), &Value::Null));
}

#[test]
fn a_confirmation_without_a_pending_change_has_code_5() {
    let outcome = run(&["confirm"], mode_agent);
    outcome.is(0, "confirmed mode enforce\n", "");
    assert_eq!(outcome.asked, [Request::Confirm { net: None }]);
    let json = run(&["confirm", "--json"], mode_agent).json();
    assert_eq!((&json["mode"], &json["ends"]), (&"enforce".into(), &Value::Null));
    assert_documented("confirm", &json);
    let none = run(&["confirm", "192.0.2.0/24"], mode_agent);
    assert_eq!((none.code, &*none.stdout), (Some(5), ""));
}

#[test]
fn status_shows_a_mode_that_reverts() {
    let (report, mut facts) = calm();
    facts.mode_reverts = Some(ModeRevert {
        revert_to: Mode::Observe,
        confirm_by: Some(at(54)),
        until: Some(at(594)),
        in_s: 54,
    });
    let status = status((report, facts));
    let view =
        View { utf8: true, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH };
    let mut page = String::new();
    text::status(&mut page, &status, &view, false).unwrap();
    let lines: Vec<&str> = page.lines().collect();
    let place = lines.iter().position(|line| line.contains("reverts to observe")).expect(&page);
    assert_eq!(
        lines[place..place + 2],
        [
            "  Mode        mode enforce reverts to observe in 54s (at 14:06:25), or at 14:15:25 if confirmed:",
            "              sudo tcpguard confirm",
        ]
    );
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["daemon"]["mode_reverts"]["confirm_by"], "2026-11-20T14:06:25.204Z");
    assert_formed("status", &json);
}

/// An event with this name.
fn event(name: &str) -> AlertEvent {
    let (from, to) = (Mode::Enforce, Mode::Observe);
    let event = match name {
        "mode_changed" => Event::ModeChanged { uid: Some(0), from, to },
        "rule_removed" => Event::RuleRemoved { rules: 2, rule: None, why: RemovalReason::Operator },
        "rule_failed" => {
            Event::RuleFailed { rule: None, error: "no memory".to_owned(), retry_s: None }
        }
        _ => {
            return AlertEvent::Agent(match name {
                "mode_reverted" => AgentEvent::ModeReverted { from, to, unconfirmed: true },
                "config_reloaded" => {
                    AgentEvent::ConfigReloaded { applied: Vec::new(), waiting: Vec::new() }
                }
                "dropped_before_xdp" => {
                    AgentEvent::DroppedBeforeXdp { ring_pps: 55_000.0, backlog_pps: 0.0 }
                }
                other => panic!("{other}"),
            });
        }
    };
    AlertEvent::Engine(Box::new(event))
}

fn alert(ago_s: u64, severity: Severity, name: &str) -> AlertEntry {
    AlertEntry {
        seq: 0,
        at: clock().time_at(clock().now - Duration::from_secs(ago_s)),
        severity,
        event: event(name),
        message: format!("{name} {ago_s} s ago"),
        incident: None,
    }
}

fn since(history: &History, run: u64, seq: u64) -> Response {
    Response::Alerts(AlertPage {
        run,
        first: history.first(),
        last: history.last(),
        now: at(0),
        alerts: history.since(seq),
    })
}

/// An agent that raised alerts two days, an hour and a moment ago.
fn alerted(request: &Request) -> Response {
    let mut history = History::default();
    history.add(alert(200_000, Severity::Critical, "dropped_before_xdp"));
    history.add(alert(3_600, Severity::Notice, "mode_changed"));
    history.add(alert(10, Severity::Warning, "rule_failed"));
    match request {
        Request::Alerts { since: seq } => since(&history, 1, *seq),
        other => Response::refused(RefusalKind::NotFound, format!("{other:?}"), ""),
    }
}

#[test]
fn alerts_are_listed_by_time_and_severity() {
    let hour = "2026-11-20 13:05:31 notice mode_changed 3600 s ago\n";
    let moment = "2026-11-20 14:05:21 warning rule_failed 10 s ago\n";
    let old = "2026-11-18 06:32:11 critical dropped_before_xdp 200000 s ago\n";
    for (line, expected) in [
        (&["events"][..], format!("{hour}{moment}")),
        (&["events", "--since", "59m"], moment.to_owned()),
        (&["events", "--since", "7d"], format!("{old}{hour}{moment}")),
        (&["events", "--since", "99999999d"], format!("{old}{hour}{moment}")),
        (&["events", "--since", "2026-11-18", "--until", "2026-11-20"], old.to_owned()),
        (&["events", "--since", "2026-11-20 13:06"], moment.to_owned()),
        (&["events", "--kind", "mode"], hour.to_owned()),
        (&["events", "--severity", "warning"], moment.to_owned()),
    ] {
        run(line, alerted).is(0, &expected, "");
    }
    run(&["events", "--severity", "critical"], alerted).is(
        0,
        "",
        "no alerts in this period; others: tcpguard events --since 7d, or journalctl -t tcpguard\n",
    );
    let json = run(&["events", "--since", "7d", "--json"], alerted).json();
    assert_documented("events", &json);
    let numbers: Vec<_> =
        json["events"].as_array().unwrap().iter().map(|one| &one["seq"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

/// An agent with alerts that a test supplies.
struct Telling {
    history: Arc<Mutex<History>>,
    asked: Receiver<()>,
    agent: StandIn,
}

impl Telling {
    fn start(dir: &Path, run: u64, history: History) -> Self {
        let history = Arc::new(Mutex::new(history));
        let (alerted, (ask, asked)) = (Arc::clone(&history), channel());
        let agent = StandIn::in_dir(dir, move |request| {
            let Request::Alerts { since: seq } = request else { panic!("{request:?}") };
            let answer = since(&alerted.lock().unwrap(), run, *seq);
            // The test may no longer wait for anything.
            let _ = ask.send(());
            answer
        });
        Self { history, asked, agent }
    }

    fn raise(&self, event: &str) {
        self.history.lock().unwrap().add(alert(0, Severity::Notice, event));
    }

    /// Ends the agent, and returns its history.
    fn end(self) -> History {
        drop(self.agent);
        self.history.lock().unwrap().clone()
    }
}

/// `tcpguard events --follow`, ended when dropped.
struct Events {
    child: Child,
    lines: Receiver<Value>,
}

impl Events {
    fn follow(dir: &Path, line: &[&str]) -> Self {
        let mut child =
            command(dir, line).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines): (Sender<Value>, _) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, lines }
    }

    #[track_caller]
    fn next(&self) -> Value {
        self.lines.recv_timeout(LIMIT).expect("an event")
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_are_followed_over_a_restart_of_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let mut earlier = History::default();
    earlier.add(alert(9, Severity::Notice, "mode_changed"));
    let agent = Telling::start(dir.path(), 7, earlier);
    let line = ["events", "--follow", "--json", "--kind", "rule,mode"];
    let events = Events::follow(dir.path(), &line);
    agent.asked.recv_timeout(LIMIT).expect("asked for what is the latest");
    agent.raise("config_reloaded");
    agent.raise("rule_failed");
    let first = events.next();
    assert_documented("event", &first);
    assert_eq!((&first["seq"], &first["event"]), (&3.into(), &"rule_failed".into()));
    assert_eq!(first["schema"], "tcpguard.event/1");

    // Raised between the last request and the end, and known to the next agent.
    let mut left = agent.end();
    left.add(alert(0, Severity::Notice, "mode_reverted"));
    let agent = Telling::start(dir.path(), 8, History::after(left.since(0)));
    agent.raise("rule_removed");
    let seen = [events.next(), events.next()].map(|event| event["event"].clone());
    assert_eq!(seen, ["mode_reverted", "rule_removed"]);
}

#[test]
fn events_of_an_agent_that_does_not_run_end_with_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path(), &["events", "--follow"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

/// An agent with a rule of an operator, one of its own on a source, and one on a signature.
fn with_rules(request: &Request) -> Response {
    let operators = status(degraded()).rules.list.remove(0);
    let signature = status(flooded(Mode::Enforce)).rules.list.remove(0);
    let own = Rule {
        id: engine::RuleId(2),
        matches: "192.0.2.7/32".to_owned(),
        origin: signature.origin.clone(),
        incident: signature.incident,
        ..operators.clone()
    };
    let rules = vec![operators, own, signature];
    match request {
        Request::Rules => Response::Rules(RuleList { rules, allowed: Vec::new() }),
        Request::Change { change: Change::Unblock { whose, .. }, .. } => {
            let removed = match whose {
                Whose::Incidents => &rules[1..2],
                Whose::Operators => &rules[..1],
                Whose::Fleet => &[],
                Whose::All => &rules[..],
            };
            Response::Unblocked(Unblocked { removed: removed.to_vec(), dry_run: false })
        }
        other => Response::refused(RefusalKind::Failed, format!("{other:?}"), ""),
    }
}

#[test]
fn rules_are_listed_by_address_network_and_origin() {
    let raw = |line: &[&str]| run(&[&["rules", "list", "--raw"], line].concat(), with_rules).stdout;
    assert_eq!(raw(&[]), "192.0.2.0/24\n192.0.2.7/32\n");
    assert_eq!(raw(&["--origin", "auto"]), "192.0.2.7/32\n");
    assert_eq!(raw(&["--contains", "192.0.2.9"]), "192.0.2.0/24\n");
    assert_eq!(raw(&["--within", "192.0.2.0/25"]), "192.0.2.7/32\n");
    let ports = |request: &Request| match with_rules(request) {
        Response::Rules(mut list) => {
            list.rules[0].ports = engine::Ports::new(&[443]).unwrap();
            Response::Rules(list)
        }
        other => other,
    };
    let outcome = run(&["rules", "list", "--within", "192.0.2.0/24"], ports);
    assert!(outcome.stdout.contains("192.0.2.0/24 to port 443\n"), "{}", outcome.stdout);
    let outcome = run(&["rules", "list", "--within", "192.0.2.0/24", "--raw"], ports);
    assert_eq!(outcome.stdout, "192.0.2.7/32\n", "a prefix alone is all that it sends");
    let json = run(&["rules", "list", "--origin", "auto", "--json"], with_rules).json();
    let ids: Vec<_> = json["rules"].as_array().unwrap().iter().map(|rule| &rule["id"]).collect();
    assert_eq!(ids, [2, 7]);
    let signature = |request: &Request| match with_rules(request) {
        Response::Rules(mut list) => {
            list.rules.drain(..2);
            Response::Rules(list)
        }
        other => other,
    };
    run(&["rules", "list", "--raw"], signature).is(
        0,
        "",
        "no such prefix is blocked on every port; all rules: tcpguard rules list\n",
    );
    assert_eq!(run(&["rules"], with_rules).stdout, run(&["rules", "list"], with_rules).stdout);
    run(&["rules", "list", "--contains", "2001:db8::1"], with_rules).is(
        0,
        "",
        "no such rule; all rules: tcpguard rules list\n",
    );
}

#[test]
fn unblocking_can_be_tried_and_kept_to_one_origin() {
    let would = "would remove rule 2 on 192.0.2.7/32 (attack #3; 0 hits; it has 59m50s left)\n";
    let nothing = "dry run, nothing was changed: repeat without --dry-run\n";
    let outcome = run(&["unblock", "--all", "--origin", "auto", "--dry-run"], with_rules);
    outcome.is(0, would, nothing);
    let unblock = |which, whose, dry_run| Request::Change {
        change: Change::Unblock { which, whose },
        dry_run,
    };
    assert_eq!(outcome.asked, [unblock(Which::All, Whose::Incidents, true)]);

    let line = ["unblock", "203.0.113.0/24", "--origin", "auto", "--json"];
    let outcome = run(&line, with_rules);
    let within = Which::Within("203.0.113.0/24".parse().unwrap());
    assert_eq!(outcome.asked, [unblock(within, Whose::Incidents, false)]);
    let json = outcome.json();
    assert_eq!((&json["removed"][0]["id"], &json["dry_run"]), (&2.into(), &false.into()));

    for line in [&["unblock", "--all"][..], &["rules", "flush"]] {
        let outcome = run(line, with_rules);
        outcome.is(
            0,
            "removed rule 9 on 192.0.2.0/24 (operator; 0 hits; it had 59m50s left)\n",
            "2 rules against attacks stay; to remove those too: tcpguard unblock --all --origin auto\n",
        );
        let manual = unblock(Which::All, Whose::Operators, false);
        assert_eq!(outcome.asked[0], manual, "attacks stay stopped");
    }
    for line in
        [&["unblock", "--all", "--origin", "all"][..], &["rules", "flush", "--origin", "all"]]
    {
        let all = unblock(Which::All, Whose::All, false);
        assert_eq!(run(line, with_rules).asked[0], all);
    }
    let outcome = run(&["unblock", "--rule", "7"], with_rules);
    let seventh = Which::Numbered(engine::RuleId(7));
    assert_eq!(outcome.asked[0], unblock(seventh, Whose::All, false));
}

#[test]
fn an_address_is_explained_at_one_port() {
    let explained = |listeners: &'static [&'static str]| {
        move |request: &Request| match request {
            Request::Explain { prefix, port } => Response::Explained(Box::new(Explanation {
                prefix: *prefix,
                port: *port,
                listeners: listeners.iter().map(|&one| one.to_owned()).collect(),
                closed: Vec::new(),
                mode: Mode::Enforce,
                rules: Vec::new(),
                forced: Vec::new(),
                signatures: Vec::new(),
                allowed: Vec::new(),
                exempt: None,
                exempt_part: None,
                completed_at: None,
                clients: ClientsWithin::default(),
                source: None,
                mitigations: Vec::new(),
                replies: None,
            })),
            other => Response::refused(RefusalKind::Failed, format!("{other:?}"), ""),
        }
    };
    let line = ["explain", "198.51.100.7", "--port", "443"];
    let summary = "198.51.100.7 to port 443: no rule or mitigation applies, its SYNs pass\n";
    let hint = "to drop it: tcpguard block 198.51.100.7/32 --port 443\n";
    run(&line, explained(&["0.0.0.0:443"])).is(
        0,
        &format!("{summary}received by 0.0.0.0:443\n"),
        hint,
    );
    let no_listener = "no monitored listener on port 443\n";
    run(&line, explained(&[])).is(0, &format!("{summary}{no_listener}"), hint);
    let json = run(&[&line[..], &["--json"]].concat(), explained(&["0.0.0.0:443"])).json();
    assert_documented("explanation", &json);
    assert_eq!((&json["port"], &json["listeners"][0]), (&443.into(), &"0.0.0.0:443".into()));
}
