//! The record of an incident, kept so that the incident can be re-traced when it is over.

use tcpguard_engine::{
    HeldBack, IncidentClass, Limit, Mitigation, Mode, Quantity, Question, RestraintReason,
    RuleReason,
};

use crate::sim::*;

fn lab() -> Lab {
    Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients::steady(50.0))
}

#[test]
fn counters_before_at_the_alarm_at_the_last_look_and_after_are_kept() {
    let mut lab = lab().flood(Flood::random(5000.0, 20.1..30.1));
    lab.run_until(66.0);
    let report = lab.report();
    let [incident] = report.past.as_slice() else { panic!("{}", lab.story()) };
    let record = &incident.record;

    let before = record.before.as_ref().expect("ten seconds of calm");
    assert!((45.0..55.0).contains(&before.syn_pps), "{before:?}");
    assert!((9.0..=10.0).contains(&before.span_s), "{before:?}");
    let alarm = record.at_alarm.as_ref().expect("a listener's");
    assert_eq!(alarm.at, incident.detected);
    assert!(alarm.statistics.fast_failures >= 64, "{alarm:?}");
    assert_eq!(alarm.statistics.fast_polls, 2);
    assert!((alarm.statistics.natural_share - 0.02).abs() < 0.01, "{alarm:?}");
    let limits: Vec<_> = record.alarm.iter().filter_map(|one| one.limit).collect();
    assert_eq!(limits, [64.0, 0.75, 2.0].map(Limit::AtLeast), "{:?}", record.alarm);
    let last = record.at_last.as_ref().expect("a listener's");
    assert!((3000.0..5200.0).contains(&last.rates.syn_pps), "{last:?}");
    assert!(last.at > alarm.at);
    let after = record.after.as_ref().expect("it is over");
    assert!((45.0..55.0).contains(&after.syn_pps), "{after:?}");
}

#[test]
fn later_looks_leave_the_numbers_at_the_alarm_alone() {
    let mut lab = lab().flood(Flood::random(5000.0, 20.1..40.1));
    lab.run_until(21.1);
    let early = lab.incident().record;
    lab.run_until(39.0);
    let late = lab.incident();
    assert_eq!(late.record.at_alarm, early.at_alarm);
    assert_eq!(late.record.first, early.first);
    assert_eq!(late.record.before, early.before);
    assert_ne!(late.record.at_last, early.at_last);
    let holding = late.record.first.indicators.len();
    assert!(late.evidence.holding() > holding, "SYNs without retransmissions");
}

#[test]
fn a_rule_is_kept_with_its_hits_when_it_is_gone() {
    let mut lab = lab().flood(Flood::random(5000.0, 20.1..30.1));
    lab.run_until(66.0);
    assert_eq!(lab.kernel.rules().count(), 0);
    let report = lab.report();
    let incident = &report.past[0];
    assert_eq!(incident.rules, [], "none is active");
    let [rule] = incident.record.rules.as_slice() else { panic!("{:?}", incident.record) };
    assert_eq!((rule.kind, rule.ended_at), (Mitigation::Signature, None));
    assert!(rule.hits > 40_000, "{rule:?}");
    assert!(rule.hits <= incident.counts.matched, "{rule:?}");
    assert!(matches!(rule.reason, RuleReason::Signature { .. }), "{rule:?}");
}

#[test]
fn a_rule_that_was_withdrawn_is_kept_with_its_end() {
    let alike = Clients { shape: Some(Shape::Bare), from: 30.0, ..Clients::steady(100.0) };
    let mut lab = lab().clients(alike).flood(Flood::random(5000.0, 20.1..40.1));
    lab.run_until(39.0);
    let record = lab.incident().record;
    let withdrawn = record.rules.iter().find(|rule| rule.ended_at.is_some());
    assert!(withdrawn.is_some_and(|rule| rule.accepted_retransmits > 0), "{record:?}");
}

#[test]
fn the_line_that_decided_is_the_class_and_those_before_it_say_why_not() {
    let one = Sources::One([198, 51, 100, 7].into());
    let mut lab = lab().flood(Flood { sources: one, ..Flood::random(2000.0, 20.1..40.1) });
    lab.run_until(30.0);
    let record = lab.incident().record;
    let (last, before) = record.lines.split_last().expect("a line");
    assert!(before.len() == 6 && before.iter().all(|line| !line.holds), "{record:?}");
    assert_eq!((last.holds, last.question), (true, Question::Fits));
    assert_eq!(last.class, IncidentClass::SingleSource);
    assert_eq!(last.measured[0].what, Quantity::TopSourceShare, "{record:?}");
    assert_eq!(record.no_rule, None, "there is one");
    let networks = &lab.incident().evidence.top_networks;
    assert_eq!(networks[0].net.to_string(), "198.51.100.0/24");
}

#[test]
fn why_nothing_is_done_is_said() {
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients { shape: Some(Shape::Linux), ..Clients::steady(50.0) })
        .flood(Flood { shape: Shape::Linux, ..Flood::random(2000.0, 20.1..40.1) });
    lab.run_until(30.0);
    let record = lab.incident().record;
    assert_eq!(record.rules, []);
    assert_eq!(
        record.no_mitigation.map(|why| why.reason),
        Some(RestraintReason::HeldBack { by: HeldBack::AgentObserves })
    );

    let outage = Some(Outage::of(20.0..30.0, 1.0));
    let mut lab = self::lab().clients(Clients { outage, ..Clients::steady(300.0) });
    lab.run_until(29.0);
    let record = lab.incident().record;
    assert_eq!(record.no_rule.map(|why| why.reason), Some(RestraintReason::NoFlood));
    assert_eq!(record.no_mitigation, None, "no step is a question where nobody attacks");
}

#[test]
fn active_mitigations_are_recorded() {
    let mut lab = lab()
        .clients(Clients { shape: Some(Shape::Linux), ..Clients::steady(50.0) })
        .flood(Flood { shape: Shape::Linux, ..Flood::random(5000.0, 20.1..30.1) });
    lab.run_until(66.0);
    let mitigations = &lab.report().past[0].record.mitigations;
    assert!(mitigations.contains(&Mitigation::Cookies), "{mitigations:?}");
}

#[test]
fn a_verdict_that_is_doubted_says_by_how_much() {
    let mut lab = lab().flood(Flood::random(5000.0, 20.1..30.1));
    lab.run_until(25.0);
    assert_eq!(lab.incident().record.doubt, None, "the last look agreed");
    let outage = Some(Outage::of(25.0..60.0, 1.0));
    let mut lab = self::lab().flood(Flood::random(300.0, 20.1..25.1)).clients(Clients {
        from: 24.9,
        outage,
        ..Clients::steady(350.0)
    });
    let mut doubted = None;
    for poll in 0..60 {
        lab.run_until(25.0 + f64::from(poll) / 4.0);
        doubted = doubted.or(lab.incident().record.doubt);
    }
    let doubt = doubted.unwrap_or_else(|| panic!("{}", lab.story()));
    assert!(doubt.inspections < doubt.needed, "{doubt:?}");
    assert_ne!(doubt.class, IncidentClass::RandomSpoofed);
}

#[test]
fn numbers_go_on_after_those_on_record() {
    let mut lab = lab().flood(Flood::random(5000.0, 20.1..30.1));
    lab.engine.number_after(41);
    lab.engine.number_after(7);
    lab.run_until(25.0);
    assert_eq!(lab.incident().id, 42);
}
