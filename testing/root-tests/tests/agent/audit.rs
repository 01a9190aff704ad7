//! Changes of the kernel state by another process, behind the agent's back, are found, reported and repaired
//! within ten seconds. Needs root and `TCPGUARD_BIN`.

use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use tcpguard_common::abi::maps::{EXEMPT_FILTER_BYTES, MAX_IFINDEX, MAX_LISTENERS, MAX_RULES};
use tcpguard_common::abi::{
    Config, ExemptEntry, ListenerEntry, PrefixV4, RuleRef, SignatureKey, SourceHost, SourceKey,
    SourceV4, SourceV6,
};
use tcpguard_goals::{Goal, Row, seed, size};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::heartbeat::Heartbeat;
use tcpguard_kit::daemon::tamper::{PinnedLink, PinnedMap};
use tcpguard_kit::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::random::Random;
use tcpguard_kit::traffic::server::{Behaviour, Server};

/// Time within which a change is found, reported and repaired.
const LIMIT: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(50);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Message that reports the repair.
const REPAIRED: &str = "BPF state modified externally and repaired";

type Elements = Vec<(Vec<u8>, Vec<u8>)>;

/// A host with one interface, one listener and three rules.
fn stage() -> (Netns, TcpListener) {
    let host = Netns::new("edge").unwrap();
    host.ip(&[
        "link add eth0 type veth peer name wire0",
        "link set eth0 up",
        "link set wire0 up",
        &format!("address add {OWN}/24 dev eth0"),
    ])
    .unwrap();
    let listener = host.run(|| Ok(TcpListener::bind((OWN, 443))?)).unwrap();
    (host, listener)
}

fn started(host: &Netns) -> Agent<'_> {
    let agent = Agent::start(host, Mode::Enforce).unwrap();
    for net in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"] {
        assert!(cli(host, &["block", net, "--for", "1h"]).unwrap().status.success());
    }
    agent
}

/// The rules of IPv4.
fn rules_v4(host: &Netns) -> PinnedMap {
    let key = size_of::<SourceKey<SourceV4>>();
    PinnedMap::open(host, "SOURCE_RULES_V4", key, size_of::<RuleRef>()).unwrap()
}

/// The rules of IPv6 over prefixes other than a /64.
fn rules_v6(host: &Netns) -> PinnedMap {
    let key = size_of::<SourceKey<SourceV6>>();
    PinnedMap::open(host, "SOURCE_RULES_V6", key, size_of::<RuleRef>()).unwrap()
}

fn rules_for_one(host: &Netns) -> PinnedMap {
    PinnedMap::open(host, "SOURCE_HOSTS", size_of::<SourceHost>(), size_of::<RuleRef>()).unwrap()
}

/// Applies `tamper` to `map`, and waits until the map is as it was and the repair was reported.
#[track_caller]
fn is_repaired(agent: &Agent<'_>, what: &str, map: &PinnedMap, tamper: impl FnOnce(&Elements)) {
    let before = map.entries().unwrap();
    // Not by the status, which holds the last alerts only.
    let reported = || agent.log().matches(REPAIRED).count();
    let earlier = reported();
    tamper(&before);
    assert_ne!(map.entries().unwrap(), before, "{what}: nothing was changed");
    let begun = Instant::now();
    let repaired = || map.entries().unwrap() == before;
    while !repaired() || reported() == earlier {
        assert!(begun.elapsed() < LIMIT, "{what} is not repaired: {}", agent.log());
        sleep(STEP);
    }
    assert!(repaired(), "{what}: the repair lasts");
    println!("{what}: found, reported and repaired after {:.1?}", begun.elapsed());
}

#[test]
fn audit_one_rule_deleted_and_one_added_is_repaired_although_their_number_is_the_same() {
    let row = Row::new(Goal::Audit);
    let times = size(5, 100);
    let (host, _listener) = stage();
    let agent = started(&host);
    let map = rules_v4(&host);
    let mut random = Random::new(seed());
    let (mut longest, mut unseen_by_count) = (Duration::ZERO, 0);
    for _ in 0..times {
        let begun = Instant::now();
        is_repaired(&agent, "one deleted, one added", &map, |before| {
            let (key, value) = &before[random.between(0, 1) as usize];
            let mut foreign = key.clone();
            // A key ends with the address.
            let byte = key.len() - 2;
            foreign[byte] ^= random.between(1, 255) as u8;
            map.remove(key).unwrap();
            map.set(&foreign, value).unwrap();
            // An audit that compares numbers sees this.
            unseen_by_count += u64::from(map.entries().unwrap().len() == before.len());
        });
        longest = longest.max(begun.elapsed());
    }
    let status = agent.status().unwrap();
    assert_eq!((status.rules_in_kernel(), status.rules().len()), (Some(3), 3));
    // A veth without a program at its other end gets no cookies, which is no matter of rules.
    let health = status.health().into_iter().filter(|(code, _)| code != "other_end");
    assert_eq!(health.collect::<Vec<_>>(), []);
    row.result(times, format!("all reported and repaired within {longest:.1?}"), longest < LIMIT)
        .naive(
            times,
            format!("{unseen_by_count} of {times} leave the number of rules as it was"),
            unseen_by_count == times,
        )
        .finish();
}

