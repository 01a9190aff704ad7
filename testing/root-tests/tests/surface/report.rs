//! A real flood drawn by `tcpguard explain --html`, and the page rendered in a real browser that has no network. The
//! pictures are left in `target/looked-at` for a person to view. Needs root, `TCPGUARD_BIN` and chromium.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tcpguard_kit::daemon::agent::{Agent, Mode, STATE_DIR, cli};
use tcpguard_kit::daemon::browser::{Browser, Scheme};
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::clients::Load;
use tcpguard_kit::traffic::flood::Flood;
use tcpguard_kit::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// SYNs a second of a flood.
const RATE: u32 = 5_000;
/// Widths of a desk's window and of a phone's, with how much of the page to show.
const WINDOWS: [(u32, u32); 2] = [(1280, 2600), (390, 4200)];

/// Keeps a checked page or picture where a person finds it.
fn keep(name: &str, content: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/looked-at");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), content).unwrap();
}

/// Output of `tcpguard explain NUMBER …`.
fn report(lab: &Lab, number: u64, more: &[&str]) -> String {
    let number = number.to_string();
    let arguments = [&["explain", number.as_str()][..], more].concat();
    let output = cli(&lab.edge, &arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The whole story, from half a minute before to the end.
#[test]
fn a_real_flood_is_drawn_and_looked_at() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let config = "[detection]\nclear_s = 5\n";
    let agent = Agent::start_with(&lab.edge, Mode::Enforce, config, &[]).unwrap();
    let service = Family::V4.service();
    let load = Load::start(&lab.client, service, 100).unwrap();
    sleep(10 * SECOND);
    let flood = Flood { rate: RATE, ..Flood::random(service, 10 * SECOND) };
    let flood = flood.start(&lab).unwrap().wait().unwrap();
    let number = agent.status().unwrap().incidents()[0].id();
    agent
        .wait_until("the flood is over", 60 * SECOND, |status| status.incidents().is_empty())
        .unwrap();
    load.finish().unwrap();

    let line: Value = serde_json::from_str(&report(&lab, number, &["--timeline"])).unwrap();
    let points = line["points"].as_array().unwrap();
    let most = |name: &str| points.iter().filter_map(|it| it[name].as_f64()).fold(0.0, f64::max);
    // Beside other tests an interval of the series may include counts that were due in the previous one.
    let of_flood = |rate: &f64| *rate > 0.5 * flood.rate();
    let mut rates: Vec<f64> =
        points.iter().filter_map(|it| it["syn_pps"].as_f64()).filter(of_flood).collect();
    rates.sort_by(f64::total_cmp);
    let typical = rates[rates.len() / 2];
    assert!((0.8..1.2).contains(&(typical / flood.rate())), "{rates:?}");
    assert!(most("dropped_pps") > 0.8 * flood.rate(), "{}", most("dropped_pps"));
    assert!(most("completed_pps") > 50.0, "{}", most("completed_pps"));
    assert!(most("half_open") > 0.0 && most("queue_limit") == 128.0);
    let calm = points.iter().take_while(|it| it["syn_pps"].as_f64() < Some(1000.0)).count();
    assert!(calm > 20, "what came before is there: {calm} steps");

    let page = report(&lab, number, &["--html", "-"]);
    keep("attack.html", page.as_bytes());
    look(&page);
}

/// Checks a page in every way.
fn look(page: &str) {
    let browser = Browser::open(page).unwrap();
    let (read, complaints) = browser.read().unwrap();
    assert_eq!(complaints, [""; 0], "not even its policy is violated");
    for expected in ["Over time", "Clients: completed handshakes", "For the provider"] {
        assert!(read.contains(expected), "{expected}: {read}");
    }
    // The browser repaired nothing: it read the page as it was written.
    for tag in ["<figure>", "<svg ", "<path ", "<li>", "<tr>", "</article>"] {
        assert_eq!(read.matches(tag).count(), page.matches(tag).count(), "{tag}");
    }
    for (width, height) in WINDOWS {
        assert_eq!(browser.overhang(width).unwrap(), 0, "at {width} pixels");
        let pictures = Scheme::BOTH.map(|scheme| {
            let picture = browser.picture(width, height, scheme).unwrap();
            keep(&format!("attack-{width}-{scheme:?}.png").to_lowercase(), &picture);
            picture
        });
        assert!(pictures[0] != pictures[1], "dark differs from light at {width} pixels");
        // A page that shows nothing compresses to next to nothing.
        assert!(pictures.iter().all(|picture| picture.len() > 20_000));
    }
    let printed = browser.printed().unwrap();
    keep("attack.pdf", &printed);
    assert!(printed.starts_with(b"%PDF-") && printed.len() > 20_000);
    assert_eq!(pages(&printed), 1, "the whole story is on one page");
}

/// Pages of a PDF.
fn pages(pdf: &[u8]) -> usize {
    const PAGE: &[u8] = b"/Type /Page\n";
    pdf.windows(PAGE.len()).filter(|window| *window == PAGE).count()
}

/// An attack that was open when the agent ended can still be drawn, however it ended: by the next agent that
/// continues it, and by one that has nothing of it but the records.
#[test]
fn an_attack_that_a_crash_cut_off_can_still_be_drawn() {
    let lab = Lab::new(LabOptions { syncookies: 0, ..LabOptions::default() }).unwrap();
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let mut agent = Agent::start(&lab.edge, Mode::Enforce).unwrap();
    let flood = Flood { rate: RATE, ..Flood::random(Family::V4.service(), 25 * SECOND) };
    let flood = flood.start(&lab).unwrap();
    // Longer than lines of open incidents wait to be written.
    sleep(14 * SECOND);
    let number = agent.status().unwrap().incidents()[0].id();
    let assert_drawn = |state: &str| {
        let page = report(&lab, number, &["--html", "-"]);
        assert!(page.contains(state), "{state}: {page}");
        assert_eq!(page.matches("<figure>").count(), 3, "{page}");
        let line: Value = serde_json::from_str(&report(&lab, number, &["--timeline"])).unwrap();
        assert!(line["points"].as_array().unwrap().len() > 30, "{line}");
    };
    agent.kill().unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    assert_drawn("since ");
    flood.goes_on().unwrap();
    flood.stop().unwrap();

    agent.kill().unwrap();
    lab.edge.exec(&format!("rm {STATE_DIR}/state.json")).unwrap();
    agent.start_again(Mode::Enforce).unwrap();
    assert_drawn("agent ended while this was open");
}
