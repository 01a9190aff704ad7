//! A rule set takes the place of another from one packet to the next, also when the agent is killed
//! meanwhile. Needs root and `TCPGUARD_BIN`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use tcpguard_common::abi::{RuleRef, SourceKey, SourceV4, SourceV6, maps};
use tcpguard_e2e::flood::Flood;
use tcpguard_e2e::guard::{CONFIG, Guard, Mode, cli};
use tcpguard_e2e::lab::{ATTACKER_MAC, EDGE_MAC, Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_e2e::packet::{Segment, flags};
use tcpguard_e2e::pins::pretend_layout;
use tcpguard_e2e::raw::PacketSocket;
use tcpguard_e2e::server::{Behaviour, Server};
use tcpguard_e2e::tamper::PinnedMap;
use tcpguard_goals::{Goal, Row, size};

const SECOND: Duration = Duration::from_secs(1);
/// Rules of a set.
const RULES: u32 = 10_000;
/// Two sets that have half of their rules in common.
const SETS: [(&str, Range<u32>); 2] = [("a", 0..RULES), ("b", RULES / 2..RULES + RULES / 2)];
const SHARED: Range<u32> = RULES / 2..RULES;
/// Nothing listens there: no flood, and so no rule but those imported.
const CLOSED: u16 = 9;
/// SYNs per second, a handful at a time: far below what could be lost on the way.
const RATE: u32 = 20_000;
const HANDFUL: u32 = 16;

/// Rule `n`: one in ten an IPv6 /64, one in ten an IPv4 /28, the others single addresses.
fn prefix(n: u32) -> String {
    match n % 10 {
        0 => format!("{}/64", v6(n, 0)),
        1 => format!("{}/28", v4(n, 0)),
        _ => v4(n, 5).to_string(),
    }
}

/// An address that rule `n` is about.
fn member(n: u32) -> IpAddr {
    match n % 10 {
        0 => v6(n, 7).into(),
        _ => v4(n, 5).into(),
    }
}

/// An address as close to rule `n` as one can be that no rule is about.
fn stranger(n: u32) -> IpAddr {
    match n % 10 {
        0 => v6(n, 1 << 64).into(),
        1 => v4(n + 1, 0).into(),
        _ => v4(n, 4).into(),
    }
}

fn v4(n: u32, host: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x6440_0000 + n * 16 + host)
}

fn v6(n: u32, rest: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(n) << 65 | rest)
}

fn file(name: &str) -> String {
    format!("/run/{name}.rules")
}

/// A guarded host with nothing in the kernel, and the files of both sets.
fn stage() -> Lab {
    let lab = Lab::new(LabOptions::default()).unwrap();
    for (name, rules) in SETS {
        let line = |n| {
            format!("{{\"prefix\":\"{}\",\"for_s\":3600,\"reason\":\"set {name}\"}}\n", prefix(n))
        };
        lab.edge.write(&file(name), &rules.map(line).collect::<String>()).unwrap();
    }
    lab
}

