//! The pages of `tcpguard explain --html` and `tcpguard replay`.

use tcpguard_engine::Mode;

use super::host::{Host, Outcome};
use super::support::{flooded, status};

/// A capture without a packet.
const EMPTY: [u8; 24] =
    [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];

fn attacked() -> Host {
    Host::with(status(flooded(Mode::Enforce)))
}

#[test]
fn the_page_of_an_attack_is_written_in_place_of_an_older_one() {
    let host = attacked();
    let file = host.path().join("attack.html");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "older and longer ".repeat(100_000)).unwrap();
    host.run(&["explain", "3", "--html", name]).is(0, "", &format!("wrote {name}\n"));
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for expected in ["SYN flood, spoofed sources", "14:02:11", "UTC", "<svg class=\"plot wide\""] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
}

#[test]
fn a_page_on_standard_output_is_utf_8_whatever_the_locale_is() {
    let host = attacked();
    let line = ["explain", "#3", "--html", "-"];
    let outcome = Outcome::of(&line, host.command(&line).env("LC_ALL", "C").output().unwrap());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:#?}");
    assert!(outcome.stdout.contains("✗") && outcome.stdout.ends_with("</html>\n"));
}

#[test]
fn the_counts_are_printed_for_other_programs() {
    let host = attacked();
    let json = host.run(&["explain", "3", "--timeline"]).json();
    assert_eq!(json["schema"], "tcpguard.timeline/1");
    assert_eq!(json["points"][59]["syn_pps"], 98_900.0);
    let file = host.path().join("both.html");
    let both = host.run(&["explain", "3", "--timeline", "--html", file.to_str().unwrap()]);
    assert_eq!(both.json(), json);
    assert!(file.exists() && both.stderr.starts_with("wrote "), "{both:#?}");
}

#[test]
fn an_incident_without_a_report_is_named_with_a_way_on() {
    let host = attacked();
    let file = host.path().join("page.html");
    let name = file.to_str().unwrap();
    for (line, code, expected) in [
        (&["explain", "192.0.2.1", "--html", name][..], 2, "for incidents only"),
        (&["explain", "flood.pcap", "--html", name], 2, "flood.pcap"),
        (&["explain", "99", "--html", name], 5, "no incident #99"),
        (&["explain", "3", "--html", "/proc/none/page.html"], 5, "name another file"),
    ] {
        let outcome = host.run(line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(code), ""), "{outcome:#?}");
        assert!(outcome.stderr.contains(expected), "{expected}: {outcome:#?}");
    }
    assert!(!file.exists());
    let unreachable = Host::without_agent().run(&["explain", "3", "--html", name]);
    assert_eq!(unreachable.code, Some(3), "{unreachable:#?}");
}

#[test]
fn the_page_of_a_capture_is_written_beside_its_text_or_alone() {
    let host = Host::without_agent();
    let [capture, file] = ["empty.pcap", "empty.html"].map(|name| host.path().join(name));
    std::fs::write(&capture, EMPTY).unwrap();
    let [capture, name] = [&capture, &file].map(|path| path.to_str().unwrap());
    let text = host.run(&["replay", capture]).stdout;
    host.run(&["replay", capture, "--html", name]).is(3, &text, &format!("wrote {name}\n"));
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("<h1>not judged: no packet <span"), "{page}");
    host.run(&["replay", capture, "--html", "-"]).is(3, &page, "");
    let missing = host.run(&["replay", "none.pcap", "--html", name]);
    assert_eq!(missing.code, Some(5), "{missing:#?}");
    assert!(missing.stderr.contains("cannot open none.pcap"), "{missing:#?}");
}
