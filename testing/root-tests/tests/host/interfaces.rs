//! Interfaces that are renamed, moved, missing, made anew: an attached interface stays attached, and the
//! status never claims more than is true. Needs root and `TCPGUARD_BIN`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::bail;
use aya::maps::{Map, MapData, PerCpuArray};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tcpguard::control::{Client, Request, Response};
use tcpguard::documents::{Interface, State};
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_host::linux::{LinkEvent, LinkWatch, interfaces};
use tcpguard_kit::daemon::agent::{Agent, Mode, RUNTIME_DIR, cli};
use tcpguard_kit::daemon::pins::PIN_DIR;
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::peak;
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::raw::PacketSocket;
use tcpguard_kit::traffic::random::Random;

/// The agent checks its interfaces at least once a second.
const LOOKED: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(10);

/// A host with `eth0`, which is the other end of `wire0`.
fn host() -> Netns {
    let host = Netns::new("edge").unwrap();
    make(&host, "eth0", "wire0");
    host
}

fn make(host: &Netns, name: &str, peer: &str) {
    host.ip(&[
        &format!("link add {name} type veth peer name {peer}"),
        &format!("link set {name} up"),
        &format!("link set {peer} up"),
    ])
    .unwrap();
}

/// Renames as udev does: not every kernel renames an interface that is up.
fn rename(host: &Netns, name: &str, to: &str) {
    host.ip(&[
        &format!("link set {name} down"),
        &format!("link set {name} name {to}"),
        &format!("link set {to} up"),
    ])
    .unwrap();
}

/// Returns whether the kernel shows a program of tcpguard on the interface.
fn is_attached(host: &Netns, name: &str) -> bool {
    host.exec(&format!("ip -details link show dev {name}")).unwrap().contains("tcpguard")
}

/// The status of the interface with this name.
fn reported(status: &Status, name: &str) -> Option<Value> {
    let interfaces = status.document()["interfaces"].as_array().unwrap();
    interfaces.iter().find(|interface| interface["name"] == name).cloned()
}

fn attached(status: &Status, name: &str) -> bool {
    reported(status, name).is_some_and(|interface| interface["attached"] == true)
}

/// Waits until the agent says that exactly these are protected, which must be true.
#[track_caller]
fn protected(agent: &Agent<'_>, host: &Netns, names: &[&str]) {
    let all = |status: &Status| names.iter().all(|name| attached(status, name));
    agent.wait_until(&format!("{names:?} protected"), LOOKED, all).unwrap();
    for name in names {
        assert!(is_attached(host, name), "{name} is bare: {}", agent.log());
    }
}

#[test]
fn a_renamed_interface_keeps_its_xdp_program_and_is_called_by_its_new_name() {
    let host = host();
    let mut agent = Agent::start(&host, Mode::Enforce).unwrap();
    protected(&agent, &host, &["eth0"]);
    let link = reported(&agent.status().unwrap(), "eth0").unwrap()["link_id"].clone();
    for (name, to) in [("eth0", "wan0"), ("wan0", "eth0"), ("eth0", "wan0")] {
        rename(&host, name, to);
        let begun = Instant::now();
        while begun.elapsed() < LOOKED {
            assert!(is_attached(&host, to), "bare after {:?}: {}", begun.elapsed(), agent.log());
            sleep(STEP);
        }
        let status = agent.status().unwrap();
        assert_eq!(reported(&status, to).unwrap()["link_id"], link, "it was never taken off");
        assert!(attached(&status, to));
        assert_eq!(status.health(), [], "all is well");
    }
    assert!(agent.log().contains("eth0 renamed to wan0"), "{}", agent.log());

    // The next agent is configured for eth0, and finds the interface by the pins of the previous agent.
    agent.kill().unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    protected(&agent, &host, &["wan0"]);
    assert_eq!(reported(&agent.status().unwrap(), "wan0").unwrap()["link_id"], link);

    // And the way out knows it by the name that it has.
    let detached = cli(&host, &["detach", "-i", "wan0"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&detached.stdout), "detached wan0\n");
    assert!(!is_attached(&host, "wan0"));
}

