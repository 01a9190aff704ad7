//! Words about an attack and about clients: their success is one number, and every page, document and metric shows it.

mod support;

use std::time::Duration;

use support::{built, calm, flooded};
use tcpguard::documents::monitoring::{Level, Metric, judge};
use tcpguard::documents::{FullIncident, ModeRevert, Reading, Status};
use tcpguard::telemetry::metrics::{of_status, text as metrics};
use tcpguard::text::{self, View};
use tcpguard_engine::{
    Completions, Event, IncidentClass, IncidentReport, Listener, ListenerId, ListenerState, Mode,
    QuietReport, Report, TcpExt,
};
use tcpguard_host::time::Clock;
use tcpguard_sim::{Clients, Flood, Lab, Outage, Server, Shape};

/// A host with 50 clients a second, in a time in which nothing is the matter.
fn lab(clients: Clients) -> Lab {
    let mut lab = Lab::new(Mode::Enforce).listener(Server::default()).clients(clients);
    lab.run_until(20.0);
    lab
}

/// The application no longer accepts anything.
fn full_accept_queue() -> Lab {
    let mut lab = lab(Clients::steady(50.0));
    lab.kernel.set_accepting(0, false);
    lab.run_until(40.0);
    lab
}

fn clients_that_stopped() -> Lab {
    let mut lab = lab(Clients { until: 20.0, ..Clients::steady(50.0) });
    lab.run_until(26.0);
    lab
}

/// The clients stop in a flood. One with their own fingerprint is answered with cookies, a rule drops another.
fn clients_that_stopped_in_a_flood(shape: Shape) -> Lab {
    let clients = Clients { shape: Some(Shape::Linux), until: 40.0, ..Clients::steady(50.0) };
    let flood = Flood { shape, ..Flood::random(5000.0, 20.1..90.0) };
    let mut lab = Lab::new(Mode::Enforce).listener(Server::default()).clients(clients).flood(flood);
    lab.run_until(48.0);
    lab
}

/// The SYN-ACKs to all clients are lost.
fn broken_path() -> Lab {
    let outage = Some(Outage::of(20.0..60.0, 1.0));
    let mut lab = lab(Clients { outage, ..Clients::steady(50.0) });
    lab.run_until(40.0);
    lab
}

/// A balancer sends hardly anything but its health checks.
fn drained_node() -> Lab {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { until: 20.0, ..Clients::steady(50.0) })
        .clients(Clients::steady(3.0));
    lab.run_until(60.0);
    lab
}

/// The status of the host, and the handshakes a second that its kernel has completed in the last 8 s.
fn seen(lab: &mut Lab) -> (Report, Status, f64, Clock) {
    let counted = |lab: &Lab| lab.listener_report(0).counters.completed();
    let end = tcpguard_sim::seconds(lab.kernel.now);
    let before = counted(lab);
    lab.run_until(end + 8.0);
    let truth = (counted(lab) - before) as f64 / 8.0;
    let (_, mut facts) = calm();
    facts.clock = Clock { now: lab.kernel.now, ..facts.clock };
    let report = lab.report();
    let status = built(&report, &facts);
    (report, status, truth, facts.clock)
}

fn view() -> View {
    View { utf8: true, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH }
}

fn page(status: &Status) -> String {
    let mut page = String::new();
    text::status(&mut page, status, &view(), false).unwrap();
    page
}

/// The words of each surface about `status`, all of which show its number of clients.
fn surfaces(report: &Report, status: &Status, clock: Clock) -> Vec<(&'static str, String)> {
    let situation = text::headline(status).1.into_owned();
    let judged = judge(status, situation.clone(), &[], &[]);
    let value = judged.metrics.iter().find(|it| it.metric == Metric::Clients).unwrap().value;
    assert_eq!(value, status.clients.ratio.map(|ratio| (ratio * 1e4).round() / 100.0), "check");
    let exposed = metrics(&of_status(status));
    let name = "tcpguard_listener_clients_ratio{";
    let ratio = exposed.lines().find(|line| line.starts_with(name));
    let ratio = ratio.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    assert_eq!(ratio, status.listeners[0].clients.ratio, "metrics");
    assert_eq!(status.clients, status.listeners[0].clients, "JSON");

    let (mut line, mut listener) = (String::new(), String::new());
    text::check(&mut line, &judged).unwrap();
    text::listener(&mut listener, &status.listeners[0], Mode::Enforce, &view()).unwrap();
    let mut all = vec![("status", page(status)), ("check", line), ("listener", listener)];
    all.extend(report.incidents.iter().map(|incident| {
        let full = FullIncident::build(incident, report, clock);
        assert_eq!(full.incident.clients, Some(status.clients), "JSON of the incident");
        let mut page = String::new();
        text::attack_in_full(&mut page, &full, &view(), false).unwrap();
        ("explain", page)
    }));
    all
}

