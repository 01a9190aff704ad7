//! An agent that hangs, all of it or its loop alone: another replaces it, and the XDP program goes on meanwhile.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tcpguard_goals::{Goal, Row, size, when};
use tcpguard_kit::daemon::machine::Machine;
use tcpguard_kit::net::lab::{Lab, LabOptions};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::trickle::{DROPPED, Pairs, Trickle};

use crate::service::{CONFIG, ON_ETH0, SLACK, WATCHDOG, is_attached, status};

/// Time from the moment an agent hangs until the next one runs: the watchdog's time, and a second for all that
/// systemd does then, with its wait before a start.
const LIMIT: Duration = WATCHDOG.saturating_add(SLACK);
/// Time between checks of processes: a small part of the measured time.
const LOOK: Duration = Duration::from_millis(20);
/// The loop reads it every five seconds: the resolvers are protected.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const RESOLV_PERIOD: Duration = Duration::from_secs(5);
const READY: &str = "tcpguard status --wait healthy --timeout 10s";

/// Way in which an agent hangs.
#[derive(Clone, Copy, Debug)]
enum Hang {
    /// Stopped, as one is that waits for a page from a disk that hangs: it takes no signal but the
    /// last.
    Process,
    /// The loop waits for a file that never arrives, as on a network file system whose server has gone. Other
    /// threads go on, and signals are taken.
    Loop,
}

impl Hang {
    /// Makes the process `pid` hang, and returns the time since which it does.
    fn begin(self, machine: &Machine, pid: Pid) -> Instant {
        match self {
            Self::Process => {
                kill_process(pid, Signal::STOP).unwrap();
                Instant::now()
            }
            Self::Loop => {
                machine.exec("mkfifo --mode 0644 /etc/resolv.fifo").unwrap();
                machine.exec(&format!("mv --force /etc/resolv.fifo {RESOLV_CONF}")).unwrap();
                let since = waits_in_open(pid);
                // A process that waits goes on waiting. The next one finds no file to wait for.
                machine.exec(&format!("rm {RESOLV_CONF}")).unwrap();
                since
            }
        }
    }
}

/// Waits until the first thread of a process, in which the agent's loop runs, hangs in one call of open(2), and
/// returns the time since which it does. Ten readings in a row must find it there.
fn waits_in_open(pid: Pid) -> Instant {
    let path = format!("/proc/{}/syscall", pid.as_raw_nonzero());
    let open = format!("{} ", libc::SYS_openat);
    let call = || fs::read_to_string(&path).unwrap();
    let begun = Instant::now();
    loop {
        let (since, first) = (Instant::now(), call());
        let is_there = || {
            sleep(LOOK);
            call() == first
        };
        if first.starts_with(&open) && (0..10).all(|_| is_there()) {
            return since;
        }
        assert!(begun.elapsed() < 2 * RESOLV_PERIOD, "it reads no {RESOLV_CONF}");
        sleep(LOOK);
    }
}

/// The agent's process, found in the service's control group. systemd is not asked: its timers may be late by
/// a quarter of a second, but are in time while a client talks to it.
fn agent(machine: &Machine) -> Option<Pid> {
    let group = machine.path("/sys/fs/cgroup/system.slice/tcpguard.service/cgroup.procs");
    let processes = fs::read_to_string(group).ok()?;
    let is_agent = |pid: &&str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"/usr/bin/tcpguard\0run\0")
    };
    processes.lines().find(is_agent).and_then(|pid| Pid::from_raw(pid.parse().ok()?))
}

/// A machine with an agent in a lab, and with a rule for the SYNs that [`Trickle`] expects to be dropped.
struct Stage {
    // Before the machine, because the lab is built around the machine's network.
    lab: Lab,
    machine: Machine,
}

impl Stage {
    fn new(drop_in: &str) -> Self {
        let drop_in = ("/etc/systemd/system/tcpguard.service.d/test.conf", drop_in);
        let machine = Machine::boot(&[(CONFIG, ON_ETH0), drop_in]).unwrap();
        let lab = Lab::around(|| machine.network(), LabOptions::default()).unwrap();
        for line in ["systemctl start tcpguard", "tcpguard mode enforce"] {
            machine.exec(line).unwrap();
        }
        machine.exec(&format!("tcpguard block {DROPPED}")).unwrap();
        machine.exec(READY).unwrap();
        Self { lab, machine }
    }