#[test]
fn an_interface_that_gets_the_name_of_an_attached_one_is_attached_as_well() {
    let host = host();
    let agent = Agent::start(&host, Mode::Enforce).unwrap();
    rename(&host, "eth0", "old0");
    make(&host, "eth0", "wire1");
    protected(&agent, &host, &["old0", "eth0"]);

    host.ip(&["link delete old0"]).unwrap();
    let only_eth0 =
        |status: &Status| reported(status, "old0").is_none() && attached(status, "eth0");
    agent.wait_until("only eth0 left", LOOKED, only_eth0).unwrap();
    assert_eq!(agent.status().unwrap().health(), []);
}

#[test]
fn an_interface_in_another_namespace_is_not_filtered_there_and_is_again_on_return() {
    let host = host();
    let elsewhere = Netns::new("elsewhere").unwrap();
    let agent = Agent::start(&host, Mode::Enforce).unwrap();
    host.ip(&[&format!("link set eth0 netns {}", elsewhere.path())]).unwrap();
    let gone = |status: &Status| !attached(status, "eth0");
    let status = agent.wait_until("eth0 gone", LOOKED, gone).unwrap();
    let text = "eth0: no such interface".to_owned();
    assert_eq!(status.health(), [("detached".to_owned(), text)]);
    let begun = Instant::now();
    while is_attached(&elsewhere, "eth0") {
        assert!(begun.elapsed() < LOOKED, "it filters a namespace that it does not guard");
        sleep(STEP);
    }

    elsewhere.ip(&[&format!("link set eth0 netns {}", host.path())]).unwrap();
    protected(&agent, &host, &["eth0"]);
}

#[test]
fn a_missing_interface_keeps_the_others_from_nothing_and_is_taken_when_it_appears() {
    let host = host();
    let agent = Agent::start_with(&host, Mode::Enforce, "", &["-i", "eth1"]).unwrap();
    protected(&agent, &host, &["eth0"]);
    let status = agent.status().unwrap();
    assert_eq!(reported(&status, "eth1").unwrap()["attached"], false);
    let text = "eth1: no such interface".to_owned();
    assert_eq!(status.health(), [("detached".to_owned(), text)]);
    assert!(agent.log().contains("eth1 not protected: no such interface"), "{}", agent.log());

    make(&host, "eth1", "wire1");
    protected(&agent, &host, &["eth0", "eth1"]);
    assert_eq!(agent.status().unwrap().health(), []);
}

#[test]
fn what_arrives_at_an_interface_that_is_made_anew_is_counted_as_its_own() {
    const TIMES: usize = 20;
    let host = host();
    let agent = Agent::start(&host, Mode::Enforce).unwrap();
    protected(&agent, &host, &["eth0"]);
    let over = AtomicBool::new(false);
    scope(|scope| {
        // Whatever the wire is at the moment: frames from the first one on.
        scope.spawn(|| {
            let send = || {
                let frame = [0xff; 64];
                while !over.load(Ordering::Relaxed) {
                    let Ok(wire) = PacketSocket::open("wire0") else { continue };
                    while !over.load(Ordering::Relaxed) {
                        // The wire is another one from now on.
                        if wire.send(&frame).is_err() {
                            break;
                        }
                    }
                }
                Ok(())
            };
            host.run(send).unwrap();
        });
        for _ in 0..TIMES {
            host.ip(&["link delete eth0"]).unwrap();
            make(&host, "eth0", "wire0");
            protected(&agent, &host, &["eth0"]);
        }
        over.store(true, Ordering::Relaxed);
    });
    let counted = || Ok(unattached_packets());
    assert_eq!(host.run(counted).unwrap(), 0, "counted as those of unguarded interfaces");
    assert!(agent.status().unwrap().total("rx_packets") > 0);
}

/// Change of `eth0`, which is up again afterwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Churn {
    Anew,
    Renamed,
    Moved,
    Flapping,
    Resized,
    /// Made anew with the same index.
    AnewAsBefore,
}

impl Churn {
    const ALL: [Self; 6] =
        [Self::Anew, Self::Renamed, Self::Moved, Self::Flapping, Self::Resized, Self::AnewAsBefore];
    /// Changes after which `eth0` is another interface, without a program.
    const ANEW: [Self; 2] = [Self::Anew, Self::AnewAsBefore];

