//! Attempts of an attacker to have a rule withdrawn, live: helpers complete handshakes and then stop, and
//! SYNs are retransmitted as a client's are. The rule stays and clients are served. Needs root and
//! `TCPGUARD_BIN`.

use std::thread::sleep;
use std::time::Duration;

use tcpguard_engine::COMPLETED_SHARE;
use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::daemon::status::Status;
use tcpguard_kit::measure::clock::{TIMEOUT, after, boot_ns};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::flood::{Flood, RunningFlood, Shape};
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// SYNs a second of each flood.
const RATE: u32 = 3_000;
/// Share of the clients of each kind that must be answered within a second.
const SERVED: f64 = 0.99;
/// The kinds of clients.
const KINDS: [&str; 2] = ["validated clients", "new clients"];

/// Helpers of an attacker, which connect as clients do.
#[derive(Clone, Copy, Debug)]
struct Helpers {
    family: Family,
    /// Completed handshakes a second.
    rate: u32,
}

/// State of the rules and service to clients once the helpers had stopped.
struct Stopped {
    rules: usize,
    withdrawn: usize,
    clients: [Attempts; 2],
    /// Clients of the same host once its rules only count.
    without: [Attempts; 2],
}

impl Helpers {
    const ALL: [Self; 4] = [
        Self { family: Family::V4, rate: 150 },
        Self { family: Family::V6, rate: 50 },
        Self { family: Family::V4, rate: 400 },
        Self { family: Family::V6, rate: 150 },
    ];
    /// Signatures of the flood.
    const SIGNATURES: usize = 2;
    /// Time for which the helpers connect before the flood.
    const BEFORE: Duration = Duration::from_secs(8);
    /// Time after the end of the helpers until the rules only count.
    const AFTER: Duration = Duration::from_secs(12);
    /// Time after the second signature's rule at which the SYN rate limit that met this signature has ended.
    const RELIEVED: Duration = Duration::from_secs(4);
    /// Time for which clients are observed while nothing is dropped.
    const WITHOUT: Duration = Duration::from_secs(4);

    /// Helpers connect from before the attack on, and stop when the second of two signatures is dropped. It appears
    /// that the rule keeps clients out.
    fn stop(self) -> Stopped {
        let service = self.family.service();
        let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let clients = [Home::ValidatedClients, Home::NewClients].map(|home| {
            let visitors = Visitors { rate: 10, home, patience: PATIENCE };
            Load::of(&lab.client, service, visitors).unwrap()
        });
        let helpers = Load::start(&lab.client, service, self.rate).unwrap();
        sleep(Self::BEFORE);
        let floods = self.flood(&lab, &agent);
        // The next poll frees the queue of the half-open handshakes from before the second rule.
        sleep(SECOND);
        let stopped = boot_ns();
        helpers.finish().unwrap();
        sleep(Self::AFTER);
        let status = agent.status().unwrap();
        let observed = boot_ns();
        order(&lab, &["mode", "observe"]);
        sleep(Self::WITHOUT);
        let ended = boot_ns();
        let all = clients.map(|load| load.finish().unwrap());
        for flood in floods {
            flood.stop().unwrap();
        }
        let begun = |from, to| all.each_ref().map(|some| some.begun(from, to));
        let relieved = after(stopped, Self::RELIEVED);
        let (clients, without) = (begun(relieved, observed), begun(observed, ended));
        let (rules, withdrawn) = (status.rules().len(), status.alerts("rule_withdrawn"));
        println!("  {self:?}: {rules} rules, {withdrawn} withdrawn");
        for (kind, (after, without)) in KINDS.iter().zip(clients.iter().zip(&without)) {
            println!(
                "  {kind} after they stopped: {}; without rules: {}",
                after.summary(),
                without.summary()
            );
        }
        Stopped { rules, withdrawn, clients, without }
    }

