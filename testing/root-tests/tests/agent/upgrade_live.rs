//! Upgrades and downgrades in a flood, between agents of two layouts. The capacity for rules is part of the version of a
//! layout, so one program has several. Needs root and `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::pins::{PIN_DIR, pins};
use tcpguard_kit::daemon::status::{Rule, Status};
use tcpguard_kit::measure::clock::{between, boot_ns};
use tcpguard_kit::measure::leak::{Books, Fate};
use tcpguard_kit::net::gap;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Load, PATIENCE};
use tcpguard_kit::traffic::flood::{Flood, MAX_DURATION, Shape};
use tcpguard_kit::traffic::likeness::Likeness;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second.
const CLIENT_RATE: u32 = 100;
/// Greatest permitted share of frames, from 0 to 1, that the cables lose. With more, the cause of a lost client would
/// be unknown.
const MOST_LOST: f64 = 0.001;
/// Duration of the gap of [`Change::ButForAMoment`]: long enough that some SYN gets in on any machine.
const MOMENT: Duration = Duration::from_millis(10);
/// Duration of the gap of [`Change::ButForAWhile`]: long enough for clients to notice.
const WHILE: Duration = Duration::from_secs(6);
const _: () = assert!(WHILE.as_millis() > PATIENCE.as_millis(), "the first client has given up");

/// Configurations of the two layouts. An agent starts with the last one, which is the default.
const LAYOUTS: [&str; 2] = ["[policy]\nrules = 20000\n", ""];

/// Fingerprint of the flood's SYNs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flooding {
    /// Alike, from random sources: a rule drops them.
    FixedFingerprint,
    /// Like those of clients: they are answered with cookies.
    LikeClients,
}

impl Flooding {
    /// SYNs a second, and fewer for clients on a machine that does not carry both.
    fn rates(self) -> [u32; 3] {
        let moderate = [20_000, 10_000, 5_000];
        match self {
            Self::FixedFingerprint => size(moderate, [100_000, 50_000, 20_000]),
            Self::LikeClients => moderate,
        }
    }
}

/// Way in which one layout follows the other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// The way of a package: the one is stopped, the other started.
    Upgrade,
    /// The naive variant of an XDP program: the agent's XDP program is detached before the other starts.
    Anew,
    /// The naive variant of cookies: the other is left no map.
    Disinherited,
    /// The least of all gaps: the XDP program is detached for a moment before the other starts.
    ButForAMoment,
    /// A gap that clients notice: the XDP program is detached until the last of their tries is over.
    ButForAWhile,
}

/// Observations of a number of changes.
#[derive(Debug, Default)]
struct Seen {
    /// Fate of the flood's SYNs, where there were no clients.
    fate: Fate,
    handshakes: usize,
    failed: usize,
    /// Share of the frames that the cables to the attacked host lost meanwhile, 0 to 1.
    lost: f64,
    /// SYNs that go to the stack to renew next hops while cookies answer the others: one of a route every two seconds.
    renewing: u64,
}

/// Returns whether the rules are the same.
fn has_rules_of(now: &Status, then: &Status) -> bool {
    let (rules, others) = (now.rules(), then.rules());
    // Times of day are kept in milliseconds.
    let same = |(one, other): (&Rule, &Rule)| {
        one.matches() == other.matches() && one.created().abs_diff(other.created()) < 50_000_000
    };
    rules.len() == others.len()
        && rules.iter().zip(&others).all(same)
        && now.rules_in_kernel() == then.rules_in_kernel()
}

