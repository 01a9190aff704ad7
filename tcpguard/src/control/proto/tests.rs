use super::*;
use tcpguard_support::hint_check;

fn refusal(message: &str) -> (RefusalKind, String) {
    let refusal = parse(message.as_bytes()).expect_err(message);
    assert!(hint_check::is_named(&refusal.message), "{refusal:?}");
    (refusal.kind, refusal.message)
}

#[test]
fn a_call_survives_the_wire() {
    for request in [
        Request::Status,
        Request::ExplainIncident { id: 7 },
        Request::Timeline { id: 7 },
        Request::Effective,
        Request::Block {
            prefix: "192.0.2.0/24".parse().unwrap(),
            ports: Ports::new(&[443, 80]).unwrap(),
            for_s: 60,
            reason: "scan".to_owned(),
            force: true,
            pending_confirmation: Some(PendingConfirmation {
                within_s: 60,
                caller: "192.0.2.7".parse().ok(),
            }),
            dry_run: true,
        },
        Request::Unblock {
            prefix: "2001:db8::/32".parse().ok(),
            rule: None,
            origin: None,
            dry_run: false,
        },
        Request::Unblock {
            prefix: None,
            rule: Some(3),
            origin: Some(RuleOrigin::Auto),
            dry_run: true,
        },
        Request::Allow {
            prefix: "2001:db8::/48".parse().unwrap(),
            for_s: 60,
            reason: "monitoring".to_owned(),
            force: false,
        },
        Request::Disallow { prefix: "2001:db8::/32".parse().unwrap() },
        Request::ImportRules {
            rules: vec![ImportedRule {
                prefix: "192.0.2.0/24".parse().unwrap(),
                ports: Ports::new(&[25]).unwrap(),
                for_s: Some(60),
                reason: Some("scan".to_owned()),
            }],
            merge: true,
            force: false,
            pending_confirmation: None,
            dry_run: false,
        },
        Request::SetMode { mode: Mode::Enforce, for_s: None, confirm_s: None },
        Request::Reload,
        Request::Detach { interfaces: vec!["eth0".to_owned()] },
        Request::Alerts { since: 7 },
        Request::Explain { prefix: "192.0.2.7/32".parse().unwrap(), port: Some(443) },
        Request::SetMode { mode: Mode::Off, for_s: Some(600), confirm_s: None },
        Request::ConfirmMode { mode: Mode::Enforce },
        Request::ConfirmRules { prefix: None },
        Request::ConfirmRules { prefix: "192.0.2.0/24".parse().ok() },
    ] {
        let call = Call { version: VERSION, request: request.clone() };
        let message = serde_json::to_vec(&call).unwrap();
        assert_eq!(parse(&message), Ok(request));
    }
}

/// Ports and terms are written only where there are any.
#[test]
fn a_block_of_every_port_is_written_without_ports() {
    let before = r#"{"method":"block","parameters":{"prefix":"192.0.2.0/24","for_s":60,"reason":"scan","force":false,"dry_run":false}}"#;
    let request: Request = serde_json::from_str(before).unwrap();
    let for_good =
        matches!(request, Request::Block { ports: Ports::EVERY, pending_confirmation: None, .. });
    assert!(for_good, "{request:?}");
    assert_eq!(serde_json::to_string(&request).unwrap(), before);
}

