//! Obstacles to SYN cookies on the pages: in calm each with its remedy, and in an attack as the action.

mod support;

use support::{calm, clock, flooded, status};
use tcpguard::documents::{Advised, Facts, State, Status};
use tcpguard::text::{self, View};
use tcpguard_engine::{
    IncidentReport, Listener, ListenerId, ListenerKind, ListenerReport, ListenerState, Mitigation,
    MitigationReason, MitigationReport, MitigationState, Mode, Report,
};
use tcpguard_host::doctor::{Checked, Doctor};
use tcpguard_host::finding::Severity;
use tcpguard_host::obstacle::{Impeded, Obstacle, examples, redirect};
use tcpguard_host::time::Time;

const VIEW: View =
    View { utf8: true, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH };

fn page(status: &Status) -> String {
    let mut page = String::new();
    text::status(&mut page, status, &VIEW, false).unwrap();
    page
}

fn full_page(status: &Status) -> String {
    let mut page = String::new();
    text::full_status(&mut page, status, &VIEW).unwrap();
    page
}

/// The words of a page, without its line breaks.
fn flat(page: &str) -> String {
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_obstacle_is_on_each_page_in_calm_with_its_remedy() {
    for obstacle in examples() {
        let (report, mut facts) = calm();
        let https = report.listeners.iter().map(|one| one.listener).find(|one| one.port == 443);
        let at = https.into_iter().collect();
        facts.obstacles = vec![Impeded { obstacle: obstacle.clone(), at }];
        let status = status((report, facts));
        let (sentence, remedy) = (obstacle.sentence(), obstacle.remedy());
        let found = status.health.iter().find(|one| one.code == obstacle.code()).expect(&sentence);
        assert_eq!(found.hint.as_deref(), Some(&*remedy));
        assert!(found.text.ends_with(&sentence) && found.text.contains(" at :443: "), "{found:?}");
        let mut doctor = String::new();
        let checked = [Checked::from(found.clone())];
        let report = Doctor::new(Time(clock().wall), "0.1.0", None, true, &checked);
        text::doctor(&mut doctor, &report, &VIEW).unwrap();
        for page in [full_page(&status), doctor] {
            let page = flat(&page);
            assert!(page.contains(&sentence) && page.contains(&remedy), "{obstacle:?}:\n{page}");
        }
        let page = flat(&page(&status));
        assert!(page.contains(&sentence), "{page}");
        let acts = obstacle.severity() >= Severity::Warning;
        assert_eq!(page.contains("none needed"), !acts, "{page}");
        assert_eq!(page.contains(&remedy), acts, "{page}");
        assert_ne!(status.daemon.state, State::Degraded, "the agent works");
    }
}

/// A flood of which nothing is stopped at a listener of this kind, with cookies refused for this reason.
fn unstopped(kind: ListenerKind, refused: Option<&Obstacle>) -> (Report, Facts) {
    let (mut report, facts) = flooded(Mode::Enforce);
    let victim = &mut report.listeners[1];
    (victim.kind, victim.state) = (kind, ListenerState::Attacked);
    (victim.reaching_rate, victim.dropped_rate, victim.cookie_rate) = (98_900.0, 0.0, 0.0);
    victim.mitigations = refused.iter().map(|obstacle| refusal(obstacle)).collect();
    (report, facts)
}

fn refusal(obstacle: &Obstacle) -> MitigationReport {
    let (error, remedy) = (obstacle.sentence().into(), Some(obstacle.remedy().into()));
    MitigationReport {
        mitigation: Mitigation::Cookies,
        family: None,
        address: None,
        state: MitigationState::Refused,
        since: None,
        until: None,
        why: MitigationReason::Failed { error, remedy },
    }
}

#[test]
fn the_action_in_an_attack_is_the_remedy_of_the_refusal() {
    for obstacle in examples().iter().filter(|obstacle| obstacle.forbids()) {
        let status = status(unstopped(ListenerKind::Local, Some(obstacle)));
        assert_eq!(status.daemon.state, State::AttackUnmitigated);
        let remedy = obstacle.remedy();
        let action = status.incidents[0].advice.as_ref().map(|advice| &advice.action);
        assert_eq!(action, Some(&Advised::RemoveObstacle { remedy: remedy.clone() }));
        let page = flat(&page(&status));
        assert!(page.contains(&remedy), "{page}");
        assert!(!page.contains("tcp_syncookies=1 and"), "{page}");
    }
}

#[test]
fn an_attack_that_is_not_stopped_never_needs_no_action() {
    let local = ListenerKind::Local;
    for (scene, expected) in [
        (unstopped(local, None), "raise the backlog of the listener"),
        (unstopped(ListenerKind::Forwarded, None), "run tcpguard where it is answered"),
    ] {
        let status = status(scene);
        let page = flat(&page(&status));
        assert!(page.contains("NOT mitigating"), "{page}");
        assert!(page.contains(expected) && !page.contains("none needed"), "{page}");
    }
    // What the agent knows of the host says more than what the engine knows.
    let (report, mut facts) = unstopped(ListenerKind::Forwarded, None);
    let obstacle = Obstacle::Redirected { offence: Box::new(redirect()), port: Some(80) };
    let at = vec![report.listeners[1].listener];
    facts.obstacles = vec![Impeded { obstacle, at }];
    let page = flat(&page(&status((report, facts))));
    assert!(page.contains("let the application listen on port 80 itself"), "{page}");
}

#[test]
fn clients_that_fail_beside_a_mitigated_attack_are_a_reason_to_act() {
    let (mut report, facts) = flooded(Mode::Enforce);
    support::serve(&mut report.listeners[1], 2.0);
    let page = flat(&page(&status((report, facts))));
    assert!(page.contains("CLIENTS DO NOT CONNECT"), "{page}");
    assert!(page.contains("look for what keeps clients out"), "{page}");
}

/// A carpet over a hundred ports is one attack on one page.
#[test]
fn many_incidents_of_a_class_are_one_attack_on_the_page() {
    let (mut report, facts) = flooded(Mode::Enforce);
    let (incident, victim) = (report.incidents[0].clone(), report.listeners[1].clone());
    report.incidents.clear();
    for port in 0..65u16 {
        let listener = Listener { port: 7000 + port, ..victim.listener };
        let id = ListenerId(100 + u32::from(port));
        report.listeners.push(ListenerReport { id, listener, ..victim.clone() });
        let one = IncidentReport { listener_id: id, listener, ..incident.clone() };
        report.incidents.push(IncidentReport { id: 3 + u64::from(port), ..one });
    }
    let status = status((report, facts));
    assert_eq!(status.incidents.len(), 65, "each is in the document");
    let page = page(&status);
    assert!(page.lines().count() <= 22, "{page}");
    let words = flat(&page);
    assert!(
        words.contains("Attack #3 SYN flood, spoofed sources, on 65 listeners, since"),
        "{page}"
    );
    assert!(words.contains("100% of the flood at 65 listeners stopped"), "{page}");
    assert!(words.contains("3380 handshakes/s at 65 listeners (baseline 3380/s)"), "{page}");
    let full = full_page(&status);
    assert!(full.lines().count() < 65 + 80, "one line a listener, not more: {full}");
}
