//! The page about a capture.

use std::io::Write as _;

use tcpguard::html::{Story, page};
use tcpguard::replay::{OnHost, Outcome, replay};
use tcpguard_engine::Mode;

use super::files::PCAP;
use super::markup::Markup;
use super::packets::*;
use super::run;

/// A client every 50 ms for half a minute, and in it a flood.
fn flooded() -> Outcome {
    let mut packets: Vec<Stamped> = (0..600)
        .flat_map(|n| {
            connection(BEGIN + u64::from(n) * 50 * MS, client(n), addr(SERVER), Shows::Both)
        })
        .collect();
    packets.extend(flood(BEGIN + 10 * SECOND, 3, 1000, Shows::Both, any_address));
    run(&PCAP.write(&in_order(packets)), Mode::Observe).expect("a capture")
}

#[test]
fn every_incident_has_its_line_and_its_chapter() {
    let outcome = flooded();
    let stories: Vec<_> = outcome.in_full().collect();
    assert_eq!(stories.len(), outcome.replay.incidents.len());
    let (full, line) = &stories[0];
    let incident = &outcome.replay.incidents[0];
    let since = full.incident.since.0.duration_since(outcome.began()).as_secs_f64();
    assert!((since - incident.started_s).abs() < 0.002, "{since} {}", incident.started_s);
    let line = line.as_ref().expect("what was counted");
    assert_eq!(line.id, full.incident.id);
    let most = line.points.iter().map(|point| point.syn_pps).fold(0.0, f64::max);
    assert!((900.0..1200.0).contains(&most), "{most}");
    assert!(line.points.iter().all(|point| point.dropped_pps == 0.0 && point.half_open.is_none()));
    let completed = line.points.iter().filter(|point| point.completed_pps > 0.0).count();
    assert!(completed > line.points.len() / 2, "{completed} of {}", line.points.len());

    let page = page(&Story::of_capture(&outcome));
    let markup = Markup::read(&page).unwrap_or_else(|why| panic!("{why} in {page}"));
    let text = markup.text();
    for expected in [
        "1 incident in capture",
        "SYN flood, spoofed sources, on 198.51.100.1:80",
        "Times count from the first packet on.",
        "SYNs per second",
        "For the provider",
        "dst host 198.51.100.1 and tcp dst port 80",
        "+10s",
        "It holds both directions.",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in {text}");
    }
    assert!(!text.contains("SYN queue and accept queue"), "a capture shows no queue");
    assert!(!text.contains("tcpguard status"), "there is nothing to look at on this host");
}

#[test]
fn a_page_says_that_most_of_a_capture_was_not_read() {
    let visits = connection(BEGIN, client(1), addr(SERVER), Shows::Both);
    let hidden: Vec<Stamped> = visits.iter().map(in_esp).collect();
    let outcome = run(&PCAP.write(&hidden), Mode::Observe).expect("a capture");
    let page = page(&Story::of_capture(&outcome));
    let markup = Markup::read(&page).unwrap_or_else(|why| panic!("{why} in {page}"));
    let text = markup.text();
    for expected in ["100% of the packets could not be read (esp)", "they are encrypted"] {
        assert!(text.contains(expected), "{expected:?} is missing in {text}");
    }
    assert!(!text.to_lowercase().contains("no incident"), "{text}");
}

#[test]
fn a_capture_of_many_incidents_has_a_list_of_them() {
    let packets: Vec<Stamped> = (0..3)
        .flat_map(|n| flood(BEGIN + n * 120 * SECOND, 4, 1000, Shows::Both, any_address))
        .collect();
    let outcome = run(&PCAP.write(&in_order(packets)), Mode::Observe).expect("a capture");
    let count = outcome.replay.incidents.len();
    assert!(count > 1, "{:#?}", outcome.replay);
    let page = page(&Story::of_capture(&outcome));
    let markup = Markup::read(&page).unwrap_or_else(|why| panic!("{why} in {page}"));
    let targets: Vec<&str> = markup.elements("article").map(|it| it.attribute("id")).collect();
    let links: Vec<&str> =
        markup.elements("a").map(|it| it.attribute("href").trim_start_matches('#')).collect();
    assert_eq!(links, targets);
    assert_eq!(links.len(), count);
    assert!(markup.all().all(|element| !element.has("style")));
}

#[test]
fn the_name_of_a_capture_is_text() {
    let mut file = tempfile::Builder::new().prefix("<b>&").suffix(".pcap").tempfile().unwrap();
    file.write_all(&PCAP.write(&[])).unwrap();
    let source = Box::new(file.reopen().unwrap());
    let name = file.path().display().to_string();
    let outcome = replay(&name, source, OnHost, Mode::Observe).unwrap();
    let page = page(&Story::of_capture(&outcome));
    let markup = Markup::read(&page).unwrap_or_else(|why| panic!("{why} in {page}"));
    let short = file.path().file_name().unwrap().to_str().unwrap();
    assert!(!markup.has("b") && markup.text().contains(short));
    assert!(!markup.text().contains(&name), "the page names no folder");
}