    /// Returns `count` changes in random order, each kind as often as any other or once more.
    fn schedule(count: usize, random: &mut Random) -> Vec<Self> {
        let mut all: Vec<Self> = Self::ALL.into_iter().cycle().take(count).collect();
        random.shuffle(&mut all);
        all
    }

    /// Returns the number of changes of each kind, in words.
    fn counted(all: &[Self]) -> String {
        let count = |kind| all.iter().filter(|one| **one == kind).count();
        Self::ALL.map(|kind| format!("{kind:?} {}", count(kind))).join(", ")
    }

    fn happen(self, host: &Netns, elsewhere: &Netns) {
        let away = format!("link set eth0 netns {}", elsewhere.path());
        let back = format!("link set eth0 netns {}", host.path());
        match self {
            Self::Anew => {
                host.ip(&["link delete eth0"]).unwrap();
                make(host, "eth0", "wire0");
            }
            Self::Renamed => {
                rename(host, "eth0", "wan0");
                rename(host, "wan0", "eth0");
            }
            Self::Moved => {
                host.ip(&[&away]).unwrap();
                elsewhere.ip(&[&back]).unwrap();
                host.ip(&["link set eth0 up"]).unwrap();
            }
            Self::Flapping => {
                for _ in 0..10 {
                    host.ip(&["link set eth0 down", "link set eth0 up"]).unwrap();
                }
            }
            Self::Resized => {
                host.ip(&["link set eth0 mtu 9000", "link set eth0 mtu 1500"]).unwrap();
            }
            Self::AnewAsBefore => {
                let index = index(host).expect("eth0");
                let again = format!("link add eth0 index {index} type veth peer name wire0");
                host.ip(&["link delete eth0", &again, "link set eth0 up", "link set wire0 up"])
                    .unwrap();
            }
        }
    }
}

fn index(host: &Netns) -> Option<u32> {
    let found = host.run(|| Ok(interfaces::list()?)).unwrap();
    found.iter().find(|one| one.name == "eth0").map(|one| one.index)
}

/// Time from the message that an interface is there without a program until it has one.
struct Latency {
    /// Time without that which this thread overslept: when it got no CPU at the end of a sleep, no other thread did.
    took: Duration,
    /// Time with that which this thread overslept.
    raw: Duration,
}

/// Returns a latency for each time that `eth0` is bare.
fn latencies(mut watch: LinkWatch, over: &AtomicBool) -> anyhow::Result<Vec<Latency>> {
    const LOOK: Duration = Duration::from_millis(1);
    let mut all = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&wait))?;
        let reported = Instant::now();
        let events = watch.drain()?;
        let bare = events.iter().rev().find_map(|event| match event {
            LinkEvent::Changed(one) if one.name == "eth0" => Some(one.xdp_program.is_none()),
            _ => None,
        });
        if bare != Some(true) {
            continue;
        }
        let mut overslept = Duration::ZERO;
        loop {
            let found = interfaces::list()?;
            let raw = reported.elapsed();
            let took = raw.saturating_sub(overslept);
            match found.iter().find(|one| one.name == "eth0") {
                Some(one) if one.xdp_program.is_some() || took > LOOKED => {
                    all.push(Latency { took, raw });
                    break;
                }
                // Gone again before it could be protected.
                None => break,
                Some(_) => {
                    let asleep = Instant::now();
                    sleep(LOOK);
                    // Any sleep is a little late.
                    overslept += asleep.elapsed().saturating_sub(2 * LOOK);
                }
            }
        }
    }
    Ok(all)
}

/// Claim that an interface is protected.
struct Claim {
    index: u32,
    /// ID of the link of the program, if the claim gives it. An index may be another interface's by now; the kernel
    /// gives the ids of links in order, so that none comes twice.
    link: Option<u64>,
}

/// The kernel's state of the links.
struct Truth {
    /// Index of each interface with a program, and the id of its link.
    on: Vec<(u32, u64)>,
    newest: u64,
}

