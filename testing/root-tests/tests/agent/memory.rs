//! However many sources a flood has, the memory use of the agent and of its maps stays the same. It is measured
//! while the flood is on. Needs root and `TCPGUARD_BIN`.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fmt, process};

use tcpguard_common::abi::{Addr, Client, maps};
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::daemon::tamper::PinnedMap;
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::measure::peak::{Footprint, forget_peak};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::{Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::random::Random;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// Bytes that are resident of the agent and its maps together, on 2 CPUs.
const PROMISED: u64 = 50 << 20;
/// Bytes in addition for each further CPU that the kernel may have: some maps hold their values for each.
const PROMISED_A_CPU: u64 = 1 << 20;
/// Bytes that may be added in the last two thirds of a flood. A file that was read before may be read again
/// beside a record that is just written.
const FLAT: u64 = 4 << 20;
/// Interval between two readings of the status.
const LOOK: Duration = Duration::from_millis(100);

/// Peak memory of a process while there were more and more sources.
struct Course {
    /// In the first third.
    early: Footprint,
    most: Footprint,
}

impl Course {
    /// Memory that three times as many sources took in addition, in bytes.
    fn growth(&self) -> u64 {
        self.most.sum() - self.early.sum()
    }

    fn keeps_the_promise(&self) -> bool {
        self.most.judged() <= promised() && self.growth() <= FLAT
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let growth = self.growth() as f64 / f64::from(1 << 20);
        write!(f, "{} at most, {growth:.1} MiB more than in the first third", self.most)
    }
}

fn promised() -> u64 {
    let possible = aya::util::nr_cpus().unwrap() as u64;
    PROMISED + possible.saturating_sub(2) * PROMISED_A_CPU
}

fn validated_addresses(lab: &Lab) -> BTreeSet<Vec<u8>> {
    let map = PinnedMap::open(&lab.edge, maps::CLIENTS, size_of::<Addr>(), size_of::<Client>());
    map.unwrap().entries().unwrap().into_iter().map(|(addr, _)| addr).collect()
}

fn visitors(lab: &Lab, rate: u32, home: Home) -> [Load; 2] {
    let visitors = Visitors { rate, home, patience: PATIENCE };
    Family::BOTH.map(|family| Load::of(&lab.client, family.service(), visitors).unwrap())
}

/// A counter for each source, as one would write it, in this process.
fn counted_by_source(sources: u64) -> Course {
    let mut random = Random::new(seed());
    let mut counts: HashMap<IpAddr, u64> = HashMap::new();
    let mut count = |sources| {
        for _ in 0..sources / 2 {
            let bits = random.bits();
            let v4 = Ipv4Addr::from_bits(bits as u32);
            let v6 = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(bits) << 32);
            *counts.entry(v4.into()).or_default() += 1;
            *counts.entry(v6.into()).or_default() += 1;
        }
        Footprint::of(process::id()).unwrap()
    };
    forget_peak(process::id()).unwrap();
    let early = count(sources / 3);
    let most = count(sources - sources / 3);
    Course { early, most }
}

#[test]
fn g6_a_flood_from_everywhere_takes_no_memory() {
    let row = Row::new(Goal::G6);
    // Of so many SYNs at least 10,000 flows a second are tracked. In a third of the time all slots are taken.
    // In the full size a sixth of them allows for losses of the wire.
    let (rate, time) = size((20_000, 21 * SECOND), (50_000, 120 * SECOND));
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let thousand = visitors(&lab, 250, Home::NewClients);
    sleep(2 * SECOND + SECOND / 4);
    thousand.into_iter().for_each(|load| drop(load.finish().unwrap()));
    let known = validated_addresses(&lab);
    assert!(known.len() >= 1000, "{} validated", known.len());
    let validated_clients = visitors(&lab, 50, Home::ValidatedClients);
    sleep(3 * SECOND);
    let new_clients = visitors(&lab, 10, Home::Anywhere(seed()));

    let pid = agent.pid();
    forget_peak(pid).unwrap();
    let before = Footprint::of(pid).unwrap();
    let counted = || agent.status().unwrap().total("syn");
    let (counted_before, lost_before) = (counted(), lab.lost().unwrap());
    let floods = Family::BOTH.map(|family| {
        let flood = Flood { rate, ..Flood::random(family.service(), time) };
        flood.start(&lab).unwrap()
    });
    let (begun, started) = (Instant::now(), boot_ns());
    let mut early = before;
    while begun.elapsed() < time {
        // As for an operator at a live status.
        agent.status().unwrap();
        if begun.elapsed() < time / 3 {
            early = Footprint::of(pid).unwrap();
        }
        sleep(LOOK);
    }
    let course = Course { early, most: Footprint::of(pid).unwrap() };
    let ended = boot_ns();
    let sent: u64 = floods.map(|flood| flood.wait().unwrap().sent).iter().sum();
    let arrived = sent - (lab.lost().unwrap() - lost_before);
    let lost = known.difference(&validated_addresses(&lab)).count();
    // The status shows the counters of the last poll. SYNs that are lost unseen are never counted.
    let all = |status: &Status| status.total("syn") >= counted_before + arrived;
    let _ = agent.wait_until("every SYN is counted", PATIENCE, all);
    let counted = counted() - counted_before;
    // Only a SYN that arrived counts as a source. Those of the clients were counted as well.
    let sources = arrived.min(counted);
    forget_peak(pid).unwrap();
    println!("before {before}; afterwards {}", Footprint::of(pid).unwrap());
    let served = |loads: [Load; 2]| {
        let attempts = loads.map(|load| load.finish().unwrap().begun(started, ended));
        let asked: usize = attempts.iter().map(|attempts| attempts.0.len()).sum();
        let served: usize = attempts.iter().map(|attempts| attempts.within(PATIENCE)).sum();
        (served, asked)
    };
    let (validated_clients, new_clients) = (served(validated_clients), served(new_clients));

    let naive = counted_by_source(sources);
    row.result(
        sources,
        format!(
            "sources of both families ({sent} SYNs sent, {counted} counted at entry, clients' among them): \
             {course}; {lost} of {} validated clients lost; {} of {} connections of validated clients and {} of \
             {} of new clients served",
            known.len(),
            validated_clients.0,
            validated_clients.1,
            new_clients.0,
            new_clients.1,
        ),
        course.keeps_the_promise()
            && lost == 0
            && [validated_clients, new_clients].iter().all(|(served, asked)| served * 1000 >= asked * 999),
    )
    .naive(sources, format!("sources, a counter for each: {naive}"), !naive.keeps_the_promise())
    .finish();
}
