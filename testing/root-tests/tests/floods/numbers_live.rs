//! Every packet is counted once, with one fate: the XDP program's numbers add up, and are those of the
//! attacker and of the kernel. Needs root and `TCPGUARD_BIN`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::TIMEOUT;
use tcpguard_kit::measure::leak::segments;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::packet::flags;
use tcpguard_kit::traffic::flood::{Flood, Shape};
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
const SERVICES: [u16; 2] = [PORT, 8443];
const CLOSED: u16 = 9;
/// Flags of out-of-state segments, legal and not, and the counter of each.
const OUT_OF_STATE: [(u8, &str); 3] =
    [(flags::ACK, "ack"), (flags::RST, "rst"), (flags::SYN | flags::FIN, "syn_fin")];
/// Packets that are sent to be counted: SYNs of several fingerprints to both services and to a closed port,
/// and out-of-state segments. The first flood is long enough for a rule.
const MIX: [(u16, Shape); 8] = [
    (PORT, Shape::Bare),
    (PORT, Shape::RandomWindowMss),
    (SERVICES[1], Shape::Linux),
    (SERVICES[1], Shape::RandomTtl),
    (CLOSED, Shape::Bare),
    (PORT, Shape::OutOfState(OUT_OF_STATE[0].0)),
    (PORT, Shape::OutOfState(OUT_OF_STATE[1].0)),
    (SERVICES[1], Shape::OutOfState(OUT_OF_STATE[2].0)),
];

/// Packets that arrived at a host with tcpguard, by sender.
struct Arrived<'a> {
    lab: &'a Lab,
    agent: &'a Agent<'a>,
    /// Counters of tcpguard and of the stack before the packets arrived.
    before: (Status, u64),
    all: u64,
    syns: BTreeMap<u16, u64>,
}

impl<'a> Arrived<'a> {
    fn none(lab: &'a Lab, agent: &'a Agent<'a>) -> Self {
        let before = (agent.status().unwrap(), segments(&lab.edge).unwrap());
        for port in SERVICES {
            assert!(before.0.follows(port), "{port} is known before the first SYN");
        }
        Self { lab, agent, before, all: 0, syns: BTreeMap::new() }
    }

    /// Floods a port for so long, and returns how many packets were sent and how many arrived.
    fn send(&mut self, to: SocketAddr, shape: Shape, time: Duration) -> (u64, u64) {
        let lost = self.lab.lost().unwrap();
        let flood = Flood { shape, rate: size(20_000, 100_000), ..Flood::random(to, time) };
        let sent = flood.start(self.lab).unwrap().wait().unwrap().sent;
        let lost = self.lab.lost().unwrap() - lost;
        // Each lost one is subtracted. With fewer than half of them it would be another flood.
        assert!(lost <= sent / 2, "the wire lost {lost} of {sent}: this machine carries no flood");
        let arrived = sent - lost;
        self.all += arrived;
        if !matches!(shape, Shape::OutOfState(_)) {
            *self.syns.entry(to.port()).or_default() += arrived;
        }
        (sent, arrived)
    }

    fn syns_to(&self, port: u16) -> u64 {
        self.syns.get(&port).copied().unwrap_or(0)
    }

    /// Asserts that each has been counted once, with one fate, and where it belongs.
    fn assert_counted(&self, what: &str) -> Status {
        let (before, stack_before) = &self.before;
        let counted = |status: &Status| status.total("rx_packets") - before.total("rx_packets");
        // A status in mid-flood has its counters from a few packets before and after each other.
        let status = self
            .agent
            .wait_until("every packet is counted", TIMEOUT, |now| {
                let all_at = |port| now.listener_total(port, "syn") >= self.syns_to(port);
                counted(now) >= self.all && SERVICES.into_iter().all(all_at)
            })
            .unwrap();

        assert_eq!(counted(&status), self.all, "{what}: entry = sent, but for what the wire lost");
        let (passed, dropped) = (status.total("pass"), status.total("drop_total"));
        // Until there is a rule, cookies.
        let answered = status.total("cookies_sent");
        assert_eq!(passed + dropped + answered, status.total("rx_packets"), "{what}");
        assert_eq!(status.total("unaccounted"), 0, "{what}");
        let stack = segments(&self.lab.edge).unwrap() - stack_before;
        assert_eq!(stack, passed - before.total("pass"), "{what}: the stack was given what passed");
        assert_eq!(status.total("syn"), self.syns.values().sum::<u64>(), "{what}");
        for port in SERVICES {
            let syns = status.listener_total(port, "syn");
            assert_eq!(syns, self.syns_to(port), "{what}: SYNs to port {port}");
        }
        assert_eq!(of_services(&status, "cookies_sent"), answered, "{what}");
        status
    }
}

