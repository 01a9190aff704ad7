//! The pages of `tcpguard explain --html`, played against the simulated host.
//!
//! The expected pages are `tests/expected/report-*.html`; after a wanted change write them anew with
//! `UPDATE_EXPECTED=1 cargo test -p tcpguard --test report`, read the difference, and look at them in
//! a browser.

#[path = "support/markup.rs"]
mod markup;

use std::path::{Path, PathBuf};

use markup::Markup;
use serde_json::Value;
use tcpguard::documents::FullIncident;
use tcpguard::documents::timeline::Timeline;
use tcpguard::driver::timeline::Recorder;
use tcpguard::html::{Host, Story, page};
use tcpguard_engine::{ClosedPortSource, IncidentReport, Mode, Report, Timestamp};
use tcpguard_host::time::Clock;
use tcpguard_sim::{Clients, Flood, Lab, Outage, POLL, Server, at, seconds};
use tcpguard_support::schema::assert_formed;

/// Played time begins at 14:00.
fn clock(now: Timestamp) -> Clock {
    let began: jiff::Timestamp = "2026-11-20T14:00:00Z".parse().unwrap();
    Clock { now, wall: began.checked_add(now.since(Timestamp::default())).unwrap() }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A protected host, and the records of it.
struct Recorded {
    lab: Lab,
    recorder: Recorder,
    lines: Vec<Timeline>,
}

impl Recorded {
    fn new(lab: Lab) -> Self {
        Self { lab, recorder: Recorder::default(), lines: Vec::new() }
    }

    /// Plays poll by poll, as the agent does it; half-open handshakes are counted each second.
    fn play(mut self, until: f64) -> Self {
        let mut polls = (seconds(self.lab.kernel.now) / POLL.as_secs_f64()).round() as u64;
        while seconds(self.lab.kernel.now) + 1e-6 < until {
            polls += 1;
            self.lab.run_until(polls as f64 * POLL.as_secs_f64());
            let mut kernel = self.lab.kernel.clone();
            kernel.count_half_open = polls.is_multiple_of(4);
            self.recorder.note(&kernel.sample(), self.lab.engine.mode());
            self.take_alerts();
        }
        self
    }

    fn take_alerts(&mut self) {
        let clock = clock(self.lab.kernel.now);
        for incident in self.lab.drain_alerts().into_iter().filter_map(|alert| alert.incident) {
            if incident.ended.is_none() {
                self.recorder.begin(incident.id, incident.listener_id);
            } else if let Some(line) = self.recorder.end(incident.id) {
                self.lines.push(line.document(incident.id, |at| clock.time_at(at)));
            }
        }
    }

    /// The one incident, with its line.
    fn story(&self) -> (FullIncident, Timeline) {
        let clock = clock(self.lab.kernel.now);
        let report = self.lab.report();
        let incident = incident(&report);
        let full = FullIncident::build(incident, &report, clock);
        let open = self.recorder.open().get(&incident.id);
        let open = open.map(|line| line.document(incident.id, |at| clock.time_at(at)));
        let line = open.or_else(|| self.lines.iter().find(|it| it.id == incident.id).cloned());
        (full, line.expect("what was recorded"))
    }
}

fn incident(report: &Report) -> &IncidentReport {
    report.incidents.iter().chain(&report.past).next().expect("an incident")
}

fn host(mode: Mode) -> Lab {
    Lab::new(mode)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients::steady(50.0))
}

/// A flood that was dropped and is over.
fn dropped() -> Recorded {
    Recorded::new(host(Mode::Enforce).flood(Flood::random(2000.0, 35.1..65.1))).play(101.0)
}

/// One that goes on, and of which rules only count.
fn observed() -> Recorded {
    Recorded::new(host(Mode::Observe).flood(Flood::random(2000.0, 20.1..60.1))).play(40.0)
}

/// Clients behind a broken path.
fn degraded() -> Recorded {
    let outage = Some(Outage::of(20.0..30.0, 1.0));
    let lab = Lab::new(Mode::Enforce).listener(Server { backlog: 4096, ..Server::default() });
    Recorded::new(lab.clients(Clients { outage, ..Clients::steady(300.0) })).play(70.0)
}

/// A scan, of which no listener knows.
fn scanned() -> Recorded {
    let mut recorded = Recorded::new(host(Mode::Enforce)).play(20.0);
    for poll in 1..=12_u32 {
        recorded.lab.kernel.host.no_listener += 3;
        recorded.lab.kernel.closed_port_sources = vec![ClosedPortSource {
            source: [45, 146, 165, 209].into(),
            server: [203, 0, 113, 10].into(),
            port: 22,
            ports: 3 * poll,
            servers: 1,
            syns: 3 * poll,
            completed: 0,
            since: at(20.0),
            last: recorded.lab.kernel.now,
        }];
        recorded = recorded.play(20.0 + f64::from(poll) / 4.0);
    }
    recorded
}

