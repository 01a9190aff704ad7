//! What an operator does by hand in the middle of a flood. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_e2e::flood::Flood;
use tcpguard_e2e::guard::{Guard, Mode, cli};
use tcpguard_e2e::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_e2e::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// What a verb printed, which must have done what it was asked.
fn done(lab: &Lab, line: &[&str]) -> String {
    let output = cli(&lab.edge, line).unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{line:?}: {text}");
    text
}

/// Numbers of the rules that the guard made for attacks.
fn automatic(lab: &Lab) -> Vec<String> {
    let listed = done(lab, &["rules", "list", "--origin", "auto", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let rules = listed["rules"].as_array().unwrap();
    rules.iter().map(|rule| rule["id"].to_string()).collect()
}

#[test]
fn a_flush_leaves_an_attacks_rules_and_one_that_is_removed_is_made_again() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    let flood = Flood::random(Family::V4.service(), 25 * SECOND).start(&lab).unwrap();
    guard.wait_for_rule(5 * SECOND).unwrap();
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
    let step = format!("tcpguard step :{PORT} signature auto");
    assert!(said.contains(&step), "{said}");
    sleep(4 * SECOND);
    assert_eq!(automatic(&lab), [""; 0], "it is an operator's word");
    // Its lines are broken where they are long.
    let status = done(&lab, &["status"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.contains("you removed rule") && status.contains(&step), "{status}");

    done(&lab, &["step", &format!(":{PORT}"), "signature", "auto"]);
    guard.wait_for_rule(5 * SECOND).unwrap();
    assert_eq!(automatic(&lab).len(), 1);
    flood.goes_on().unwrap();
    flood.stop().unwrap();
}
