//! Other programs at tc that end the chain: the guard's go first, which harms nobody, and where they
//! cannot, the cause is named. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_e2e::clients::Load;
use tcpguard_e2e::clock::{after, boot_ns};
use tcpguard_e2e::flood::{Flood, Shape};
use tcpguard_e2e::foreign::{ForeignTc, Place, attach_at_clsact};
use tcpguard_e2e::guard::{Guard, Mode};
use tcpguard_e2e::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_e2e::likeness::Likeness;
use tcpguard_e2e::server::{Behaviour, Server};
use tcpguard_e2e::status::Status;

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of the real clients, each on schedule whatever became of the others.
const CLIENTS: u32 = 50;
/// The guard looks who is before its programs for what leaves this often.
const LOOKED: Duration = Duration::from_millis(1500);

fn lab() -> Lab {
    Lab::new(LabOptions::default()).unwrap()
}

fn note(status: &Status, code: &str) -> Option<String> {
    status.health().into_iter().find(|(known, _)| known == code).map(|(_, text)| text)
}

/// Cookies are made and taken back, answers are seen, and clients get in, in a flood that looks like
/// them; `meanwhile` is done while it is on.
fn clients_get_in(lab: &Lab, guard: &Guard<'_>, meanwhile: impl FnOnce()) {
    let family = Family::V4;
    let likeness = Likeness::capture(lab, family).unwrap();
    let load = Load::start(&lab.client, family.service(), CLIENTS).unwrap();
    sleep(3 * SECOND);
    let flood =
        Flood { shape: Shape::Copy(likeness), ..Flood::random(family.service(), 12 * SECOND) };
    let flood = flood.start(lab).unwrap();
    let taken = |status: &Status| status.step("cookies") == Some("taken");
    guard.wait_until("cookies", 6 * SECOND, taken).unwrap();
    meanwhile();
    sleep(LOOKED);
    let before = guard.status().unwrap();
    let since = boot_ns();
    sleep(4 * SECOND);
    let status = guard.status().unwrap();
    let ended = boot_ns();
    flood.stop().unwrap();
    let attempts = load.finish().unwrap().begun(since, after(ended, SECOND));
    println!("  {}", attempts.summary());
    let grown = |of: &str| status.listener_total(PORT, of) - before.listener_total(PORT, of);
    println!("  {} cookies sent, {} redeemed", grown("cookies_sent"), grown("cookies_redeemed"));
    assert!(taken(&status), "{}", guard.log());
    assert!(grown("cookies_sent") > 0, "{}", guard.log());
    assert!(grown("cookies_redeemed") > 100, "{}", guard.log());
    assert!(attempts.share_within(SECOND) >= 0.98, "{}", attempts.summary());
    assert_eq!(note(&status, "tc_before"), None);
    assert_eq!(note(&status, "egress_unseen"), None);
}

#[test]
fn tc_programs_that_end_the_chain_cost_no_client_and_hide_no_answer() {
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let _earlier = ForeignTc::attach(&lab.edge, INTERFACE, Place::Last).unwrap();
    let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    let mut later = Vec::new();
    clients_get_in(&lab, &guard, || {
        for place in [Place::Last, Place::First] {
            later.push(ForeignTc::attach(&lab.edge, INTERFACE, place).unwrap());
        }
    });
    let told = guard.log();
    assert!(told.contains("had another tc program before the guard's"), "{told}");
}