#[test]
fn ports_that_cannot_be_are_refused_with_the_reason() {
    let call = |ports: &str| {
        format!(
            r#"{{"version":{VERSION},"request":{{"method":"block","parameters":{{"prefix":"192.0.2.0/24","ports":{ports},"for_s":60,"reason":"","force":false,"dry_run":false}}}}}}"#
        )
    };
    assert!(parse(call("[65535,1]").as_bytes()).is_ok());
    for (ports, why) in [("[0]", "0 is no port"), ("[1,2,3,4,5]", "4 ports at most")] {
        let (kind, message) = refusal(&call(ports));
        assert_eq!(kind, RefusalKind::BadRequest);
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn an_answer_has_one_key_which_is_its_word() {
    let refused = Response::refused(RefusalKind::Busy, "try again");
    for (response, word) in [
        (Response::Mode { mode: Mode::Off, ends: None }, "mode"),
        (Response::Rules { rules: Vec::new(), allowed: Vec::new() }, "rules"),
        (refused, "refused"),
    ] {
        let written = serde_json::to_value(&response).unwrap();
        let keys: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((keys, response.word().as_str()), (vec![word], word));
        assert_eq!(serde_json::from_value::<Response>(written).unwrap(), response);
    }
}

#[test]
fn only_the_control_socket_takes_the_filter_off() {
    assert!(Request::Detach { interfaces: Vec::new() }.is_change());
}

#[test]
fn the_times_of_a_mode_must_make_sense() {
    for (for_s, confirm_s, way_out) in [
        (Some(0), None, "give --for 10m"),
        (None, Some(0), "give --for 10m"),
        (Some(MAX_MODE_S + 1), None, "without --for it stays"),
        (None, Some(u64::MAX), "without --for it stays"),
        (Some(60), Some(60), "give a shorter --confirm"),
    ] {
        let request = Request::SetMode { mode: Mode::Enforce, for_s, confirm_s };
        let message = serde_json::to_string(&Call { version: VERSION, request }).unwrap();
        let (kind, said) = refusal(&message);
        assert_eq!(kind, RefusalKind::BadRequest);
        assert!(said.contains(way_out), "{for_s:?} {confirm_s:?}: {said}");
    }
    for (for_s, confirm_s) in
        [(Some(1), None), (None, Some(1)), (Some(MAX_MODE_S), Some(MAX_MODE_S - 1))]
    {
        assert_eq!(check_terms(for_s, confirm_s), Ok(()));
    }
}

#[test]
fn a_query_needs_no_right_to_change() {
    let unblock = |dry_run| Request::Unblock { prefix: None, rule: None, origin: None, dry_run };
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
        r#"{"version":1,"request":{"method":"unblock","parameters":{"prefix":"10.0.0.0/8","extra":1}}}"#,
        r#"{"version":1,"request":{"method":"unblock","parameters":{"prefix":"10.0.0.0/99"}}}"#,
    ] {
        assert_eq!(refusal(message).0, RefusalKind::BadRequest, "{message}");
    }
}

#[test]
fn another_version_is_named_before_anything_else() {
    let (kind, message) = refusal(r#"{"version":2,"request":{"method":"new","x":1}}"#);
    assert_eq!(kind, RefusalKind::Version);
    assert!(
        message.starts_with("this agent speaks protocol version 1, the client 2;"),
        "{message}"
    );
}

#[test]
fn a_reason_cannot_forge_log_lines() {
    let call = |reason: &str, for_s| {
        let request = Request::Block {
            prefix: "192.0.2.1/32".parse().unwrap(),
            ports: Ports::EVERY,
            for_s,
            reason: reason.to_owned(),
            force: false,
            pending_confirmation: None,
            dry_run: false,
        };
        serde_json::to_string(&Call { version: VERSION, request }).unwrap()
    };
    assert_eq!(refusal(&call("a\n2026 CRIT all is lost", 1)).0, RefusalKind::BadRequest);
    assert_eq!(refusal(&call("\u{1b}[2J", 1)).0, RefusalKind::BadRequest);
    assert_eq!(refusal(&call(&"x".repeat(MAX_REASON + 1), 1)).0, RefusalKind::BadRequest);
    assert_eq!(refusal(&call("fine", 0)).0, RefusalKind::BadRequest);
    let rule = |reason: &str| ImportedRule {
        prefix: "192.0.2.1/32".parse().unwrap(),
        ports: Ports::EVERY,
        for_s: Some(1),
        reason: Some(reason.to_owned()),
    };
    let rules = vec![rule("fine"), rule("a\nb"), rule("fine"), rule("\u{7f}")];
    let request = Request::ImportRules {
        rules,
        merge: false,
        force: false,
        pending_confirmation: None,
        dry_run: false,
    };
    let message = serde_json::to_vec(&Call { version: VERSION, request }).unwrap();
    let wrong = parse(&message).expect_err("two reasons").rules;
    assert_eq!(wrong.iter().map(|rule| rule.index).collect::<Vec<_>>(), [1, 3]);
    assert!(parse(call("fine", 1).as_bytes()).is_ok());
}
