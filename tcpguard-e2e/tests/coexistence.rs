//! Other programs on the interface: who came first is named with what takes him off, and the guard's
//! own is not knocked off by accident. With Debian's xdp-tools. Needs root and `TCPGUARD_BIN`.

use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tcpguard_e2e::foreign::{Verdict, attach_by_netlink};
use tcpguard_e2e::guard::{self, Guard, Mode, cli};
use tcpguard_e2e::netns::Netns;
use tcpguard_goals::{Goal, Row};

/// So soon whatever was knocked off is back.
const LIMIT: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);

/// What an administrator may type who has forgotten that there is a guard, or never knew.
const ACCIDENTS: [&str; 7] = [
    "ip link set dev eth0 xdp off",
    "ip link set dev eth0 xdpgeneric off",
    "xdp-loader unload eth0 --all",
    "xdp-filter load eth0",
    "xdp-filter unload --all",
    "bpftool net detach xdp dev eth0",
    "tc qdisc del dev eth0 clsact",
];

fn host() -> Netns {
    let host = Netns::new("edge").unwrap();
    host.ip(&["link add eth0 type veth peer name wire0", "link set eth0 up", "link set wire0 up"])
        .unwrap();
    host.write(guard::CONFIG, "").unwrap();
    host
}

/// The id of the XDP program on the interface, and its name.
fn program(host: &Netns) -> Option<(u32, String)> {
    let link = host.exec("ip -details link show dev eth0").unwrap();
    let mut words = link.split_once("prog/xdp id ")?.1.split_whitespace();
    let id = words.next()?.parse().unwrap();
    Some((id, words.nth(1)?.to_owned()))
}

fn is_ours(host: &Netns) -> bool {
    program(host).is_some_and(|(_, name)| name.starts_with("tcpguard"))
}

fn ended(mut daemon: Command) -> Output {
    daemon.spawn().unwrap().wait_with_output().unwrap()
}

/// The agent refuses to start, in one line with these words, and the command that it names, which
/// begins like this, takes the other off.
#[track_caller]
fn is_refused(host: &Netns, words: &[&str], way_out: &str) {
    let before = program(host).expect("the other's program");
    let output = ended(guard::daemon(host, Mode::Observe).unwrap());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it should have refused: {said}");
    assert_eq!(said.lines().count(), 1, "one line, please:\n{said}");
    let id = format!("id {},", before.0);
    for word in words.iter().copied().chain([id.as_str(), before.1.as_str()]) {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
    assert_eq!(program(host), Some(before), "the other's is left alone");
    let named = said.split_once(" off: ").map(|(_, rest)| rest.split(", ").next().unwrap());
    let named = named.filter(|named| named.starts_with(way_out)).expect(&said);
    host.exec(named).unwrap();
    assert_eq!(program(host), None, "{named}");
    let guard = Guard::start(host, Mode::Observe).unwrap();
    assert!(is_ours(host));
    drop(guard);
}

#[test]
fn xdp_filter_that_came_first_is_named_with_what_takes_it_off() {
    for (mode, place) in [("native", "native XDP"), ("skb", "generic XDP")] {
        let host = host();
        host.exec(&format!("xdp-filter load --mode {mode} eth0")).unwrap();
        // Behind libxdp's dispatcher where that can be had, or alone.
        is_refused(&host, &["another XDP program is attached to eth0", place], "xdp-");
    }
}

#[test]
fn a_program_attached_by_netlink_that_came_first_is_named_with_what_takes_it_off() {
    let host = host();
    attach_by_netlink(&host, "eth0", Verdict::Pass).unwrap();
    let words = ["another XDP program is attached to eth0", "native XDP"];
    let output = ended(guard::daemon(&host, Mode::Observe).unwrap());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
    let way_out = "ip link set dev eth0 xdpdrv off";
    assert!(said.contains(way_out), "{said}");
    host.exec(way_out).unwrap();
    drop(Guard::start(&host, Mode::Observe).unwrap());
}

/// Those of [`ACCIDENTS`] that took the program off for longer than `limit`.
fn knocked_off(host: &Netns, limit: Duration, put_back: impl Fn()) -> Vec<&'static str> {
    let mut off = Vec::new();
    for accident in ACCIDENTS {
        let own = program(host).expect("a program");
        // Mostly refused.
        let _ = host.exec(accident);
        let begun = Instant::now();
        while program(host).as_ref() != Some(&own) && begun.elapsed() < limit {
            sleep(STEP);
        }
        println!("{accident}: {:?} after {:.1?}", program(host), begun.elapsed());
        if program(host).as_ref() != Some(&own) {
            off.push(accident);
            let _ = host.exec("xdp-loader unload eth0 --all");
            put_back();
        }
    }
    off
}

#[test]
fn coexistence_ours_is_not_knocked_off_by_accident() {
    let row = Row::new(Goal::Coexistence);
    let guarded = host();
    let guard = Guard::start(&guarded, Mode::Enforce).unwrap();
    let off = knocked_off(&guarded, LIMIT, || {});
    let status = guard.status().unwrap();
    assert_eq!(status.document()["interfaces"][0]["attached"], true, "{}", guard.log());

    // Whoever attaches without a link.
    let naive = host();
    let attach = || attach_by_netlink(&naive, "eth0", Verdict::Pass).unwrap();
    attach();
    // Nobody is there who would put it back.
    let naive_off = knocked_off(&naive, LIMIT / 10, attach);
    let n = ACCIDENTS.len() as u64;
    row.result(n, format!("{} of {n} took it off", off.len()), off.is_empty())
        .naive(
            n,
            format!(
                "{} of {n} took one off that has no link: {}",
                naive_off.len(),
                naive_off.join(", ")
            ),
            naive_off.contains(&ACCIDENTS[0]),
        )
        .finish();
}

#[test]
fn the_way_out_needs_no_agent_that_answers() {
    let host = host();
    let mut guard = Guard::start(&host, Mode::Enforce).unwrap();
    guard.kill().unwrap();
    assert!(is_ours(&host), "a crash opens no gap");
    let detached = cli(&host, &["detach", "--all"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&detached.stdout), "detached eth0\n");
    assert_eq!(program(&host), None);

    guard.start_again(Mode::Enforce).unwrap();
    assert!(is_ours(&host));
    guard.pause().unwrap();
    let begun = Instant::now();
    let detached = cli(&host, &["detach", "--all"]).unwrap();
    let said = String::from_utf8_lossy(&detached.stderr).into_owned();
    assert_eq!(program(&host), None, "{said}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!detached.status.success(), "it may come back, which is no success");
    assert!(said.contains("the agent may attach the filter again"), "{said}");
    guard.resume().unwrap();
}