#[test]
fn each_way_to_change_a_rule_is_repaired() {
    let (host, _listener) = stage();
    let agent = started(&host);
    let map = rules_v4(&host);
    is_repaired(&agent, "flags", &map, |before| {
        let (key, value) = &before[0];
        let mut other = value.clone();
        *other.last_mut().unwrap() ^= 0x80;
        map.set(key, &other).unwrap();
    });
    is_repaired(&agent, "another rule's number", &map, |before| {
        map.set(&before[0].0, &before[1].1).unwrap();
    });
    is_repaired(&agent, "a rule over everybody in every set", &map, |before| {
        map.set(&vec![0; before[0].0.len()], &before[0].1).unwrap();
    });
    let ends = PinnedMap::open(&host, "RULE_EXPIRY", 4, 8).unwrap();
    is_repaired(&agent, "an end", &ends, |before| {
        let (slot, _) = before.iter().find(|(_, end)| end.iter().any(|byte| *byte != 0)).unwrap();
        ends.set(slot, &u64::MAX.to_ne_bytes()).unwrap();
    });
    for net in ["2001:db8::8/125", "203.0.113.9"] {
        assert!(cli(&host, &["block", net, "--for", "1h"]).unwrap().status.success());
    }
    let v6 = rules_v6(&host);
    is_repaired(&agent, "the rule of IPv6", &v6, |before| v6.remove(&before[0].0).unwrap());
    let hosts = rules_for_one(&host);
    is_repaired(&agent, "rules for one client each", &hosts, |before| {
        assert_eq!(before.len(), 2);
        before.iter().for_each(|(key, _)| hosts.remove(key).unwrap());
    });
    is_repaired(&agent, "that there is a longer prefix beneath one", &hosts, |before| {
        let (key, rule) = before
            .iter()
            .find(|(_, rule)| rule[4] & RuleRef::NARROW as u8 != 0)
            .expect("one that has it");
        let mut other = rule.clone();
        other[4] ^= RuleRef::NARROW as u8;
        hosts.set(key, &other).unwrap();
    });
    is_repaired(&agent, "a rule for one client more", &hosts, |before| {
        let (mut key, rule) = before[0].clone();
        *key.last_mut().unwrap() ^= 1;
        hosts.set(&key, &rule).unwrap();
    });
}

#[test]
fn a_rule_against_a_flood_is_repaired() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let flood = Flood { rate: 5_000, ..Flood::random(Family::V4.service(), LIMIT) };
    let flood = flood.start(&lab).unwrap();
    agent.wait_for_rule(LIMIT).unwrap();
    // The rule outlives the flood by longer than the checks take.
    flood.stop().unwrap();
    let key = size_of::<SignatureKey>();
    let map = PinnedMap::open(&lab.edge, "SIGNATURES", key, size_of::<RuleRef>()).unwrap();
    is_repaired(&agent, "it is gone", &map, |before| map.remove(&before[0].0).unwrap());
    is_repaired(&agent, "it is for another listener", &map, |before| {
        let (key, value) = &before[0];
        let mut foreign = key.clone();
        foreign[offset_of!(SignatureKey, listener)] ^= 1;
        map.remove(key).unwrap();
        map.set(&foreign, value).unwrap();
    });
    is_repaired(&agent, "it is another rule", &map, |before| {
        let (key, value) = &before[0];
        let mut other = value.clone();
        other[0] ^= 1;
        map.set(key, &other).unwrap();
    });
}

