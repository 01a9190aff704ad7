//! Samples of documents, and tests over all kinds.

use ipnet::IpNet;
use proptest::prelude::*;
use tcpguard_common::abi::{Fingerprint, Mask};
use tcpguard_engine::{IncidentClass, Mitigation, Mode, Ports, SharedSignature};
use tcpguard_host::time::Time;

use super::*;

/// Time of sending of the samples.
pub(crate) const AT: &str = "2026-11-20T14:05:31.204Z";

pub(crate) fn time(text: &str) -> Time {
    Time(text.parse().expect("a time"))
}

pub(crate) fn host(number: u32) -> HostId {
    format!("{number:08x}").parse().expect("a host")
}

/// Envelope of document `seq` of a host's first run.
pub(crate) fn envelope(number: u32, seq: u64) -> Envelope {
    Envelope { host: host(number), site: None, boot: 1, seq, at: time(AT), ttl_s: 60 }
}

/// Evidence about a signature without options. Each window is another signature.
pub(crate) fn evidence(port: u16, window: u16) -> SignatureEvidence {
    let print = Fingerprint { window, wscale: 255, ttl: 64, ..Fingerprint::default() };
    let signature = signature::shared(Mask::Full, &print);
    SignatureEvidence {
        port,
        id: signature_id(&signature),
        signature,
        class: IncidentClass::RandomSpoofed,
        syn_pps: 100_000.0,
        share: 0.999,
        confidence: 0.875,
        clients_like_it: 0,
        hits: 1_400_000,
    }
}

/// An open incident with one victim.
pub(crate) fn facts(number: u64, victim: &str) -> IncidentFacts {
    IncidentFacts {
        number,
        class: IncidentClass::RandomSpoofed,
        victims: vec![victim.parse().expect("a prefix")],
        ports: vec![443],
        listeners: 1,
        since: time(AT),
        ended: None,
        syn_pps: 100_000.0,
        peak_syn_pps: 120_000.0,
        dropped_share: 0.97,
        completion: 0.25,
        sources: 90_000,
        signatures: vec![evidence(443, 512).id],
        mitigations: vec![Mitigation::Signature, Mitigation::Cookies],
    }
}

pub(crate) fn agent() -> Agent {
    Agent {
        version: "0.1.0".to_owned(),
        mode: Mode::Enforce,
        state: "attack_mitigated".to_owned(),
        ports: 12,
        incidents: 1,
        syn_pps: 100_000.0,
        drop_pps: 97_000.0,
    }
}

pub(crate) fn heartbeat(envelope: Envelope) -> Host {
    let (hostname, version) = ("web1.example.net".to_owned(), "0.1.0".to_owned());
    Host { envelope, hostname, version, agent: Some(agent()), fleet: FleetCounts::default() }
}

