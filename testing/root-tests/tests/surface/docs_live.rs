//! The operators' pages, followed: their commands are typed as they stand there, in their order, on a
//! machine with the service of the package, clients, and a flood. Needs root, systemd and
//! `TCPGUARD_BIN`.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tcpguard_kit::daemon::machine::Machine;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};
use tcpguard_support::blocks::blocks;

/// The pages, in the order in which they are followed.
const PAGES: [&str; 2] = ["docs/operations.md", "docs/install.md"];
const CONFIG: &str = "/etc/tcpguard/tcpguard.toml";
/// The attack is over soon after its end, since no command is typed until then.
const ON_ETH0: &str = "[interfaces]\nnames = [\"eth0\"]\n[detection]\nclear_s = 5\n";
/// Spoofed handshakes last 7 s with it, and a minute without.
const FEW_RETRIES: (&str, &str) = ("net.ipv4.tcp_synack_retries", "2");
/// Path of the file with a command for the machine's shell.
const SCRIPT: &str = "/root/typed.sh";
const SECOND: Duration = Duration::from_secs(1);
/// Time after which all spoofed handshakes are over and so is the attack.
const QUIET: Duration = Duration::from_secs(60);

/// A command of a page.
#[derive(Debug, PartialEq)]
struct Typed {
    /// Situation in which it is to be typed: the word behind `sh` at its block.
    scene: String,
    /// Its page and the line there.
    place: String,
    line: String,
    /// Exit codes with which it may end.
    codes: Vec<i32>,
}

/// The commands in the blocks of the page `text` that say when they are to be typed.
fn commands(page: &str, text: &str) -> Vec<Typed> {
    let mut found = Vec::new();
    for block in blocks(text) {
        let Some(scene) = block.info.strip_prefix("sh ") else { continue };
        for (number, line) in block.lines.into_iter().filter(|(_, line)| !line.trim().is_empty()) {
            let (scene, place, codes) =
                (scene.to_owned(), format!("{page}:{number}"), codes(&line));
            found.push(Typed { scene, place, line, codes });
        }
    }
    found
}

/// The exit codes that a comment allows, as in `# not everything is well (exit code 0, 1)`.
fn codes(line: &str) -> Vec<i32> {
    let Some((_, listed)) = line.split_once("exit code ") else { return vec![0] };
    let listed = listed.split(|char: char| !(char.is_ascii_digit() || ", ".contains(char))).next();
    let numbers = listed.unwrap_or_default().split(',').map(|code| code.trim().parse());
    numbers.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn a_comment_says_how_a_line_may_end() {
    assert_eq!(codes("tcpguard status"), [0]);
    assert_eq!(codes("tcpguard check   # CRITICAL (exit code 2)"), [2]);
    assert_eq!(codes("tcpguard doctor  # (exit code 0, 1)"), [0, 1]);
    let page = "```sh\nno\n```\n\n```sh calm\na # (exit code 3)\n\nb\n```\n";
    let typed = |number, line: &str, codes| {
        let (scene, place, line) = ("calm".to_owned(), format!("p.md:{number}"), line.to_owned());
        Typed { scene, place, line, codes }
    };
    let expected = [typed(6, "a # (exit code 3)", vec![3]), typed(8, "b", vec![0])];
    assert_eq!(commands("p.md", page), expected);
}

/// Types the commands of a scene; those that do not end as their page says are returned.
fn play(machine: &Machine, commands: &[Typed], scene: &str) -> Vec<String> {
    let of_scene: Vec<_> = commands.iter().filter(|typed| typed.scene == scene).collect();
    assert!(!of_scene.is_empty(), "{PAGES:?} have no block `sh {scene}`");
    let mut wrong = Vec::new();
    for Typed { place, line, codes, .. } in of_scene {
        // There may be no sudo here, and no user but root.
        let script = format!("cd /root\nsudo() {{ \"$@\"; }}\n{line}\n");
        fs::write(machine.path(SCRIPT), script).unwrap();
        let output = machine.output(&format!("sh {SCRIPT}")).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        println!("{place}: $ {line}\n{said}");
        if !output.status.code().is_some_and(|code| codes.contains(&code)) {
            wrong.push(format!(
                "{place}: {line}\n  {}, not {codes:?}: {}",
                output.status,
                said.trim()
            ));
        }
    }
    wrong
}

/// Waits until the machine's status fulfils `condition`.
#[track_caller]
fn wait(machine: &Machine, what: &str, limit: Duration, condition: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        let status = machine.exec("tcpguard status --json").unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        if condition(&status) {
            return;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}: {status:#}");
        sleep(Duration::from_millis(100));
    }
}

fn incidents(status: &Value) -> &[Value] {
    status["incidents"].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn the_operators_page_can_be_followed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let of_page = |page: &str| commands(page, &fs::read_to_string(root.join(page)).unwrap());
    let commands: Vec<Typed> = PAGES.into_iter().flat_map(of_page).collect();
    let machine = Machine::boot(&[(CONFIG, ON_ETH0)]).unwrap();
    let lab = Lab::around(|| machine.network(), LabOptions::default()).unwrap();
    lab.edge.sysctl(FEW_RETRIES.0, FEW_RETRIES.1).unwrap();
    let service = Family::V4.service();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    machine.exec("systemctl start tcpguard").unwrap();
    let load = Load::start(&lab.client, service, 50).unwrap();
    sleep(4 * SECOND);
    let mut wrong = play(&machine, &commands, "calm");

    let flood = Flood { rate: 20_000, ..Flood::random(service, 180 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    wait(&machine, "the flood is reported", 10 * SECOND, |status| {
        status["daemon"]["state"] == "attack_unmitigated"
            && incidents(status)[0]["class"] == "random_spoofed"
    });
    wait(&machine, "it is number 1, as on the page", SECOND, |it| incidents(it)[0]["id"] == 1);
    wrong.extend(play(&machine, &commands, "attack"));

    flood.stop().unwrap();
    wait(&machine, "the attack is over", QUIET, |status| incidents(status).is_empty());
    wrong.extend(play(&machine, &commands, "after"));
    load.finish().unwrap();
    wrong.extend(play(&machine, &commands, "end"));
    let scenes = ["calm", "attack", "after", "end"];
    let unplayed = commands.iter().find(|typed| !scenes.contains(&typed.scene.as_str()));
    assert_eq!(unplayed, None);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