#[test]
fn listeners_exemptions_slots_and_the_configuration_are_repaired() {
    let (host, _listener) = stage();
    let agent = started(&host);
    agent.wait_until("the listener", LIMIT, |status| status.follows(443)).unwrap();
    let exempt =
        PinnedMap::open(&host, "EXEMPT_V4", size_of::<PrefixV4>(), size_of::<ExemptEntry>())
            .unwrap();
    // The protected prefixes are checked every few seconds.
    let is_own = |(prefix, _): &(Vec<u8>, Vec<u8>)| prefix.ends_with(&OWN.octets());
    let begun = Instant::now();
    while !exempt.entries().unwrap().iter().any(is_own) {
        assert!(begun.elapsed() < LIMIT, "the own address is not exempt");
        sleep(STEP);
    }
    let entries = size_of::<ListenerEntry>();
    let entries = PinnedMap::open(&host, "LISTENER_ENTRIES", 4, entries).unwrap();
    assert_eq!(entries.entries().unwrap().len(), MAX_LISTENERS as usize);
    is_repaired(&agent, "an entry of a listener", &entries, |before| {
        let (key, value) = &before[0];
        entries.set(key, &vec![0xff; value.len()]).unwrap();
    });
    let filter = PinnedMap::open(&host, "EXEMPT_FILTER", 4, EXEMPT_FILTER_BYTES).unwrap();
    is_repaired(&agent, "nobody is exempt, says the filter", &filter, |before| {
        filter.set(&before[0].0, &vec![0xff; EXEMPT_FILTER_BYTES]).unwrap();
    });
    is_repaired(&agent, "an exemption", &exempt, |before| exempt.remove(&before[0].0).unwrap());
    let slots = PinnedMap::open(&host, "INTERFACES", 4, MAX_IFINDEX).unwrap();
    is_repaired(&agent, "the interfaces' slots", &slots, |before| {
        slots.set(&before[0].0, &vec![0; MAX_IFINDEX]).unwrap();
    });

    // The heartbeat in it changes with every poll.
    let config = PinnedMap::open(&host, "CONFIG", 4, size_of::<Config>()).unwrap();
    let place = offset_of!(Config, mode);
    let mode = || config.get(&[0; 4]).unwrap()[place];
    let (before, reported) = (mode(), agent.status().unwrap().alerts("drift_repaired"));
    let mut changed = config.get(&[0; 4]).unwrap();
    changed[place] = 0;
    config.set(&[0; 4], &changed).unwrap();
    let begun = Instant::now();
    while mode() != before || agent.status().unwrap().alerts("drift_repaired") == reported {
        assert!(begun.elapsed() < LIMIT, "the mode is not repaired: {}", agent.log());
        sleep(STEP);
    }
}

#[test]
fn links_that_were_detached_replaced_or_unpinned_are_repaired() {
    let (host, _listener) = stage();
    let agent = started(&host);
    let program = || {
        let link = host.exec("ip -details link show dev eth0").unwrap();
        link.split_once("prog/xdp id ").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned())
    };
    let own = program().expect("tcpguard's program");
    let link = || PinnedLink::open(&host, "*/links/*").unwrap();
    let tampered: [(&str, &dyn Fn()); 4] = [
        ("the program is another's", &|| link().replace().unwrap()),
        ("the link is detached", &|| link().detach().unwrap()),
        ("the pins are gone", &|| {
            host.exec("find /sys/fs/bpf -path */links/* -delete").unwrap();
            host.exec("find /sys/fs/bpf -path */egress/* -delete").unwrap();
        }),
        ("the tracepoint's pin is gone", &|| {
            host.exec("find /sys/fs/bpf -path */tracepoints/* -delete").unwrap();
        }),
    ];
    let pins =
        || host.exec("find /sys/fs/bpf -type f -not -path */maps/*").unwrap().lines().count();
    let pinned = pins();
    for (what, tamper) in tampered {
        let alerts = || {
            let status = agent.status().unwrap();
            status.alerts("drift_repaired") + status.alerts("interface_changed")
        };
        let reported = alerts();
        tamper();
        let begun = Instant::now();
        let attached = || agent.status().unwrap().document()["interfaces"][0]["attached"] == true;
        while program().as_ref() != Some(&own)
            || pins() != pinned
            || alerts() == reported
            || !attached()
        {
            assert!(begun.elapsed() < LIMIT, "{what}: {}", agent.log());
            sleep(STEP);
        }
        println!("{what}: found, reported and repaired after {:.1?}", begun.elapsed());
    }
}

#[test]
fn the_program_that_takes_cookies_back_is_hung_again() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, Family::V4.service(), 50).unwrap();
    sleep(Duration::from_secs(1));
    let armed = cli(&lab.edge, &["mitigation", ":443", "cookies", "on", "--for", "10m"]).unwrap();
    assert!(armed.status.success(), "{armed:?}");
    let hangs = || {
        let query = || Ok(SchedClassifier::query_tcx(INTERFACE, TcAttachType::Ingress)?);
        let (_, programs) = lab.edge.run(query).unwrap();
        programs.iter().any(|program| program.name_as_str() == Some("tcpguard_redeem"))
    };
    assert!(hangs(), "{}", agent.log());
    // Its next poll may hang it again before anything else can look.
    PinnedLink::open(&lab.edge, "*/redeem/*").unwrap().detach().unwrap();
    let begun = Instant::now();
    while !hangs() || agent.status().unwrap().alerts("drift_repaired") == 0 {
        assert!(begun.elapsed() < LIMIT, "it is gone for good: {}", agent.log());
        sleep(STEP);
    }
    assert!(agent.log().contains("SYN cookie validation missing on eth0"), "{}", agent.log());
    load.finish().unwrap();
}