impl Truth {
    /// Reads the state of the links of the process `pid`.
    fn now(pid: u32) -> anyhow::Result<Self> {
        // First, since a link that is still on an interface after that was on it then as well.
        let found = interfaces::list()?;
        let links = peak::links(pid)?;
        let bare = |index: u64| {
            found.iter().all(|one| u64::from(one.index) != index || one.xdp_program.is_none())
        };
        let on = links.iter().filter(|(_, index)| !bare(**index));
        Ok(Self {
            on: on.map(|(link, index)| (*index as u32, *link)).collect(),
            newest: links.keys().max().copied().unwrap_or_default(),
        })
    }

    fn bears_out(&self, claim: &Claim) -> bool {
        let same = |(index, link): &(u32, u64)| {
            *index == claim.index && claim.link.is_none_or(|reported| reported == *link)
        };
        self.on.iter().any(same)
    }
}

/// Returns whether the claim is false: it holds neither before nor afterwards, nor by a link that came meanwhile.
fn is_lie(claim: &Claim, before: &Truth, after: &Truth) -> bool {
    let came = claim.link.is_some_and(|link| link > before.newest);
    !came && !before.bears_out(claim) && !after.bears_out(claim)
}

#[test]
fn what_is_made_anew_with_the_same_index_bears_out_nothing_that_is_said_of_the_one_before() {
    let truth = |on: &[(u32, u64)], newest| Truth { on: on.to_vec(), newest };
    let (old, bare, new) = (truth(&[(7, 3)], 4), truth(&[], 4), truth(&[(7, 5)], 6));
    let (of_old, of_new) = (Claim { index: 7, link: Some(3) }, Claim { index: 7, link: Some(5) });
    assert!(is_lie(&of_old, &bare, &new), "it was bare when that was said");
    assert!(is_lie(&of_old, &bare, &bare) && is_lie(&of_old, &new, &new));
    assert!(!is_lie(&of_old, &old, &bare), "gone just after");
    assert!(!is_lie(&of_new, &bare, &new) && !is_lie(&of_new, &bare, &bare), "it came meanwhile");
    assert!(is_lie(&Claim { index: 7, link: None }, &bare, &bare), "whatever the link");
}

/// Returns the number of false claims by `reported` that an interface is attached, and the number of samples.
fn lies(
    pid: u32,
    over: &AtomicBool,
    reported: impl Fn() -> anyhow::Result<Vec<Claim>>,
) -> anyhow::Result<(u64, u64)> {
    let (mut lies, mut samples) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        let before = Truth::now(pid)?;
        let claims = reported()?;
        let after = Truth::now(pid)?;
        lies += claims.iter().filter(|claim| is_lie(claim, &before, &after)).count() as u64;
        samples += 1;
        sleep(STEP);
    }
    Ok((lies, samples))
}

/// Claims of the status: about each interface, and in one word about the whole host, which has no other
/// interface.
fn by_status() -> anyhow::Result<Vec<Claim>> {
    let socket_client =
        Client { runtime_dir: RUNTIME_DIR.into(), socket: None, pin_dir: PIN_DIR.into() };
    let Response::Status(status) = socket_client.call(Request::Status)? else { bail!("no status") };
    let whole = status.daemon.state == State::Protecting;
    if whole && status.interfaces.is_empty() {
        return Ok(vec![Claim { index: 0, link: None }]);
    }
    let reported = status.interfaces.iter().filter(|interface| whole || interface.attached);
    let claim = |interface: &Interface| {
        let link = interface.link_id.map(u64::from);
        assert!(link.is_some() || !interface.attached, "a program without a link: {interface:?}");
        Claim { index: interface.ifindex, link }
    };
    Ok(reported.map(claim).collect())
}

/// Claims of a naive observer that takes a pin for the XDP program. The pin is there even when the interface has
/// gone.
fn by_pin(host: &Netns) -> anyhow::Result<Vec<Claim>> {
    let pins = host.exec("find /sys/fs/bpf -path */links/*-eth0 -printf %f\\n")?;
    let index = |pin: &str| pin.split_once('-').and_then(|(index, _)| index.parse().ok());
    Ok(pins.lines().filter_map(index).map(|index| Claim { index, link: None }).collect())
}

/// Observations of interfaces that came and went.
struct Seen {
    times: u64,
    /// Latencies from each message that an interface is bare until it was not.
    late: Vec<Latency>,
    lies: u64,
    samples: u64,
}

impl Seen {
    const SOON: Duration = Duration::from_millis(200);

