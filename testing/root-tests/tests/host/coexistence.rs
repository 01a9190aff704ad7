//! Other programs on the interface. The error about a program that came first names it and the command that
//! removes it, and the XDP program is not knocked off by accident. With Debian's xdp-tools. Needs root and
//! `TCPGUARD_BIN`.

use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use tcpguard_goals::{Goal, Row};
use tcpguard_kit::daemon::agent::{self, Agent, Mode, cli};
use tcpguard_kit::net::foreign::{Verdict, attach_at_clsact, attach_by_netlink};
use tcpguard_kit::net::lab::{INTERFACE, Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::trickle::{DROPPED, Trickle};

/// Time until a rule is in the kernel.
const LIMIT: Duration = Duration::from_secs(5);
/// Time for which the effect of a command is observed. The agent checks its interfaces each second.
const AFTER: Duration = Duration::from_millis(1500);
const STEP: Duration = Duration::from_millis(50);

/// Commands that an administrator may type without thinking of tcpguard.
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
    host.write(agent::CONFIG, "").unwrap();
    host
}

fn lab() -> Lab {
    Lab::new(LabOptions::default()).unwrap()
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

/// The agent refuses to start, with these words, and the command that it names, which
/// begins like this, takes the other off.
#[track_caller]
fn is_refused(host: &Netns, words: &[&str], way_out: &str) {
    let before = program(host).expect("the other's program");
    let output = ended(agent::daemon(host, Mode::Observe).unwrap());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it should have refused: {said}");
    assert_eq!(said.lines().count(), 2, "an error and its hint:\n{said}");
    let id = format!("id {},", before.0);
    for word in words.iter().copied().chain([id.as_str(), before.1.as_str()]) {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
    assert_eq!(program(host), Some(before), "the other's is left alone");
    let named = said.split_once("hint: ").map(|(_, rest)| rest.split(", ").next().unwrap());
    let named = named.filter(|named| named.starts_with(way_out)).expect(&said);
    host.exec(named).unwrap();
    assert_eq!(program(host), None, "{named}");
    let agent = Agent::start(host, Mode::Observe).unwrap();
    assert!(is_ours(host));
    drop(agent);
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
    let output = ended(agent::daemon(&host, Mode::Observe).unwrap());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
    let way_out = "ip link set dev eth0 xdpdrv off";
    assert!(said.contains(way_out), "{said}");
    host.exec(way_out).unwrap();
    drop(Agent::start(&host, Mode::Observe).unwrap());
}

#[test]
fn a_program_on_the_bridge_above_is_named_with_its_interface() {
    let host = host();
    host.ip(&["link add br0 type bridge", "link set eth0 master br0", "link set br0 up"]).unwrap();
    attach_by_netlink(&host, "br0", Verdict::Pass).unwrap();
    let output = ended(agent::daemon(&host, Mode::Observe).unwrap());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let way_out = "ip link set dev br0 xdpgeneric off";
    let words = "another XDP program is attached to br0, which is above eth0 (generic XDP, id ";
    assert!(said.contains(words) && said.contains(way_out), "{said}");
    host.exec(way_out).unwrap();
    drop(Agent::start(&host, Mode::Observe).unwrap());
}

/// Ids of the programs on the interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Programs {
    xdp: Option<u32>,
    /// At TCX or clsact, for outgoing packets.
    egress: Option<u32>,
}

fn programs(host: &Netns) -> Programs {
    let query = || Ok(SchedClassifier::query_tcx(INTERFACE, TcAttachType::Egress));
    let at_tcx = host.run(query).unwrap().ok();
    let at_tcx = at_tcx.and_then(|(_, programs)| Some(programs.first()?.id()));
    let at_clsact = || {
        let filters = host.exec(&format!("tc filter show dev {INTERFACE} egress")).unwrap();
        let (_, rest) = filters.split_once(" id ")?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Programs { xdp: program(host).map(|(id, _)| id), egress: at_tcx.or_else(at_clsact) }
}

/// Effect of accidents on programs that are to drop one half of a [`Trickle`].
struct Damage {
    /// Accidents after which the programs were not the same, in one check or more.
    knocked_off: Vec<&'static str>,
    looks: u64,
    /// SYNs let in that were to be dropped, and how many there were.
    let_in: u64,
    sent: u64,
}

/// Lets all accidents happen, and watches the effect of each for [`AFTER`]. Where a program was taken off,
/// `put_back` does its work before the next.
fn damage(lab: &Lab, put_back: impl Fn()) -> Damage {
    let mut damage = Damage { knocked_off: Vec::new(), looks: 0, let_in: 0, sent: 0 };
    for accident in ACCIDENTS {
        let before = programs(&lab.edge);
        assert!(before.xdp.is_some() && before.egress.is_some(), "{before:?}");
        let traffic = Trickle::start(lab).unwrap();
        // Mostly refused.
        let refused = lab.edge.exec(accident).err().map(|error| error.to_string());
        let (begun, mut different) = (Instant::now(), 0);
        while begun.elapsed() < AFTER {
            different += u32::from(programs(&lab.edge) != before);
            damage.looks += 1;
            // A shorter gap shows in the pairs, of which there is one each millisecond.
            sleep(STEP);
        }
        let pairs = traffic.finish().unwrap();
        println!("{accident}: others in {different} looks, {pairs:?}, {refused:?}");
        (damage.let_in, damage.sent) = (damage.let_in + pairs.let_in, damage.sent + pairs.sent);
        if different > 0 || pairs.let_in > 0 {
            damage.knocked_off.push(accident);
            put_back();
        }
    }
    damage
}

impl Damage {
    fn summary(&self) -> String {
        let Self { knocked_off, looks, let_in, sent } = self;
        format!(
            "{} took it off in one of {looks} looks ({}), {let_in} of {sent} SYNs let in",
            knocked_off.len(),
            knocked_off.join(", ")
        )
    }
}

#[test]
fn coexistence_ours_is_not_knocked_off_by_accident() {
    let row = Row::new(Goal::Coexistence);
    let cases = [damage_to_ours as fn() -> Damage, damage_to_programs_without_links];
    let [own, naive] = side_by_side(2, cases, |damage| damage()).try_into().ok().expect("two");
    let n = ACCIDENTS.len() as u64;
    let off = |accident| naive.knocked_off.contains(&accident);
    row.result(
        n,
        format!("accidents: {}", own.summary()),
        own.knocked_off.is_empty() && own.let_in == 0,
    )
    .naive(
        n,
        format!("accidents to programs without links: {}", naive.summary()),
        off(ACCIDENTS[0]) && off(ACCIDENTS[6]) && naive.let_in > 0,
    )
    .finish();
}

fn damage_to_ours() -> Damage {
    let lab = lab();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    assert!(cli(&lab.edge, &["block", DROPPED]).unwrap().status.success());
    agent.wait_for_rule(LIMIT).unwrap();
    let damage = damage(&lab, || {});
    let status = agent.status().unwrap();
    assert_eq!(status.document()["interfaces"][0]["attached"], true, "{}", agent.log());
    damage
}

/// Programs are attached natively. A command for generic programs does nothing to them.
fn damage_to_programs_without_links() -> Damage {
    let lab = lab();
    let attach = || {
        attach_by_netlink(&lab.edge, INTERFACE, Verdict::Drop).unwrap();
        attach_at_clsact(&lab.edge, INTERFACE).unwrap();
    };
    attach();
    damage(&lab, || {
        // Refused where it is off.
        for line in ["xdp-loader unload eth0 --all", "ip link set dev eth0 xdp off"] {
            let _ = lab.edge.exec(line);
        }
        attach();
    })
}

/// Program that is on an interface before tcpguard.
#[derive(Clone, Copy, Debug)]
enum First {
    XdpFilter(&'static str),
    ByNetlink,
}

const FIRST: [First; 3] = [First::XdpFilter("native"), First::XdpFilter("skb"), First::ByNetlink];

/// Returns whether the program started by `start` leaves the first program alone, and names it and the command that
/// removes it.
fn is_respected(first: First, start: impl Fn(&Netns) -> Output) -> bool {
    let host = host();
    match first {
        First::XdpFilter(mode) => {
            host.exec(&format!("xdp-filter load --mode {mode} eth0")).map(drop).unwrap();
        }
        First::ByNetlink => attach_by_netlink(&host, INTERFACE, Verdict::Pass).unwrap(),
    }
    let before = program(&host).expect("the other's program");
    let said = String::from_utf8_lossy(&start(&host).stderr).into_owned();
    let alone = program(&host) == Some(before.clone());
    let way_out = said.split_once("hint: ").map(|(_, rest)| rest.split(", ").next().unwrap());
    // By its id: not every one has a name.
    let named = said.contains(&format!("id {},", before.0));
    println!("{first:?}: left alone {alone}, named {named}, {said}");
    let goes = way_out.is_some_and(|line| host.exec(line).is_ok() && program(&host).is_none());
    alone && named && goes
}

#[test]
fn coexistence_an_earlier_program_is_named_and_left_alone() {
    let row = Row::new(Goal::Coexistence);
    let count = |start: fn(&Netns) -> Output| {
        FIRST.into_iter().filter(|first| is_respected(*first, start)).count()
    };
    let own = count(|host| ended(agent::daemon(host, Mode::Observe).unwrap()));
    let naive = count(|host| {
        let attached = attach_by_netlink(host, INTERFACE, Verdict::Drop);
        if attached.is_err() {
            let _ = host.exec("ip link set dev eth0 xdp off");
            let _ = host.exec("ip link set dev eth0 xdpgeneric off");
            attach_by_netlink(host, INTERFACE, Verdict::Drop).unwrap();
        }
        ended(host.command("true").unwrap())
    });
    let n = FIRST.len() as u64;
    row.result(
        n,
        format!("programs that came first: {own} left alone and named with what takes them off"),
        own == FIRST.len(),
    )
    .naive(
        n,
        format!("programs, by one that makes room for itself: {naive} left alone"),
        naive == 0,
    )
    .finish();
}

/// State of the agent while the XDP program is to be detached.
#[derive(Clone, Copy, Debug)]
enum AgentState {
    Lives,
    IsDead,
    Hangs,
}

const STATES: [AgentState; 3] = [AgentState::Lives, AgentState::IsDead, AgentState::Hangs];

/// Warning of `detach` where it could not reach the agent.
const MAY_REATTACH: &str = "the running agent may attach the XDP program again";

/// Returns whether the XDP program is off in each check for [`AFTER`], and the egress program too.
fn stays_off(host: &Netns) -> bool {
    let gone = Programs { xdp: None, egress: None };
    let (begun, mut stays) = (Instant::now(), true);
    while begun.elapsed() < AFTER {
        stays &= programs(host) == gone;
        sleep(STEP);
    }
    stays
}

/// Outcome for the XDP program.
struct Fate {
    /// True if it is gone when the line has ended, and stays so. If an agent that hung could attach it again, the
    /// output must have warned of that, and the way out that it names must have removed the program for good.
    gone: bool,
    /// An agent that went on did put it on again.
    came_back: bool,
}

/// Effect of `line` on the XDP program.
fn fate(state: AgentState, line: &[&str]) -> Fate {
    let host = host();
    let mut agent = Agent::start(&host, Mode::Enforce).unwrap();
    match state {
        AgentState::Lives => {}
        AgentState::IsDead => agent.kill().unwrap(),
        AgentState::Hangs => agent.pause().unwrap(),
    }
    assert!(is_ours(&host));
    let output = cli(&host, line).unwrap();
    let mut fate = Fate { gone: stays_off(&host), came_back: false };
    println!("{state:?}: {}, {output:?}", fate.gone);
    if matches!(state, AgentState::Hangs) {
        agent.resume().unwrap();
        fate.came_back = !stays_off(&host);
        let said = String::from_utf8_lossy(&output.stderr);
        fate.gone &= !output.status.success() && said.contains(MAY_REATTACH);
        // As it said: stop it, then detach again.
        agent.stop().unwrap();
        cli(&host, line).unwrap();
        fate.gone &= stays_off(&host);
    }
    fate
}

#[test]
fn coexistence_detach_removes_the_program() {
    let row = Row::new(Goal::Coexistence);
    // The naive variant finds no pins, so all that it can do is to ask the agent.
    let lines = [&["detach", "--all"][..], &["detach", "--all", "--pin-dir", "/run/nowhere"]];
    let cases = lines.into_iter().flat_map(|line| STATES.map(|state| (state, line)));
    let mut detached = side_by_side(3, cases, |(state, line)| fate(state, line));
    let count = |fates: &[Fate]| fates.iter().filter(|fate| fate.gone).count();
    let asked = count(&detached.split_off(STATES.len()));
    let own = count(&detached);
    let came_back = detached.iter().filter(|fate| fate.came_back).count();
    let n = STATES.len() as u64;
    row.result(
        n,
        format!(
            "agents, alive, dead and hanging: from {own} the XDP program goes and stays off; {came_back} of 1 \
             that went on put it on again, of which was warned, until it was stopped"
        ),
        own == STATES.len(),
    )
    .naive(n, format!("agents that are only asked: from {asked}"), asked < STATES.len())
    .finish();
}

#[test]
fn the_way_out_needs_no_agent_that_answers() {
    let host = host();
    let mut agent = Agent::start(&host, Mode::Enforce).unwrap();
    agent.kill().unwrap();
    assert!(is_ours(&host), "a crash opens no gap");
    let detached = cli(&host, &["detach", "--all"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&detached.stdout), "detached eth0\n");
    assert_eq!(program(&host), None);

    agent.start_again(Mode::Enforce).unwrap();
    assert!(is_ours(&host));
    agent.pause().unwrap();
    let begun = Instant::now();
    let detached = cli(&host, &["detach", "--all"]).unwrap();
    let said = String::from_utf8_lossy(&detached.stderr).into_owned();
    assert_eq!(program(&host), None, "{said}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!detached.status.success(), "it may come back, which is no success");
    assert!(said.contains(MAY_REATTACH), "{said}");
    agent.resume().unwrap();
}
