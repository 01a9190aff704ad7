//! A hundred thousand handshakes through SYN cookies, and none that fails. Needs root, and a kernel
//! with `bpf_sk_assign_tcp_reqsk` (6.9).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use tcpguard::bpf::XdpMode;
use tcpguard_common::abi::maps::CLIENT_MARK_WORDS;
use tcpguard_common::abi::{ListenerCounters, Reason};
use tcpguard_kit::daemon::armed::Armed;
use tcpguard_kit::measure::tcp_counters::tcp_counters;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::netns::Netns;
use tcpguard_kit::traffic::echo::{Echo, Outcome, connect_from};

/// Connections of each kind of client, each from an address and port of its own.
const EACH: u32 = 25_500;
/// Of these, so many come once more while the server still has them in TIME_WAIT.
const AGAIN: u32 = 5_000;
/// Addresses that they come from.
const ADDRESSES: u32 = 15;
/// The kernel's own first three retransmissions of a SYN that a full ring swallowed come before.
const PATIENCE: Duration = Duration::from_secs(10);

/// The `number`th address and port; those of another `kind` are others.
fn source(family: Family, kind: u32, number: u32) -> SocketAddr {
    let port = 10_000 + kind * EACH.div_ceil(ADDRESSES) + number / ADDRESSES;
    SocketAddr::new(family.new_client((1 + number % ADDRESSES) as u16), port as u16)
}

/// Growth of the counters of faults at a host.
fn mishaps(before: &BTreeMap<String, u64>, host: &Netns) -> BTreeMap<String, u64> {
    let bad = |name: &str| {
        let resets = ["EstabResets", "OutRsts", "AttemptFails", "EmbryonicRsts"];
        let losses = ["InCsumErrors", "ListenOverflows", "ListenDrops", "TCPACKSkippedTimeWait"];
        resets.contains(&name) || losses.contains(&name) || name.starts_with("TCPAbort")
    };
    let now = tcp_counters(host).unwrap().into_iter();
    let grown = now.map(|(name, value)| (value - before[&name], name));
    grown.filter(|(by, name)| *by != 0 && bad(name)).map(|(by, name)| (name, by)).collect()
}

/// Both families at once.
fn connect_all(
    lab: &Lab,
    patience: Duration,
    sources: impl Fn(Family) -> Box<dyn Iterator<Item = SocketAddr> + Send> + Sync,
) -> [Outcome; 2] {
    let of = |family: Family| {
        let connect = || connect_from(sources(family), family.service(), patience);
        lab.client.run(connect)
    };
    let outcomes: Vec<Result<Outcome>> = std::thread::scope(|scope| {
        let running = Family::BOTH.map(|family| scope.spawn(move || of(family)));
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let outcomes: Vec<Outcome> = outcomes.into_iter().collect::<Result<_>>().unwrap();
    outcomes.try_into().unwrap()
}

/// A host with a service for which XDP sends the SYN-ACKs. The service and the programs are to be kept alive.
fn armed_lab() -> (Lab, Echo, Armed) {
    // All packets of a host go through one CPU, in both directions. Where segments overtake each other, a
    // late one that finds TIME_WAIT gets a reply, the client resets the connection that it has closed, and
    // that ends TIME_WAIT, with cookies or without.
    let lab = Lab::new(LabOptions { measured: true, ..LabOptions::default() }).unwrap();
    lab.edge.sysctl("net.ipv4.tcp_max_tw_buckets", "262144").unwrap();
    let service = Echo::start(&lab.edge, PORT).unwrap();
    let armed = Armed::attach(&lab, XdpMode::Native).unwrap();
    // From this handshake tcpguard learns how the service replies.
    let first = |family| -> Box<dyn Iterator<Item = SocketAddr> + Send> {
        Box::new(std::iter::once(source(family, 2, 0)))
    };
    let taught = connect_all(&lab, PATIENCE, first);
    assert!(taught.iter().all(|outcome| outcome.well == 1), "{taught:?}");
    armed.arm().unwrap();
    (lab, service, armed)
}

#[test]
fn a_hundred_thousand_handshakes_through_cookies_and_none_fails() {
    let (lab, _service, armed) = armed_lab();
    let passed = || armed.dataplane.packets(0).unwrap().reasons[Reason::Syn as usize];
    let passed_before = passed();
    let ListenerCounters { syn: syns, syn_retransmit: repeated, established, .. } =
        armed.counters();
    let before = [&lab.client, &lab.edge].map(|host| tcp_counters(host).unwrap());
    let begun = Instant::now();
    let mut through = 0;
    for (kind, timestamps) in [(0, "1"), (1, "0")] {
        lab.client.sysctl("net.ipv4.tcp_timestamps", timestamps).unwrap();
        let outcomes = connect_all(&lab, PATIENCE, |family| {
            Box::new((0..EACH).chain(0..AGAIN).map(move |number| source(family, kind, number)))
        });
        for (family, outcome) in Family::BOTH.iter().zip(outcomes) {
            println!(
                "{family:?}, timestamps {timestamps}: {} well, the longest {:?}, {} failed",
                outcome.well,
                outcome.longest,
                outcome.failed.len()
            );
            let few = &outcome.failed[..outcome.failed.len().min(10)];
            assert!(few.is_empty(), "{} failed: {few:#?}", outcome.failed.len());
            assert_eq!(outcome.well, EACH + AGAIN);
            through += outcome.well;
        }
    }
    let took = begun.elapsed();
    let now = armed.counters();
    let (sent, redeemed) = (now.cookies_sent, now.cookies_redeemed);
    let to_the_stack = passed() - passed_before;
    println!(
        "{through} connections in {took:.1?}: {} SYNs, {sent} cookies, {redeemed} of them came \
         back, {to_the_stack} SYNs to the stack",
        now.syn - syns,
    );
    let mishaps = [mishaps(&before[0], &lab.client), mishaps(&before[1], &lab.edge)];
    assert!(mishaps.iter().all(BTreeMap::is_empty), "client and server: {mishaps:?}");
    // Each SYN of a reopened connection found the TIME_WAIT socket of the previous one, and no other SYN did. A
    // full ring may have swallowed the stack's reply to some. Their clients retransmitted the SYN once.
    let again = u64::from(4 * AGAIN)..=u64::from(4 * AGAIN) + now.syn_retransmit - repeated;
    assert!(sent >= 100_000 && again.contains(&to_the_stack), "{again:?}: {now:?}");
    // (A request that comes long after its third ACK, while the socket is still to be made, counts as another
    // redeemed cookie, but makes no other connection.)
    assert!(redeemed >= u64::from(4 * EACH), "{now:?}");
    assert_eq!(now.established - established, u64::from(through), "{now:?}");
}

/// The naive variant: the clients recorded in the kernel are hidden from the XDP program.
#[test]
fn a_client_that_is_not_known_hangs_where_its_last_connection_waits() {
    const CLIENTS: u32 = 50;
    let (lab, _service, armed) = armed_lab();
    let outcomes = |patience| {
        connect_all(&lab, patience, |family| {
            Box::new((0..CLIENTS).map(move |number| source(family, 0, number)))
        })
    };
    for outcome in outcomes(PATIENCE) {
        assert_eq!((outcome.well, outcome.failed.len()), (CLIENTS, 0), "{outcome:?}");
    }
    for filter in 0..2 {
        armed.dataplane.set_client_filter(filter, &[0; CLIENT_MARK_WORDS]).unwrap();
    }
    for outcome in outcomes(Duration::from_secs(3)) {
        assert_eq!((outcome.well, outcome.failed.len()), (0, CLIENTS as usize), "{outcome:?}");
    }
}
