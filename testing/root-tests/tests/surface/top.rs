//! `tcpguard top` in a real terminal: it shows a real agent. However it ends, the terminal is afterwards as it was
//! before. Needs root, tmux and `TCPGUARD_BIN`.

use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tcpguard::top::terminal::Screen;
use tcpguard_kit::daemon::agent::{self, Agent, Mode};
use tcpguard_kit::daemon::terminal::{State, Terminal};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

/// Command that starts `top`, short enough for one line of the terminal.
const COMMAND: &str = "/run/t";
/// The variable by which a test recognises that it is the one in the terminal.
const PANIC: &str = "TCPGUARD_TEST_PANIC";
const UTF8: (&str, &str) = ("LC_ALL", "C.UTF-8");

/// Opens a terminal of 80 columns and 24 lines.
fn terminal<'host>(host: &'host Netns, environment: &[(&str, &str)]) -> Terminal<'host> {
    let binary = agent::binary().unwrap();
    let runtime = agent::RUNTIME_DIR;
    let line = format!("exec {} top --runtime-dir {runtime} \"$@\"\n", binary.display());
    host.write(COMMAND, &line).unwrap();
    Terminal::open(host, (80, 24), environment).unwrap()
}

fn start(terminal: &Terminal<'_>) {
    terminal.run(&format!("sh {COMMAND}")).unwrap();
    terminal.wait_for("4 Alerts").unwrap();
    let state = terminal.state().unwrap();
    assert!(state.alternate && !state.cursor, "{state:?}");
}

#[track_caller]
fn assert_given_back(terminal: &Terminal<'_>, before: &State) {
    let screen = terminal.wait_for_prompt().unwrap();
    assert_eq!(terminal.state().unwrap(), *before, "{screen}");
    assert!(screen.contains(COMMAND), "what was there before is there again:\n{screen}");
}

#[test]
fn every_pane_can_be_looked_at_and_left() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let terminal = terminal(&lab.edge, &[UTF8]);
    let before = terminal.state().unwrap();
    assert!(before.cursor && !before.alternate, "{before:?}");
    start(&terminal);
    for (key, words) in [
        ("2", "STOPPED"),
        ("3", "MATCHES"),
        ("4", "ALERT"),
        ("1", "ACCEPT-Q"),
        ("Tab", "STOPPED"),
        ("/", "\n/"),
        ("4", "\n/4"),
        ("Escape", "q quit"),
        ("p", "HELD at"),
        ("p", "q quit"),
        ("m", "Run this command?"),
        ("n", "q quit"),
        ("?", "Shift-Tab"),
        ("Escape", "q quit"),
    ] {
        terminal.press(&[key]).unwrap();
        terminal.wait_for(words).unwrap_or_else(|error| panic!("after {key}: {error:#}"));
    }
    terminal.resize(60, 20).unwrap();
    terminal.wait_for("needs 80 columns and 24 lines").unwrap();
    terminal.resize(140, 40).unwrap();
    terminal.wait_for("BASELINE").unwrap();
    terminal.press(&["q"]).unwrap();
    assert_given_back(&terminal, &before);
}

#[test]
fn the_terminal_is_given_back_whatever_ends_it() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let terminal = terminal(&lab.edge, &[UTF8]);
    let before = terminal.state().unwrap();
    for key in ["q", "C-c"] {
        start(&terminal);
        terminal.press(&[key]).unwrap();
        assert_given_back(&terminal, &before);
    }
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        start(&terminal);
        kill_process(terminal.program().unwrap(), signal).unwrap();
        assert_given_back(&terminal, &before);
    }
}

#[test]
fn the_terminal_is_given_back_while_it_is_stopped() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let terminal = terminal(&lab.edge, &[UTF8]);
    let before = terminal.state().unwrap();
    start(&terminal);
    for by_key in [true, false] {
        if by_key {
            terminal.press(&["C-z"]).unwrap();
        } else {
            kill_process(terminal.program().unwrap(), Signal::TSTP).unwrap();
        }
        assert_given_back(&terminal, &before);
        terminal.run("fg").unwrap();
        terminal.wait_for("4 Alerts").unwrap();
        let state = terminal.state().unwrap();
        assert!(state.alternate && state.settings != before.settings, "{state:?}");
    }
    terminal.press(&["q"]).unwrap();
    terminal.wait_for_prompt().unwrap();
    assert_eq!(terminal.state().unwrap(), before);
}

