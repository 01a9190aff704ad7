//! A temporary mode reverts at its time, even if the agent ends in between, and the next agent knows the
//! alerts of the previous one. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tcpguard_goals::{Goal, Row, seed, size, when};
use tcpguard_kit::daemon::agent::{Agent, cli};
use tcpguard_kit::net::lab::{Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::random::Random;
use tcpguard_kit::traffic::timer::Timer;

const SECOND: Duration = Duration::from_secs(1);
/// Permitted deviation from the time at which a mode reverts: the agent checks every 250 ms.
const EXACT: Duration = SECOND;

/// A verb that must succeed, and its JSON.
#[track_caller]
fn json(host: &Netns, line: &[&str]) -> Value {
    let output = cli(host, &[line, &["--json"]].concat()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A verb that must fail: its exit code and its error message.
#[track_caller]
fn refused(host: &Netns, line: &[&str]) -> (Option<i32>, String) {
    let output = cli(host, line).unwrap();
    assert!(!output.status.success(), "{line:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().unwrap()
}

fn mode(host: &Netns) -> String {
    json(host, &["mode"])["mode"].as_str().unwrap().to_owned()
}

/// Waits until the mode is `wanted`, and returns the time since `from`.
#[track_caller]
fn goes_to(host: &Netns, wanted: &str, from: Instant) -> Duration {
    loop {
        let after = from.elapsed();
        if mode(host) == wanted {
            return after;
        }
        assert!(after < Duration::from_secs(30), "the mode is still {}", mode(host));
        sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn assert_about(found: Duration, wanted: Duration) {
    assert!(found.abs_diff(wanted) <= EXACT, "after {found:?}, not {wanted:?}");
}

fn stage() -> Lab {
    Lab::new(LabOptions::default()).unwrap()
}

/// Killed between the change and its end, and there again before it.
#[test]
fn an_unconfirmed_mode_reverts_at_its_time_over_a_kill() {
    let lab = stage();
    let mut agent = Agent::start_by_file(&lab.edge, "mode = \"observe\"\n").unwrap();
    let begun = Instant::now();
    let set = json(&lab.edge, &["mode", "enforce", "--rollback-after", "8s"]);
    assert_eq!((&set["was"], &set["ends"]["revert_to"]), (&"observe".into(), &"observe".into()));
    sleep(2 * SECOND);
    agent.kill().unwrap();
    sleep(SECOND);
    agent.start_again_by_file().unwrap();
    let shown = json(&lab.edge, &["mode"]);
    assert_eq!(shown["mode"], "enforce", "its time is not over");
    let moved = time(&shown["ends"]["confirm_by"]).duration_since(time(&set["ends"]["confirm_by"]));
    assert!(moved.abs() < SignedDuration::from_millis(50), "nor is it another: {moved:?}");
    let page = agent.status_text().unwrap();
    assert!(page.contains("reverts to observe in"), "{page}");
    assert_about(goes_to(&lab.edge, "observe", begun), 8 * SECOND);
    let status = agent.status().unwrap();
    assert_eq!(status.alerts("mode_reverted"), 1);
    let (code, said) = refused(&lab.edge, &["confirm"]);
    assert_eq!(code, Some(5));
    assert!(said.contains("mode enforce was not confirmed in time"), "{said}");

    agent.kill().unwrap();
    agent.start_again_by_file().unwrap();
    assert_eq!(mode(&lab.edge), "observe");
    assert_eq!(json(&lab.edge, &["mode"])["ends"], Value::Null);
}

/// The mode expires while no agent runs. The next agent reverts it before it answers a request.
#[test]
fn a_mode_that_expired_without_an_agent_is_reverted_first() {
    let lab = stage();
    let mut agent = Agent::start_by_file(&lab.edge, "mode = \"observe\"\n").unwrap();
    json(&lab.edge, &["mode", "off", "--for", "2s"]);
    agent.kill().unwrap();
    sleep(3 * SECOND);
    agent.start_again_by_file().unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status.alerts("mode_reverted"), 1);
    assert_eq!(mode(&lab.edge), "observe");
}

#[test]
fn a_confirmed_mode_stays_over_a_kill_and_its_time() {
    let lab = stage();
    let mut agent = Agent::start_by_file(&lab.edge, "mode = \"observe\"\n").unwrap();
    json(&lab.edge, &["mode", "enforce", "--rollback-after", "3s"]);
    let confirmed = json(&lab.edge, &["confirm"]);
    assert_eq!(confirmed["ends"], Value::Null);
    agent.kill().unwrap();
    sleep(3 * SECOND);
    agent.start_again_by_file().unwrap();
    sleep(SECOND);
    assert_eq!(mode(&lab.edge), "enforce");
}

/// Confirmed, and still only for a while; then something else is tried in the middle of it.
#[test]
fn a_temporary_mode_reverts_to_the_permanent_one() {
    let lab = stage();
    let _agent = Agent::start_by_file(&lab.edge, "mode = \"observe\"\n").unwrap();
    let begun = Instant::now();
    json(&lab.edge, &["mode", "enforce", "--for", "5s", "--rollback-after", "2s"]);
    let confirmed = json(&lab.edge, &["confirm"]);
    assert_eq!(confirmed["ends"]["revert_to"], "observe");
    assert_about(goes_to(&lab.edge, "observe", begun), 5 * SECOND);

    json(&lab.edge, &["mode", "enforce", "--rollback-after", "20s"]);
    let begun = Instant::now();
    json(&lab.edge, &["mode", "off", "--rollback-after", "3s"]);
    assert_about(goes_to(&lab.edge, "observe", begun), 3 * SECOND);

    json(&lab.edge, &["mode", "enforce", "--rollback-after", "2s"]);
    json(&lab.edge, &["mode", "enforce"]);
    sleep(3 * SECOND);
    assert_eq!(mode(&lab.edge), "enforce", "set for good in between");
}

#[test]
fn alerts_and_their_numbers_outlive_the_agent() {
    let lab = stage();
    let mut agent = Agent::start_by_file(&lab.edge, "mode = \"observe\"\n").unwrap();
    for prefix in ["203.0.113.0/24", "198.51.100.0/24"] {
        json(&lab.edge, &["block", prefix]);
    }
    let reported = || json(&lab.edge, &["events"])["events"].as_array().unwrap().clone();
    let before = reported();
    assert_eq!(before.iter().filter(|alert| alert["event"] == "rule_installed").count(), 2);
    agent.stop().unwrap();
    agent.start_again_by_file().unwrap();
    json(&lab.edge, &["unblock", "203.0.113.0/24"]);
    let after = reported();
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.last().unwrap()["event"], "rule_removed");
    let seqs: Vec<_> = after.iter().filter_map(|alert| alert["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=after.len() as u64).collect::<Vec<_>>());
}

#[test]
fn rules_of_one_origin_are_removed_and_a_dry_run_changes_nothing() {
    let lab = stage();
    let agent = Agent::start_by_file(&lab.edge, "mode = \"observe\"\n").unwrap();
    for prefix in ["203.0.113.0/24", "198.51.100.0/24"] {
        json(&lab.edge, &["block", prefix]);
    }
    let tried = json(&lab.edge, &["unblock", "203.0.113.0/24", "--dry-run"]);
    assert_eq!(tried["removed"][0]["matches"], "203.0.113.0/24");
    assert_eq!(agent.status().unwrap().rules_in_kernel(), Some(2));
    let (code, said) = refused(&lab.edge, &["unblock", "--all", "--origin", "auto"]);
    assert_eq!(code, Some(5));
    assert!(said.contains("no rule of origin auto"), "{said}");
    let removed = json(&lab.edge, &["unblock", "--all", "--origin", "manual"]);
    assert_eq!(removed["removed"].as_array().unwrap().len(), 2);
    assert_eq!(agent.status().unwrap().rules_in_kernel(), Some(0));
}

#[test]
fn an_address_is_explained_at_one_port() {
    let lab = stage();
    let _agent = Agent::start_by_file(&lab.edge, "mode = \"enforce\"\n").unwrap();
    json(&lab.edge, &["block", "203.0.113.0/24"]);
    let explained = json(&lab.edge, &["explain", "203.0.113.7", "--port", "4711"]);
    assert_eq!(
        (&explained["port"], &explained["listeners"]),
        (&4711.into(), &Value::Array(vec![]))
    );
    assert_eq!(explained["decisions"][0]["by"], "source");
}

/// Time at which the mode that `line` changed to `enforce` was `observe` again, if that was at most a second
/// after `limit`. With `undo` a process of its own has to revert the mode. The process that has to revert it
/// is killed at `killed`, if that is given.
fn back_after(
    line: &[&str],
    undo: Option<&[&str]>,
    killed: Option<Duration>,
    limit: Duration,
) -> Option<Duration> {
    let lab = stage();
    let mut agent = Agent::start_by_file(&lab.edge, "mode = \"observe\"\n").unwrap();
    let begun = Instant::now();
    json(&lab.edge, line);
    let mut timer = undo.map(|undo| Timer::start(&lab.edge, limit, undo).unwrap());
    if let Some(killed) = killed {
        sleep(killed.saturating_sub(begun.elapsed()));
        agent.kill().unwrap();
        if let Some(timer) = &mut timer {
            timer.kill().unwrap();
        }
        let started = Instant::now();
        agent.start_again_by_file().unwrap();
        println!("killed at {killed:.2?}, there again after {:.2?}", started.elapsed());
    }
    while begun.elapsed() <= limit + EXACT {
        if mode(&lab.edge) == "observe" {
            return Some(begun.elapsed());
        }
        sleep(Duration::from_millis(50));
    }
    None
}

#[test]
fn g14_an_unconfirmed_mode_is_reverted() {
    let row = Row::new(Goal::G14);
    let (trials, limit) = (size(2, 10), 4 * SECOND);
    let own = ["mode", "enforce", "--rollback-after", "4s"];
    // Times in each part of the limit as often as in the others, up to shortly before its end. An agent that
    // starts then has most of a second to revert the mode.
    let (first, last) = (limit / 10, limit - Duration::from_millis(300));
    let mut random = Random::new(seed());
    let back: Vec<_> = (0..trials)
        .map(|trial| {
            let share = (trial as f64 + random.share()) / trials as f64;
            let killed = first + (last - first).mul_f64(share);
            (killed, back_after(&own, None, Some(killed), limit))
        })
        .collect();
    let in_time = |back: Option<Duration>| back.is_some_and(|it| it.abs_diff(limit) <= EXACT);
    let exact = back.iter().filter(|(_, back)| in_time(*back)).count() as u64;
    let when = |back| when(back, limit + EXACT);
    let reported = |(killed, back): &(Duration, _)| format!("{} ({killed:.2?})", when(*back));
    let all = back.iter().map(reported).collect::<Vec<_>>().join(", ");
    let [lives, killed] = [None, Some(limit / 4)]
        .map(|killed| back_after(&["mode", "enforce"], Some(&["mode", "observe"]), killed, limit));
    row.result(
        trials,
        format!(
            "modes, an agent killed meanwhile: {exact} back after {limit:?} ± {EXACT:?}, each (and its \
             agent's end): {all}"
        ),
        exact == trials,
    )
    .naive(
        2,
        format!(
            "taken back by a timer in a process: back {} if it lives, {} if it is killed",
            when(lives),
            when(killed)
        ),
        in_time(lives) && killed.is_none(),
    )
    .finish();
}