    /// Observes the agent while all of `churns` happen in turn. An agent that is `slow` checks its interfaces a
    /// second later.
    fn of(
        agent: &Agent<'_>,
        [host, elsewhere]: [&Netns; 2],
        churns: &[Churn],
        slow: bool,
        reported: impl Fn() -> anyhow::Result<Vec<Claim>> + Send,
    ) -> Self {
        let over = AtomicBool::new(false);
        // Before the first of them.
        let watch = host.run(|| Ok(LinkWatch::open()?)).unwrap();
        scope(|scope| {
            let watch = scope.spawn(|| host.run(|| latencies(watch, &over)).unwrap());
            let sampler = scope.spawn(|| host.run(|| lies(agent.pid(), &over, reported)).unwrap());
            for churn in churns {
                if slow {
                    agent.pause().unwrap();
                }
                churn.happen(host, elsewhere);
                if slow {
                    sleep(Duration::from_secs(1));
                    agent.resume().unwrap();
                }
                // Protected, and known to be, before the next thing happens.
                protected(agent, host, &["eth0"]);
            }
            over.store(true, Ordering::Relaxed);
            let (late, (lies, samples)) = (watch.join().unwrap(), sampler.join().unwrap());
            Self { times: churns.len() as u64, late, lies, samples }
        })
    }

    /// Returns the number of times that an interface was bare for longer than [`Self::SOON`].
    fn bare(&self) -> usize {
        self.late.iter().filter(|late| late.took > Self::SOON).count()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.late.iter().map(|late| late.took).max().unwrap_or_default();
        let raw = self.late.iter().map(|late| late.raw).max().unwrap_or_default();
        write!(
            f,
            "{} of {} bare for more than 200 ms, at most {longest:.0?}, {raw:.0?} with what looks were \
             late by; {} of {} times wrongly said to be protected",
            self.bare(),
            self.late.len(),
            self.lies,
            self.samples,
        )
    }
}

#[test]
fn g5_interfaces_that_come_and_go_are_protected_at_once_and_never_said_to_be_before() {
    let row = Row::new(Goal::G5);
    let (host, elsewhere) = (host(), Netns::new("elsewhere").unwrap());
    let places = [&host, &elsewhere];
    let agent = Agent::start(&host, Mode::Enforce).unwrap();
    protected(&agent, &host, &["eth0"]);
    let mut random = Random::new(seed());
    let churns = Churn::schedule(size(20, 200), &mut random);
    let kinds = Churn::counted(&churns);
    let every_kind = Churn::ALL.iter().all(|kind| churns.contains(kind));
    let seen = Seen::of(&agent, places, &churns, false, by_status);
    let anew = churns.iter().filter(|churn| Churn::ANEW.contains(churn)).count();

    let churns: Vec<Churn> = Churn::ANEW.into_iter().cycle().take(size(6, 20)).collect();
    let naive = Seen::of(&agent, places, &churns, true, || by_pin(&host));
    row.result(
        seen.times,
        format!("changes ({kinds}), {anew} of them for another interface: {seen}"),
        every_kind && seen.bare() == 0 && seen.lies == 0 && seen.late.len() >= anew.div_ceil(2),
    )
    .naive(
        naive.times,
        format!("of an agent that looks a second later, by its pins: {naive}"),
        // Not all of them: on a busy machine one may come and go before it is looked at.
        naive.bare() as u64 * 2 >= naive.times && naive.lies >= naive.times,
    )
    .finish();
}

/// Packets that the programs have counted for interfaces that have no counters of their own.
fn unattached_packets() -> u64 {
    let all = std::fs::read_dir("/sys/fs/bpf/tcpguard").unwrap();
    // Next programs have a directory beside those of layouts.
    let mut maps = all.map(|entry| entry.unwrap().path().join("maps/PACKETS"));
    let map = MapData::from_pin(maps.find(|path| path.exists()).unwrap()).unwrap();
    // The counter at entry comes first; see `PacketCounters`.
    const WORDS: usize = size_of::<tcpguard_common::abi::PacketCounters>() / 8;
    let map: PerCpuArray<_, [u64; WORDS]> = Map::PerCpuArray(map).try_into().unwrap();
    map.get(&0, 0).unwrap().iter().map(|counters| counters[0]).sum()
}
