use tcpguard_engine::{
    EndFacts, EndReason, Family, FleetName, Harm, HeldBack, IncidentClass, IncidentFacts,
    Mitigation, MitigationReason, Mode, Ports, RemovalReason, RuleId, RuleObstacle, SignatureBasis,
};

use super::*;
use crate::documents::{Advised, AlertEvent};

/// The longest listener that there is.
fn listener() -> Listener {
    let addr = "2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap();
    Listener { addr, port: 65_535 }
}

/// The longest target of an incident of this class.
fn at(class: IncidentClass) -> Listener {
    if class.is_of_host() { Listener::HOST } else { listener() }
}

fn facts(class: IncidentClass, mode: Mode) -> Box<IncidentFacts> {
    Box::new(IncidentFacts {
        number: 12_345,
        class,
        listener: at(class),
        listeners: 1,
        mode,
        listener_mode: None,
        syn_rate: 98_912.3,
        peak_syn_rate: 101_000.0,
        baseline_syn_rate: 52.4,
        completion: 0.007,
        sources: 37_600,
        top_source: Some("2001:db8:1234:5678::".parse().unwrap()),
        top_source_share: 0.721,
        retransmitted: Some(0.991),
        ports_tried: 812,
        addresses_tried: 1,
        stopped: 0.998,
    })
}

fn end(class: IncidentClass, why: EndReason) -> Box<EndFacts> {
    Box::new(EndFacts {
        number: 12_345,
        class,
        listener: at(class),
        listeners: 1,
        why,
        lasted_s: 200,
        at_least: why == EndReason::AgentRestarted,
        syns: 19_800_000,
        dropped: 19_740_000,
        cookies_sent: 59_400,
        completed: 10_200,
    })
}

fn source() -> NamedRule {
    let ports = Ports::new(&[65_532, 65_533, 65_534, 65_535]).unwrap();
    let net = "2001:db8:1234:5678:9abc::/80".parse().unwrap();
    NamedRule { id: RuleId(131_071), target: Target::Source { net, ports } }
}

fn signature() -> NamedRule {
    let signature = "opts=mss,sok,ts,nop,ws mss=1460 win=64240 ws=7 ttl=64 df".to_owned();
    NamedRule { id: RuleId(7), target: Target::Signature { signature } }
}

/// Reports about incidents of every class, in every mode and with every end.
fn incidents() -> Vec<Event> {
    let mut all = Vec::new();
    for class in IncidentClass::ALL {
        for mode in [Mode::Off, Mode::Observe, Mode::Enforce] {
            let facts = || facts(class, mode);
            all.extend(match class {
                IncidentClass::HandshakeDegraded => {
                    [Event::HandshakesDegraded(facts()), Event::HandshakesUpdated(facts())]
                }
                class if class.is_flood() => {
                    [Event::AttackStarted(facts()), Event::AttackUpdated(facts())]
                }
                _ => [Event::IncidentStarted(facts()), Event::IncidentUpdated(facts())],
            });
            let (listener, listeners) = (Listener::HOST, 4096);
            let of_many = IncidentFacts { listener, listeners, ..*facts() };
            all.push(Event::AttackStarted(Box::new(of_many)));
        }
        for why in [
            EndReason::Quiet { for_s: 30 },
            EndReason::HandshakesFail,
            EndReason::ListenerGone,
            EndReason::AgentRestarted,
        ] {
            let end = end(class, why);
            all.push(match class {
                IncidentClass::HandshakeDegraded => Event::HandshakesRecovered(end),
                class if class.is_flood() => Event::AttackEnded(end),
                _ => Event::IncidentEnded(end),
            });
        }
        all.push(Event::ClassChanged { class });
        all.push(Event::ListenerJoined { listener: listener(), class });
    }
    all
}