/// Changes to the other layout and back so many times in a flood of `rate`, with clients or without. Where there are
/// none, all that gets in is the flood's.
fn changed(times: u64, flooding: Flooding, rate: u32, clients: bool, change: Change) -> Seen {
    let syncookies = u8::from(flooding == Flooding::LikeClients);
    let lab = Lab::new(LabOptions { syncookies, ..LabOptions::default() }).unwrap();
    let service = Family::V4.service();
    let flood = Flood { rate, ..Flood::random(service, MAX_DURATION) };
    let flood = match flooding {
        Flooding::FixedFingerprint => flood,
        Flooding::LikeClients => {
            let likeness = Likeness::capture(&lab, Family::V4).unwrap();
            Flood { shape: Shape::Copy(likeness), ..flood }
        }
    };
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let load = Load::start(&lab.client, service, CLIENT_RATE).unwrap();
    sleep(2 * SECOND);
    let load = if clients { Some(load) } else { load.finish().map(|_| None).unwrap() };
    let is_defended = |status: &Status| match flooding {
        Flooding::FixedFingerprint => status.rules_in_kernel() >= Some(1),
        Flooding::LikeClients => status.mitigation("cookies") == Some("active"),
    };
    let defended = || {
        agent.wait_until("a defence", 6 * SECOND, is_defended)?;
        sleep(SECOND);
        Ok(())
    };
    // Beside clients the flood's SYNs could not be distinguished.
    let mut books = (!clients).then(|| Books::open(&lab, &flood, defended).unwrap());
    let flood = flood.start(&lab).unwrap();
    // The mitigation that defended the host when the books were opened still does.
    if clients {
        defended().unwrap();
    }
    let held = agent.status().unwrap();
    let (begun, sent_before, lost_before) = (boot_ns(), flood.sent(), lab.lost().unwrap());
    let mut changes = Vec::new();
    for layout in (0..times).flat_map(|_| LAYOUTS) {
        flood.goes_on().unwrap();
        changes.push(boot_ns());
        agent.stop().unwrap();
        match change {
            Change::Upgrade => {}
            Change::Anew => drop(cli(&lab.edge, &["detach", "--all"]).unwrap()),
            Change::Disinherited => {
                lab.edge.exec(&format!("find {PIN_DIR} -path */maps/* -delete")).unwrap();
            }
            Change::ButForAMoment | Change::ButForAWhile => {
                let time = if change == Change::ButForAWhile { WHILE } else { MOMENT };
                let off = gap::off_for(&lab.edge, time).unwrap();
                println!("  off for {off:.1?}");
            }
        }
        agent.start_again_with(Mode::Enforce, layout).unwrap();
        if let Some(books) = &mut books {
            books.next_filter().unwrap();
        }
        sleep(SECOND);
        if change == Change::Upgrade {
            let status = agent.status().unwrap();
            // A refusal is not handed over: the next agent tries for itself.
            let answers = |status: &Status| status.mitigation("cookies") == Some("active");
            assert!(answers(&status) || !answers(&held), "{:#}", status.document());
            // A mimicking flood without clients gets a rule sooner or later.
            let settled = clients || flooding == Flooding::FixedFingerprint;
            assert!(!settled || has_rules_of(&status, &held), "{:#}", status.document());
        }
    }
    let ended = boot_ns();
    // The last clients have their time too, still in the flood.
    if clients {
        sleep(3 * SECOND);
    }
    flood.goes_on().unwrap();
    let lost = (lab.lost().unwrap() - lost_before) as f64 / (flood.sent() - sent_before) as f64;
    let sent = flood.stop().unwrap().sent;
    let renewing = match flooding {
        Flooding::FixedFingerprint => 0,
        Flooding::LikeClients => between(begun, ended).as_secs().div_ceil(2),
    };
    let mut seen = Seen { lost, renewing, ..Seen::default() };
    if let Some(books) = books {
        seen.fate = books.close(sent).unwrap();
    }
    if let Some(load) = load {
        let attempts = load.finish().unwrap().begun(begun, ended);
        println!("  {}", attempts.summary());
        seen.handshakes = attempts.0.len();
        let failed: Vec<_> = attempts.0.iter().filter(|attempt| attempt.took.is_none()).collect();
        for attempt in failed.iter().take(40) {
            let last = changes.iter().rposition(|change| *change <= attempt.at);
            let since = last.map(|last| between(changes[last], attempt.at));
            println!(
                "  failed: begun {since:.2?} after change {last:?}, open after {:.2?}",
                attempt.connected
            );
        }
        seen.failed = failed.len();
    }
    println!("{flooding:?}, {change:?}, {times} times there and back: {seen:?}");
    seen
}

