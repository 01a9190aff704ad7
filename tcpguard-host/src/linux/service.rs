//! The state of the service as systemd reports it, and the last error line that it logged.
//!
//! Programs are asked, not D-Bus: they are there wherever systemd is, and a host without it has neither.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The systemd unit of the agent.
const UNIT: &str = "tcpguard.service";
/// Longest wait for a program: systemd answers within milliseconds, or not at all.
const LIMIT: Duration = Duration::from_secs(2);
/// Pause between two checks whether a program has ended.
const STEP: Duration = Duration::from_millis(5);
/// Most bytes of an answer that are read.
const MAX_BYTES: u64 = 1 << 20;
/// Characters of a log line that are quoted.
const QUOTED: usize = 300;

/// Returns whether systemd runs this host, by the criterion of sd_booted(3).
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Returns these properties of the service; empty where systemd does not answer.
pub fn properties(names: &[&str]) -> BTreeMap<String, String> {
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["show", UNIT, "--no-pager", "--property", &names.join(",")]);
    within(&mut systemctl, LIMIT).map_or_else(BTreeMap::new, |text| assignments(&text))
}

/// Parses lines of `name=value`.
fn assignments(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The output of a program that ends well within `limit`.
fn within(command: &mut Command, limit: Duration) -> Option<String> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = quiet.spawn().ok()?;
    let begun = Instant::now();
    // The requested output fits into a pipe, so the program does not wait for its reader.
    let ended = loop {
        match child.try_wait() {
            Ok(None) if begun.elapsed() < limit => sleep(STEP),
            Ok(Some(status)) => break status.success(),
            Ok(None) | Err(_) => {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
        }
    };
    let mut text = Vec::new();
    child.stdout.take()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    ended.then(|| String::from_utf8_lossy(&text).into_owned())
}

/// State of the service, which shows why it does not run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// `ActiveState`, `SubState` and `Result` of systemd.
    active: String,
    sub: String,
    result: String,
    /// Number of times that it was started again.
    restarts: u32,
    /// Exit status of its process.
    exit_code: Option<i32>,
    /// The last error line of its last run, where it may be read.
    pub last_error: Option<String>,
}

impl Service {
    const PROPERTIES: [&'static str; 7] = [
        "LoadState",
        "ActiveState",
        "SubState",
        "Result",
        "NRestarts",
        "ExecMainStatus",
        "InvocationID",
    ];

    /// Asks systemd for the state of the service. `None` where it does not run this host, or has no such
    /// service.
    pub fn ask() -> Option<Self> {
        if !has_systemd() {
            return None;
        }
        let properties = properties(&Self::PROPERTIES);
        let mut service = Self::of(&properties)?;
        if service.is_retried() {
            // The run that is beginning has said nothing yet.
            service.last_error = last_error(&["_SYSTEMD_UNIT=tcpguard.service", "--since=-1min"]);
        } else if service.has_failed() {
            let run = properties.get("InvocationID").filter(|id| !id.is_empty());
            let run = run.map(|id| format!("_SYSTEMD_INVOCATION_ID={id}"));
            service.last_error = run.and_then(|run| last_error(&[&run]));
        }
        Some(service)
    }

    /// The service with these properties; `None` where there is no such service.
    pub fn of(properties: &BTreeMap<String, String>) -> Option<Self> {
        let property = |name: &str| properties.get(name).map_or("", String::as_str).to_owned();
        if property("LoadState") != "loaded" {
            return None;
        }
        Some(Self {
            active: property("ActiveState"),
            sub: property("SubState"),
            result: property("Result"),
            restarts: property("NRestarts").parse().unwrap_or(0),
            exit_code: property("ExecMainStatus").parse().ok(),
            last_error: None,
        })
    }

    /// Returns whether systemd has given it up: it does not start again by itself.
    pub fn has_failed(&self) -> bool {
        self.active == "failed"
    }

    fn is_retried(&self) -> bool {
        self.active == "activating" && (self.sub == "auto-restart" || self.restarts > 0)
    }

