//! The sockets of a running agent under hostile users. Needs root and `TCPGUARD_BIN`.

use std::fmt;
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use tcpguard::control::proto::Change;
use tcpguard::control::{CONTROL_SOCKET, Client, ClientError, Request, STATUS_SOCKET};
use tcpguard_engine as engine;
use tcpguard_engine::{ClientsWithin, Force, Listener, Mitigation, Order, Ports, Which, Whose};
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_kit::daemon::agent::{Agent, Mode, RUNTIME_DIR};
use tcpguard_kit::daemon::heartbeat::Heartbeat;
use tcpguard_kit::daemon::pins::PIN_DIR;
use tcpguard_kit::measure::peak::{Footprint, descriptors, forget_peak};
use tcpguard_kit::net::lab::{Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::hostile::Crowd;

/// Longest that all but one in a hundred changes of the administrator may take.
const LIMIT: Duration = Duration::from_millis(50);
/// Memory that all hostile clients together may cost the agent, at any moment.
const MEMORY: u64 = 4 << 20;
/// Permitted delay of a poll, compared with peace, for all but one in a hundred.
const LATE: Duration = Duration::from_millis(50);
/// Time within which an unused connection is closed.
const CLOSED_BY: Duration = Duration::from_secs(6);
/// Directory of the naive server's sockets.
const NAIVE_DIR: &str = "/run/in-turn";
/// Status socket for a group, control socket for root.
const SOCKETS: [&str; 2] = [STATUS_SOCKET, CONTROL_SOCKET];

fn admin(dir: &str) -> Client {
    Client { runtime_dir: dir.into(), socket: None, pin_dir: PIN_DIR.into() }
}

/// Changes that the administrator asked for.
struct Changes {
    /// Duration of each change, the quickest first, whatever became of it.
    took: Vec<Duration>,
    failed: usize,
}

/// Outcomes of `rounds` changes, blocks and unblocks in turn, requested at the sockets in `dir`.
fn changes(host: &Netns, dir: &str, rounds: u32) -> Result<Changes> {
    host.run(|| {
        let admin = admin(dir);
        let prefix = "203.0.113.9/32".parse()?;
        let block = block(prefix, "from the administrator");
        let mut changes = Changes { took: Vec::new(), failed: 0 };
        for round in 0..rounds {
            let request =
                if round % 2 == 0 { block.clone() } else { unblock(Which::Within(prefix)) };
            let begun = Instant::now();
            changes.failed += usize::from(admin.call(request).is_err());
            changes.took.push(begun.elapsed());
        }
        changes.took.sort();
        Ok(changes)
    })
}

/// Returns the ages of the last poll at `samples` moments, in ascending order.
fn ages(host: &Netns, samples: usize) -> Result<Vec<Duration>> {
    let heartbeat = Heartbeat::open(host)?;
    let age = |_| {
        // At other moments of the poll each time.
        sleep(Duration::from_millis(13));
        heartbeat.age()
    };
    let mut ages = (0..samples).map(age).collect::<Result<Vec<_>>>()?;
    ages.sort();
    Ok(ages)
}

/// The one that all but one in a hundred of these, which are in order, do not exceed.
fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() - 1) * 99 / 100]
}

/// Many hostile clients at both sockets of a server, with the administrator among them.
#[derive(Clone, Copy)]
struct Siege<'a> {
    /// Directory of the sockets.
    dir: &'a str,
    pid: u32,
    /// Number of hostile clients.
    clients: usize,
    /// Number of changes that the administrator requests.
    rounds: u32,
}

/// Effect of a siege.
struct Seen {
    clients: usize,
    connections: u64,
    kept_out: u64,
    changes: Changes,
    /// Delay of polls compared with peace.
    late: Duration,
    /// Peak growth of the memory of the server itself (`VmHWM`), in bytes.
    grown: u64,
    /// Files that it has open when all have gone, and had not before.
    left: u64,
}

