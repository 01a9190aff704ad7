use std::os::unix::fs::PermissionsExt as _;

use super::super::link::tests::{Memory, settle};
use super::*;
use crate::document::tests::{envelope, host};
use crate::document::{Envelope, Part, Relief, ReliefRoute, RouteState};
use crate::relief::controller::bounds;
use crate::relief::speaker::peering::tests::peering;
use crate::relief::wanted::Wanted;

fn settings() -> config::Relief {
    let prefix = "192.0.2.0/24".parse().expect("a prefix");
    let bounds = bounds::Settings { hosts: [(host(7), vec![prefix])].into(), ..Default::default() };
    config::Relief { credentials: None, bounds, speaker: None }
}

fn process(bus: &Memory) -> Process<Memory> {
    let settings = settings();
    let starter = Starter::new(&settings, Path::new("/run")).expect("a dry run");
    Process::new(settings, Sender::new(host(9), None, 1), BusLink::new(bus.clone()), starter)
}

fn asked(number: u32, seq: u64, wanted: Vec<ReliefRoute>) -> News {
    let part = Part { part: 0, parts: 1 };
    let at = Time(clock().wall);
    let envelope = Envelope { ttl_s: 30, at, ..envelope(number, seq) };
    let document = Document::Relief(Relief { envelope, part, incident: 3, pressure: 0.95, wanted });
    let subject = Subject::of(&document).expect("a subject").to_string();
    News::Received(Received { subject, document: document.to_json().expect("JSON") })
}

pub(super) fn route() -> ReliefRoute {
    let json = r#"{"kind":"flowspec","destination":"192.0.2.10/32","port":443,"length":[40,40]}"#;
    serde_json::from_str(json).expect("a route")
}

async fn published(bus: &Memory) -> Vec<Announced> {
    settle().await;
    let published = std::mem::take(&mut *bus.published.lock().expect("no panic"));
    let documents = published.iter().map(|(subject, document)| {
        assert_eq!(*subject, Subject::Announced(host(9)).to_string());
        match Document::parse(document) {
            Ok(Document::Announced(announced)) => announced,
            other => panic!("{other:?}"),
        }
    });
    documents.collect()
}

#[tokio::test]
async fn a_request_is_answered_with_the_state_of_its_routes() {
    let bus = Memory::default();
    let mut process = process(&bus);
    process.step(clock()).await;
    assert!(published(&bus).await.is_empty());
    process.handle_news(clock(), asked(7, 1, vec![route()]));
    // The pace is a change a second, and the first step reads the empty table.
    for _ in 0..2 {
        process.step(clock()).await;
    }
    let reports = published(&bus).await;
    let last = reports.last().expect("a report");
    assert_eq!((&last.about, last.established), (&host(7), false));
    assert_eq!(last.routes[0].state, RouteState::DryRun);
    process.step(clock()).await;
    assert!(published(&bus).await.is_empty(), "nothing has changed");

    let status = process.status(clock(), BusStatus { connected: true, ..BusStatus::default() });
    let controller = status.controller.expect("a controller");
    assert_eq!((controller.table, controller.hosts.len()), (1, 1));
    assert_eq!(status.health[0].code, "fleet_dry_run");
    assert_eq!(process.in_brief(&BusStatus::default()), "dry run, 1 route for 1 host");

    process.handle_news(clock(), asked(7, 2, vec![]));
    process.step(clock()).await;
    let reports = published(&bus).await;
    assert!(reports.last().expect("a report").routes.is_empty());
}

#[tokio::test]
async fn an_unknown_host_is_counted_and_only_a_known_one_is_confirmed() {
    let bus = Memory::default();
    let mut process = process(&bus);
    process.handle_news(clock(), asked(8, 1, vec![route()]));
    process.handle_news(clock(), asked(7, 1, vec![route()]));
    process.step(clock()).await;
    let status = process.status(clock(), BusStatus::default());
    assert_eq!(status.controller.map(|controller| controller.unknown_hosts), Some(1));
    assert_eq!(process.confirm(clock(), &host(7)), Response::Done);
    assert!(matches!(process.confirm(clock(), &host(8)), Response::Refused { .. }));
}

#[test]
fn the_relay_starts_after_an_upgrade_too() {
    for own in ["/usr/bin/tcpguard-fleet", "/usr/bin/tcpguard-fleet (deleted)"] {
        assert_eq!(relay(Some(own.into())), ["/usr/bin/tcpguard-fleet", "exabgp-relay"]);
    }
    assert_eq!(relay(None)[0], "/usr/bin/tcpguard-fleet");
}

#[test]
fn a_change_names_its_address() {
    let document = r#"{"kind":"flowspec","destination":"192.0.2.10/32","port":443,
        "length":[40,64],"rate_bytes_per_s":12500}"#;
    let document = serde_json::from_str(document).expect("a route");
    let wanted = Wanted::parse(&document).expect("a rule");
    let Wanted::FlowSpec(rule) = wanted else { panic!("a rule: {wanted:?}") };
    let withdrawal = Change::Withdraw(Route::FlowSpec(rule).key());
    assert_eq!(describe(&withdrawal), "withdrawn: ipv4-flowspec route to 192.0.2.10");
}

#[tokio::test]
async fn a_speaker_that_does_not_start_is_tried_later_and_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut relief = settings();
    relief.bounds.dry_run = false;
    relief.speaker = Some(config::Speaker {
        kind: SpeakerKind::GoBgp,
        program: "/no/such/gobgpd".into(),
        peering: peering(),
        password: None,
    });
    let mut starter = Starter::new(&relief, directory.path()).expect("no password");
    let mut tries = Vec::new();
    for second in 0..200 {
        let now = Timestamp::from_millis(1000 * second);
        let before = starter.next;
        assert!(starter.start(now).await.is_none());
        if starter.next != before {
            tries.push(second);
        }
    }
    assert_eq!(tries, [0, 2, 6, 14, 30, 62, 122, 182]);

    let path = directory.path().join("password");
    std::fs::write(&path, "two words\n").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    let speaker = relief.speaker.as_mut().expect("a speaker");
    speaker.password = Some(path.clone());
    let failure = Starter::new(&relief, directory.path()).err().expect("a blank");
    assert!(failure.message.contains("a BGP password is"), "{failure}");
    std::fs::write(&path, "s3cret\n").expect("written");
    let starter = Starter::new(&relief, directory.path()).expect("a password");
    assert!(starter.peering.is_some_and(|with| with != peering()));
}