    /// Two tools, one after the other; returns when the SYNs of both are dropped.
    fn flood(self, lab: &Lab, agent: &Agent<'_>) -> [RunningFlood; Self::SIGNATURES] {
        let start = |shape| {
            let flood = Flood::random(self.family.service(), 120 * SECOND);
            Flood { shape, rate: RATE, ..flood }.start(lab).unwrap()
        };
        let first = start(Shape::Bare);
        agent.wait_for_rule(TIMEOUT).unwrap();
        sleep(4 * SECOND);
        let second = start(Shape::RandomWindowMss);
        let both = |status: &Status| status.rules().len() == Self::SIGNATURES;
        agent.wait_until("both signatures are dropped", TIMEOUT, both).unwrap();
        [first, second]
    }
}

/// Runs a command as an operator of the attacked host.
fn order(lab: &Lab, arguments: &[&str]) {
    let ordered = cli(&lab.edge, arguments).unwrap();
    assert!(ordered.status.success(), "{arguments:?}: {ordered:?}");
}

/// Returns the number of attempts of all clients.
fn number<'c>(cases: impl Iterator<Item = &'c [Attempts; 2]>) -> usize {
    cases.flatten().map(|some| some.0.len()).sum()
}

/// The least share of validated clients, and of new clients, that was answered within a second in any case.
fn least<'c>(cases: impl Iterator<Item = &'c [Attempts; 2]> + Clone) -> [f64; 2] {
    [0, 1].map(|kind| {
        let shares = cases.clone().map(|clients| clients[kind].share_within(SECOND));
        shares.fold(1.0, f64::min)
    })
}

/// The naive variant withdraws the rules because handshakes are missing.
#[test]
fn g21_helpers_that_stop_take_no_rule_away() {
    let row = Row::new(Goal::G21).named("helpers");
    let count = size(1, Helpers::ALL.len());
    let cases: Vec<Stopped> = Helpers::ALL[..count].iter().map(|helpers| helpers.stop()).collect();

    let [known, new_clients] = least(cases.iter().map(|case| &case.clients));
    let clients = number(cases.iter().map(|case| &case.clients));
    let rules: usize = cases.iter().map(|case| case.rules).sum();
    let withdrawn: usize = cases.iter().map(|case| case.withdrawn).sum();
    let wanted = count * Helpers::SIGNATURES;
    let said = format!(
        "floods in which helpers stop: {rules} of {wanted} rules stay, {withdrawn} were withdrawn; of {clients} \
         clients at least {:.1} % of the validated ones and {:.1} % of new clients in each served within 1 s",
        100.0 * known,
        100.0 * new_clients
    );
    let holds = (rules, withdrawn) == (wanted, 0) && f64::min(known, new_clients) >= SERVED;

    let shares = cases.iter().flat_map(|case| &case.without).map(|some| some.share_within(SECOND));
    let without = shares.fold(0.0, f64::max);
    let clients = number(cases.iter().map(|case| &case.without));
    row.result(count as u64, said, holds)
        .naive(
            count as u64,
            format!(
                "floods without the rules: of {clients} clients at most {:.1} % of a kind in each served within \
                 1 s",
                100.0 * without
            ),
            without < 0.5,
        )
        .finish();
}

/// A flood that sends one SYN in 25 again after a second, as a client does.
#[derive(Clone, Copy, Debug)]
struct Returning {
    family: Family,
    /// True if cookies answer those; else an operator forbids them.
    cookies: bool,
}

/// State of the rule, and service to clients from a second after it.
struct Returned {
    rules: usize,
    withdrawn: usize,
    /// SYNs that it matched, and those of them that passed because they were retransmitted.
    matched: u64,
    passed: u64,
    /// Handshakes that were completed after that.
    completed: u64,
    clients: [Attempts; 2],
}

impl Returning {
    const ALL: [Self; 4] = [
        Self { family: Family::V4, cookies: true },
        Self { family: Family::V4, cookies: false },
        Self { family: Family::V6, cookies: true },
        Self { family: Family::V6, cookies: false },
    ];
    /// Number of SYNs of which one is retransmitted.
    const REPEATED: u32 = 25;