impl Siege<'_> {
    fn lay(self, host: &Netns) -> Result<Seen> {
        let Self { dir, pid, clients, rounds } = self;
        // Memory that is allocated once must be there before the comparison.
        let peace = changes(host, dir, 20)?;
        ensure!(peace.failed == 0, "{} changes failed in peace", peace.failed);
        let calm = p99(&ages(host, 100)?);
        let files = descriptors(pid)?;
        forget_peak(pid)?;
        let before = Footprint::of(pid)?.own();

        let sockets = SOCKETS.map(|socket| Path::new(dir).join(socket));
        let crowd = Crowd::gather(host, &sockets, clients, seed())?;
        sleep(Duration::from_secs(size(1, 3)));
        let changes = changes(host, dir, rounds)?;
        let disturbed = p99(&ages(host, size(100, 300))?);
        let grown = Footprint::of(pid)?.own().saturating_sub(before);
        let (connections, kept_out) = (crowd.connections(), crowd.kept_out());
        crowd.leave()?;
        let gone = Instant::now();
        let mut left = u64::MAX;
        while left > 0 && gone.elapsed() < CLOSED_BY {
            sleep(Duration::from_millis(200));
            left = descriptors(pid)?.saturating_sub(files);
        }
        let late = disturbed.saturating_sub(calm);
        Ok(Seen { clients, connections, kept_out, changes, late, grown, left })
    }
}

impl Seen {
    /// Returns whether no client was kept from anything.
    fn holds(&self) -> bool {
        self.changes.failed == 0
            && p99(&self.changes.took) <= LIMIT
            && self.late <= LATE
            && self.grown <= MEMORY
            && self.left == 0
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} changes failed, p99 {} ms, among {} clients ({} connections, {} times kept from \
             one); polls {} ms late; {} KiB more at most; {} descriptors left",
            self.changes.failed,
            self.changes.took.len(),
            p99(&self.changes.took).as_millis(),
            self.clients,
            self.connections,
            self.kept_out,
            self.late.as_millis(),
            self.grown >> 10,
            self.left,
        )
    }
}

#[test]
fn g12_a_thousand_hostile_clients_keep_no_other_client_from_the_agent() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let host = &lab.edge;
    let agent =
        Agent::start_with(host, Mode::Enforce, "[control]\ngroup = \"root\"\n", &[]).unwrap();
    let row = Row::new(Goal::G12);
    let siege = Siege {
        dir: RUNTIME_DIR,
        pid: agent.pid(),
        clients: size(300, 1_000),
        rounds: size(500, 2_000),
    };
    let shipped = siege.lay(host).unwrap();
    // A mode can be changed: the agent itself keeps them off as well.
    open_to_all(host).unwrap();
    let opened = siege.lay(host).unwrap();

    let mut server = host.command(env!("CARGO_BIN_EXE_in_turn")).unwrap();
    server.args([NAIVE_DIR, RUNTIME_DIR]).stdin(Stdio::null());
    let mut server = server.spawn().unwrap();
    let bound = || host.run(|| Ok(Path::new(NAIVE_DIR).join(CONTROL_SOCKET).exists())).unwrap();
    while !bound() {
        assert_eq!(server.try_wait().unwrap(), None, "it runs");
        sleep(Duration::from_millis(10));
    }
    // A few of them are enough, and the administrator's patience with it is long.
    let siege = Siege { dir: NAIVE_DIR, pid: server.id(), clients: 24, rounds: 2 };
    let naive = siege.lay(host).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();

    row.result(
        (shipped.changes.took.len() + opened.changes.took.len()) as u64,
        format!("sockets as shipped: {shipped}; of mode 0666: {opened}"),
        shipped.holds() && shipped.kept_out > 0 && opened.holds() && opened.kept_out == 0,
    )
    .naive(
        naive.changes.took.len() as u64,
        format!("sockets for all, connections in turn: {naive}"),
        // Each connection waits for the earlier ones.
        p99(&naive.changes.took) > LIMIT,
    )
    .finish();
}

/// Lets everybody connect to both sockets.
fn open_to_all(host: &Netns) -> Result<()> {
    host.run(|| {
        for socket in SOCKETS {
            fs::set_permissions(
                Path::new(RUNTIME_DIR).join(socket),
                Permissions::from_mode(0o666),
            )?;
        }
        Ok(())
    })
}

/// Number of the sockets to which the user with the ID 65534 connects.
fn reached_by_nobody(host: &Netns) -> u64 {
    let reached = host.run(|| {
        let user = rustix::fs::Uid::from_raw(65_534);
        let group = rustix::fs::Gid::from_raw(65_534);
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
        Ok(reached())
    });
    reached.unwrap()
}