fn rules() -> Vec<Event> {
    let mut all = Vec::new();
    let operator = || Origin::Operator { uid: 1000 };
    let fleet = || Origin::Fleet(FleetName { role: "ops".to_owned(), serial: 42 });
    for (origin, confirm_s) in [(operator(), None), (operator(), Some(60)), (fleet(), None)] {
        all.push(Event::RuleInstalled {
            rule: source(),
            origin,
            reason: RuleReason::Given { text: "abuse".to_owned() },
            mode: Mode::Enforce,
            terms: Some(RuleTerms { lifetime_s: 3600, confirm_s, replaces: Some(RuleId(3)) }),
        });
    }
    for basis in [
        SignatureBasis::NoClient,
        SignatureBasis::FullQueue,
        SignatureBasis::NoReplySeen,
        SignatureBasis::LastAttack,
        SignatureBasis::Hinted,
    ] {
        all.push(Event::RuleInstalled {
            rule: signature(),
            origin: Origin::Incident(12_345),
            reason: RuleReason::Signature { coverage: 0.9995, basis },
            mode: Mode::Observe,
            terms: None,
        });
    }
    all.push(Event::RuleInstalled {
        rule: NamedRule {
            target: Target::Source {
                net: "2001:db8:1234:5678::/64".parse().unwrap(),
                ports: Ports::EVERY,
            },
            ..source()
        },
        origin: Origin::Incident(12_345),
        reason: RuleReason::Source { share: 0.721 },
        mode: Mode::Observe,
        terms: None,
    });
    for why in [
        RuleObstacle::SlotsTaken,
        RuleObstacle::SmallCoverage { coverage: 0.412 },
        RuleObstacle::ClientsMatch,
        RuleObstacle::Retransmitted,
        RuleObstacle::Refused,
        RuleObstacle::Inseparable,
        RuleObstacle::Answered,
        RuleObstacle::Alone,
        RuleObstacle::SourceLimit { limit: 64 },
        RuleObstacle::Exempt { what: "default gateway".to_owned() },
        RuleObstacle::ClientsBehind,
    ] {
        all.push(Event::RuleDeclined { target: Some(signature().target), why: why.clone() });
        all.push(Event::RuleDeclined { target: None, why });
    }
    for why in [
        HeldBack::AgentOff,
        HeldBack::AgentObserves,
        HeldBack::ListenerOff,
        HeldBack::ListenerObserves,
        HeldBack::NoReplySeen,
        HeldBack::AcceptQueueFull,
    ] {
        all.push(Event::RuleAdvised { target: signature().target, why });
    }
    for why in [
        RemovalReason::NoHits,
        RemovalReason::Expired,
        RemovalReason::NotNeeded,
        RemovalReason::IncidentOver,
        RemovalReason::NoAttack,
        RemovalReason::Unsupported,
        RemovalReason::ManySources,
        RemovalReason::SourceCeased,
        RemovalReason::Exempt { what: "default gateway".to_owned() },
        RemovalReason::HeldBack { by: HeldBack::AcceptQueueFull },
        RemovalReason::Replaced { by: RuleId(8) },
        RemovalReason::Unconfirmed,
        RemovalReason::Operator,
        RemovalReason::Fleet,
        RemovalReason::Forbidden,
        RemovalReason::NotImported { uid: 1000 },
        RemovalReason::NotAdopted,
    ] {
        let rule = Some(signature());
        all.push(Event::RuleRemoved { rules: 1, rule, why: why.clone() });
        all.push(Event::RuleRemoved { rules: 4096, rule: None, why });
    }
    let harms = harms().into_iter().map(|harm| RemovalReason::Harmful { harm });
    let clients = [Some(1200), None].map(|accepted| RemovalReason::MatchesClients {
        accepted,
        completed: 12,
        hits: 19_700_000,
    });
    for why in harms.chain(clients) {
        for then in [Fallback::Cookies, Fallback::Nothing, Fallback::Retry { after_s: 60 }] {
            all.push(Event::RuleWithdrawn { rule: signature(), why: why.clone(), then });
        }
    }
    let error = "no memory".to_owned();
    for (rule, retry_s) in [(None, None), (Some(signature()), Some(10)), (Some(source()), None)] {
        all.push(Event::RuleFailed { rule, error: error.clone(), retry_s });
    }
    for confirm_s in [None, Some(60)] {
        let (added, kept, removed, total, pending) = (16_384, 1000, 1000, 16_384, 16_384);
        let uid = 1000;
        all.push(Event::RulesImported { uid, added, kept, removed, total, pending, confirm_s });
    }
    all.push(Event::RuleConfirmed { uid: 1000, rules: 4096, rule: None, left_s: None });
    let rule = Some(source());
    all.push(Event::RuleConfirmed { uid: 1000, rules: 1, rule, left_s: Some(3600) });
    let short = |net: &str| Target::Source { net: net.parse().unwrap(), ports: Ports::EVERY };
    for restored in [None, Some(None), Some(Some(RuleId(8)))] {
        let target = short("2001:db8::/32");
        let rule = NamedRule { id: RuleId(7), target: target.clone() };
        let restored = restored.map(|rule| Restored { target, rule });
        all.push(Event::RuleReverted { rule, restored });
    }
    all
}