    /// Has the agent hang and checks until there is another, or for twice the limit.
    fn hang(&self, hang: Hang) -> Seen {
        let Self { lab, machine } = self;
        let old = agent(machine).expect("an agent");
        let traffic = Trickle::start(lab).unwrap();
        let begun = hang.begin(machine, old);
        let (mut replaced, mut bare) = (None, 0);
        while replaced.is_none() && begun.elapsed() < 2 * LIMIT {
            bare += u64::from(!is_attached(machine));
            replaced = agent(machine).filter(|now| *now != old).map(|_| begun.elapsed());
            sleep(LOOK);
        }
        Seen { replaced, bare, pairs: traffic.finish().unwrap() }
    }
}

/// Observations of a hang.
struct Seen {
    replaced: Option<Duration>,
    /// Checks that found no XDP program.
    bare: u64,
    pairs: Pairs,
}

impl Seen {
    fn holds(&self) -> bool {
        self.replaced.is_some_and(|took| took <= LIMIT) && self.bare == 0 && self.pairs.are_sorted()
    }
}

/// Several hangs, in words.
fn described(all: &[Seen]) -> String {
    let took = all.iter().map(|seen| when(seen.replaced, 2 * LIMIT)).collect::<Vec<_>>().join(", ");
    let sum = |of: fn(&Seen) -> u64| all.iter().map(of).sum::<u64>();
    let (sent, bare) = (sum(|seen| seen.pairs.sent), sum(|seen| seen.bare));
    let (let_in, answered) = (sum(|seen| seen.pairs.let_in), sum(|seen| seen.pairs.answered));
    format!(
        "replaced {took}; {let_in} of {sent} SYNs let in that a rule drops, {answered} of {sent} \
         others answered, no XDP program in {bare} looks"
    )
}

/// Hangs of one kind.
struct Kind {
    name: &'static str,
    hang: Hang,
    /// A drop-in with which such a hang of the agent goes unnoticed.
    without: &'static str,
}

/// In the first kind not even a signal is taken; in the second all goes on but the loop, and so would a heart that
/// beats for itself.
const KINDS: [Kind; 2] = [
    Kind {
        name: "the process is stopped, naive without a watchdog",
        hang: Hang::Process,
        without: "[Service]\nWatchdogSec=0\n",
    },
    Kind {
        name: "the loop waits for a file, naive feeds the watchdog beside it",
        hang: Hang::Loop,
        without: "[Service]\nNotifyAccess=all\nExecStart=\n\
                  ExecStart=/bin/sh -c 'while sleep 1; do systemd-notify WATCHDOG=1; done & \
                  exec /usr/bin/tcpguard run --pin-dir /run/tcpguard/bpf'\n",
    },
];

/// Observations of so many hangs of each kind, after each of which there is another agent. The last one is left alone.
fn replacements(hangs: u64) -> [Vec<Seen>; 2] {
    let stage = Stage::new("");
    let machine = &stage.machine;
    let seen = KINDS.map(|kind| {
        let one = |_| {
            let seen = stage.hang(kind.hang);
            machine.exec(READY).unwrap();
            assert!(is_attached(machine));
            seen
        };
        (0..hangs).map(one).collect()
    });
    let all = KINDS.len() as u64 * hangs;
    assert_eq!(machine.property("NRestarts").unwrap(), all.to_string());
    let document = status(machine);
    assert_eq!(document["daemon"]["state"], "protecting", "{document:#}");
    let pid = agent(machine);
    sleep(LIMIT);
    assert_eq!(agent(machine), pid, "one that works is left alone");
    seen
}

#[test]
fn g4_an_agent_that_hangs_is_replaced_and_the_xdp_program_stays() {
    let rows = KINDS.map(|kind| Row::new(Goal::G4).named(kind.name));
    let hangs = size(1, 5);
    let seen = replacements(hangs);
    // These wait for another agent in vain.
    let naive = side_by_side(2, KINDS, |kind| [Stage::new(kind.without).hang(kind.hang)]);
    for ((row, seen), naive) in rows.into_iter().zip(seen).zip(naive) {
        let holds = seen.iter().all(Seen::holds);
        row.result(hangs, format!("hangs: {}", described(&seen)), holds)
            .naive(1, format!("hang: {}", described(&naive)), naive[0].replaced.is_none())
            .finish();
    }
}
