use std::time::Duration;

use tcpguard_engine::{ClientsWithin, Force, Ports, RuleId, RuleToImport, Which, Whose};
use tcpguard_support::hint_check;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn block(reason: &str, seconds: u64, force: Force) -> Change {
    Change::Block {
        net: net("192.0.2.0/24"),
        ports: Ports::new(&[443, 80]).unwrap(),
        lifetime: Duration::from_secs(seconds),
        reason: reason.to_owned(),
        force,
        clients: ClientsWithin::default(),
    }
}

fn rule(reason: &str) -> RuleToImport {
    RuleToImport {
        net: net("192.0.2.1/32"),
        ports: Ports::new(&[25]).unwrap(),
        lifetime: Some(Duration::from_secs(1)),
        reason: Some(reason.to_owned()),
    }
}

fn refusal(message: &str) -> (RefusalKind, String) {
    let refusal = parse(message.as_bytes()).expect_err(message);
    assert!(hint_check::is_named(&refusal.hint), "{refusal:?}");
    (refusal.kind, format!("{} ({})", refusal.message, refusal.hint))
}

#[test]
fn a_call_survives_the_wire() {
    for request in [
        Request::Status,
        Request::Incidents,
        Request::ExplainIncident { id: 7 },
        Request::Timeline { id: 7 },
        Request::History,
        Request::Effective,
        Request::Change {
            change: block(
                "scan",
                60,
                Force::PendingConfirmation {
                    within: Duration::from_secs(60),
                    caller: "192.0.2.7".parse().ok(),
                },
            ),
            dry_run: true,
        },
        Change::Unblock { which: Which::Within(net("2001:db8::/32")), whose: Whose::All }.into(),
        Request::Change {
            change: Change::Unblock { which: Which::Numbered(RuleId(3)), whose: Whose::Incidents },
            dry_run: true,
        },
        Change::Allow {
            net: net("2001:db8::/48"),
            lifetime: Duration::from_secs(60),
            reason: "monitoring".to_owned(),
            force: false,
        }
        .into(),
        Change::Disallow { net: net("2001:db8::/32") }.into(),
        Change::ImportRules { rules: vec![rule("scan")], merge: true, force: Force::No }.into(),
        Request::SetMode { mode: Mode::Enforce, for_s: None, rollback_after_s: None },
        Request::Reload,
        Request::Detach { interfaces: vec!["eth0".to_owned()] },
        Request::Alerts { since: 7 },
        Request::CapturedSyns { after: None },
        Request::CapturedSyns { after: Some(7) },
        Request::Explain { prefix: "192.0.2.7/32".parse().unwrap(), port: Some(443) },
        Request::SetMode { mode: Mode::Off, for_s: Some(600), rollback_after_s: None },
        Request::Confirm { net: None },
        Request::Confirm { net: Some(net("192.0.2.0/24")) },
    ] {
        let call = Call { version: VERSION, request: request.clone() };
        let message = serde_json::to_vec(&call).unwrap();
        assert_eq!(parse(&message), Ok(request));
    }
}