#[test]
fn among_ten_thousand_rules_each_change_is_found_and_no_poll_takes_long() {
    let (host, _listener) = stage();
    let agent = Agent::start(&host, Mode::Enforce).unwrap();
    let net = |n: u32| format!("198.{}.{}.{}\n", 18 + (n >> 16), n >> 8 & 255, n & 255);
    import(&host, (0..10_000).map(net).collect());
    let tables = [(rules_for_one(&host), HOST_ADDR)];
    each_change_is_found_and_no_poll_takes_long(&agent, &host, &tables);
}

/// The rules are as many as there can ever be, half of them of IPv6 and half of each family over networks.
#[test]
fn among_as_many_rules_as_there_can_be_each_change_is_repaired_as_soon() {
    let (host, _listener) = stage();
    let config = format!("[policy]\nrules = {MAX_RULES}\n");
    let agent = Agent::start_with(&host, Mode::Enforce, &config, &[]).unwrap();
    let net = |n: u32| {
        let v4 = Ipv4Addr::from_bits(0x6440_0000 + 16 * n);
        let v6 = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n) << 68);
        match n % 4 {
            0 => format!("{v4}/32\n"),
            1 => format!("{v4}/28\n"),
            2 => format!("{v6}/64\n"),
            _ => format!("{v6}/60\n"),
        }
    };
    import(&host, (0..MAX_RULES).map(net).collect());
    let tables = [
        (rules_for_one(&host), HOST_ADDR),
        (rules_v4(&host), NET_ADDR),
        (rules_v6(&host), NET_ADDR),
    ];
    each_change_is_found_and_no_poll_takes_long(&agent, &host, &tables);
}

/// Offset of the address in a key of the hash, in bytes.
const HOST_ADDR: usize = offset_of!(SourceHost, client);
/// Offset of the address in a key of either trie, in bytes.
const NET_ADDR: usize = offset_of!(SourceKey<SourceV4>, data) + offset_of!(SourceV4, addr);

fn import(host: &Netns, list: String) {
    host.write("/run/rules", &list).unwrap();
    let import = cli(host, &["rules", "import", "/run/rules"]).unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
}

/// Changes a hundred of the rules in `tables` at random, in each of three ways. Each table comes with the offset of
/// the address in its keys.
fn each_change_is_found_and_no_poll_takes_long(
    agent: &Agent<'_>,
    host: &Netns,
    tables: &[(PinnedMap, usize)],
) {
    const TIMES: usize = 34;
    let ends = PinnedMap::open(host, "RULE_EXPIRY", 4, 8).unwrap();
    let all = || -> Vec<Elements> {
        let tables = tables.iter().map(|(table, _)| table);
        tables.chain([&ends]).map(|table| table.entries().unwrap()).collect()
    };
    let before = all();
    let rules: usize = before[..tables.len()].iter().map(Vec::len).sum();
    // A status with as many rules keeps the agent busy itself.
    let heartbeat = Heartbeat::open(host).unwrap();
    let age = || heartbeat.age().unwrap();
    // How late polls are on this machine without any change, looked at as often.
    let (begun, mut calm) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(2) {
        drop(all());
        calm = calm.max(age());
        sleep(STEP);
    }
    let mut random = Random::new(seed());
    let mut any = || {
        let table = random.between(0, tables.len() as u64 - 1) as usize;
        let entry = random.between(0, before[table].len() as u64 - 1) as usize;
        (&tables[table], before[table][entry].clone())
    };
    for _ in 0..TIMES {
        let ((table, _), (key, _)) = any();
        let _ = table.remove(&key);
        let ((table, addr), (mut foreign, value)) = any();
        // Elsewhere: no rule has this bit.
        foreign[addr + 1] ^= 0x80;
        table.set(&foreign, &value).unwrap();
        let (_, (_, value)) = any();
        ends.set(&value[..4], &u64::MAX.to_ne_bytes()).unwrap();
    }
    let begun = Instant::now();
    let mut oldest = Duration::ZERO;
    while all() != before {
        assert!(begun.elapsed() < LIMIT, "not repaired: {}", agent.log());
        oldest = oldest.max(age());
        sleep(STEP);
    }
    println!(
        "{} changes among {rules} rules repaired after {:.1?}; the oldest heartbeat seen {oldest:.0?}, \
         {calm:.0?} before",
        3 * TIMES,
        begun.elapsed()
    );
    // A poll each 250 ms.
    let calm_interval = calm.max(Duration::from_millis(250));
    assert!(oldest < calm_interval + Duration::from_millis(150), "{oldest:?}, {calm:?} before");
    assert!(agent.log().contains(REPAIRED), "{}", agent.log());
}
