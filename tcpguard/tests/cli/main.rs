//! The command line as an operator meets it: the real binary against an agent that says what a
//! test wants it to say.

mod agent;
mod report;
#[path = "../support/stand_in.rs"]
mod stand_in;
#[path = "../support/mod.rs"]
mod support;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use agent::answer;
use serde_json::Value;
use stand_in::StandIn;
use support::{calm, degraded, flooded, status};
use tcpguard::status::Status;
use tcpguard_engine as engine;

/// A runtime directory, and possibly an agent that listens in it.
struct Host {
    dir: tempfile::TempDir,
    _agent: Option<StandIn>,
}

impl Host {
    /// Nobody listens.
    fn without_agent() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), _agent: None }
    }

    /// An agent in this situation.
    fn with(status: Status) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = StandIn::in_dir(dir.path(), move |request| answer(request, &status));
        Self { dir, _agent: Some(agent) }
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tcpguard"));
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            // The tests may run under SSH: nothing of that may show.
            .env("SSH_CONNECTION", "203.0.113.5 50022 203.0.113.1 22")
            .arg("--runtime-dir")
            .arg(self.dir.path())
            .arg("--pin-dir")
            .arg(self.dir.path().join("pins"))
            .args(line);
        command
    }

    fn run(&self, line: &[&str]) -> Outcome {
        Outcome::of(line, self.command(line).output().unwrap())
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// What a command did, for assertions that show all of it when they fail.
#[derive(Debug, PartialEq)]
struct Outcome {
    line: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn of(line: &[&str], output: Output) -> Self {
        Self {
            line: line.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn is(&self, code: i32, stdout: &str, stderr: &str) {
        let expected = Self {
            line: self.line.clone(),
            code: Some(code),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        assert!(*self == expected, "found {self:#?}\nexpected {expected:#?}");
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}

#[test]
fn a_line_that_makes_no_sense_has_code_2() {
    let host = Host::without_agent();
    for line in [
        &[][..],
        &["fly"],
        &["status", "--sideways"],
        &["block"],
        &["block", "192.0.2.1/24"],
        &["block", "192.0.2.1", "--for", "10"],
        &["unblock"],
        &["unblock", "192.0.2.1", "--all"],
        &["mode", "on"],
        &["detach"],
        &["run", "--mode", "on"],
        &["run", "--bpf-log", "loud"],
        &["status", "--timeout", "5s"],
    ] {
        let outcome = host.run(line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{outcome:#?}");
        assert!(!outcome.stderr.is_empty());
    }
}

#[test]
fn help_and_version_are_data() {
    let host = Host::without_agent();
    let help = host.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for verb in [
        "run", "status", "block", "unblock", "rules", "mode", "reload", "detach", "config",
        "version",
    ] {
        assert!(help.stdout.contains(&format!("\n  {verb} ")), "{verb} in {}", help.stdout);
    }
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "tcpguard {version} (kernel layout {}, control protocol 1, tcpguard.status/1)\n",
        tcpguard_common::ABI_VERSION
    );
    host.run(&["version"]).is(0, &text, "");
    assert_eq!(host.run(&["version", "--json"]).json()["version"], version);
}

#[test]
fn without_an_agent_the_code_is_3_and_the_way_out_is_named() {
    let host = Host::without_agent();
    for (line, socket) in [
        (&["status"][..], "status.sock"),
        (&["rules", "list"], "status.sock"),
        (&["mode"], "status.sock"),
        (&["mode", "enforce"], "control.sock"),
        (&["block", "192.0.2.1"], "control.sock"),
        (&["unblock", "--all"], "control.sock"),
    ] {
        let socket = host.path().join(socket);
        let stderr = format!(
            "tcpguard: tcpguard is not running (nobody listens on {}); start it: systemctl start tcpguard\n",
            socket.display()
        );
        host.run(line).is(3, "", &stderr);
    }
}

#[test]
fn a_filter_without_an_agent_is_pointed_out() {
    let host = Host::without_agent();
    let namespace = tcpguard::host::netns::cookie().unwrap();
    let links = host.path().join(format!("pins/v1-{namespace}/links"));
    std::fs::create_dir_all(&links).unwrap();
    for link in ["2-eth0", "3-eth1", "2-eth0"] {
        std::fs::write(links.join(link), "").unwrap();
    }
    host.run(&["status"]).is(
        3,
        "",
        "tcpguard: tcpguard is not running, its kernel filter is still attached on eth0, eth1; \
         start it: systemctl start tcpguard, or take the filter off: tcpguard detach --all\n",
    );
}

#[test]
fn without_permission_the_code_is_4() {
    let host = Host::with(status(calm()));
    let socket = host.path().join("control.sock");
    let line = ["mode", "off"];
    let output = if rustix::process::geteuid().is_root() {
        // As nobody, who may reach the directory and the binary but not the socket.
        use std::os::unix::fs::PermissionsExt;
        let binary = host.path().join("tcpguard");
        std::fs::copy(env!("CARGO_BIN_EXE_tcpguard"), &binary).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(host.path(), open).unwrap();
        let mut command = Command::new(binary);
        command.env_clear().env("LC_ALL", "C.UTF-8").uid(65_534).gid(65_534);
        command.arg("--runtime-dir").arg(host.path()).args(line).output().unwrap()
    } else {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
        host.command(&line).output().unwrap()
    };
    let stderr = format!("tcpguard: permission denied on {}; use sudo\n", socket.display());
    Outcome::of(&line, output).is(4, "", &stderr);
}

#[test]
fn status_prints_the_page() {
    let host = Host::with(status(calm()));
    let page = include_str!("../expected/calm.txt");
    host.run(&["status"]).is(0, page, "");
    let first_line = format!("{}\n", page.lines().next().unwrap());
    host.run(&["status", "--brief"]).is(0, &first_line, "");
    assert_eq!(host.run(&["status", "--json"]).json()["schema"], "tcpguard.status/1");
}

#[test]
fn a_plain_locale_gets_ascii_and_json_stays_as_it_is() {
    let host = Host::with(status(flooded(engine::Mode::Enforce)));
    let run =
        |line: &[&str]| Outcome::of(line, host.command(line).env("LC_ALL", "C").output().unwrap());
    let text = run(&["status"]);
    assert!(text.code == Some(0) && text.stdout.is_ascii(), "{text:#?}");
    assert_eq!(run(&["status", "--json"]).json()["attacks"][0]["id"], 3);
}

#[test]
fn colour_is_only_there_when_wanted() {
    let host = Host::with(status(calm()));
    for (line, expected) in [
        (&["status"][..], false),
        (&["status", "--color", "always"], true),
        (&["status", "--color", "never"], false),
        (&["status", "--color", "always", "--json"], false),
    ] {
        assert_eq!(host.run(line).stdout.contains('\x1b'), expected, "{line:?}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let host = Host::with(status(calm()));
    for line in [&["status"][..], &["status", "--json"], &["version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = host.command(line).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        Outcome::of(line, child.wait_with_output().unwrap()).is(0, "", "");
    }
}

#[test]
fn waiting_ends_with_the_state_or_with_the_time() {
    let healthy = Host::with(status(calm()));
    let waited = healthy.run(&["status", "--wait", "healthy", "--brief"]);
    assert_eq!(waited.code, Some(0), "{waited:#?}");

    let degraded = Host::with(status(degraded()));
    let brief = degraded.run(&["status", "--brief"]).stdout;
    degraded.run(&["status", "--wait", "healthy", "--timeout", "1s", "--brief"]).is(
        1,
        &brief,
        "tcpguard: not healthy after 1 s; tcpguard status says why\n",
    );
}

#[test]
fn blocking_says_what_was_done_and_how_to_take_it_back() {
    let host = Host::with(status(calm()));
    host.run(&["block", "192.0.2.0/24", "--for", "90m"]).is(
        0,
        "blocked 192.0.2.0/24 for 1h 30m, until 15:35:31 (rule 12)\n",
        "take it back: tcpguard unblock 192.0.2.0/24\n",
    );
    host.run(&["block", "192.0.2.0/24", "--quiet"]).is(
        0,
        "blocked 192.0.2.0/24 for 1h 00m, until 15:05:31 (rule 12)\n",
        "",
    );
    host.run(&["block", "192.0.2.0/24", "--dry-run"]).is(
        0,
        "would block 192.0.2.0/24 for 1h 00m, until 15:05:31\n",
        "nothing was changed; do it: the same command without --dry-run\n",
    );
    let json = host.run(&["block", "2001:db8::7", "--reason", "scan", "--json"]).json();
    assert_eq!(json["rule"]["matches"], "2001:db8::7/128");
    assert_eq!(json["rule"]["reason"], "scan");
    assert_eq!(json["dry_run"], false);
}

#[test]
fn blocking_in_observe_mode_says_that_nothing_is_dropped() {
    let host = Host::with(status(flooded(engine::Mode::Observe)));
    host.run(&["block", "192.0.2.1"]).is(
        0,
        "blocked 192.0.2.1/32 for 1h 00m, until 15:05:31 (rule 12)\n",
        "take it back: tcpguard unblock 192.0.2.1/32\n\
         the mode is observe, so the rule drops nothing until: tcpguard mode enforce\n",
    );
}

#[test]
fn nobody_blocks_himself_by_accident() {
    let host = Host::with(status(calm()));
    host.run(&["block", "203.0.113.0/24"]).is(
        1,
        "",
        "tcpguard: 203.0.113.0/24 covers 203.0.113.5, from where you are logged in over SSH: you \
         would lock yourself out; block a smaller prefix, or add --force if you are sure\n",
    );
    assert_eq!(host.run(&["block", "203.0.113.0/24", "--force"]).code, Some(0));
    assert_eq!(host.run(&["block", "203.0.113.64/26"]).code, Some(0));
    host.run(&["block", "10.0.0.0/8"]).is(
        1,
        "",
        "tcpguard: too wide; add --force if you are sure\n",
    );
}

#[test]
fn unblocking_prints_what_was_removed() {
    let host = Host::with(status(flooded(engine::Mode::Enforce)));
    host.run(&["unblock", "--all"]).is(
        0,
        "removed rule 7 on opts=none win=512 ttl=64 at :443 (attack #3; 19.7 M hits; it had 54 s left)\n",
        "rules of an attack that goes on come back; to stop dropping: tcpguard mode observe\n",
    );
    assert_eq!(host.run(&["unblock", "--all", "--json"]).json()["removed"][0]["id"], 7);
    host.run(&["unblock", "192.0.2.0/24"]).is(
        5,
        "",
        "tcpguard: no rule lies within 192.0.2.0/24; see what exists: tcpguard rules list\n",
    );
}

#[test]
fn rules_are_listed() {
    let attacked = Host::with(status(flooded(engine::Mode::Enforce)));
    let listed = attacked.run(&["rules", "list"]);
    assert_eq!(listed.code, Some(0));
    assert!(listed.stdout.starts_with("RULE  KIND "), "{listed:#?}");
    assert_eq!(attacked.run(&["rules", "list", "--json"]).json()["rules"][0]["id"], 7);

    let quiet = Host::with(status(calm()));
    quiet.run(&["rules", "list"]).is(0, "", "no rules; make one: tcpguard block PREFIX\n");
    assert_eq!(quiet.run(&["rules", "list", "--json"]).stdout, "{\"allowed\":[],\"rules\":[]}\n");
}

#[test]
fn allowing_and_taking_it_back() {
    let host = Host::with(status(calm()));
    let allowed = host.run(&["allow", "203.0.113.0/24", "--reason", "our monitoring"]);
    assert_eq!(allowed.code, Some(0), "{allowed:#?}");
    assert!(
        allowed.stdout.starts_with("allowed 203.0.113.0/24 for 30d 00h, until "),
        "{allowed:#?}"
    );
    assert!(allowed.stderr.contains("tcpguard unallow 203.0.113.0/24"), "{allowed:#?}");
    host.run(&["unallow", "192.0.2.0/24"]).is(
        5,
        "",
        "tcpguard: nothing within 192.0.2.0/24 is on the allow-list; see what is: tcpguard rules list\n",
    );
}

#[test]
fn an_address_and_an_attack_are_explained() {
    let host = Host::with(status(flooded(engine::Mode::Enforce)));
    let address = host.run(&["explain", "198.51.100.7"]);
    assert_eq!(address.code, Some(0), "{address:#?}");
    assert!(address.stdout.starts_with("198.51.100.7/32: what decides"), "{address:#?}");
    assert!(address.stdout.contains("  1. rule 7 drops its SYNs that look like"), "{address:#?}");
    assert!(address.stderr.contains("tcpguard block 198.51.100.7/32"), "{address:#?}");
    let json = host.run(&["explain", "198.51.100.7", "--json"]).json();
    assert!(json["verdict"].as_str().unwrap().starts_with("no rule names it"));
    assert_eq!(json["decisions"][0]["rule"], 7);

    let id = host.run(&["status", "--json"]).json()["attacks"][0]["id"].to_string();
    let attack = host.run(&["explain", &id]);
    assert_eq!(attack.code, Some(0), "{attack:#?}");
    for words in ["Alarm", "Verdict", "Gate", "Looks", "opts=none win=512 ttl=64", "BEFORE"] {
        assert!(attack.stdout.contains(words), "{words}: {attack:#?}");
    }
    let json = host.run(&["explain", &id, "--json"]).json();
    assert_eq!(json["schema"], "tcpguard.attack/1");
    assert_eq!(json["record"]["lines"][1]["holds"], true);
    host.run(&["explain", "99"]).is(5, "", "tcpguard: no attack #99\n");
}

#[test]
fn alerts_are_listed_from_a_severity_on() {
    let host = Host::with(status(flooded(engine::Mode::Enforce)));
    let all = host.run(&["alerts", "--json"]).json()["alerts"].as_array().unwrap().len();
    let critical = host.run(&["alerts", "--severity", "critical", "--json"]).json();
    let critical = critical["alerts"].as_array().unwrap();
    assert!(!critical.is_empty() && critical.len() < all, "{} of {all}", critical.len());
    assert!(critical.iter().all(|alert| alert["severity"] == "critical"));
}

#[test]
fn a_configuration_is_written_once_and_shown() {
    let host = Host::without_agent();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("etc/tcpguard.toml");
    let file = file.to_str().unwrap();
    let written = host.run(&["config", "init", file]);
    assert_eq!((written.code, written.stdout), (Some(0), format!("wrote {file}\n")));
    let again = host.run(&["config", "init", file]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("exists and was left alone"), "{again:#?}");
    assert_eq!(host.run(&["config", "check", file]).code, Some(0));
    let shown = host.run(&["config", "show", file]);
    assert!(shown.stdout.contains("detection.poll_ms = 250 "), "{shown:#?}");
    assert!(shown.stdout.lines().all(|line| line.ends_with("# default")), "{shown:#?}");
}

#[test]
fn the_mode_is_shown_and_set() {
    let host = Host::with(status(calm()));
    host.run(&["mode"]).is(0, "enforce\n", "");
    host.run(&["mode", "--json"]).is(0, "{\"mode\":\"enforce\"}\n", "");
    host.run(&["mode", "observe"]).is(
        0,
        "mode observe (was enforce)\n",
        "rules only count from now on; see what they would drop: tcpguard status\n",
    );
    host.run(&["mode", "off", "--json", "-q"]).is(
        0,
        "{\"mode\":\"off\",\"was\":\"enforce\"}\n",
        "",
    );
}

#[test]
fn detaching_needs_no_agent_and_asks_nothing() {
    let host = Host::without_agent();
    host.run(&["detach", "--all"]).is(0, "", "nothing was attached\n");
    host.run(&["detach", "--all", "--json"]).is(0, "{\"detached\":[]}\n", "");
    let stderr = format!(
        "tcpguard: no filter of tcpguard is pinned for eth9; see where one is: ls {}\n",
        host.path().join("pins").display()
    );
    host.run(&["detach", "eth9"]).is(5, "", &stderr);
}

#[test]
fn a_configuration_is_checked_with_all_its_mistakes() {
    let host = Host::without_agent();
    let file = host.path().join("guard.toml");
    let path = file.to_str().unwrap();

    std::fs::write(&file, "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n").unwrap();
    host.run(&["config", "check", path]).is(
        0,
        &format!("{path}: valid; mode enforce, interfaces: eth0\n"),
        "apply it: tcpguard reload\n",
    );
    assert_eq!(host.run(&["config", "check", path, "--json"]).json()["valid"], true);

    std::fs::write(&file, "mode = \"on\"\n[detection]\npol_ms = 1\n").unwrap();
    let mistakes = format!(
        "tcpguard: {path}:1: mode: \"on\" is not known; write one of \"observe\", \"enforce\", \"off\"\n\
         {path}:3: unknown key detection.pol_ms; did you mean detection.poll_ms?\n\
         2 mistakes, nothing was applied; edit the file, then: tcpguard config check {path}\n"
    );
    host.run(&["config", "check", path]).is(1, "", &mistakes);
    let json = host.run(&["config", "check", path, "--json"]);
    assert_eq!(json.code, Some(1));
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["problems"][1]["line"], 3);

    let run = host.run(&["run", "-c", path, "-i", "lo"]);
    run.is(1, "", &mistakes);
    assert!(!host.path().join("status.sock").exists());
}

#[test]
fn reload_says_what_holds_and_what_waits() {
    let host = Host::with(status(calm()));
    host.run(&["reload"]).is(
        0,
        "applied detection, protect.prefixes\n",
        "only a restart applies interfaces.names: systemctl restart tcpguard\n",
    );
    let json = host.run(&["reload", "--json"]).json();
    assert_eq!(json["applied"][1], "protect.prefixes");
    assert_eq!(json["waiting"][0], "interfaces.names");
}

#[test]
fn running_without_an_interface_is_a_usage_error() {
    let host = Host::without_agent();
    let file = host.path().join("empty.toml");
    std::fs::write(&file, "").unwrap();
    let stderr = format!(
        "tcpguard: no interface to guard; name one with -i, or in {} under [interfaces]: names = [\"eth0\"]\n",
        file.display()
    );
    host.run(&["run", "-c", file.to_str().unwrap()]).is(2, "", &stderr);
}