/// The naive variant: the agent is paused, so tcpguard does not move ahead of such a program.
#[test]
fn a_program_that_stays_first_and_ends_the_chain_locks_clients_out() {
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let family = Family::V4;
    let likeness = Likeness::capture(&lab, family).unwrap();
    let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, family.service(), CLIENTS).unwrap();
    sleep(3 * SECOND);
    let flood =
        Flood { shape: Shape::Copy(likeness), ..Flood::random(family.service(), 12 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    let taken = |status: &Status| status.step("cookies") == Some("taken");
    guard.wait_until("cookies", 6 * SECOND, taken).unwrap();
    guard.pause().unwrap();
    let _first = ForeignTc::attach(&lab.edge, INTERFACE, Place::First).unwrap();
    let since = boot_ns();
    sleep(2 * SECOND);
    let ended = boot_ns();
    guard.resume().unwrap();
    flood.stop().unwrap();
    let attempts = load.finish().unwrap().begun(since, ended);
    println!("  {}", attempts.summary());
    assert!(attempts.share_within(SECOND) <= 0.1, "{}", attempts.summary());
}

/// A program that takes the first place again and again is passed a few times only, and then named.
#[test]
fn who_always_wants_to_be_first_is_named() {
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(ForeignTc::attach(&lab.edge, INTERFACE, Place::First).unwrap());
        sleep(LOOKED);
    }
    let told = |status: &Status| note(status, "tc_before").is_some();
    let status = guard.wait_until("a note that names it", 5 * SECOND, told).unwrap();
    let text = note(&status, "tc_before").unwrap();
    assert!(text.contains("another tc program runs before the guard's"), "{text}");
    assert!(text.contains("TCX egress"), "{text}");
    // When they are gone, it is as if they had never been there.
    drop(others);
    let gone = |status: &Status| note(status, "tc_before").is_none();
    guard.wait_until("no note", 20 * SECOND, gone).unwrap();
    let attempts = load.finish().unwrap();
    assert!(attempts.share_within(SECOND) >= 0.98, "{}", attempts.summary());
}

/// As on a kernel without TCX: the agent is told of another release, and hangs its filter at clsact.
fn without_tcx(lab: &Lab) {
    lab.edge.write("/tmp/osrelease", "6.1.0-without-tcx\n").unwrap();
    lab.edge.exec("mount --bind /tmp/osrelease /proc/sys/kernel/osrelease").unwrap();
    lab.edge.exec(&format!("tc qdisc add dev {INTERFACE} clsact")).unwrap();
}

fn pass_all(lab: &Lab, priority: &str) {
    let line = format!(
        "tc filter add dev {INTERFACE} egress {priority} protocol all u32 match u32 0 0 classid 1:1"
    );
    lab.edge.exec(&line).unwrap();
}

/// Lets clients connect; how many of their handshakes were answered, as the guard counts, and the status.
fn answers_seen(lab: &Lab, guard: &Guard<'_>) -> (u64, Status) {
    let load = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    sleep(3 * SECOND);
    let attempts = load.finish().unwrap();
    assert!(attempts.share_within(SECOND) >= 0.98, "{}", attempts.summary());
    let status = guard.status().unwrap();
    assert!(status.listener_total(PORT, "syn") >= 100);
    (status.listener_total(PORT, "syn_ack"), status)
}

#[test]
fn filters_that_end_the_chain_at_clsact_hide_no_answer_or_are_named() {
    /// What it is, how it comes there, whether the guard goes first.
    type Case = (&'static str, fn(&Lab), bool);
    let cases: [Case; 3] = [
        ("a filter of a later priority", |lab| pass_all(lab, "prio 2"), true),
        ("a program of the same", |lab| attach_at_clsact(&lab.edge, INTERFACE).unwrap(), true),
        ("a filter of another kind", |lab| pass_all(lab, "prio 1"), false),
    ];
    for (what, attach, passed) in cases {
        let lab = lab();
        without_tcx(&lab);
        attach(&lab);
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
        let (seen, status) = answers_seen(&lab, &guard);
        println!("{what}: {seen} answers seen, {:?}", status.health());
        let named = note(&status, "tc_before").filter(|text| text.contains("u32"));
        assert_eq!((seen >= 100, named.is_none()), (passed, passed), "{what}");
        // One that comes later and goes first is passed where that can be.
        if what == "a program of the same" {
            lab.edge
                .exec(&format!("tc filter del dev {INTERFACE} egress pref 1 handle 1 bpf"))
                .unwrap();
            attach(&lab);
            sleep(LOOKED);
            let (again, _) = answers_seen(&lab, &guard);
            assert!(again >= seen + 100, "{again}, {seen} before");
        }
    }
}