/// Run by itself once more, in a terminal: there it panics.
#[test]
fn a_panic_gives_the_terminal_back_before_it_speaks() {
    match std::env::var(PANIC).as_deref() {
        Ok("here") => {
            let _screen = Screen::enter(false).unwrap();
            panic!("on purpose");
        }
        Ok(_) => {
            let _screen = Screen::enter(false).unwrap();
            let fails: fn() = || panic!("on purpose");
            std::thread::spawn(fails).join().expect_err("it panics");
            panic!("so do we");
        }
        Err(_) => {}
    }
    let lab = Lab::new(LabOptions::default()).unwrap();
    let program = std::env::current_exe().unwrap();
    let name = "top::a_panic_gives_the_terminal_back_before_it_speaks";
    for place in ["here", "elsewhere"] {
        let line =
            format!("{PANIC}={place} exec {} --exact {name} --nocapture\n", program.display());
        lab.edge.write(COMMAND, &line).unwrap();
        let terminal = Terminal::open(&lab.edge, (120, 40), &[UTF8]).unwrap();
        let before = terminal.state().unwrap();
        terminal.run(&format!("sh {COMMAND}")).unwrap();
        let screen = terminal.wait_for("on purpose").unwrap();
        assert!(screen.contains("panicked at"), "its words are not lost:\n{screen}");
        assert_given_back(&terminal, &before);
    }
}

#[test]
fn an_agent_that_dies_is_noticed_and_waited_for() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let terminal = terminal(&lab.edge, &[UTF8]);
    start(&terminal);
    agent.kill().unwrap();
    let screen = terminal.wait_for("old. agent not running").unwrap();
    let words: Vec<_> = screen.split_whitespace().collect();
    assert!(words.join(" ").contains("systemctl start"), "{screen}");
    assert!(screen.contains("SYN/s"), "the last numbers stay:\n{screen}");
    agent.start_again(Mode::Observe).unwrap();
    terminal.wait_until("an answer again", |screen| !screen.contains("old.")).unwrap();
}

#[test]
fn an_attack_is_seen_and_shown() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let terminal = terminal(&lab.edge, &[UTF8]);
    start(&terminal);
    let mut flood = Flood::random(Family::V4.service(), Duration::from_secs(8));
    flood.rate = 5_000;
    let flood = flood.start(&lab).unwrap();
    terminal.wait_for("UNDER ATTACK, mitigating").unwrap();
    terminal.press(&["2"]).unwrap();
    terminal.wait_for("OPEN").unwrap();
    terminal.press(&["Enter"]).unwrap();
    let story = terminal.wait_for("Detected").unwrap();
    assert!(story.contains("Incident #1"), "{story}");
    terminal.press(&["Escape"]).unwrap();
    terminal.press(&["3"]).unwrap();
    let rules = terminal.wait_for("signature").unwrap();
    assert!(rules.contains("opts="), "{rules}");
    flood.stop().unwrap();
}

#[test]
fn colour_and_signs_are_what_the_terminal_can_show() {
    /// Select Graphic Rendition of a foreground colour, as tmux shows it.
    const COLOUR: &str = "\x1b[3";
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    for (environment, colour, ascii) in [
        (&[UTF8][..], true, false),
        (&[UTF8, ("NO_COLOR", "1")], false, false),
        (&[("LC_ALL", "C")], true, true),
    ] {
        let terminal = terminal(&lab.edge, environment);
        start(&terminal);
        let screen = terminal.coloured_screen().unwrap();
        let colours = screen.replace("\x1b[39m", "").contains(COLOUR);
        assert_eq!(colours, colour, "{environment:?}: {screen:?}");
        assert_eq!(screen.is_ascii(), ascii, "{environment:?}: {screen}");
        terminal.press(&["q"]).unwrap();
        terminal.wait_for_prompt().unwrap();
    }
}