/// The user id is the kernel's word, the number of clients the agent's. The agent keeps the time of a mode, which has
/// one confirmation with the rules.
#[test]
fn a_client_names_neither_its_user_nor_clients_and_sends_no_change_that_the_agent_derives() {
    let message = |change: &str| {
        format!(
            r#"{{"version":{VERSION},"request":{{"method":"change","parameters":{{"change":{change},"dry_run":false}}}}}}"#
        )
    };
    let disallow =
        |extra: &str| message(&format!(r#"{{"disallow":{{"net":"192.0.2.0/24"{extra}}}}}"#));
    assert!(parse(disallow("").as_bytes()).is_ok());
    for refused in [
        disallow(r#","uid":0"#),
        message(r#"{"set_mode":{"mode":"off"}}"#),
        message(r#"{"confirm_rules":{"net":null}}"#),
        message(r#"{"confirm_rules":{"net":"192.0.2.0/24"}}"#),
    ] {
        assert_eq!(refusal(&refused).0, RefusalKind::BadRequest, "{refused}");
    }
    let message = serde_json::to_string(&Request::from(block("scan", 60, Force::No))).unwrap();
    assert!(!message.contains("clients"), "{message}");
}

#[test]
fn ports_that_cannot_be_are_refused_with_the_reason() {
    let request = Request::from(block("", 60, Force::No));
    let call = serde_json::to_string(&Call { version: VERSION, request }).unwrap();
    assert!(parse(call.replace("[80,443]", "[65535,1]").as_bytes()).is_ok());
    for (ports, why) in [("[0]", "0 is not a port"), ("[1,2,3,4,5]", "at most 4 ports")] {
        let (kind, message) = refusal(&call.replace("[80,443]", ports));
        assert_eq!(kind, RefusalKind::BadRequest);
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn an_answer_has_one_key_which_is_its_word() {
    let refused = Response::refused(RefusalKind::Busy, "the agent is busy", "try again");
    for (response, word) in [
        (Response::Mode(ModeShown { mode: Mode::Off, was: None, ends: None }), "mode"),
        (Response::Rules(RuleList { rules: Vec::new(), allowed: Vec::new() }), "rules"),
        (refused, "refused"),
    ] {
        let written = serde_json::to_value(&response).unwrap();
        let keys: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((keys, response.word()), (vec![word], word));
        assert_eq!(serde_json::from_value::<Response>(written).unwrap(), response);
    }
}

#[test]
fn only_the_control_socket_detaches_the_xdp_program() {
    assert!(Request::Detach { interfaces: Vec::new() }.is_change());
}

#[test]
fn the_times_of_a_mode_must_make_sense() {
    for (for_s, rollback_after_s, way_out) in [
        (Some(0), None, "use --for 10m"),
        (None, Some(0), "use --for 10m"),
        (Some(MAX_MODE_S + 1), None, "leave out --for"),
        (None, Some(u64::MAX), "leave out --rollback-after"),
        (Some(60), Some(60), "use a shorter --rollback-after"),
    ] {
        let request = Request::SetMode { mode: Mode::Enforce, for_s, rollback_after_s };
        let message = serde_json::to_string(&Call { version: VERSION, request }).unwrap();
        let (kind, said) = refusal(&message);
        assert_eq!(kind, RefusalKind::BadRequest);
        assert!(said.contains(way_out), "{for_s:?} {rollback_after_s:?}: {said}");
    }
    for (for_s, rollback_after_s) in
        [(Some(1), None), (None, Some(1)), (Some(MAX_MODE_S), Some(MAX_MODE_S - 1))]
    {
        assert_eq!(check_terms(for_s, rollback_after_s), Ok(()));
    }
}

#[test]
fn a_query_needs_no_right_to_change() {
    let all = Change::Unblock { which: Which::All, whose: Whose::All };
    let unblock = |dry_run| Request::Change { change: all.clone(), dry_run };
    assert!(unblock(false).is_change() && unblock(false).replaces_rules());
    assert!(!unblock(true).is_change() && !unblock(true).replaces_rules());
    assert!(unblock(true).is_dry_run());
}

#[test]
fn what_is_not_known_is_refused() {
    for message in [
        "",
        "GET / HTTP/1.1",
        "{}",
        r#"{"version":1}"#,
        r#"{"version":1,"request":{"method":"shutdown"}}"#,
        r#"{"version":1,"request":{"method":"status"},"extra":1}"#,
        r#"{"version":1,"request":{"method":"timeline","parameters":{"id":1,"extra":1}}}"#,
        r#"{"version":1,"request":{"method":"explain","parameters":{"prefix":"10.0.0.0/99","port":null}}}"#,
    ] {
        assert_eq!(refusal(message).0, RefusalKind::BadRequest, "{message}");
    }
}

#[test]
fn another_version_is_named_before_anything_else() {
    let (kind, message) = refusal(r#"{"version":2,"request":{"method":"new","x":1}}"#);
    assert_eq!(kind, RefusalKind::Version);
    let mismatch = "version mismatch between command and agent: protocol 2, agent 1";
    assert!(message.starts_with(mismatch), "{message}");
}

#[test]
fn a_reason_cannot_forge_log_lines() {
    let call = |reason: &str, seconds| {
        let request = Request::from(block(reason, seconds, Force::No));
        serde_json::to_string(&Call { version: VERSION, request }).unwrap()
    };
    assert_eq!(refusal(&call("a\n2026 CRIT all is lost", 1)).0, RefusalKind::BadRequest);
    assert_eq!(refusal(&call("\u{1b}[2J", 1)).0, RefusalKind::BadRequest);
    assert_eq!(refusal(&call(&"x".repeat(MAX_REASON + 1), 1)).0, RefusalKind::BadRequest);
    assert_eq!(refusal(&call("fine", 0)).0, RefusalKind::BadRequest);
    let rules = vec![rule("fine"), rule("a\nb"), rule("fine"), rule("\u{7f}")];
    let request = Change::ImportRules { rules, merge: false, force: Force::No }.into();
    let message = serde_json::to_vec(&Call { version: VERSION, request }).unwrap();
    let wrong = parse(&message).expect_err("two reasons").rules;
    assert_eq!(wrong.iter().map(|rule| rule.index).collect::<Vec<_>>(), [1, 3]);
    assert!(parse(call("fine", 1).as_bytes()).is_ok());
}
