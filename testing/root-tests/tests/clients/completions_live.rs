//! Counts of completed handshakes agree with the clients' own counts, whatever the origin of the SYN-ACKs,
//! however far the clients are, and while a flood runs. Everything that the detector reports rests on this.
//! Needs root, and for the XDP program's own cookies a kernel with `bpf_sk_assign_tcp_reqsk` (6.9).

use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use tcpguard::bpf::XdpMode;
use tcpguard_common::abi::{ListenerCounters, ListenerEntry, Mask};
use tcpguard_kit::daemon::armed::{Armed, PATIENCE};
use tcpguard_kit::measure::tcp_counters::tcp_counter;
use tcpguard_kit::net::delay::Delay;
use tcpguard_kit::net::lab::{BACKLOG, Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::{Home, Load, Visitors};
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of each family.
const CLIENTS: u32 = 150;
/// Time for which clients connect.
const LOAD: Duration = Duration::from_secs(3);
/// SYNs of the flood per second.
const FLOOD: u32 = 8_000;
/// Greatest permitted difference of the counts, as a share of the clients' own.
const TOLERANCE: f64 = 0.005;
/// Delay with which handshakes take 100 to 150 ms.
const FAR: Delay =
    Delay { mean: Duration::from_millis(125), jitter: Duration::from_millis(25), loss: 0.0 };
/// The window of a [`tcpguard_kit::traffic::flood::Shape::Bare`] SYN, as no client has it.
const BARE_WINDOW: u16 = 512;

/// Origin of the SYN-ACKs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answers {
    /// The stack, without cookies, from a queue that has room.
    Stack,
    /// The stack, with its cookies, because its queue is full.
    KernelCookies,
    /// The XDP program, with cookies that the kernel makes (the back end of kernels before 6.9).
    HelperCookies,
    /// The XDP program, with cookies of its own.
    OwnCookies,
    /// The stack, to those SYNs that a signature rule lets through.
    BehindRule,
}

impl Answers {
    const fn syncookies(self) -> u8 {
        match self {
            Self::Stack | Self::BehindRule => 0,
            Self::KernelCookies | Self::HelperCookies | Self::OwnCookies => 1,
        }
    }

    const fn backlog(self) -> i32 {
        match self {
            Self::Stack | Self::BehindRule => 65_535,
            _ => BACKLOG,
        }
    }

    fn attach(self, lab: &Lab) -> Armed {
        let armed = match self {
            Self::OwnCookies => Armed::attach(lab, XdpMode::Native),
            _ => Armed::attach_without_redeemer(lab, XdpMode::Native),
        };
        armed.unwrap()
    }

    fn take(self, lab: &Lab, armed: &Armed) {
        match self {
            Self::Stack | Self::KernelCookies => {}
            Self::HelperCookies => {
                lab.edge.sysctl("net.ipv4.tcp_syncookies", "2").unwrap();
                let mitigations = ListenerEntry::KERNEL_COOKIES | ListenerEntry::OUT_OF_STATE;
                armed.set_mitigations(mitigations).unwrap();
            }
            Self::OwnCookies => armed.arm().unwrap(),
            Self::BehindRule => {
                let flows = armed.dataplane.flows().unwrap();
                let spoofed = |print: &_| print == &BARE_WINDOW;
                let flow = flows.iter().find(|(_, flow)| spoofed(&flow.fingerprint.window));
                let (_, flow) = flow.expect("a SYN of the flood");
                armed.drop_alike(Mask::Full, &flow.fingerprint).unwrap();
            }
        }
    }

    /// Returns whether the SYN-ACKs were of this origin.
    fn answered(self, lab: &Lab, grown: &ListenerCounters) -> bool {
        let kernel_cookies = || tcp_counter(&lab.edge, "SyncookiesSent").unwrap();
        // The counters of a moment are not read in one.
        let most = |count: u64| count * 10 >= grown.syn * 9;
        match self {
            Self::Stack => most(grown.syn_ack) && kernel_cookies() == 0,
            Self::KernelCookies => most(kernel_cookies()),
            Self::HelperCookies | Self::OwnCookies => {
                most(grown.cookies_sent) && grown.cookies_redeemed > 0
            }
            Self::BehindRule => grown.dropped_signature * 10 >= grown.syn * 8,
        }
    }
}