#[test]
fn every_surface_shows_the_same_clients() {
    for (name, mut lab, level, state, fails) in [
        (
            "full accept queue",
            full_accept_queue(),
            Level::Critical,
            ListenerState::Overloaded,
            Some("MOST CLIENTS FAIL"),
        ),
        (
            "broken path",
            broken_path(),
            Level::Critical,
            ListenerState::Failing,
            Some("MOST CLIENTS FAIL"),
        ),
        ("clients that stopped", clients_that_stopped(), Level::Ok, ListenerState::Ok, None),
        (
            "clients that stopped in a flood of SYN cookies",
            clients_that_stopped_in_a_flood(Shape::Linux),
            Level::Warning,
            ListenerState::Mitigating,
            None,
        ),
        (
            "clients that stopped in a flood that a rule drops",
            clients_that_stopped_in_a_flood(Shape::Bare),
            Level::Warning,
            ListenerState::Mitigating,
            None,
        ),
        ("drained node", drained_node(), Level::Ok, ListenerState::Ok, None),
    ] {
        let (report, status, truth, clock) = seen(&mut lab);
        let clients = status.clients;
        assert!((clients.completed_pps - truth).abs() <= 0.5, "{name}: {clients:?} {truth}");
        assert_eq!(status.listeners[0].state, state, "{name}: {}", lab.story());
        let situation = text::headline(&status).1.into_owned();
        assert_eq!(situation == "CLIENTS DO NOT CONNECT, not an attack", fails.is_some(), "{name}");
        let judged = judge(&status, situation, &[], &["clients=50:".parse().unwrap()]);
        assert_eq!(judged.level, level, "{name}: {judged:#?}");
        let words = fails.unwrap_or("few clients arrive");
        let page = page(&status);
        assert!(!page.contains("ATTACKED"), "{name}: no attack\n{page}");
        for (surface, shown) in surfaces(&report, &status, clock) {
            assert!(shown.contains(words), "{name}, {surface}: {words}\n{shown}");
        }
        // Replies that reach no client are a reason, clients that do not come are none.
        let withdrawn = |event: &Event| matches!(event, Event::MitigationWithdrawn { .. });
        let is_withdrawn = lab.alerts.iter().any(|alert| withdrawn(&alert.event));
        assert!(fails.is_some() || !is_withdrawn, "{}", lab.story());
    }
}

/// The flood has stopped, and its incident is open for a while.
#[test]
fn an_attack_that_has_stopped_is_shown_as_such() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let (mut report, facts) = flooded(mode);
        let now = facts.clock.now;
        report.listeners[1].completions =
            Completions { rate: 51.0, baseline: Some(51.0), failed: Some(0.0) };
        report.incidents[0].quiet = Some(QuietReport {
            since: now - Duration::from_secs(16),
            ends_at: now + Duration::from_secs(14),
        });
        let status = built(&report, &facts);
        let page = page(&status);
        assert!(page.starts_with("! tcpguard"), "{page}");
        assert!(page.contains("ATTACK STOPPED, over in 14s"), "{page}");
        let exposed = metrics(&of_status(&status));
        assert!(exposed.contains("tcpguard_state{state=\"attack_unmitigated\"} 0"), "{exposed}");
        let said = "no SYN of the flood at :443 for 16s";
        assert_eq!(page.contains(said), mode == Mode::Enforce, "{page}");
        let full = FullIncident::build(&report.incidents[0], &report, facts.clock);
        let request = text::provider(&full).join("\n");
        assert!(request.contains("End: 2026-11-20 14:05:15 UTC"), "{request}");
    }
}

/// After the flood cookies answer clients alone for a while.
#[test]
fn a_cookie_that_a_client_returns_stops_no_flood() {
    for (cookie_rate, said) in [
        (30.0, "no SYN of the flood at :443 in the last second"),
        (90.0, "100% of the flood at :443 stopped in the last second"),
    ] {
        let (mut report, facts) = flooded(Mode::Enforce);
        let at = &mut report.listeners[1];
        (at.dropped_rate, at.cookie_rate, at.reaching_rate) = (0.0, cookie_rate, 0.0);
        at.completions = Completions { rate: 28.0, baseline: Some(30.0), failed: Some(0.0) };
        let page = page(&built(&report, &facts));
        assert!(page.contains(said), "{page}");
    }
}