fn harms() -> [Harm; 4] {
    let unfinished = |completed| Harm::Unfinished { valid: 1200, completed, lasting: true };
    [
        Harm::Fewer { before: 51.0, after: 3.0 },
        Harm::None { asked: 51, for_s: 3.0 },
        unfinished(0),
        unfinished(12),
    ]
}

fn mitigations() -> Vec<Event> {
    let mut all = Vec::new();
    let reasons = [
        MitigationReason::Flood,
        MitigationReason::Resets { per_second: 1234.5 },
        MitigationReason::Uncovered { share: 0.073 },
        MitigationReason::ClientsMatchRule,
        MitigationReason::ClientsMatchSharedRule,
        MitigationReason::Retransmitted,
        MitigationReason::QueueFull,
        MitigationReason::QueueNearlyFull,
        MitigationReason::QueueWouldFill,
        MitigationReason::Surge,
        MitigationReason::QueueStillFull,
        MitigationReason::Hinted { hosts: u16::MAX },
        MitigationReason::Inherited,
        MitigationReason::Ordered { uid: 1000 },
        MitigationReason::Forbidden { uid: 1000 },
        MitigationReason::Barred,
        MitigationReason::HeldBack { by: HeldBack::ListenerObserves },
        MitigationReason::IncidentOver,
        MitigationReason::NotNeeded { for_s: 30 },
        MitigationReason::NotNeeded { for_s: 0 },
    ];
    let (listener, with_others) = (listener(), true);
    for mitigation in Mitigation::ALL {
        for why in reasons.clone() {
            let rate = (mitigation == Mitigation::Budget).then_some(12_345);
            let stopped = why.clone();
            let advised = why.clone();
            all.extend([
                Event::MitigationStarted { listener, with_others, mitigation, rate, why },
                Event::MitigationStopped { listener, with_others, mitigation, why: stopped },
                Event::MitigationAdvised { mitigation, why: advised },
            ]);
        }
        for order in [Order::On, Order::Off, Order::Auto] {
            let (uid, lifetime_s) = (1000, 3600);
            all.push(Event::MitigationOrdered { listener, mitigation, order, uid, lifetime_s });
        }
        for harm in harms() {
            let retry_s = (!harm.is_lasting()).then_some(60);
            let family = (mitigation == Mitigation::Cookies).then_some(Family::Ipv6);
            // Only those that are not returned are withheld from an address.
            let is_of_address = family.is_some() && matches!(harm, Harm::None { .. });
            let addresses = if is_of_address { vec![listener.addr; 3] } else { Vec::new() };
            for (family, addresses) in [(None, vec![]), (family, vec![]), (None, addresses)] {
                all.push(Event::MitigationWithdrawn {
                    listener,
                    mitigation,
                    family,
                    addresses,
                    harm,
                    retry_s,
                });
            }
        }
        for retry_s in [None, Some(60)] {
            let (error, remedy) = ("no memory".to_owned(), Some("tcpguard doctor".to_owned()));
            all.push(Event::MitigationFailed { listener, mitigation, error, remedy, retry_s });
        }
    }
    all
}