fn route() -> ReliefRoute {
    ReliefRoute::Flowspec {
        destination: net("192.0.2.10/32"),
        port: 443,
        length: Some([40, 44]),
        rate_bytes_per_s: Some(12_500),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn rule() -> RuleBody {
    RuleBody {
        kind: RuleKind::Block,
        prefix: net("203.0.113.0/24"),
        ports: Ports::new(&[443]).expect("a port"),
        hosts: "site=fra".parse().expect("a selector"),
        not_after: time("2026-11-20T15:00:00Z"),
        reason: "abuse".to_owned(),
        who: "ada".to_owned(),
        serial: 42,
    }
}

/// One document of each kind.
fn samples() -> Vec<Document> {
    let envelope = || envelope(7, 812);
    let part = Part { part: 0, parts: 1 };
    let body = rule().to_json().expect("JSON");
    let (key, sig) = ("0f".repeat(32), "0f".repeat(64));
    vec![
        Document::Signature(Signature { envelope: envelope(), evidence: evidence(443, 512) }),
        Document::Incident(Incident { envelope: envelope(), facts: facts(3, "192.0.2.10/32") }),
        Document::Host(heartbeat(envelope())),
        Document::Rule(SignedRule { role: "ops".parse().expect("a role"), key, body, sig }),
        Document::Relief(Relief {
            envelope: envelope(),
            part,
            incident: 3,
            pressure: 0.95,
            wanted: vec![route(), ReliefRoute::Rtbh { destination: net("2001:db8::10/128") }],
        }),
        Document::Announced(Announced {
            envelope: envelope(),
            part,
            about: host(7),
            established: true,
            routes: vec![AnnouncedRoute {
                route: route(),
                state: RouteState::Announced,
                since: time(AT),
                reason: None,
            }],
        }),
    ]
}

/// The longest document of each kind.
fn longest() -> Vec<Document> {
    let envelope = Envelope {
        host: "f".repeat(64).parse().expect("a host"),
        site: Some("s".repeat(32).parse().expect("a site")),
        boot: check::MAX_WHOLE,
        seq: check::MAX_WHOLE,
        at: time(AT),
        ttl_s: 3600,
    };
    let six = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128";
    let route = ReliefRoute::Flowspec {
        destination: net(six),
        port: 65535,
        length: Some([1000, 1500]),
        rate_bytes_per_s: Some(1_000_000_000_000),
    };
    let part = Part { part: 7, parts: 8 };
    let rate = 123_456_789_012.5;
    let class = IncidentClass::RandomSpoofed;
    let mut sent = samples();
    for document in &mut sent {
        match document {
            Document::Signature(signature) => {
                let number = check::MAX_WHOLE;
                let evidence = &mut signature.evidence;
                (evidence.class, evidence.syn_pps, evidence.hits) = (class, rate, number);
                (evidence.clients_like_it, evidence.share) = (number, 0.123_456);
                signature.envelope = envelope.clone();
            }
            Document::Incident(incident) => {
                let facts = &mut incident.facts;
                facts.victims = vec![net(six); IncidentFacts::MAX_TARGETS];
                facts.ports = vec![65535; IncidentFacts::MAX_TARGETS];
                facts.signatures = vec![evidence(443, 1).id; IncidentFacts::MAX_SIGNATURES];
                facts.mitigations = Mitigation::ALL.into();
                (facts.ended, facts.syn_pps, facts.peak_syn_pps) = (Some(time(AT)), rate, rate);
                (facts.number, facts.sources) = (check::MAX_WHOLE, check::MAX_WHOLE);
                incident.envelope = envelope.clone();
            }
            Document::Host(host) => {
                host.hostname = "h".repeat(Host::MAX_HOSTNAME);
                host.version = "v".repeat(Host::MAX_VERSION);
                host.envelope = envelope.clone();
            }
            Document::Rule(signed) => {
                let terms = (0..8).map(|number| format!("host={}{number:x}", "f".repeat(63)));
                let hosts = terms.collect::<Vec<_>>().join(",").parse().expect("a selector");
                let (reason, who) = ("r".repeat(RuleBody::MAX_REASON), "w".repeat(64));
                let prefix = net(six);
                signed.body =
                    RuleBody { hosts, reason, who, prefix, ..rule() }.to_json().expect("JSON");
            }
            Document::Relief(relief) => {
                relief.wanted = vec![route; Relief::MAX_ROUTES];
                (relief.envelope, relief.part) = (envelope.clone(), part);
            }
            Document::Announced(announced) => {
                let reason = Some("r".repeat(Announced::MAX_REASON));
                let (state, since) = (RouteState::Announced, time(AT));
                let route = AnnouncedRoute { route, state, since, reason };
                announced.routes = vec![route; Announced::MAX_ROUTES];
                announced.about = "e".repeat(64).parse().expect("a host");
                (announced.envelope, announced.part) = (envelope.clone(), part);
            }
        }
    }
    sent
}

#[test]
fn a_document_is_read_as_it_was_written() {
    for document in samples() {
        let bytes = document.to_json().expect("JSON");
        let text = String::from_utf8(bytes.clone()).expect("text");
        let start = format!("{{\"schema\":\"{}\"", document.kind().schema());
        assert!(text.starts_with(&start), "{text}");
        assert_eq!(Document::parse(&bytes).expect(&text), document);
    }
}

#[test]
fn the_longest_document_of_each_kind_fits() {
    for document in longest() {
        let bytes = document.to_json().unwrap_or_else(|error| panic!("{error}"));
        assert!(bytes.len() <= MAX_BYTES, "{:?}: {}", document.kind(), bytes.len());
        Document::parse(&bytes).expect("within its ranges");
    }
}

#[test]
fn an_unknown_field_is_skipped_and_a_missing_or_doubled_one_is_not() {
    for document in samples() {
        let bytes = document.to_json().expect("JSON");
        let text = String::from_utf8(bytes).expect("text");
        let more = text.replacen('{', "{\"later\":{\"list\":[1,null]},", 1);
        assert_eq!(Document::parse(more.as_bytes()).expect("skipped"), document);

        let field = if document.kind() == Kind::Rule { "\"role\":\"ops\"" } else { "\"seq\":812" };
        assert!(text.contains(field), "{text}");
        let twice = text.replacen(field, &format!("{field},{field}"), 1);
        let none = text.replacen(&format!("{field},"), "", 1);
        for (broken, why) in [(twice, "duplicate field"), (none, "missing field")] {
            let error = Document::parse(broken.as_bytes()).expect_err("refused").to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

#[test]
fn a_later_major_version_is_named() {
    let error = Document::parse(br#"{"schema":"tcpguard.fleet.host/2","anything":1}"#);
    let error = error.expect_err("unknown").to_string();
    assert_eq!(error, "schema \"tcpguard.fleet.host/2\" is unknown to this version");
}

#[test]
fn bytes_that_are_no_document_are_refused() {
    let whole = samples()[0].to_json().expect("JSON");
    for length in 0..whole.len() {
        assert!(Document::parse(&whole[..length]).is_err(), "{length} bytes");
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(b"{}");
    assert!(matches!(Document::parse(&longer), Err(DocumentError::Malformed(_))));
    longer.resize(MAX_BYTES + 1, b' ');
    assert_eq!(Document::parse(&longer), Err(DocumentError::TooLong { bytes: MAX_BYTES + 1 }));
    let deep = [&b"{\"schema\":"[..], &[b'['; 1000][..]].concat();
    assert!(matches!(Document::parse(&deep), Err(DocumentError::Malformed(_))));
}

/// Its characters are escaped when it is sent again, and a document of the longest permitted size grew beyond it.
#[test]
fn a_rule_whose_body_has_control_or_format_characters_is_refused() {
    for unseen in ['\u{7f}', '\u{202e}', '\n'] {
        let body = rule().to_json().expect("JSON").replacen('{', &format!("{{{unseen}"), 1);
        let (key, sig) = ("0f".repeat(32), "0f".repeat(64));
        let role = "ops".parse().expect("a role");
        let json = serde_json::to_vec(&Document::Rule(SignedRule { role, key, body, sig }));
        let refused = Document::parse(&json.expect("JSON"));
        let is_body = |error| matches!(error, DocumentError::OutOfRange { field: "body", .. });
        assert!(refused.is_err_and(is_body), "{unseen:?}");
    }
}

#[test]
fn a_signature_whose_name_is_not_that_of_its_fields_is_refused() {
    let signature =
        |evidence| Document::Signature(Signature { envelope: envelope(7, 1), evidence }).to_json();
    let good = evidence(443, 512);
    assert!(signature(good.clone()).is_ok());
    let id = evidence(443, 513).id;
    let none = SharedSignature { ip_id: Some(1), ..good.signature.clone() };
    let broken = [
        ("id", SignatureEvidence { id, ..good.clone() }),
        (
            "signature",
            SignatureEvidence { id: signature_id(&none), signature: none, ..good.clone() },
        ),
        ("class", SignatureEvidence { class: IncidentClass::FlashCrowd, ..good.clone() }),
        ("port", SignatureEvidence { port: 0, ..good.clone() }),
        ("share", SignatureEvidence { share: 1.5, ..good.clone() }),
        ("syn_pps", SignatureEvidence { syn_pps: f64::NAN, ..good }),
    ];
    for (name, evidence) in broken {
        match signature(evidence) {
            Err(DocumentError::OutOfRange { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_document_belongs_to_one_subject() {
    for document in samples() {
        let Some(subject) = Subject::of(&document) else {
            let key = RuleKey { role: "ops".parse().expect("a role"), target: rule().target() };
            assert_eq!(Subject::Rule(key.clone()).check(&document), Ok(()));
            let other = RuleKey { role: "noc".parse().expect("a role"), ..key };
            assert_eq!(Subject::Rule(other).check(&document), Err(Mismatch::Sender));
            continue;
        };
        assert_eq!(subject.check(&document), Ok(()));
        assert_eq!(subject.to_string().parse(), Ok(subject.clone()));
        let other = subject.to_string().replace(host(7).as_str(), host(8).as_str());
        let other: Subject = other.parse().expect("a subject");
        assert_eq!(other.check(&document), Err(Mismatch::Sender));
        for kind in samples() {
            if kind.kind() != document.kind() {
                assert_eq!(subject.check(&kind), Err(Mismatch::Kind));
            }
        }
    }
    let port = Subject::Signature { port: 80, host: host(7) };
    assert_eq!(port.check(&samples()[0]), Err(Mismatch::Port));
}

#[test]
fn schemas_name_every_kind() {
    let schema = serde_json::to_string(&schemars::schema_for!(Document)).expect("JSON");
    for kind in Kind::ALL {
        assert!(schema.contains(kind.schema()), "{kind:?}");
    }
}

proptest! {
    #[test]
    fn whatever_bytes_arrive_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Document::parse(&bytes).is_err());
        prop_assert!(String::from_utf8_lossy(&bytes).parse::<Subject>().is_err());
    }

    #[test]
    fn a_changed_document_is_refused_or_could_have_been_sent(
        kind in 0..6_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = samples()[kind].to_json().expect("JSON");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(document) = Document::parse(&bytes) {
            prop_assert!(document.to_json().is_ok(), "{document:?}");
        }
    }
}
