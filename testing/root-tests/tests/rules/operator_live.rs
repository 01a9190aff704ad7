//! Commands that an operator gives by hand, most of them in the middle of a flood, and their output. Needs
//! root and `TCPGUARD_BIN`.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Output of a verb, which must have succeeded.
fn done(lab: &Lab, line: &[&str]) -> String {
    let output = cli(&lab.edge, line).unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{line:?}: {text}");
    text
}

/// The rules of this origin.
fn listed(lab: &Lab, origin: &str) -> Vec<Value> {
    let listed = done(lab, &["rules", "list", "--origin", origin, "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed["rules"].as_array().unwrap().clone()
}

/// Numbers of the rules that the agent made for attacks.
fn automatic(lab: &Lab) -> Vec<String> {
    listed(lab, "auto").iter().map(|rule| rule["id"].to_string()).collect()
}

/// The rules that operators made, by matcher.
fn by_hand(lab: &Lab) -> BTreeMap<String, Value> {
    let matches = |rule: &Value| rule["matches"].as_str().unwrap().to_owned();
    listed(lab, "manual").into_iter().map(|rule| (matches(&rule), rule)).collect()
}

#[test]
fn a_flush_leaves_an_attacks_rules_and_one_that_is_removed_is_made_again() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let flood = Flood { rate: 5_000, ..Flood::random(Family::V4.service(), 120 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    agent.wait_for_rule(TIMEOUT).unwrap();
    assert_eq!(automatic(&lab).len(), 1);

    for flush in [&["rules", "flush"][..], &["unblock", "--all"]] {
        done(&lab, &["block", "198.51.100.0/24"]);
        let said = done(&lab, flush);
        assert!(
            said.contains("removed rule") && said.contains("1 rule against attacks stay"),
            "{said}"
        );
        assert_eq!(automatic(&lab).len(), 1, "{flush:?} leaves what stops the attack");
    }

    let said = done(&lab, &["unblock", "--all", "--origin", "auto"]);
    let mitigation = format!("tcpguard mitigation :{PORT} signature auto");
    assert!(said.contains(&mitigation), "{said}");
    sleep(4 * SECOND);
    assert_eq!(automatic(&lab), [""; 0], "it is an operator's word");
    // Its lines are broken where they are long.
    let status = done(&lab, &["status"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        status.contains("restore the removed rule now") && status.contains(&mitigation),
        "{status}"
    );

    done(&lab, &["mitigation", &format!(":{PORT}"), "signature", "auto"]);
    agent.wait_for_rule(TIMEOUT).unwrap();
    assert_eq!(automatic(&lab).len(), 1);
    flood.goes_on().unwrap();
    flood.stop().unwrap();
}

/// A list that is fetched repeatedly leaves the rules of operators alone. It changes neither their reason nor
/// their end to an earlier one.
#[test]
fn a_list_that_is_imported_leaves_other_rules_reasons_and_later_ends() {
    const LIST: &str = "/run/list";
    const HOUR: u64 = 3600;
    let lab = Lab::new(LabOptions::default()).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let [long, short, other, new] =
        ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/24"];
    done(&lab, &["block", long, "--for", "6h", "--reason", "abuse report"]);
    done(&lab, &["block", short, "--for", "5m", "--reason", "scans"]);
    done(&lab, &["block", other, "--for", "2h"]);
    let before = by_hand(&lab);
    lab.edge.write(LIST, &format!("{long}\n{short}\n{new}\n")).unwrap();
    done(&lab, &["rules", "import", LIST]);
    let all_four = |status: &Status| status.rules_in_kernel() == Some(4);
    agent.wait_until("four rules are in the kernel", TIMEOUT, all_four).unwrap();

    let after = by_hand(&lab);
    let given = |text| json!({ "kind": "given", "text": text });
    for (net, reason, lives) in [
        (long, given("abuse report"), 6 * HOUR),
        // The hour of a list that names no end.
        (short, given("scans"), HOUR),
        (other, given("blocked by hand"), 2 * HOUR),
        (new, json!({ "kind": "imported" }), HOUR),
    ] {
        let rule = &after[net];
        assert_eq!(rule["reason"], reason, "{rule}");
        let left = rule["expires_in_s"].as_u64().unwrap();
        assert!((lives - 60..=lives).contains(&left), "{rule}");
        // Its number, and so its hits.
        assert!(before.get(net).is_none_or(|before| before["id"] == rule["id"]), "{rule}");
    }

    // The naive way.
    let said = done(&lab, &["rules", "import", "--replace", LIST]);
    assert!(said.contains("3 unchanged; 1 others removed"), "{said}");
    assert!(!by_hand(&lab).contains_key(other));
}

/// Without an agent no process is left that could report a problem.
#[test]
fn monitoring_is_critical_once_the_agent_is_killed() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let check = || {
        let output = cli(&lab.edge, &["check"]).unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check();
    assert!(code == Some(0) && said.starts_with("TCPGUARD OK - protecting"), "{code:?}: {said}");
    agent.kill().unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(2), "{said}");
    let cause = "(XDP program still attached to eth0)";
    assert!(said.starts_with("TCPGUARD CRITICAL - agent not running: "), "{said}");
    assert!(said.contains(cause), "{said}");
}

/// A note from before the change, that a rule would drop, does not describe the rule's present effect.
#[test]
fn an_incident_records_when_the_mode_was_changed_in_it() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let flood = Flood { rate: 5_000, ..Flood::random(Family::V4.service(), 90 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    agent.wait_for_rule(TIMEOUT).unwrap();
    done(&lab, &["mode", "enforce"]);
    let drops = |status: &Status| status.incidents().first().is_some_and(|it| it.dropped() > 0);
    agent.wait_until("the rule drops", TIMEOUT, drops).unwrap();
    flood.goes_on().unwrap();
    flood.stop().unwrap();

    // Its lines are broken where they are long.
    let page = done(&lab, &["explain", "1"]).split_whitespace().collect::<Vec<_>>().join(" ");
    let place = |words: &str| page.find(words).unwrap_or_else(|| panic!("no {words:?} in: {page}"));
    let planned = place("installed for attack #1 (counts only)");
    let changed = place("mode changed from observe to enforce");
    assert!(planned < changed, "{page}");
}