fn grown(before: &ListenerCounters, now: &ListenerCounters) -> ListenerCounters {
    ListenerCounters {
        syn: now.syn - before.syn,
        syn_ack: now.syn_ack - before.syn_ack,
        established: now.established - before.established,
        acknowledged: now.acknowledged - before.acknowledged,
        dropped_signature: now.dropped_signature - before.dropped_signature,
        cookies_sent: now.cookies_sent - before.cookies_sent,
        cookies_redeemed: now.cookies_redeemed - before.cookies_redeemed,
        ..ListenerCounters::default()
    }
}

fn completions_are_the_clients_own(answers: Answers, client_delay: Option<Delay>) {
    let syncookies = answers.syncookies();
    let lab = Lab::new(LabOptions { client_delay, syncookies, ..LabOptions::default() }).unwrap();
    for limit in ["net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"] {
        lab.edge.sysctl(limit, "65535").unwrap();
    }
    // Half-open handshakes of the flood end after 3 s, so a queue has room however long the test takes.
    lab.edge.sysctl("net.ipv4.tcp_synack_retries", "1").unwrap();
    let backlog = answers.backlog();
    let _server = Server::with_backlog(&lab.edge, PORT, Behaviour::Answer, backlog).unwrap();
    let armed = answers.attach(&lab);
    for family in Family::BOTH {
        // From these handshakes tcpguard learns how the service replies.
        let connect = || Ok(TcpStream::connect_timeout(&family.service(), PATIENCE)?);
        lab.client.run(connect).unwrap();
    }
    let start = armed.counters();
    let flood = Flood::random(Family::V4.service(), 60 * SECOND);
    let flood = Flood { rate: FLOOD, ..flood }.start(&lab).unwrap();
    armed.wait_until("the flood is on", |now| now.syn >= start.syn + u64::from(FLOOD) / 4);
    answers.take(&lab, &armed);
    let before = armed.counters();
    let loads = Family::BOTH.map(|family| {
        let visitors = Visitors { rate: CLIENTS, home: Home::ValidatedClients, patience: PATIENCE };
        Load::of(&lab.client, family.service(), visitors).unwrap()
    });
    sleep(LOAD);
    let attempts = loads.map(|load| load.finish().unwrap());
    let flooded = grown(&before, &armed.counters());
    let sent = flood.stop().unwrap().sent;

    let of = |count: fn(&tcpguard_kit::traffic::clients::Attempt) -> bool| {
        let attempts = attempts.iter().flat_map(|attempts| &attempts.0);
        attempts.filter(|attempt| count(attempt)).count() as u64
    };
    let (tried, connected) = (of(|_| true), of(|attempt| attempt.connected.is_some()));
    let served = of(|attempt| attempt.took.is_some());
    // The third ACK of the last client may be on its way.
    armed.wait_until("every client that was served is counted", |now| {
        now.established - before.established >= served
    });
    let counted = grown(&before, &armed.counters());
    println!(
        "{answers:?}, {client_delay:?}: {connected} of {tried} connected, {served} served; the kernel \
         completed {}, third ACKs {}; {sent} SYNs of the flood",
        counted.established, counted.acknowledged
    );
    assert!(tried >= 2 * u64::from(CLIENTS), "{tried}");
    assert!(served * 100 >= tried * 98, "{served} of {tried} served");
    assert!(flooded.syn >= u64::from(FLOOD), "the flood was on meanwhile: {flooded:?}");
    assert!(answers.answered(&lab, &flooded), "{flooded:?}");
    let completed = counted.established.max(counted.acknowledged);
    let most = (connected as f64 * TOLERANCE) as u64;
    assert!(completed.abs_diff(connected) <= most, "{completed} counted, {connected} connected");
}

macro_rules! completions {
    ($($name:ident: $answers:ident, $delay:expr;)*) => {
        $(#[test]
        fn $name() {
            completions_are_the_clients_own(Answers::$answers, $delay);
        })*
    };
}

completions! {
    near_clients_of_the_stack: Stack, None;
    near_clients_by_the_kernels_cookies: KernelCookies, None;
    near_clients_by_the_helpers_cookies: HelperCookies, None;
    near_clients_by_own_cookies: OwnCookies, None;
    near_clients_behind_a_rule: BehindRule, None;
    far_clients_of_the_stack: Stack, Some(FAR);
    far_clients_by_the_kernels_cookies: KernelCookies, Some(FAR);
    far_clients_by_the_helpers_cookies: HelperCookies, Some(FAR);
    far_clients_by_own_cookies: OwnCookies, Some(FAR);
    far_clients_behind_a_rule: BehindRule, Some(FAR);
}