fn import(lab: &Lab, name: &str) -> Duration {
    let begun = Instant::now();
    let output = cli(&lab.edge, &["rules", "import", &file(name)]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    begun.elapsed()
}

/// What `rules export` says: reason by prefix, all of them an operator's.
fn exported(lab: &Lab) -> BTreeMap<String, String> {
    let output = cli(&lab.edge, &["rules", "export", "--all", "--json"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules = document["rules"].as_array().unwrap();
    let text = |rule: &Value, key: &str| rule[key].as_str().unwrap().to_owned();
    assert!(rules.iter().all(|rule| text(rule, "origin") == "operator"));
    rules.iter().map(|rule| (text(rule, "prefix"), text(rule, "reason"))).collect()
}

fn expected(name: &str) -> BTreeMap<String, String> {
    let (_, rules) = SETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let whole = |prefix: String| match prefix.contains('/') {
        true => prefix,
        false => format!("{prefix}/32"),
    };
    rules.map(|n| (whole(prefix(n)), format!("set {name}"))).collect()
}

/// SYNs to a closed port, again and again from the same sources. It ends when dropped.
struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Sender {
    fn start(lab: &Lab, sources: impl Iterator<Item = IpAddr>) -> Self {
        let frame = |source: IpAddr| {
            let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
            let to = SocketAddr::new(family.edge(), CLOSED);
            let mut syn = Segment::new(SocketAddr::new(source, 40_000), to, flags::SYN);
            (syn.src_mac, syn.dst_mac, syn.window) = (ATTACKER_MAC, EDGE_MAC, 64_240);
            syn.to_frame()
        };
        let frames: Vec<Vec<u8>> = sources.map(frame).collect();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let send = move || {
            let socket = PacketSocket::send_only(INTERFACE)?;
            let mut due = Instant::now();
            for handful in frames.chunks(HANDFUL as usize).cycle() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let mut unsent = handful;
                while !unsent.is_empty() {
                    unsent = &unsent[socket.send_batch(unsent)?..];
                }
                counted.fetch_add(handful.len() as u64, Ordering::Relaxed);
                due += SECOND * HANDFUL / RATE;
                sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(())
        };
        let thread = lab.attacker.spawn("sender", send).unwrap();
        Self { stop, sent, thread: Some(thread) }
    }

    /// Ends it and returns how many SYNs it sent.
    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap().unwrap();
        // The status tells what the last poll counted.
        sleep(SECOND);
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What became of SYNs: let through and dropped by the filter's count, and answered with a reset by
/// the kernel's, which is what becomes of each that is let through.
#[derive(Clone, Copy, Debug)]
struct Fate {
    passed: u64,
    dropped: u64,
    answered: u64,
}

impl Fate {
    fn now(lab: &Lab, guard: &Guard<'_>) -> Self {
        let status = guard.status().unwrap();
        let passed = ["no_listener", "agent_gone", "unconfigured", "syn_exempt", "syn_validated"];
        Self {
            passed: passed.iter().map(|reason| status.reason(reason)).sum(),
            dropped: status.reason("drop_source"),
            answered: resets(lab),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            passed: self.passed - before.passed,
            dropped: self.dropped - before.dropped,
            answered: self.answered - before.answered,
        }
    }
}

fn resets(lab: &Lab) -> u64 {
    let text = lab.edge.read("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut all = names.split(' ').zip(values.split(' '));
    all.find(|(name, _)| *name == "OutRsts").unwrap().1.parse().unwrap()
}

/// What becomes of SYNs from `sources` while `replace` replaces rules, and how many there were.
fn fate_while(
    lab: &Lab,
    guard: &Guard<'_>,
    sources: impl Iterator<Item = IpAddr>,
    replace: impl FnOnce(),
) -> (Fate, u64) {
    let before = Fate::now(lab, guard);
    let sender = Sender::start(lab, sources);
    sleep(SECOND / 5);
    replace();
    let sent = sender.finish();
    (Fate::now(lab, guard).since(before), sent)
}

/// Milliseconds that each replacement took in the kernel, by the agent's log, the shortest first.
fn in_kernel_ms(guard: &Guard<'_>) -> Vec<u64> {
    let log = guard.log();
    let lines =
        log.lines().filter_map(|line| line.split_once(" put in the place of those before in "));
    let number = |rest: &str| rest.split(' ').next()?.parse().ok();
    let mut all: Vec<u64> = lines.filter_map(|(_, rest)| number(rest)).collect();
    all.sort();
    all
}

/// Twenty replacements and more while those that both sets are about send, and then those that
/// neither is about.
#[test]
fn a_replacement_lets_no_member_of_both_sets_in_and_drops_nobody_else() {
    let lab = stage();
    let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    import(&lab, "a");
    let mut took: Vec<Duration> = Vec::new();
    let mut replace = || {
        for name in ["b", "a"].repeat(12) {
            took.push(import(&lab, name));
        }
    };
    let (members, sent) = fate_while(&lab, &guard, SHARED.map(member), &mut replace);
    println!("24 replacements, {sent} SYNs of members of both: {members:?}");
    assert_eq!((members.passed, members.answered), (0, 0), "let in");
    assert!(sent > 50_000 && members.dropped > sent / 2, "{sent} sent, {members:?}");

    let strangers = || (0..RULES + RULES / 2).map(stranger);
    let (others, sent) = fate_while(&lab, &guard, strangers(), &mut replace);
    println!("24 replacements, {sent} SYNs of strangers: {others:?}");
    assert_eq!(others.dropped, 0, "dropped");
    assert!(sent > 50_000 && others.passed > sent / 2, "{sent} sent, {others:?}");

    took.sort();
    println!("an import took {:?} (median), {:?} at most", took[took.len() / 2], took.last());
    let in_kernel = in_kernel_ms(&guard);
    println!("in the kernel {} ms (median), {:?} at most", in_kernel[24], in_kernel.last());
    let told: Vec<String> =
        guard.log().lines().filter(|l| l.contains("WARN")).map(str::to_owned).collect();
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(exported(&lab), expected("a"));
    assert_eq!(guard.status().unwrap().rules_in_kernel(), Some(RULES.into()));
}

/// The naive variant: all rules taken out, and then the new ones put in, so many times.
fn flushed_and_imported(times: usize) -> (Fate, u64) {
    let lab = stage();
    let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    import(&lab, "a");
    fate_while(&lab, &guard, SHARED.map(member), || {
        for name in ["b", "a"].into_iter().cycle().take(times) {
            assert!(cli(&lab.edge, &["rules", "flush"]).unwrap().status.success());
            import(&lab, name);
        }
    })
}

/// The guard's own rule against a flood is in each set, and drops all of it throughout.
#[test]
fn the_rule_against_a_flood_acts_while_an_operators_rules_are_replaced() {
    let lab = stage();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    let flood = Flood::random(Family::V4.service(), 30 * SECOND).start(&lab).unwrap();
    guard.wait_for_rule(5 * SECOND).unwrap();
    let let_in = || {
        let status = guard.status().unwrap();
        let reasons = ["syn", "syn_returned", "agent_gone", "unconfigured"];
        let let_in: u64 = reasons.iter().map(|reason| status.reason(reason)).sum();
        (let_in, status.reason("drop_signature"))
    };
    let (let_in_before, dropped_before) = let_in();
    for name in ["a", "b"].repeat(4) {
        import(&lab, name);
    }
    let (let_in, dropped) = let_in();
    let (leaked, dropped) = (let_in - let_in_before, dropped - dropped_before);
    println!("8 replacements under a flood: {dropped} SYNs of it dropped, {leaked} let in");
    assert_eq!(leaked, 0);
    assert!(dropped > 10_000, "{dropped}");
    assert!(guard.status().unwrap().rules_in_kernel() > Some(RULES.into()), "it is there");
    // Taking all rules back takes this one back too.
    assert!(cli(&lab.edge, &["rules", "flush"]).unwrap().status.success());
    guard.wait_until("no rule", SECOND, |status| status.rules_in_kernel() == Some(0)).unwrap();
    assert_eq!(guard.status().unwrap().rules().len(), 0);
    flood.stop().unwrap();
}

/// A rule that nobody asked for anew is what it was: what became protected after it was made was
/// never forced, and is spared by it in the new set as in the old one.
#[test]
fn neither_a_replacement_nor_another_layout_forces_a_rule_that_was_not_forced() {
    let lab = stage();
    let mut guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    let done = |line: &[&str]| {
        let output = cli(&lab.edge, line).unwrap();
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["block", "198.51.100.0/24"]);
    lab.edge.write(CONFIG, "[protect]\nprefixes = [\"198.51.100.7\"]\n").unwrap();
    done(&["reload"]);
    let assert_spared = |guard: &Guard<'_>| {
        let friend = std::iter::once("198.51.100.7".parse().unwrap());
        let spared = fate_while(&lab, guard, friend, || sleep(SECOND / 5)).0;
        assert!(spared.dropped == 0 && spared.passed > 100, "{spared:?}");
    };
    assert_spared(&guard);
    // Made again from the state file.
    guard.stop().unwrap();
    pretend_layout(&lab.edge, -1).unwrap();
    guard.start_again(Mode::Enforce).unwrap();
    assert_eq!(guard.status().unwrap().rules().len(), 1);
    assert_spared(&guard);
    done(&["rules", "import", "--merge", &file("a")]);
    assert_eq!(guard.status().unwrap().rules().len(), RULES as usize + 1);
    assert_spared(&guard);
}

/// Rules in the kernel, counted there: the agent's own count of so many takes it some seconds.
fn keys_in_kernel(lab: &Lab) -> usize {
    let tries = [
        (maps::SOURCE_RULES_V4, size_of::<SourceKey<SourceV4>>()),
        (maps::SOURCE_RULES_V6, size_of::<SourceKey<SourceV6>>()),
    ];
    let keys = tries.map(|(name, key)| {
        let trie = PinnedMap::open(&lab.edge, name, key, size_of::<RuleRef>()).unwrap();
        trie.entries().unwrap().len()
    });
    keys.iter().sum()
}

/// What the last start of the agent found of a set that did not count.
fn leavings(guard: &Guard<'_>, starts: usize) -> u32 {
    let log = guard.log();
    let last = log.split(" protects ").nth(starts).unwrap_or_default();
    let line = last.lines().find(|line| line.contains("rules of a rule set that does not count"));
    let number = |line: &str| line.split(' ').find_map(|word| word.parse().ok());
    line.and_then(number).unwrap_or(0)
}

/// What kills during replacements left.
#[derive(Default)]
struct Left {
    old: u32,
    new: u32,
    /// Kills after which there was neither set.
    neither: u32,
    /// Of a set that did not count, keys that a start found, where there were any.
    halves: Vec<u32>,
}

/// Kills the agent at `kills` moments of a replacement, while members of both sets send: what is there
/// then, and what became of their SYNs.
fn killed_while_replacing(kills: u32) -> (Left, Fate, u64) {
    let lab = stage();
    let mut guard = Guard::start(&lab.edge, Mode::Enforce).unwrap();
    let whole = ["a", "b", "a", "b", "a"].map(|name| import(&lab, name)).into_iter().min().unwrap();
    let before = Fate::now(&lab, &guard);
    let sender = Sender::start(&lab, SHARED.map(member));
    let (mut old, mut left) = ("a", Left::default());
    for kill in 0..kills {
        let new = if old == "a" { "b" } else { "a" };
        std::thread::scope(|scope| {
            // It fails when the agent is gone.
            scope.spawn(|| drop(cli(&lab.edge, &["rules", "import", &file(new)])));
            // Up to twice as long as the shortest took: some take longer.
            sleep(whole * 2 * kill / kills);
            guard.kill().unwrap();
        });
        guard.start_again(Mode::Enforce).unwrap();
        let found = exported(&lab);
        if found == expected(new) {
            left.new += 1;
            old = new;
        } else if found == expected(old) {
            left.old += 1;
        } else {
            println!("kill {kill}: neither set, but {} rules", found.len());
            left.neither += 1;
            import(&lab, old);
        }
        assert_eq!(keys_in_kernel(&lab), RULES as usize, "after kill {kill}");
        let keys = leavings(&guard, kill as usize + 1);
        left.halves.extend((keys > 0).then_some(keys));
    }
    let sent = sender.finish();
    let fate = Fate::now(&lab, &guard).since(before);
    println!("{kills} kills over {whole:?}, {sent} SYNs of members of both: {fate:?}");
    println!("keys of the other set found after {} of them: {:?}", left.halves.len(), left.halves);
    (left, fate, sent)
}

/// What is there after a kill is the whole of one set with all that belongs to it, and members of both
/// are kept out from beginning to end.
#[test]
fn g2_a_kill_leaves_one_set_whole() {
    let row = Row::new(Goal::G2);
    let (kills, naive) = size((10, 2), (500, 6));
    let (left, fate, sent) = killed_while_replacing(kills);
    // Else the kills met no import half-way, and the row would prove nothing.
    assert!(left.old > 0 && left.new > 0, "{} old, {} new", left.old, left.new);
    assert!(!left.halves.is_empty(), "no kill met an import half-way");
    let (naive_fate, naive_sent) = flushed_and_imported(naive);
    row.result(
        kills.into(),
        format!(
            "kills in imports of {RULES} rules: {} left the new set, {} the old, {} neither; {} of \
             {sent} SYNs of members let in",
            left.new, left.old, left.neither, fate.passed
        ),
        left.neither == 0 && (fate.passed, fate.answered) == (0, 0),
    )
    .naive(
        naive as u64,
        format!(
            "times flushed and imported: {} of {naive_sent} SYNs of members let in",
            naive_fate.passed
        ),
        naive_fate.passed > 100 && naive_fate.answered > 100,
    )
    .finish();
}
