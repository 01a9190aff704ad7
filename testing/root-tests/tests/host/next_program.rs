//! An XDP program behind tcpguard's, which gets the packets that pass. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tcpguard_kit::daemon::agent::{self, Agent, Mode, cli};
use tcpguard_kit::daemon::next_program::{Hook, NextProgram};
use tcpguard_kit::daemon::pins::pretend_layout;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::net::foreign::Verdict;
use tcpguard_kit::net::lab::{Lab, LabOptions};
use tcpguard_kit::traffic::trickle::{DROPPED, Pairs, Trickle};

/// The agent looks at the pins each second.
const LOOKED: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);
/// Configuration with a next program.
const CONFIG: &str = "[[interface]]\nname = \"eth0\"\nnext_program = \"balancer\"\n";

fn lab() -> Lab {
    Lab::new(LabOptions::default()).unwrap()
}

fn pinned(lab: &Lab, hook: Hook) -> NextProgram {
    let next = NextProgram::load(hook, Verdict::Pass).unwrap();
    next.pin(&lab.edge, "balancer").unwrap();
    next
}

/// An agent that has a next program, and a rule for one half of a [`Trickle`].
fn started(lab: &Lab) -> Agent<'_> {
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, CONFIG, &[]).unwrap();
    assert!(cli(&lab.edge, &["block", DROPPED]).unwrap().status.success());
    agent.wait_for_rule(LOOKED).unwrap();
    agent
}

/// Pairs of sources during a second. A rule drops one of each pair.
fn pairs(lab: &Lab) -> Pairs {
    let traffic = Trickle::start(lab).unwrap();
    sleep(SECOND);
    let pairs = traffic.finish().unwrap();
    assert!(pairs.are_sorted(), "{pairs:?}");
    pairs
}

fn shown(status: &Status) -> &Value {
    &status.document()["interfaces"][0]["next_program"]
}

fn finding(status: &Status) -> Option<String> {
    status.health().into_iter().find(|(code, _)| code == "next_program").map(|(_, text)| text)
}

/// Reloads `config`. Returns the output and the warnings.
fn reload(lab: &Lab, config: &str) -> String {
    lab.edge.write(agent::CONFIG, config).unwrap();
    let output = cli(&lab.edge, &["reload"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn what_passes_goes_on_to_the_next_program_and_what_is_dropped_does_not() {
    let lab = lab();
    let next = pinned(&lab, Hook::XdpFrags);
    let agent = started(&lab);
    let pairs = pairs(&lab);
    let counted = next.packets().unwrap();
    let agrees = |status: &Status| status.total("pass") == counted;
    let status = agent.wait_until("as many packets that passed", LOOKED, agrees).unwrap();
    assert!(counted >= pairs.sent && status.total("drop_total") >= pairs.sent, "{pairs:?}");
    assert_eq!((shown(&status)["name"].as_str(), finding(&status)), (Some("balancer"), None));
    let id = shown(&status)["id"].as_u64().expect("its kernel id");
    let page = agent.status_text().unwrap();
    assert!(page.contains(&format!("next balancer (id {id})")), "{page}");

    // Its verdict is the last word.
    let filter = NextProgram::load(Hook::XdpFrags, Verdict::Drop).unwrap();
    filter.pin(&lab.edge, "balancer").unwrap();
    let replaced = |status: &Status| shown(status)["id"].as_u64().is_some_and(|now| now != id);
    agent.wait_until("the program that was pinned anew", LOOKED, replaced).unwrap();
    let traffic = Trickle::start(&lab).unwrap();
    sleep(SECOND);
    let pairs = traffic.finish().unwrap();
    assert_eq!((pairs.let_in, pairs.answered), (0, 0), "{pairs:?}");
    assert!(filter.packets().unwrap() >= pairs.sent, "{pairs:?}");
}

#[test]
fn a_restart_and_an_upgrade_hand_every_packet_on() {
    let lab = lab();
    let next = pinned(&lab, Hook::XdpFrags);
    let mut agent = started(&lab);
    let traffic = Trickle::start(&lab).unwrap();
    sleep(SECOND);
    agent.kill().unwrap();
    sleep(SECOND);
    agent.start_again(Mode::Enforce).unwrap();
    sleep(SECOND);
    agent.stop().unwrap();
    pretend_layout(&lab.edge, 1).unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    sleep(SECOND);
    let pairs = traffic.finish().unwrap();
    assert!(pairs.are_sorted(), "{pairs:?}");
    // The other half of the pairs was dropped.
    assert!(next.packets().unwrap() >= pairs.sent, "{pairs:?}");
    assert_eq!(finding(&agent.status().unwrap()), None);
}

#[test]
fn a_reload_adds_and_removes_the_next_program() {
    let lab = lab();
    let next = pinned(&lab, Hook::XdpFrags);
    let agent = started(&lab);
    pairs(&lab);
    assert!(reload(&lab, "").contains("interface.next_program"));
    assert_eq!(*shown(&agent.status().unwrap()), Value::Null);
    let counted = next.packets().unwrap();
    pairs(&lab);
    assert_eq!(next.packets().unwrap(), counted, "it was removed");
    assert!(!reload(&lab, CONFIG).contains("warning"));
    let pairs = pairs(&lab);
    assert!(next.packets().unwrap() >= counted + pairs.sent, "{pairs:?}");
    let missing = reload(&lab, &CONFIG.replace("balancer", "filter"));
    assert!(
        missing.contains("eth0: packets are not handed on to filter: no program is pinned"),
        "{missing}"
    );

    assert!(cli(&lab.edge, &["detach", "--all"]).unwrap().status.success());
    assert_eq!(*shown(&agent.status().unwrap()), Value::Null, "the slot is empty");
}

#[test]
fn without_a_program_that_fits_packets_pass_and_the_agent_says_why() {
    for (hook, words) in [
        (None, "no program is pinned at /sys/fs/bpf/tcpguard/next/balancer"),
        (Some(Hook::Tc), "next/balancer is no XDP program"),
        (Some(Hook::Xdp), "it is not declared xdp.frags"),
    ] {
        let lab = lab();
        let unfit = hook.map(|hook| pinned(&lab, hook));
        let agent = started(&lab);
        let status = agent.status().unwrap();
        let text = finding(&status).expect(words);
        assert!(text.contains(words), "{text}");
        assert_eq!(shown(&status)["id"], Value::Null, "{words}");
        assert!(agent.log().contains(words), "{}", agent.log());
        pairs(&lab);
        drop(unfit);

        // Whenever it is pinned.
        let next = pinned(&lab, Hook::XdpFrags);
        let found = |status: &Status| finding(status).is_none();
        agent.wait_until("the program that fits", LOOKED, found).unwrap();
        let pairs = pairs(&lab);
        assert!(next.packets().unwrap() >= pairs.sent, "{pairs:?}");
    }
}