    fn come(self) -> Returned {
        let (service, syncookies) = (self.family.service(), u8::from(self.cookies));
        let lab = Lab::new(LabOptions { syncookies, ..LabOptions::default() }).unwrap();
        let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
        let agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
        let cookies = if self.cookies { "auto" } else { "off" };
        order(&lab, &["mitigation", &format!(":{PORT}"), "cookies", cookies, "--for", "5m"]);
        let clients = [Home::One, Home::NewClients].map(|home| {
            let visitors = Visitors { rate: 50, home, patience: PATIENCE };
            Load::of(&lab.client, service, visitors).unwrap()
        });
        sleep(2 * SECOND);
        let flood = Flood::random(service, 15 * SECOND);
        let flood = Flood { rate: RATE, repeated: Self::REPEATED, ..flood }.start(&lab).unwrap();
        agent.wait_for_rule(TIMEOUT).unwrap();
        let ruled = boot_ns();
        let flood = flood.wait().unwrap();
        let status = agent.status().unwrap();
        let from = after(ruled, SECOND);
        let clients = clients.map(|load| load.finish().unwrap().begun(from, flood.ended));
        assert_eq!(
            status.incidents().len(),
            1,
            "one flood is one incident: {:#?}",
            status.incidents()
        );
        let rules = status.rules();
        let returned = Returned {
            rules: rules.len(),
            withdrawn: status.alerts("rule_withdrawn"),
            matched: rules.iter().map(|rule| rule.hits()).sum(),
            passed: rules.iter().map(|rule| rule.accepted_retransmits()).sum(),
            completed: rules.iter().map(|rule| rule.completed()).sum(),
            clients,
        };
        let Returned { rules, withdrawn, matched, passed, completed, clients } = &returned;
        println!(
            "  {self:?}: {rules} rules, {withdrawn} withdrawn; {passed} SYNs passed when they came again, of \
             {matched} that it matched, and {completed} completed"
        );
        for (kind, some) in KINDS.iter().zip(clients) {
            println!("  {kind}: {}", some.summary());
        }
        assert!(*passed >= 50, "{self:?}: SYNs came again, and {passed} of them passed");
        returned
    }
}

impl Returned {
    /// Returns whether more SYNs were retransmitted than may complete a handshake under a rule that cookies can
    /// replace.
    fn seems_to_hurt(&self) -> bool {
        self.passed as f64 > COMPLETED_SHARE * self.matched as f64
    }
}

/// No retransmitted SYN completes a handshake, so the rule stays. Cookies answer such SYNs. Where an operator
/// forbids cookies, the SYNs do not fill the queue. The naive variant takes them for clients', and withdraws the
/// rule where cookies can answer instead.
#[test]
fn g21_retransmitted_syns_withdraw_no_rule() {
    let row = Row::new(Goal::G21).named("retransmissions");
    let count = size(1, Returning::ALL.len());
    let floods = &Returning::ALL[..count];
    let cases: Vec<Returned> = floods.iter().map(|flood| flood.come()).collect();

    let [known, new_clients] = least(cases.iter().map(|case| &case.clients));
    let clients = number(cases.iter().map(|case| &case.clients));
    let rules: usize = cases.iter().map(|case| case.rules).sum();
    let withdrawn: usize = cases.iter().map(|case| case.withdrawn).sum();
    let sum = |of: fn(&Returned) -> u64| cases.iter().map(of).sum::<u64>();
    let (matched, passed) = (sum(|case| case.matched), sum(|case| case.passed));
    let completed = sum(|case| case.completed);
    let said = format!(
        "floods that send SYNs again: {rules} of {count} rules stay, {withdrawn} were withdrawn; of {matched} SYNs \
         that they match {passed} passed when they came again, {completed} completed; of {clients} clients at \
         least {:.1} % of the validated ones and {:.1} % of new clients in each served within 1 s",
        100.0 * known,
        100.0 * new_clients
    );
    let holds =
        (rules, withdrawn, completed) == (count, 0, 0) && f64::min(known, new_clients) >= SERVED;

    let with_cookies = floods.iter().zip(&cases).filter(|(flood, _)| flood.cookies);
    let would: Vec<bool> = with_cookies.map(|(_, case)| case.seems_to_hurt()).collect();
    let lost = would.iter().filter(|would| **would).count();
    row.result(count as u64, said, holds)
        .naive(
            would.len() as u64,
            format!("rules that cookies can replace: {lost} withdrawn for SYNs that came again"),
            lost == would.len(),
        )
        .finish();
}