    /// Returns the reason why nothing answers, and the way to repair it.
    pub fn in_words(&self) -> String {
        let cause = match &self.last_error {
            Some(line) => format!(": {line}"),
            None => String::new(),
        };
        let code = self.exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
        if self.has_failed() {
            format!(
                "its service has failed ({}{code}){cause}; see: journalctl -u tcpguard -e, then: \
                 systemctl restart tcpguard",
                self.result
            )
        } else if self.is_retried() {
            format!(
                "the service restarts repeatedly ({} times{code}){cause}; see: journalctl -u \
                 tcpguard -e",
                self.restarts
            )
        } else {
            match self.active.as_str() {
                "inactive" => {
                    "its service is stopped; start it: systemctl start tcpguard".to_owned()
                }
                "activating" => {
                    "its service is starting; wait for it: tcpguard status --wait healthy"
                        .to_owned()
                }
                "deactivating" => {
                    "its service is stopping; then start it: systemctl start tcpguard".to_owned()
                }
                other => format!(
                    "its service is {other}, and does not answer; see: journalctl -u tcpguard -e"
                ),
            }
        }
    }
}

/// The last error line among those that `which` selects, where they may be read.
fn last_error(which: &[&str]) -> Option<String> {
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["--quiet", "--no-pager", "--output=cat", "--priority=err"]);
    // Without `--reverse`, `--since` makes it print the first line rather than the last.
    journalctl.args(["--reverse", "--lines=1"]).args(which);
    let text = within(&mut journalctl, LIMIT)?;
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    let quoted: String = line.trim().chars().take(QUOTED).collect();
    Some(quoted.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    fn service(text: &str) -> Option<Service> {
        Service::of(&assignments(text))
    }

    #[test]
    fn properties_may_contain_what_separates_them() {
        let found = assignments("LoadState=loaded\nDropInPaths=\nEnvironment=A=1 B=2\nodd\n");
        assert_eq!(found["Environment"], "A=1 B=2");
        assert_eq!((found["DropInPaths"].as_str(), found.len()), ("", 3));
    }

    #[test]
    fn each_state_has_its_reason_and_a_way_out() {
        const FAILED: &str =
            "ActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=2";
        const AGAIN: &str =
            "ActiveState=activating\nSubState=auto-restart\nNRestarts=12\nExecMainStatus=1";
        for (properties, failed, word) in [
            (FAILED, true, "has failed (exit-code, exit code 2): no interface; see"),
            (AGAIN, false, "restarts repeatedly (12 times, exit code 1): no interface; see"),
            ("ActiveState=inactive\nSubState=dead", false, "is stopped; start it"),
            ("ActiveState=activating\nSubState=start\nNRestarts=0", false, "is starting"),
            ("ActiveState=deactivating", false, "is stopping"),
            ("ActiveState=active", false, "is active, and does not answer"),
        ] {
            let mut service =
                service(&format!("LoadState=loaded\n{properties}\n")).expect("a unit");
            if service.has_failed() || service.is_retried() {
                service.last_error = Some("no interface".to_owned());
            }
            let words = service.in_words();
            assert!(words.contains(word), "{words}");
            assert!(hint_check::is_named(&words), "{words}");
            assert_eq!(service.has_failed(), failed, "{words}");
        }
        assert_eq!(service("LoadState=not-found\nActiveState=inactive\n"), None);
        assert_eq!(service(""), None, "nothing answers");
    }

    #[test]
    fn a_program_that_does_not_end_is_not_waited_for() {
        let short = Duration::from_millis(50);
        let begun = Instant::now();
        assert_eq!(within(Command::new("sleep").arg("10"), short), None);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(within(Command::new("false").arg("x"), LIMIT), None);
        assert_eq!(within(&mut Command::new("/no/such/program"), LIMIT), None);
        assert_eq!(within(Command::new("echo").arg("a=b"), LIMIT).as_deref(), Some("a=b\n"));
    }
}
