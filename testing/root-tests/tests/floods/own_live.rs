//! Settings of a single listener, given in a file beside the configuration of a running agent.
//! Needs root and `TCPGUARD_BIN`.

use std::time::Duration;

use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// Beside [`tcpguard_kit::daemon::agent::CONFIG`].
const PART: &str = "/run/conf.d/10-web.toml";

#[test]
fn a_listener_is_only_observed_while_a_file_beside_the_configuration_says_so() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let reload = || {
        let output = cli(&lab.edge, &["reload"]).unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    lab.edge.exec("mkdir /run/conf.d").unwrap();
    let own = format!("[[listener]]\nat = \":{PORT}\"\nmode = ");
    lab.edge.write(PART, &format!("{own}\"observe\"\n")).unwrap();
    assert_eq!(reload(), (Some(0), "applied listener.mode\n".to_owned()));

    let mut flood = Flood::random(Family::V4.service(), 90 * SECOND);
    flood.rate = 5_000;
    let flood = flood.start(&lab).unwrap();
    let status = agent
        .wait_until("what would be done is said", TIMEOUT, |status| {
            let incidents = status.incidents();
            incidents.iter().flat_map(|one| one.actions()).any(|action| action == "rule_advised")
        })
        .unwrap();
    assert_eq!((status.rules().len(), status.reason("drop_signature")), (0, 0));

    lab.edge.write(PART, &format!("{own}\"observed\"\n")).unwrap();
    let (code, said) = reload();
    assert!(code == Some(2) && said.contains("/run/conf.d/10-web.toml:3:8: "), "{code:?} {said}");
    assert_eq!(agent.status().unwrap().rules().len(), 0, "what held before still does");

    lab.edge.write(PART, "").unwrap();
    assert_eq!(reload(), (Some(0), "applied listener.mode\n".to_owned()));
    agent.wait_for_rule(TIMEOUT).unwrap();
    flood.stop().unwrap();
}