/// A flood of many listeners is one on the page. The few clients of each say nothing by themselves.
#[test]
fn the_clients_of_a_flood_of_many_listeners_are_those_of_all() {
    for shape in [Shape::Bare, Shape::Linux] {
        let flood = Flood { shape, across: 40, ..Flood::random(4000.0, 40.1..90.0) };
        let few = |to| Clients { to, shape: Some(Shape::Linux), ..Clients::steady(0.5) };
        let lab = Lab::new(Mode::Enforce).flood(flood);
        let mut lab = (0..40).fold(lab, |lab, to| lab.listener(Server::default()).clients(few(to)));
        lab.run_until(60.0);
        let (report, status, _, clock) = seen(&mut lab);
        let page = page(&status);
        assert_eq!(report.incidents.len(), 1, "{}", lab.story());
        let full = FullIncident::build(&report.incidents[0], &report, clock);
        let mut explained = String::new();
        text::attack_in_full(&mut explained, &full, &view(), false).unwrap();
        assert!(explained.matches(" on 203.0.113.10:").count() < 8, "{explained}");
        assert!(explained.contains(" others\n"), "{explained}");
        assert!(page.contains("UNDER ATTACK, mitigating"), "{page}");
        assert!(page.contains("of the flood at 40 listeners stopped"), "{page}");
        assert!(page.contains("handshakes/s at 40 listeners (baseline"), "{page}");
        assert!(!page.contains("clients fail") && !page.contains("only "), "{page}");
        let rate = status.clients.completed_pps;
        assert!((15.0..25.0).contains(&rate), "{rate}");
    }
}

/// The application has crashed: the kernel refuses its clients, which is no incident.
#[test]
fn clients_that_are_refused_are_the_headline() {
    let (mut report, facts) = calm();
    for listener in &mut report.listeners {
        listener.completions = Completions { rate: 0.0, baseline: Some(50.0), failed: Some(50.0) };
    }
    let status = built(&report, &facts);
    let situation = text::headline(&status).1.into_owned();
    assert_eq!(situation, "CLIENTS DO NOT CONNECT, not an attack");
    assert_eq!(judge(&status, situation, &[], &[]).level, Level::Critical);
    report.listeners[0].state = ListenerState::Suspect;
    let situation = text::headline(&built(&report, &facts)).1;
    assert_eq!(situation, "CLIENTS DO NOT CONNECT, cause under examination");
}

/// The time without an agent is no failure of clients.
#[test]
fn the_time_without_an_agent_lowers_no_mean() {
    let (report, facts) = flooded(Mode::Enforce);
    let ended = Some(facts.clock.now);
    let all = IncidentReport { ended, ..report.incidents[0].clone() };
    let mean = |incident: &IncidentReport| {
        FullIncident::build(incident, &report, facts.clock).incident.clients.unwrap()
    };
    let mut away = all.clone();
    away.counted /= 2;
    away.counts.completed /= 2;
    assert_eq!(mean(&away).completed_pps, mean(&all).completed_pps);
    away.counted = all.counted;
    assert!(mean(&away).completed_pps < mean(&all).completed_pps, "by the whole duration");
}

#[test]
fn a_mode_that_reverts_unless_confirmed_is_an_action() {
    let (report, mut facts) = flooded(Mode::Enforce);
    assert!(page(&built(&report, &facts)).contains("Action      none needed"));
    let soon = Some(facts.clock.time_at(facts.clock.now + Duration::from_secs(18)));
    let ends = ModeRevert { revert_to: Mode::Observe, confirm_by: soon, until: None, in_s: 18 };
    facts.mode_reverts = Some(ends);
    let page = page(&built(&report, &facts));
    assert!(page.contains("Action      sudo tcpguard confirm"), "{page}");
}

/// Nothing is mitigated, and clients connect: the kernel does it.
#[test]
fn what_the_kernel_answers_by_itself_is_said() {
    let (report, mut facts) = flooded(Mode::Observe);
    let counted = |syncookies_sent| TcpExt { syncookies_sent, ..TcpExt::default() };
    let earlier = Some((counted(0), Duration::from_secs(1)));
    facts.tcp_ext = Reading { now: counted(20_000), earlier };
    let page = page(&built(&report, &facts));
    let said = "the kernel answers 20k SYN/s with its own SYN cookies";
    assert!(page.split_whitespace().collect::<Vec<_>>().join(" ").contains(said), "{page}");
}

/// Each rate is that of a named attack.
#[test]
fn each_of_several_attacks_has_its_name() {
    let (mut report, facts) = flooded(Mode::Enforce);
    let mut closed = report.incidents[0].clone();
    (closed.id, closed.class) = (4, IncidentClass::ClosedPorts);
    (closed.listener, closed.listener_id) = (Listener::HOST, ListenerId::HOST);
    (closed.syn_rate, closed.stopped_rate) = (15_000.0, 14_700.0);
    report.incidents.push(closed);
    let page = page(&built(&report, &facts));
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "#3: 98.9k SYN/s",
        "#4: 15k SYN/s",
        "98% of the SYNs to closed ports stopped",
        "tcpguard explain 3 (also 4)",
    ] {
        assert!(page.contains(words), "{words}:\n{page}");
    }
}
