//! Limits of the cost of tcpguard to a host, in memory, and of the time that operators wait. `cargo xtask budget` holds
//! the size of the packaged program. `status_live.rs` tests that a status takes four starts of the program at most, and
//! `listeners.rs` that 10,000 sockets are listed within 200 ms. Needs root, `TCPGUARD_BIN`, and for the
//! package systemd, dpkg and `TCPGUARD_DIST`.

use std::thread::sleep;
use std::time::Duration;

use clap::CommandFactory;
use tcpguard::cli::Args;
use tcpguard_kit::daemon::agent::{self, Agent, Mode};
use tcpguard_kit::daemon::first_use::FirstUse;
use tcpguard_kit::measure::peak::{self, Footprint};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Bytes of memory of an agent that has nothing to do.
const AGENT: u64 = 16 << 20;
/// Bytes of memory of any question.
const QUESTION: u64 = 12 << 20;
/// From `dpkg -i` to the first status page.
const FIRST_STATUS: Duration = Duration::from_secs(10);

#[test]
fn an_idle_agent_takes_little_memory() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    // By then everything that runs by the second, the ten seconds and the half minute has run.
    sleep(35 * SECOND);
    let status = agent.status().unwrap();
    let pid = status.document()["daemon"]["pid"].as_u64().unwrap();
    let memory = Footprint::now(pid.try_into().unwrap()).unwrap();
    println!("an idle agent: {memory}, of {} kB", AGENT >> 10);
    assert!(memory.judged() <= AGENT, "{memory}");
}

/// Commands that read and print the result, beside those that need no arguments.
const QUESTIONS: [&str; 17] = [
    "status",
    "status --json",
    "status --listeners",
    "explain 192.0.2.7",
    "explain 1",
    "explain 1 --html -",
    "explain 1 --timeline",
    "events",
    "events --follow",
    "rules export --all",
    "tune",
    "tune --sysctl",
    "config check /run/tcpguard.toml",
    "config show /run/tcpguard.toml",
    "config init -",
    "states --queues",
    "listeners --all",
];

/// Commands that are no question, or not about this host.
const OTHERS: [&str; 18] = [
    // The agent.
    "run",
    // A terminal's.
    "top",
    // Another program's.
    "fleet",
    // Changes.
    "block",
    "unblock",
    "allow",
    "disallow",
    "rules import",
    "confirm",
    "rules flush",
    "mitigation",
    "reload",
    "detach",
    "restore-sysctls",
    // It goes on until it has enough packets.
    "capture",
    // Captures: `cargo xtask bench replay` checks the memory that they take.
    "replay",
    // For package maintainers.
    "completions",
    "manual",
];

/// `verb` and the verbs below it: `status`, `rules list`, …
fn verbs(command: &clap::Command, above: &str, found: &mut Vec<String>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = format!("{above} {}", verb.get_name()).trim().to_owned();
        match verb.has_subcommands() {
            true => verbs(verb, &name, found),
            false => found.push(name),
        }
    }
}

/// Every question. A verb that is neither among them nor known to be none is asked as it is.
fn questions() -> Vec<String> {
    let mut known = Vec::new();
    verbs(&Args::command(), "", &mut known);
    let begins = |line: &&str, verb: &str| *line == verb || line.starts_with(&format!("{verb} "));
    let asked = |verb: &String| QUESTIONS.iter().any(|line| begins(line, verb));
    known.retain(|verb| !OTHERS.contains(&verb.as_str()) && !asked(verb));
    known.extend(QUESTIONS.map(str::to_owned));
    known
}

#[test]
fn every_question_takes_little_memory() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), 50).unwrap();
    sleep(3 * SECOND);
    let flood = Flood { rate: 5_000, ..Flood::random(Family::V4.service(), 60 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    agent.wait_for_rule(10 * SECOND).unwrap();
    assert_eq!(agent.status().unwrap().incidents()[0].id(), 1, "the questions are about it");
    let block = agent::cli(&lab.edge, &["block", "198.51.100.0/24"]).unwrap();
    assert!(block.status.success(), "something to export: {block:?}");

    let mut greedy = Vec::new();
    for question in questions() {
        let words: Vec<&str> = question.split(' ').collect();
        let memory = peak::memory(&lab.edge, &words).unwrap();
        println!("tcpguard {question}: {memory}");
        if memory.judged() > QUESTION {
            greedy.push(format!("tcpguard {question}: {memory}"));
        }
    }
    flood.stop().unwrap();
    load.finish().unwrap();
    assert!(greedy.is_empty(), "{greedy:#?}");
}

#[test]
fn a_package_answers_within_ten_seconds() {
    let first = FirstUse::of_package().unwrap();
    println!("{first}");
    assert!(first.status <= FIRST_STATUS, "{first}");
    assert!(first.page.contains("observing"), "{}", first.page);
}