/// The clients' observations, and the SYNs per second: fewer where the cables may have lost a client.
fn with_clients(times: u64, flooding: Flooding) -> (u32, Seen) {
    let see = |rate| (rate, changed(times, flooding, rate, true, Change::Upgrade));
    let mut tried = flooding.rates().into_iter().map(see);
    tried
        .find(|(rate, seen)| {
            let carried = seen.failed == 0 || seen.lost <= MOST_LOST;
            if !carried {
                println!("  this machine does not carry {rate} SYN/s and clients");
            }
            carried
        })
        .expect("a machine that carries the least of the rates")
}

/// The row of a type of flood. `naive` is its naive variant.
fn row(name: &'static str, flooding: Flooding, naive: Change) {
    let row = Row::new(Goal::G3).named(name);
    let times = size(1, 50);
    let [rate, ..] = flooding.rates();
    let (clients_rate, clients) = with_clients(times, flooding);
    // A mimicking flood is answered with cookies of the kernel as well.
    let unmitigated = (flooding == Flooding::FixedFingerprint).then_some((
        1,
        clients_rate,
        true,
        Change::ButForAWhile,
    ));
    let alone = [(times, Change::Upgrade), (1, naive), (1, Change::ButForAMoment)]
        .map(|(times, change)| (times, rate, false, change));
    let cases = unmitigated.into_iter().chain(alone);
    let mut seen = side_by_side(size(2, 1), cases, |(times, rate, clients, change)| {
        changed(times, flooding, rate, clients, change)
    });
    let alone = seen.split_off(seen.len() - 3);
    let [fate, leaks, brief] = [0, 1, 2].map(|case| alone[case].fate);
    let renewing = alone[0].renewing;
    let unmitigated = seen.pop();
    let shut_out = unmitigated.as_ref().is_none_or(|seen| seen.failed > 0);
    let result = format!(
        "changes of layout: {} of {} SYNs leaked ({}; {renewing} renew next hops), {} of {} handshakes in \
         {clients_rate} SYN/s failed",
        fate.leaked(),
        fate.sent,
        fate.forgiven(),
        clients.failed,
        clients.handshakes
    );
    row.result(2 * 2 * times, result, fate.leaked() <= renewing && clients.failed == 0)
        .naive(
            2,
            format!(
                "{naive:?}: {} of {} SYNs leaked; with the XDP program detached for some 10 ms at each: {} by the \
                 kernel's count, {} seen by no XDP program{}",
                leaks.leaked(),
                leaks.sent,
                brief.by_kernel(),
                brief.unseen(),
                unmitigated.map_or_else(String::new, |seen| format!(
                    "; off for {} s: {} of {} handshakes failed",
                    WHILE.as_secs(),
                    seen.failed,
                    seen.handshakes
                ))
            ),
            leaks.leaked() > 1_000 && brief.by_kernel() > 0 && brief.unseen() > 0 && shut_out,
        )
        .finish();
}

#[test]
fn g3_upgrades_in_a_flood_let_nothing_in_and_no_handshake_fails() {
    row("rules", Flooding::FixedFingerprint, Change::Anew);
}

#[test]
fn g3_upgrades_while_cookies_are_active_leak_no_syn_and_fail_no_handshake() {
    row("cookies", Flooding::LikeClients, Change::Disinherited);
}

/// Each pins its maps at a path of its own, and removes what the other pinned.
#[test]
fn the_two_layouts_share_no_pin() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let of_layouts = || {
        let mut found = pins(&lab.edge).unwrap();
        found.retain(|pin| pin.starts_with('v'));
        found
    };
    let mut before = of_layouts();
    for layout in LAYOUTS {
        agent.stop().unwrap();
        agent.start_again_with(Mode::Enforce, layout).unwrap();
        let now = of_layouts();
        assert_eq!(now.len(), before.len());
        assert!(now.iter().all(|pin| !before.contains(pin)), "{now:?}");
        before = now;
    }
}
