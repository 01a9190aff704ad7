//! A disk that is full, or has become read-only, in a flood. The XDP program does not need it, and the files
//! on it stay whole. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_goals::{Goal, Row};
use tcpguard_kit::daemon::agent::{Agent, Mode, STATE_DIR, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::leak::{Books, Fate};
use tcpguard_kit::net::gap;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// SYNs a second: a filter that is off for a [`MOMENT`] lets some 50 in.
const RATE: u32 = 5_000;
/// A failed write is tried again each minute.
const AGAIN_WITHIN: Duration = Duration::from_secs(75);
/// Duration of the gap in [`off_for_a_moment`]: long enough that some SYN gets in on any machine.
const MOMENT: Duration = Duration::from_millis(10);
/// File that takes all the room.
const FILLER: &str = "/run/tcpguard-state/filler";

/// Fault of the disk.
#[derive(Clone, Copy, Debug)]
enum Disk {
    Full,
    ReadOnly,
}

impl Disk {
    /// The system's error message.
    const fn cause(self) -> &'static str {
        match self {
            Self::Full => "No space left on device",
            Self::ReadOnly => "Read-only file system",
        }
    }

    fn fail(self, host: &Netns) {
        match self {
            // `cp` fails when the file system is full.
            Self::Full => drop(host.exec(&format!("cp /dev/zero {FILLER}")).unwrap_err()),
            Self::ReadOnly => drop(host.exec(&format!("mount -o remount,ro {STATE_DIR}")).unwrap()),
        }
    }

    fn recover(self, host: &Netns) {
        let line = match self {
            Self::Full => format!("rm {FILLER}"),
            Self::ReadOnly => format!("mount -o remount,rw {STATE_DIR}"),
        };
        host.exec(&line).unwrap();
    }
}

/// A disk for the agent's state. With nothing else on it, the state, the alerts and the time series of an attack
/// have room there, each of them twice: it is written beside the old file.
fn small_disk(host: &Netns) {
    host.exec(&format!("mkdir -p {STATE_DIR}")).unwrap();
    host.exec(&format!("mount -t tmpfs -o size=512k tmpfs {STATE_DIR}")).unwrap();
}

/// The agent's files that are not as they were written: cut off, or empty.
fn torn(host: &Netns) -> Vec<String> {
    let found = host.exec(&format!("find {STATE_DIR} -name *.json -o -name *.jsonl")).unwrap();
    let is_torn = |path: &&str| {
        let text = host.read(path).unwrap();
        let (line, content) = text.split_once('\n').unwrap_or_default();
        // `tcpguard 1 <bytes> <checksum>`
        line.split(' ').nth(2) != Some(content.len().to_string().as_str())
    };
    found.lines().filter(is_torn).map(str::to_owned).collect()
}

/// A flood during which the disk fails and recovers. Returns the outcome of the flood's SYNs, and the number
/// of torn files.
fn survived(disk: Disk) -> (Fate, usize) {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    small_disk(&lab.edge);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let block = |net| cli(&lab.edge, &["block", net, "--for", "1h"]).unwrap();
    assert!(block("198.51.100.0/24").status.success());
    disk.fail(&lab.edge);
    let mut torn_then = 0;
    let fate = flooded(&lab, &agent, 2, || {
        let answer = block("203.0.113.0/24");
        let said =
            String::from_utf8_lossy(&answer.stderr) + String::from_utf8_lossy(&answer.stdout);
        assert!(said.contains(disk.cause()), "the response names the cause: {said}");
        sleep(3 * SECOND);

        let found = agent.status().unwrap().health();
        let found: Vec<_> = found.iter().filter(|(code, _)| code == "state_unwritten").collect();
        assert!(found.len() == 1 && found[0].1.contains(disk.cause()), "{found:?}");
        let reported = agent.log().matches("rules, mode and learned values not saved").count();
        assert_eq!(reported, 1, "{}", agent.log());
        torn_then = torn(&lab.edge).len();

        disk.recover(&lab.edge);
        let stored =
            |status: &Status| status.health().iter().all(|(code, _)| code != "state_unwritten");
        agent.wait_until("the state on the disk again", AGAIN_WITHIN, stored).unwrap();
        let state = lab.edge.read(&format!("{STATE_DIR}/state.json")).unwrap();
        assert!(state.contains("203.0.113.0/24"), "what was made meanwhile as well: {state}");
    });
    println!("{disk:?}: {} let in, {torn_then} files torn, {fate:?}", fate.leaked());
    (fate, torn_then)
}

