use std::net::Ipv4Addr;

use super::*;
use crate::input::Ports;

/// One of the host.
fn incident() -> Incident {
    let line = VerdictLine::earlier(IncidentClass::FewSource);
    let verdict = Assessment::of_counters(line, Evidence::default());
    let opening = Opening {
        id: 1,
        listener_id: ListenerId::HOST,
        listener: Listener::HOST,
        signal: Signal::Fast,
        alarm: Vec::new(),
        before: None,
        moment: None,
        started: Timestamp::default(),
        detected: Timestamp::default(),
        syns: 0,
        matched: 0,
        dropped: 0,
        completed: 0,
        baseline_completed: None,
        syn_rate: 0.0,
    };
    Incident::open(Timestamp::default(), opening, &verdict)
}

/// A rule of another incident.
fn wanted(host: u8) -> Wanted {
    let net = ipnet::Ipv4Net::from(Ipv4Addr::new(192, 0, 2, host)).into();
    let matcher = Matcher::Source(net, Ports::EVERY);
    Wanted { matcher, incident: 2, reason: RuleReason::Found, ttl: Duration::from_secs(60) }
}

#[test]
fn it_takes_over_no_more_rules_than_an_incident_may_have() {
    let mut incident = incident();
    let taken = [1, 2, 3, 4].map(|host| incident.take_over(wanted(host), 3));
    assert_eq!(taken, [true, true, true, false]);
    assert!(incident.take_over(wanted(2), 3), "it has that one");
    assert_eq!(incident.wanted().len(), 3);
    assert!(incident.wanted().iter().all(|wanted| wanted.incident == 1), "it is its own now");
    incident.forget(&wanted(1).matcher, RemovalReason::NoHits);
    assert!(incident.take_over(wanted(4), 3), "there is room again");
}
