//! The sockets of a running agent under users who mean ill. Needs root and `TCPGUARD_BIN`.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tcpguard::control::{Client, Request, STATUS_SOCKET};
use tcpguard_e2e::guard::{Guard, Mode, RUNTIME_DIR};
use tcpguard_e2e::hostile::Crowd;
use tcpguard_e2e::lab::{Lab, LabOptions};
use tcpguard_e2e::netns::Netns;
use tcpguard_e2e::peak;
use tcpguard_engine::Ports;
use tcpguard_goals::{Goal, Row, seed, size};

/// Longest that all but one in a hundred changes of the administrator may take.
const LIMIT: Duration = Duration::from_millis(50);
/// What all of them together may cost the agent.
const MEMORY: u64 = 4 << 20;
/// How much later than in peace a poll may be, for all but one in a hundred.
const LATE: Duration = Duration::from_millis(50);
/// What the naive server has for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

fn admin() -> Client {
    Client { runtime_dir: RUNTIME_DIR.into(), socket: None, pin_dir: "/sys/fs/bpf/tcpguard".into() }
}

/// How long each of `rounds` changes took, blocks and unblocks in turn.
fn changes(host: &Netns, rounds: u32) -> Result<Vec<Duration>> {
    host.run(|| {
        let admin = admin();
        let prefix = "203.0.113.9/32".parse()?;
        let block = Request::Block {
            prefix,
            ports: Ports::EVERY,
            for_s: 60,
            reason: "from the administrator".to_owned(),
            force: false,
            on_trial: None,
            dry_run: false,
        };
        let mut took = Vec::new();
        for round in 0..rounds {
            let request = if round % 2 == 0 { block.clone() } else { Request::Unblock { prefix } };
            let begun = Instant::now();
            admin.call(request)?;
            took.push(begun.elapsed());
        }
        Ok(took)
    })
}

/// How long ago the last poll was, asked over and over, in order.
fn ages(guard: &Guard<'_>, samples: usize) -> Vec<Duration> {
    let mut ages: Vec<_> = (0..samples)
        .filter_map(|_| {
            // At other moments of the poll each time.
            thread::sleep(Duration::from_millis(13));
            Some(guard.status().ok()?.heartbeat_age())
        })
        .collect();
    ages.sort();
    ages
}

/// The one that all but one in a hundred of these, which are in order, do not exceed.
fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() - 1) * 99 / 100]
}

/// A server without limits: one connection after the other, each for as long as it likes.
fn naive(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut byte = [1];
            while byte != [0] && matches!(stream.read(&mut byte), Ok(1)) {}
            let _ = stream.write_all(b"{}\0");
        }
    });
    Ok(())
}

/// Whether the naive server answers the administrator in time while somebody says nothing.
fn naive_answers(host: &Netns, trial: u32) -> Result<bool> {
    host.run(|| {
        let socket = PathBuf::from(format!("/run/naive-{trial}.sock"));
        naive(&socket)?;
        let _silent = UnixStream::connect(&socket)?;
        let mut admin = UnixStream::connect(&socket)?;
        admin.set_read_timeout(Some(PATIENCE))?;
        admin.write_all(b"{}\0")?;
        Ok(admin.read(&mut [0; 16]).is_ok_and(|read| read > 0))
    })
}

#[test]
fn g12_a_thousand_hostile_clients_keep_nobody_from_the_agent() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let guard =
        Guard::start_with(&lab.edge, Mode::Enforce, "[control]\ngroup = \"root\"\n", &[]).unwrap();
    let row = Row::new(Goal::G12);
    let pid = guard.pid();
    // What is allocated once is there before it is compared.
    changes(&lab.edge, 20).unwrap();
    let calm = p99(&ages(&guard, 50));
    let before = peak::resident(pid).unwrap();
    let files = peak::descriptors(pid).unwrap();

    let socket = Path::new(RUNTIME_DIR).join(STATUS_SOCKET);
    let count = size(300, 1_000);
    let crowd = Crowd::gather(&lab.edge, &socket, count, seed()).unwrap();
    thread::sleep(Duration::from_secs(3));
    let mut took = changes(&lab.edge, size(200, 2_000)).unwrap();
    let disturbed = p99(&ages(&guard, size(50, 300)));
    let grown = peak::resident(pid).unwrap().saturating_sub(before);
    let made = crowd.connections();
    crowd.leave().unwrap();
    thread::sleep(Duration::from_secs(6));
    let left = peak::descriptors(pid).unwrap().saturating_sub(files);

    took.sort();
    let slowest = p99(&took);
    let trials = 3;
    let unanswered = (0..trials).filter(|trial| !naive_answers(&lab.edge, *trial).unwrap()).count();
    row.result(
        took.len() as u64,
        format!(
            "changes in ≤ {} ms (p99) among {count} clients ({made} connections); polls {} ms late; \
             {} KiB more; {left} descriptors left",
            slowest.as_millis(),
            disturbed.saturating_sub(calm).as_millis(),
            grown >> 10,
        ),
        slowest <= LIMIT && disturbed <= calm + LATE && grown <= MEMORY && left == 0,
    )
    .naive(
        u64::from(trials),
        format!("{unanswered} not answered within {} s behind one silent client", PATIENCE.as_secs()),
        unanswered == trials as usize,
    )
    .finish();
}

#[test]
fn users_outside_the_group_are_kept_from_both_sockets_and_root_from_neither() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _guard = Guard::start(&lab.edge, Mode::Observe).unwrap();
    for socket in ["status.sock", "control.sock"] {
        let path = format!("{RUNTIME_DIR}/{socket}");
        let nobody = lab
            .edge
            .run(|| {
                let user = rustix::fs::Uid::from_raw(65_534);
                let group = rustix::fs::Gid::from_raw(65_534);
                rustix::thread::set_thread_groups(&[])?;
                rustix::thread::set_thread_res_gid(group, group, group)?;
                rustix::thread::set_thread_res_uid(user, user, user)?;
                Ok(UnixStream::connect(&path).map(drop))
            })
            .unwrap();
        assert_eq!(
            nobody.unwrap_err().kind(),
            std::io::ErrorKind::PermissionDenied,
            "nobody reaches {socket}"
        );
        lab.edge.run(|| Ok(UnixStream::connect(&path)?)).map(drop).unwrap();
    }
}

/// Every change leaves a line with the credentials of who asked, however quiet the agent is.
#[test]
fn who_changed_what_is_on_record_though_the_agent_is_told_to_be_quiet() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut guard = Guard::start_with(&lab.edge, Mode::Observe, "", &["-q"]).unwrap();
    changes(&lab.edge, 2).unwrap();
    lab.edge.run(|| Ok(admin().call(Request::Reload)?)).unwrap();
    guard.stop().unwrap();
    let log = guard.log();
    let own = format!("uid 0 (pid {}): ", std::process::id());
    for deed in ["Block", "Unblock", "Reload"] {
        let line = log.lines().find(|line| line.contains(&format!("{own}{deed}")));
        assert!(line.is_some_and(|line| line.ends_with(": done")), "{deed} in:\n{log}");
    }
}