/// Outcome of a flood's SYNs while something `happens`, once there are so many `rules`.
fn flooded(lab: &Lab, agent: &Agent<'_>, rules: u64, happens: impl FnOnce()) -> Fate {
    let flood = Flood { rate: RATE, ..Flood::random(Family::V4.service(), 120 * SECOND) };
    let books = Books::open(lab, &flood, || {
        let flooded = |status: &Status| status.rules_in_kernel() == Some(rules);
        agent.wait_until("a rule for the flood", 5 * SECOND, flooded)?;
        sleep(SECOND);
        Ok(())
    });
    let (books, flood) = (books.unwrap(), flood.start(lab).unwrap());
    happens();
    flood.goes_on().unwrap();
    books.close(flood.stop().unwrap().sent).unwrap()
}

/// The least that would be a leak: the XDP program is detached for a moment.
fn off_for_a_moment() -> Fate {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let fate = flooded(&lab, &agent, 1, || {
        sleep(SECOND);
        let off = gap::off_for(&lab.edge, MOMENT).unwrap();
        println!("off for {off:.1?}");
    });
    println!("  {fate:?}");
    fate
}

/// The naive variant: the new content is written where the old one is.
fn torn_in_place() -> usize {
    let lab = Lab::new(LabOptions::default()).unwrap();
    small_disk(&lab.edge);
    let mut agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    agent.stop().unwrap();
    assert_eq!(torn(&lab.edge), [""; 0]);
    let state = format!("{STATE_DIR}/state.json");
    let content = lab.edge.read(&state).unwrap().repeat(2);
    Disk::Full.fail(&lab.edge);
    lab.edge.exec(&format!("truncate -s 0 {state}")).unwrap();
    // Another process takes the room that this freed at once.
    lab.edge.exec(&format!("cp /dev/zero {FILLER}.more")).unwrap_err();
    lab.edge.write(&state, &content).unwrap_err();
    torn(&lab.edge).len()
}

#[test]
fn g15_a_disk_that_takes_nothing_lets_nothing_in_and_tears_no_file() {
    let row = Row::new(Goal::G15).named("disk");
    let disks = side_by_side(2, [Disk::Full, Disk::ReadOnly], survived);
    let sum = |of: fn(&Fate) -> u64| disks.iter().map(|(fate, _)| of(fate)).sum::<u64>();
    let (syns, leaked) = (sum(|fate| fate.sent), sum(Fate::leaked));
    let (returned, margin) = (sum(|fate| fate.returned), sum(Fate::margin));
    let torn: usize = disks.iter().map(|(_, files)| files).sum();
    let (naive, brief) = (torn_in_place(), off_for_a_moment());
    row.result(
        disks.len() as u64,
        format!(
            "disks that take nothing: {leaked} of {syns} SYNs let in ({returned} more taken for SYNs that \
             came again, {margin} at most), {torn} files torn"
        ),
        leaked == 0 && torn == 0,
    )
    .naive(
        1,
        format!(
            "full disk, written in place: {naive} files torn; filter off for some 10 ms: {} SYNs let in by \
             the kernel's count, {} seen by no XDP program",
            brief.by_kernel(),
            brief.unseen()
        ),
        naive > 0 && brief.by_kernel() > 0 && brief.unseen() > 0,
    )
    .finish();
}
