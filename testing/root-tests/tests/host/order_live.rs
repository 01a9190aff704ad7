//! Other programs at tc that end the chain. The programs of tcpguard run first, which harms no other program.
//! Where they cannot, the cause is named. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard::bpf::{Features, XdpMode};
use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::armed::Armed;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, boot_ns};
use tcpguard_kit::net::foreign::{ForeignTc, Place, attach_at_clsact};
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::control::Control;
use tcpguard_kit::traffic::flood::{Flood, RunningFlood, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of the real clients, each on schedule whatever became of the others. In a flood, so
/// many of a validated client, and as many of new clients.
const CLIENTS: u32 = 50;
/// Interval at which the agent checks which programs run before its own on egress.
const LOOKED: Duration = Duration::from_millis(1500);
/// At least this share of clients is served within a second.
const SERVED: f64 = 0.98;
/// At most this share of clients is served where they are locked out.
const LOCKED_OUT: f64 = 0.5;

fn lab() -> Lab {
    Lab::new(LabOptions::default()).unwrap()
}

fn note(status: &Status, code: &str) -> Option<String> {
    status.health().into_iter().find(|(known, _)| known == code).map(|(_, text)| text)
}

fn taken(status: &Status) -> bool {
    status.mitigation("cookies") == Some("active")
}

/// A validated client and new clients, and a mimicking flood that is answered with cookies.
struct Flooded {
    clients: [Load; 2],
    flood: RunningFlood,
}

impl Flooded {
    fn begin(lab: &Lab, agent: &Agent<'_>, family: Family) -> Self {
        let likeness = Likeness::capture(lab, family).unwrap();
        let clients = [Home::One, Home::NewClients].map(|home| {
            let visitors = Visitors { rate: CLIENTS, home, patience: PATIENCE };
            Load::of(&lab.client, family.service(), visitors).unwrap()
        });
        sleep(3 * SECOND);
        let flood = Flood {
            shape: Shape::Copy(likeness),
            rate: size(5_000, 100_000),
            ..Flood::random(family.service(), 60 * SECOND)
        };
        let flood = flood.start(lab).unwrap();
        agent.wait_until("cookies", TIMEOUT, taken).unwrap();
        Self { clients, flood }
    }

    /// Ends both. Returns the clients that began in `from..to`, both in nanoseconds since boot.
    fn end(self, from: u64, to: u64) -> [Attempts; 2] {
        self.flood.stop().unwrap();
        let [known, new_clients] = self.clients.map(|load| load.finish().unwrap().begun(from, to));
        println!("  the validated client: {}", known.summary());
        println!("  new clients: {}", new_clients.summary());
        [known, new_clients]
    }
}

/// A host with tc programs of others that end the chain.
#[derive(Clone, Copy, Debug)]
struct Case {
    family: Family,
    /// True if a program of another process is there before the agent starts.
    earlier: bool,
    /// Positions of those that are attached while cookies are sent.
    later: &'static [Place],
}

/// [`Case::earlier`] and [`Case::later`]. The agent goes ahead of a program of [`Place::First`] once in 10 s.
const CHAINS: [(bool, &[Place]); 3] =
    [(true, &[Place::Last, Place::First]), (true, &[]), (false, &[Place::First])];

impl Case {
    /// All chains over IPv4, then all over IPv6.
    fn all() -> Vec<Self> {
        let of = |family| CHAINS.map(|(earlier, later)| Self { family, earlier, later });
        Family::BOTH.map(of).concat()
    }

    /// The clients during a flood: the validated one, and new ones. Cookies are sent and redeemed, and SYN-ACKs are
    /// seen.
    fn in_a_flood(self) -> [Attempts; 2] {
        let lab = lab();
        let attach = |place| ForeignTc::attach(&lab.edge, INTERFACE, place).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let _earlier = self.earlier.then(|| attach(Place::Last));
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let flooded = Flooded::begin(&lab, &agent, self.family);
        let _later: Vec<ForeignTc> = self.later.iter().copied().map(attach).collect();
        sleep(LOOKED);
        let before = agent.status().unwrap();
        let from = boot_ns();
        sleep(4 * SECOND);
        let status = agent.status().unwrap();
        let to = boot_ns();
        let grown = |of: &str| status.listener_total(PORT, of) - before.listener_total(PORT, of);
        let (sent, redeemed) = (grown("cookies_sent"), grown("cookies_redeemed"));
        println!("{self:?}: {sent} cookies sent, {redeemed} redeemed");
        let logged = agent.log();
        assert!(taken(&status), "{logged}");
        assert!(sent > 0, "{logged}");
        assert!(redeemed > 100, "{redeemed}: {logged}");
        assert_eq!(note(&status, "tc_before"), None);
        assert_eq!(note(&status, "egress_unseen"), None);
        if self.later.contains(&Place::First) {
            assert!(logged.contains("tcpguard's tc program runs first again"), "{logged}");
        }
        flooded.end(from, to)
    }
}

/// The clients of a flood, behind a program that goes first and ends the chain. The agent is paused, so it
/// does not move ahead.
fn behind_a_first_program(family: Family) -> [Attempts; 2] {
    let lab = lab();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let flooded = Flooded::begin(&lab, &agent, family);
    agent.pause().unwrap();
    let _first = ForeignTc::attach(&lab.edge, INTERFACE, Place::First).unwrap();
    let from = boot_ns();
    sleep(2 * SECOND);
    let to = boot_ns();
    agent.resume().unwrap();
    println!("{family:?}, a paused agent behind a program that goes first:");
    flooded.end(from, to)
}

#[test]
fn g20_programs_that_end_the_chain_lock_no_client_out() {
    let row = Row::new(Goal::G20).named("tc");
    let cases = &Case::all()[..size(1, 6)];
    let naive_cases = &Family::BOTH[..size(1, 2)];
    let all = cases.iter().map(Ok).chain(naive_cases.iter().map(Err));
    let mut ours = side_by_side(size(2, 1), all, |case| match case {
        Ok(case) => case.in_a_flood(),
        Err(family) => behind_a_first_program(*family),
    });
    let naive = ours.split_off(cases.len());
    let clients =
        |of: &[[Attempts; 2]]| of.iter().flatten().map(|some| some.0.len()).sum::<usize>();
    let share = |some: &Attempts| some.share_within(SECOND);
    let [known, new_clients] =
        [0, 1].map(|kind| ours.iter().map(|both| share(&both[kind])).fold(1.0, f64::min));
    let naive_most = naive.iter().flatten().map(share).fold(0.0, f64::max);
    row.result(
        cases.len() as u64,
        format!(
            "hosts with tc programs that end the chain, in a flood: of {} clients, at least {:.1} % of the \
             validated ones and {:.1} % of new clients at each are served within 1 s",
            clients(&ours),
            100.0 * known,
            100.0 * new_clients
        ),
        f64::min(known, new_clients) >= SERVED,
    )
    .naive(
        naive_cases.len() as u64,
        format!(
            "hosts whose agent does not move ahead: of {} clients, at most {:.1} % of a kind at each",
            clients(&naive),
            100.0 * naive_most
        ),
        naive_most <= LOCKED_OUT,
    )
    .finish();
}

/// A program that takes the first position again and again is passed a few times only, and then named.
#[test]
fn a_program_that_always_moves_first_is_named() {
    let (control, lab) = (Control::start().unwrap(), lab());
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(ForeignTc::attach(&lab.edge, INTERFACE, Place::First).unwrap());
        sleep(LOOKED);
    }
    let logged = |status: &Status| note(status, "tc_before").is_some();
    let status = agent.wait_until("a note that names it", TIMEOUT, logged).unwrap();
    let text = note(&status, "tc_before").unwrap();
    assert!(text.contains("another tc egress program runs before tcpguard's"), "{text}");
    assert!(text.contains("TCX egress"), "{text}");
    // The command of its hint lists it; `bpftool net show` of Debian 12 lists no program at TCX.
    let id = text.split("(id ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let listed = lab.edge.exec("bpftool prog show").unwrap();
    let of_id = format!("{id}: sched_cls ");
    assert!(listed.lines().any(|line| line.starts_with(&of_id)), "{text} in {listed}");
    // When they are gone, it is as if they had never been there.
    drop(others);
    let gone = |status: &Status| note(status, "tc_before").is_none();
    agent.wait_until("no note", TIMEOUT, gone).unwrap();
    control.assert_served(&load.finish().unwrap());
}

fn pass_all(lab: &Lab, priority: &str) {
    let line = format!(
        "tc filter add dev {INTERFACE} egress {priority} protocol all u32 match u32 0 0 classid 1:1"
    );
    lab.edge.exec(&line).unwrap();
}

/// Lets clients connect. Returns how many SYN-ACKs to them were counted.
fn answers_seen(lab: &Lab, armed: &Armed) -> u64 {
    let before = armed.counters();
    let load = Load::start(&lab.client, Family::V4.service(), CLIENTS).unwrap();
    sleep(3 * SECOND);
    let attempts = load.finish().unwrap();
    assert!(attempts.share_within(SECOND) >= SERVED, "{}", attempts.summary());
    let after = armed.counters();
    assert!(after.syn - before.syn >= 100, "{after:?}");
    after.syn_ack - before.syn_ack
}

#[test]
fn filters_that_end_the_chain_at_clsact_hide_no_answer_or_are_named() {
    /// The filter, the function that attaches it, and whether the program of tcpguard runs first.
    type Case = (&'static str, fn(&Lab), bool);
    let cases: [Case; 3] = [
        ("a filter of a later priority", |lab| pass_all(lab, "prio 2"), true),
        ("a program of the same", |lab| attach_at_clsact(&lab.edge, INTERFACE).unwrap(), true),
        ("a filter of another kind", |lab| pass_all(lab, "prio 1"), false),
    ];
    side_by_side(3, cases, |(what, attach, passed)| {
        let lab = lab();
        lab.edge.exec(&format!("tc qdisc add dev {INTERFACE} clsact")).unwrap();
        attach(&lab);
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let without_tcx = Features { tcx: false, ..Features::of_running_kernel() };
        let mut armed = Armed::with_features(&lab.edge, XdpMode::Auto, without_tcx).unwrap();
        let seen = answers_seen(&lab, &armed);
        let ahead: Vec<String> =
            armed.attachment().ahead().iter().map(ToString::to_string).collect();
        println!("{what}: {seen} answers seen behind {ahead:?}");
        let named = ahead.iter().any(|one| one.contains("u32"));
        assert_eq!((seen >= 100, ahead.is_empty(), named), (passed, passed, !passed), "{what}");
        // One that comes later and goes first is passed where that can be.
        if what == "a program of the same" {
            lab.edge
                .exec(&format!("tc filter del dev {INTERFACE} egress pref 1 handle 1 bpf"))
                .unwrap();
            attach(&lab);
            assert_eq!(armed.keep_first(&lab.edge).unwrap().len(), 1);
            assert!(answers_seen(&lab, &armed) >= 100);
        }
    });
}