fn others() -> Vec<Event> {
    let net = "2001:db8:1234:5678:9abc::/80".parse().unwrap();
    let source = "2001:db8:1234:5678::".parse().unwrap();
    let reason = "our monitoring".to_owned();
    let fleet = || Some(FleetName { role: "ops".to_owned(), serial: 42 });
    let mut all = vec![
        Event::AllowAdded { net, uid: 1000, fleet: None, lifetime_s: 3600, reason: reason.clone() },
        Event::AllowAdded { net, uid: 0, fleet: fleet(), lifetime_s: 3600, reason },
        Event::AllowRemoved { net, uid: Some(1000), fleet: None },
        Event::AllowRemoved { net, uid: Some(1000), fleet: fleet() },
        Event::AllowRemoved { net, uid: None, fleet: fleet() },
        Event::AllowRemoved { net, uid: None, fleet: None },
        Event::ModeChanged { uid: Some(1000), from: Mode::Observe, to: Mode::Enforce },
        Event::ModeChanged { uid: None, from: Mode::Observe, to: Mode::Off },
        Event::ListenersCounted { listeners: 4096 },
        Event::ListenerExempted { listener: listener() },
        Event::ListenerOverloaded {
            listener: listener(),
            accept_queue: Some(u32::MAX),
            accept_limit: Some(u32::MAX),
        },
        Event::BaselineRaised { share: 0.4 },
        Event::AgentRestarted,
        Event::AgentEnded,
    ];
    for (port, many_addresses) in [(Some(65_535), true), (None, true), (None, false)] {
        all.push(Event::ScannerFound { source, port, many_addresses });
    }
    for enforced in [true, false] {
        all.push(Event::ClosedPortsLimited { per_second: 200, enforced });
        all.push(Event::UnreadableDropped { enforced });
    }
    all
}

fn every_event() -> impl Iterator<Item = Event> {
    incidents().into_iter().chain(rules()).chain(mitigations()).chain(others())
}

/// Checks that the line of each event fits, and that JSON keeps the event under its name.
pub(in crate::text) fn check(events: impl Iterator<Item = (AlertEvent, String)>) {
    for (event, line) in events {
        let length = line.chars().count();
        assert!(length <= LINE && !line.contains('\n'), "{length}: {line}");
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], event.name());
        assert_eq!(serde_json::from_value::<AlertEvent>(json).unwrap(), event);
    }
}

#[test]
fn every_line_fits_and_every_event_is_read_back_from_json() {
    check(every_event().map(|event| {
        let line = event_line(&event);
        (AlertEvent::Engine(Box::new(event)), line)
    }));
}

#[test]
fn a_flood_that_is_not_mitigated_says_so_with_the_command() {
    let listener = Listener { addr: "203.0.113.10".parse().unwrap(), port: 443 };
    let facts =
        |mode| IncidentFacts { number: 3, listener, ..*facts(IncidentClass::RandomSpoofed, mode) };
    let line = |mode| event_line(&Event::AttackStarted(Box::new(facts(mode))));
    let observed = line(Mode::Observe);
    assert!(
        observed
            .starts_with("attack #3 started: SYN flood, spoofed sources, on 203.0.113.10:443: ")
    );
    let run = format!(". NOT MITIGATED: {}", Advised::TRY_ENFORCE);
    assert!(observed.ends_with(&run), "{observed}");
    assert!(!line(Mode::Enforce).contains("NOT MITIGATED"));
    let own = IncidentFacts { listener_mode: Some(Mode::Observe), ..facts(Mode::Enforce) };
    let line = event_line(&Event::AttackStarted(Box::new(own)));
    assert!(line.ends_with(". NOT MITIGATED: mode observe in its [[listener]] block"), "{line}");
}