fn of_services(status: &Status, counter: &str) -> u64 {
    SERVICES.into_iter().map(|port| status.listener_total(port, counter)).sum()
}

struct Counts {
    all: u64,
    /// Those that the stack was given.
    stack: u64,
    /// Those that were answered with a cookie, and neither passed nor dropped.
    answered: u64,
}

/// Sends each of [`MIX`] and asserts after each that all is counted.
fn each_is_counted(family: Family) -> Counts {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _servers = SERVICES.map(|port| Server::start(&lab.edge, port, Behaviour::Answer).unwrap());
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let mut arrived = Arrived::none(&lab, &agent);
    for (number, (port, shape)) in MIX.into_iter().enumerate() {
        let (first, others) = size((3 * SECOND, SECOND / 5), (18 * SECOND, 6 * SECOND));
        let time = if number == 0 { first } else { others };
        let to = SocketAddr::new(family.edge(), port);
        let (sent, came) = arrived.send(to, shape, time);
        let what = format!("{family:?}, {shape:?} to port {port}");
        let status = arrived.assert_counted(&what);
        let dropped = status.total("drop_total");
        println!("{what}: {came} of {sent} arrived, {dropped} dropped so far");
        if number == 0 {
            // Until a SYN-ACK has shown the way back, SYNs take tokens where cookies are sent.
            let (by_rule, limited) =
                (status.reason("drop_signature"), status.reason("drop_budget"));
            assert_eq!(dropped, by_rule + limited, "nothing else is dropped");
            assert_eq!(of_services(&status, "dropped_signature"), by_rule, "{what}");
            let of_incident = status.incidents()[0].dropped();
            assert!((by_rule..=dropped).contains(&of_incident), "{what}: {of_incident}");
            assert!(dropped >= came / 3, "{what}: {dropped} dropped");
        }
        if let Shape::OutOfState(flags) = shape {
            let (_, class) = OUT_OF_STATE.into_iter().find(|(known, _)| *known == flags).unwrap();
            assert_eq!(status.total(&format!("classes/{class}")), came, "{what}");
        }
    }
    let answered = agent.status().unwrap().total("cookies_sent");
    let stack = segments(&lab.edge).unwrap() - arrived.before.1;
    Counts { all: arrived.all, stack, answered }
}

/// `entry = passed + dropped + answered = sent`, and the stack has received every packet that passed.
#[test]
fn g17_the_numbers_add_up() {
    let row = Row::new(Goal::G17);
    let counts = Family::BOTH.map(each_is_counted);
    let sum = |of: fn(&Counts) -> u64| counts.iter().map(of).sum::<u64>();
    let (all, stack, answered) = (sum(|it| it.all), sum(|it| it.stack), sum(|it| it.answered));
    // The first number that is another would have ended the test.
    let said = format!(
        "packets of {} kinds arrived: all counted at entry, entry = passed + dropped + answered, and the \
         stack was given the {stack} that passed",
        MIX.len()
    );
    let naive = format!(
        "packets, by an account of what passed and what was dropped: {answered} missing; by the stack's \
         own count {}",
        all - stack
    );
    row.result(all, said, true).naive(all, naive, answered > 0 && stack < all).finish();
}
