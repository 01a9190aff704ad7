//! A rule that cuts its operator off ends in time, whatever happens to the agent, and the replaced rule is
//! there again. The test asks the kernel, by a client that connects. Needs root and `TCPGUARD_BIN`.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard_goals::{Goal, Row, size, when};
use tcpguard_kit::daemon::agent::{Agent, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::server::{Behaviour, Server};
use tcpguard_kit::traffic::timer::Timer;

const SECOND: Duration = Duration::from_secs(1);
/// Time within which a rule of these tests must be confirmed.
const LIMIT: Duration = Duration::from_secs(4);
const WITHIN: &str = "4s";
/// Permitted deviation from the time at which it reverts.
const EXACT: Duration = SECOND;
const FILE: &str = "/run/risky.rules";
/// Time for which a client tries: too short for a SYN to be retransmitted, so the reply is about this moment.
const PATIENCE: Duration = Duration::from_millis(200);

/// A verb that must succeed, and its JSON.
#[track_caller]
fn json(host: &Netns, line: &[&str]) -> Value {
    let output = cli(host, &[line, &["--json"]].concat()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn gets_in(lab: &Lab, family: Family) -> bool {
    let service = family.service();
    lab.client.run(|| Ok(TcpStream::connect_timeout(&service, PATIENCE).is_ok())).unwrap()
}

/// Fate of the agent while the rule waits.
#[derive(Clone, Copy, Debug)]
enum AgentFate {
    Lives,
    IsKilled,
    IsKilledAndStartsAgain,
}

const FATES: [AgentFate; 3] =
    [AgentFate::Lives, AgentFate::IsKilled, AgentFate::IsKilledAndStartsAgain];

/// Change that is to revert, as the commands that make and undo it.
#[derive(Clone, Copy)]
struct Change {
    /// `{all_addresses}` stands for all addresses, and [`FILE`] names them among others.
    line: &'static [&'static str],
    /// Command that a separate process runs at the limit. `None` where the agent is asked to revert the
    /// change.
    undo: Option<&'static [&'static str]>,
}

/// Time after which a client that a change had cut off got in again; `None` if it had not a second after the
/// limit. The process that reverts the change is killed with the agent.
fn back_after(change: Change, family: Family, fate: AgentFate) -> Option<Duration> {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start_by_file(&lab.edge, "mode = \"enforce\"\n").unwrap();
    assert!(gets_in(&lab, family));
    let all_addresses = match family {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    };
    lab.edge.write(FILE, &format!("192.0.2.0/24\n{all_addresses}\n")).unwrap();
    let filled = |line: &[&'static str]| -> Vec<&'static str> {
        line.iter()
            .map(|word| if *word == "{all_addresses}" { all_addresses } else { *word })
            .collect()
    };
    let line = filled(change.line);
    let begun = Instant::now();
    json(&lab.edge, &line);
    let undo = change.undo.map(filled);
    let mut timer = undo.map(|undo| Timer::start(&lab.edge, LIMIT, &undo).unwrap());
    assert!(!gets_in(&lab, family), "{line:?} cuts everybody off");
    if !matches!(fate, AgentFate::Lives) {
        agent.kill().unwrap();
        if let Some(timer) = &mut timer {
            timer.kill().unwrap();
        }
    }
    if matches!(fate, AgentFate::IsKilledAndStartsAgain) {
        agent.start_again_by_file().unwrap();
    }
    while begun.elapsed() <= LIMIT + EXACT {
        if gets_in(&lab, family) {
            return Some(begun.elapsed());
        }
        sleep(PATIENCE / 4);
    }
    None
}

fn reverts(name: &str, own: Change, with_timer: Change) {
    let row = Row::new(Goal::G14).named(name);
    let trials = size(2, 10);
    // In the short form, the hardest fates.
    let ours =
        (0..trials).map(|trial| (own, Family::BOTH[trial % 2], FATES[(trial + 1) % FATES.len()]));
    let naive = [AgentFate::Lives, AgentFate::IsKilledAndStartsAgain]
        .map(|fate| (with_timer, Family::V4, fate));
    let mut back = side_by_side(2, ours.chain(naive), |(change, family, fate)| {
        back_after(change, family, fate)
    });
    let [lives, killed] = back.split_off(trials)[..] else { panic!("two naive variants") };
    let in_time = |back: &&Option<Duration>| back.is_some_and(|it| it.abs_diff(LIMIT) <= EXACT);
    let exact = back.iter().filter(in_time).count();
    let when = |back| when(back, LIMIT + EXACT);
    let all = back.iter().copied().map(when).collect::<Vec<_>>().join(", ");
    row.result(
        trials as u64,
        format!("cut off, the agent killed: {exact} in again after {LIMIT:?} ± {EXACT:?}, {all}"),
        exact == trials,
    )
    .naive(
        2,
        format!(
            "taken back by a timer in a process: in again {} if it lives, {} if it is killed",
            when(lives),
            when(killed)
        ),
        in_time(&&lives) && killed.is_none(),
    )
    .finish();
}

#[test]
fn g14_an_unconfirmed_risky_block_is_rolled_back() {
    let own = &["block", "{all_addresses}", "--force", "--rollback-after", WITHIN];
    let for_good = &["block", "{all_addresses}", "--force", "--rollback-after", "never"];
    let undo = &["unblock", "{all_addresses}"];
    reverts("block", Change { line: own, undo: None }, Change { line: for_good, undo: Some(undo) });
}

#[test]
fn g14_an_unconfirmed_risky_import_is_rolled_back() {
    let own = &["rules", "import", FILE, "--force", "--rollback-after", WITHIN];
    let for_good = &["rules", "import", FILE, "--force", "--rollback-after", "never"];
    let undo = &["rules", "flush"];
    reverts(
        "import",
        Change { line: own, undo: None },
        Change { line: for_good, undo: Some(undo) },
    );
}

/// The blocks, and the time until which each is in force if it is confirmed.
fn rules(host: &Netns) -> Vec<(String, Value)> {
    let list = json(host, &["rules", "list"])["rules"].as_array().unwrap().clone();
    let rule = |rule: &Value| {
        let subject = format!("{} {}", rule["matches"].as_str().unwrap(), rule["ports"]);
        (subject, rule["confirmed_until"].clone())
    };
    list.iter().map(rule).collect()
}

/// The time is over while no agent lives: the next agent restores the earlier rule and reports it.
#[test]
fn what_a_risky_block_replaced_is_back_after_a_kill() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start_by_file(&lab.edge, "mode = \"enforce\"\n").unwrap();
    json(
        &lab.edge,
        &["block", "0.0.0.0/0", "--port", "25", "--force", "--rollback-after", "never"],
    );
    let before = rules(&lab.edge);
    let begun = Instant::now();
    json(&lab.edge, &["block", "0.0.0.0/0", "--force", "--rollback-after", "2s"]);
    let page = agent.status_text().unwrap();
    assert!(page.contains("tcpguard confirm 0.0.0.0/0"), "{page}");
    agent.kill().unwrap();
    sleep((3 * SECOND).saturating_sub(begun.elapsed()));
    assert!(gets_in(&lab, Family::V4), "the kernel has ended it");
    agent.start_again_by_file().unwrap();
    assert_eq!(rules(&lab.edge), before);
    let is_back = |status: &Status| {
        status.alerts("rule_reverted") == 1 && status.rules_in_kernel() == Some(1)
    };
    // Of how soon nothing is promised.
    agent.wait_until("it is reported, and in the kernel", TIMEOUT, is_back).unwrap();
    let late = cli(&lab.edge, &["confirm"]).unwrap();
    assert_eq!(late.status.code(), Some(5));
}

#[test]
fn a_confirmed_block_stays_over_a_kill_and_its_time() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start_by_file(&lab.edge, "mode = \"enforce\"\n").unwrap();
    json(&lab.edge, &["block", "0.0.0.0/0", "--force", "--rollback-after", "3s"]);
    agent.kill().unwrap();
    agent.start_again_by_file().unwrap();
    let confirmed = json(&lab.edge, &["confirm", "0.0.0.0/0"]);
    assert_eq!(confirmed["rules"][0]["confirmed_until"], Value::Null);
    agent.kill().unwrap();
    sleep(3 * SECOND);
    assert!(!gets_in(&lab, Family::V4), "the kernel knows the new end");
    agent.start_again_by_file().unwrap();
    sleep(SECOND);
    assert!(!gets_in(&lab, Family::V4));
    assert_eq!(rules(&lab.edge), [("0.0.0.0/0 []".to_owned(), Value::Null)]);
}