fn scenes() -> [(&'static str, Recorded); 4] {
    [
        ("dropped", dropped()),
        ("observed", observed()),
        ("degraded", degraded()),
        ("scan", scanned()),
    ]
}

fn drawn(full: FullIncident, line: Result<Timeline, String>) -> String {
    let host = Host {
        name: "edge-1".to_owned(),
        interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
        mode: "enforce",
        kernel: "Linux 6.12.0".to_owned(),
        version: "0.1.0".to_owned(),
    };
    page(&Story::of_attack(full, line, jiff::tz::TimeZone::UTC).on(host))
}

/// Checks that apply to every page.
fn check(page: &str) {
    let markup = Markup::read(page).unwrap_or_else(|why| panic!("{why} in:\n{page}"));
    for element in ["script", "iframe", "object", "embed", "link", "img", "base", "form"] {
        assert!(!markup.has(element), "{element}");
    }
    assert!(markup.elements("a").all(|link| link.attribute("href").starts_with('#')));
    for element in markup.all() {
        for (name, value) in &element.attributes {
            assert!(!name.starts_with("on") && name != "style" && name != "src", "{name}={value}");
            assert!(!value.contains("//"), "{name}={value}: nothing is fetched");
        }
    }
    let policy = markup.elements("meta").find(|it| it.has("http-equiv")).expect("a policy");
    assert!(policy.attribute("content").starts_with("default-src 'none'; "));
    for svg in markup.elements("svg") {
        assert!(svg.has("aria-hidden") || !svg.attribute("aria-label").is_empty());
    }
    // Only numbers, and only such as lie within the plot.
    for path in markup.elements("path") {
        let drawn = path.attribute("d");
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        let numbers = drawn.split(|char: char| !(char.is_ascii_digit() || ".-".contains(char)));
        for number in numbers.filter(|number| !number.is_empty()) {
            let number: f64 = number.parse().unwrap_or_else(|_| panic!("{number} in {drawn}"));
            assert!((0.0..=780.0).contains(&number), "{number} in {drawn}");
        }
    }
}

#[test]
fn each_kind_of_story_is_drawn() {
    for (name, recorded) in scenes() {
        let (full, line) = recorded.story();
        let json = serde_json::to_value(&line).unwrap();
        assert_formed("timeline", &json);
        assert_eq!(serde_json::from_value::<Timeline>(json).unwrap(), line, "{name}");

        let page = drawn(full, Ok(line));
        check(&page);
        let path = repository(&format!("tcpguard/tests/expected/report-{name}.html"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = page.lines().zip(expected.lines()).find(|(found, wanted)| found != wanted);
        assert!(page == expected, "{name} differs, first at {differs:#?}");
    }
}

#[test]
fn a_flood_is_reported_in_words_and_in_three_plots() {
    let (full, line) = dropped().story();
    let page = drawn(full, Ok(line));
    let markup = Markup::read(&page).unwrap();
    let text = markup.text();
    for phrase in [
        "✗ critical · #1",
        "SYN flood, spoofed sources, on 203.0.113.10:443",
        "of all SYNs dropped, mean 50 handshakes/s (baseline 50/s), ",
        "Destination 203.0.113.10, TCP port 443",
        "Host edge-1",
        "Interfaces eth0, eth1",
        "Mode enforce",
        "none needed",
        "Clients: completed handshakes per second",
        "SYNs per second",
        "SYN queue and accept queue",
        "handshakes begin to fail",
        "alarm by a burst of failed handshakes: SYN flood, spoofed sources",
        "For the provider",
        "Start: 2026-11-20 14:00:35 UTC",
        "Sources: spoofed",
        "Filter (tcpdump): dst host 203.0.113.10 and tcp dst port 443 and tcp[tcpflags]",
        "opts=none win=512 ttl=244",
        "TTL 244",
        "no retransmission",
    ] {
        assert!(text.contains(phrase), "{phrase:?} is missing in {text}");
    }
    let plots = markup.elements("svg").filter(|svg| svg.attribute("class").starts_with("plot "));
    let classes: Vec<&str> = plots.map(|svg| svg.attribute("class")).collect();
    assert_eq!(classes, ["plot wide", "plot narrow"].repeat(3));
    let clients = page.find("Clients: completed").unwrap();
    assert!(clients < page.find(">SYNs per second<").unwrap(), "clients come first");
    assert!(page.find("<details>").unwrap() < page.find("SYN queue and accept").unwrap());
}

#[test]
fn a_page_names_one_peak_with_its_window() {
    let (full, line) = dropped().story();
    let peak = tcpguard_host::units::short(full.incident.peak_syn_pps);
    let text = Markup::read(&drawn(full, Ok(line))).unwrap().text();
    let named: Vec<&str> = text
        .match_indices("peak ")
        .filter_map(|(at, _)| text[at + 5..].split(['/', ' ']).next())
        .collect();
    let rates: Vec<&&str> = named.iter().filter(|value| value.len() > 2).collect();
    assert!(rates.len() >= 3 && rates.iter().all(|rate| **rate == peak), "{peak}: {named:?}");
    assert!(text.contains("(mean of 1s)"));
}

#[test]
fn a_change_of_the_mode_is_an_event_and_a_part_of_the_band() {
    let (full, mut line) = observed().story();
    let count = line.points.len();
    line.points[count - 20..].iter_mut().for_each(|point| point.mode = Mode::Enforce);
    let page = drawn(full, Ok(line));
    check(&page);
    let text = Markup::read(&page).unwrap().text();
    assert!(
        text.contains("Mode observe, then enforce") && text.contains(" mode enforce "),
        "{text}"
    );
    assert_eq!(page.matches("<rect class=\"mode observe\"").count(), 6);
    assert_eq!(page.matches("<rect class=\"mode enforce\"").count(), 6);
}

#[test]
fn in_observe_mode_the_page_says_what_would_have_been_and_how_to_have_it() {
    let (full, line) = observed().story();
    let text = Markup::read(&drawn(full, Ok(line))).unwrap().text();
    for phrase in [
        "matched in observe mode, not dropped",
        "passed, but matched by rules",
        "Mode observe",
        "tcpguard mode enforce --rollback-after 60s",
        "since ",
    ] {
        assert!(text.contains(phrase), "{phrase:?} is missing in {text}");
    }
}

#[test]
fn without_a_line_the_page_says_why() {
    let (full, mut line) = dropped().story();
    let page = drawn(full.clone(), Err("its agent was older".to_owned()));
    check(&page);
    let markup = Markup::read(&page).unwrap();
    assert!(markup.text().contains("No plots: its agent was older"));
    assert!(!markup.has("figure"));
    line.points.clear();
    let page = drawn(full, Ok(line));
    check(&page);
    assert!(page.contains("Nothing was recorded over time."));
}

/// Input from outside (a reason, the name of a capture, SYNs) cannot put markup into the page.
#[test]
fn whatever_comes_from_outside_is_text() {
    const HOSTILE: &str =
        "</style></svg><script>alert(1)</script><img src=x onerror=\"a('b')\">&lt;\u{202e}";
    let (full, line) = dropped().story();
    let mut json = serde_json::to_value(&full).unwrap();
    fill(&mut json, HOSTILE);
    let hostile: FullIncident = serde_json::from_value(json).unwrap();
    let page = drawn(hostile, Err(HOSTILE.to_owned()));
    check(&page);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'));
    assert_eq!(page.matches("</style>").count(), 1);
    let text = Markup::read(&page).unwrap().text();
    let shown = HOSTILE.replace('\u{202e}', "\u{fffd}");
    assert!(text.matches(&shown).count() > 5, "it is shown as it is");

    // Numbers that no page should trip over.
    let mut line = line;
    for (number, point) in line.points.iter_mut().enumerate() {
        match number % 5 {
            0 => point.syn_pps = f64::MAX,
            1 => point.dropped_pps = -1.0,
            2 => point.half_open = Some(u32::MAX),
            3 => point.at_ms = 0,
            _ => point.matched_pps = f64::MIN_POSITIVE,
        }
    }
    check(&drawn(full, Ok(line)));
}

/// Replaces every string that is not one of a few known words by `text`.
fn fill(value: &mut Value, text: &str) {
    const WORDS: [&str; 27] = [
        "schema",
        "class",
        "severity",
        "dst",
        "since",
        "detected_at",
        "ended_at",
        "at",
        "created_at",
        "addr",
        "hex",
        "address",
        "signal",
        "name",
        "question",
        "what",
        "reason",
        "net",
        "mitigations",
        "no_rule",
        "action",
        "indicators",
        "event",
        "mode",
        "kind",
        "basis",
        "origin",
    ];
    match value {
        Value::String(string) => *string = text.to_owned(),
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, text)),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                if !WORDS.contains(&name.as_str()) {
                    fill(member, text);
                }
            }
        }
        _ => {}
    }
}