/// Returns the number of the sockets to which this thread's user connects. Any error but a denied permission fails
/// the test.
fn reached() -> u64 {
    let connects = |socket: &&&str| {
        let connected = UnixStream::connect(Path::new(RUNTIME_DIR).join(socket)).map(drop);
        let error = connected.as_ref().err().map(std::io::Error::kind);
        assert!(matches!(error, None | Some(std::io::ErrorKind::PermissionDenied)), "{error:?}");
        error.is_none()
    };
    SOCKETS.iter().filter(connects).count() as u64
}

#[test]
fn g11_no_unprivileged_user_connects_to_a_socket() {
    let row = Row::new(Goal::G11);
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _agent = Agent::start(&lab.edge, Mode::Observe).unwrap();
    let of_nobody = reached_by_nobody(&lab.edge);
    assert_eq!(lab.edge.run(|| Ok(reached())).unwrap(), 2, "root is kept from none");
    open_to_all(&lab.edge).unwrap();
    let naive = reached_by_nobody(&lab.edge);
    row.result(2, format!("sockets: nobody connects to {of_nobody}"), of_nobody == 0)
        .naive(2, format!("sockets of mode 0666: {naive} connected to"), naive == 2)
        .finish();
}

fn block(net: IpNet, reason: &str) -> Request {
    Change::Block {
        net,
        ports: Ports::EVERY,
        lifetime: Duration::from_secs(60),
        reason: reason.to_owned(),
        force: Force::No,
        clients: ClientsWithin::default(),
    }
    .into()
}

fn unblock(which: Which) -> Request {
    Change::Unblock { which, whose: Whose::All }.into()
}

/// One of each change, the last of which detaches the XDP program.
fn every_change() -> Vec<Request> {
    let net = "203.0.113.9/32".parse().unwrap();
    let (lifetime, reason) = (Duration::from_secs(60), "from the administrator");
    vec![
        block(net, reason),
        Change::Allow { net, lifetime, reason: reason.to_owned(), force: false }.into(),
        Change::Disallow { net }.into(),
        unblock(Which::Within(net)),
        unblock(Which::All),
        Change::ImportRules { rules: Vec::new(), merge: false, force: Force::No }.into(),
        Change::OrderMitigation {
            listener: Listener { addr: Ipv4Addr::UNSPECIFIED.into(), port: 443 },
            mitigation: Mitigation::Cookies,
            order: Order::Off,
            lifetime,
        }
        .into(),
        Request::SetMode { mode: engine::Mode::Enforce, for_s: None, rollback_after_s: None },
        Request::SetMode {
            mode: engine::Mode::Observe,
            for_s: Some(60),
            rollback_after_s: Some(30),
        },
        Request::Confirm { net: None },
        Request::Reload,
        Request::Detach { interfaces: Vec::new() },
    ]
}
/// Every change leaves a log line with the credentials of its client, however quiet the agent is, and
/// whatever the outcome.
#[test]
fn changes_and_their_authors_are_on_record_though_the_agent_is_quiet() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start_with(&lab.edge, Mode::Observe, "", &["-q"]).unwrap();
    let asked = lab.edge.run(|| {
        let ask = |request: Request| {
            let deed = request.in_brief();
            assert!(request.is_change(), "{deed}");
            match admin(RUNTIME_DIR).call(request) {
                Ok(_) => Ok((deed, "ok".to_owned())),
                Err(ClientError::Refused(refusal)) => {
                    Ok((deed, format!("refused error={:?}", refusal.message)))
                }
                Err(error) => Err(error.into()),
            }
        };
        every_change().into_iter().map(ask).collect::<Result<Vec<_>>>()
    });
    agent.stop().unwrap();
    let log = agent.log();
    let mut done = 0;
    for (deed, outcome) in asked.unwrap() {
        let who = format!("audit: uid=0 user=root pid={} ", std::process::id());
        let what = format!("request={deed:?} result={outcome}");
        let records = |logged: &str| logged.contains(&who) && logged.ends_with(&what);
        assert!(log.lines().any(records), "{who} …{what} is missing in:\n{log}");
        done += u32::from(outcome == "ok");
    }
    assert!(done >= 10, "{done} were done:\n{log}");
}
