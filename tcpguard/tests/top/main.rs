//! `tcpguard top` as a user sees it, scene by scene, and the effects of keys.
//!
//! The expected pages are `tests/expected/top-*.txt`, all sizes of a scene in one file; after a
//! wanted change write them anew with `UPDATE_EXPECTED=1 cargo test -p tcpguard --test top` and read
//! the difference.

#![cfg(feature = "tui")]

mod behaviour;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use support::{calm, clock, degraded, flooded, status};
use tcpguard::control::{Request, Response};
use tcpguard::documents::history::{History, Second};
use tcpguard::documents::{FullIncident, Status};
use tcpguard::text::View;
use tcpguard::top::{Action, Model, Pane, draw};
use tcpguard_engine::Mode;
use tcpguard_host::time::Time;

/// The sizes that pages are drawn in.
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 30), (200, 50)];
/// Seconds that a scene has lasted.
const LASTS: i64 = 200;

fn second(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn view() -> View {
    View { utf8: true, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH }
}

fn scenes() -> [(&'static str, Status); 5] {
    [
        ("calm", status(calm())),
        ("observed", status(flooded(Mode::Observe))),
        ("mitigated", status(flooded(Mode::Enforce))),
        ("off", status(flooded(Mode::Off))),
        ("degraded", status(degraded())),
    ]
}

/// Five minutes until the time of `scene`: calm ones, and then its rates, a little different every second.
fn history(scene: &Status) -> History {
    let calm = status(calm());
    let seconds = (0..300).map(|ago| {
        let status = if ago < LASTS { scene } else { &calm };
        let share = 0.8 + ((ago * 7) % 10) as f64 / 50.0;
        let sum = |rate: fn(&tcpguard::documents::Listener) -> f64| {
            share * status.listeners.iter().map(rate).sum::<f64>()
        };
        let enforced = status.daemon.mode == Mode::Enforce;
        Second {
            at: Time(clock().wall.checked_sub(SignedDuration::from_secs(ago)).unwrap()),
            syn_pps: sum(|it| it.syn_pps),
            dropped_pps: if enforced { sum(|it| it.dropped_pps) } else { 0.0 },
            cookies_sent_pps: sum(|it| it.cookies_sent_pps),
            completed_pps: sum(|it| it.clients.completed_pps),
        }
    });
    let mut seconds: Vec<_> = seconds.collect();
    seconds.reverse();
    History { seconds }
}

/// A model that has just asked the agent for the first time.
fn model(scene: &Status, view: View, size: (u16, u16)) -> Model {
    Model::new(scene.clone(), history(scene), second(1), view, size)
}

/// The moment at which a page is drawn.
const NOW: u64 = 0;

fn drawn(model: &Model, now: u64, (columns, lines): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| draw(model, second(now), frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// The readable text, without the blanks at the end of lines.
fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let lines = buffer.content.chunks(width).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn page(model: &Model, now: u64, size: (u16, u16)) -> String {
    text(&drawn(model, now, size))
}

#[track_caller]
fn assert_expected(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/expected/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} differs; found:\n{found}\nexpected:\n{expected}",
        path.display()
    );
}

/// All that is known of the attack of a scene.
fn story() -> Box<FullIncident> {
    let (report, facts) = flooded(Mode::Enforce);
    Box::new(FullIncident::build(&report.incidents[0], &report, facts.clock))
}

/// Every page there is of a model: the screen with each pane, the keys, a proposed command, and the details of
/// a row of each pane.
fn pages(model: &mut Model, size: (u16, u16)) -> Vec<(String, Buffer)> {
    let mut pages = Vec::new();
    for pane in Pane::ALL {
        model.handle(Action::Show(pane));
        pages.push((pane.title().to_owned(), drawn(model, NOW, size)));
        if model.handle(Action::Open).is_some() {
            explain(model);
        }
        pages.push((format!("Details of {}", pane.title()), drawn(model, NOW, size)));
        model.handle(Action::Close);
    }
    for (name, action) in [("Keys", Action::Help), ("Proposal", Action::Mode)] {
        model.handle(action);
        pages.push((name.to_owned(), drawn(model, NOW, size)));
        model.handle(Action::Close);
    }
    pages
}

/// The answer of the agent about the incident of a scene.
fn explain(model: &mut Model) {
    let answer = Ok(Response::IncidentExplained(story()));
    model.answered(&Request::ExplainIncident { id: 3 }, answer, second(NOW));
}

#[test]
fn each_scene_has_its_pages() {
    for (name, scene) in scenes() {
        let all: String = SIZES
            .map(|size| {
                let page = page(&model(&scene, view(), size), NOW, size);
                format!("=== {}x{} ===\n{page}", size.0, size.1)
            })
            .concat();
        assert_expected(&format!("top-{name}"), &all);
    }
    let gone: String = SIZES
        .map(|size| {
            let mut model = model(&scenes()[2].1, view(), size);
            let why = "tcpguard is not running; start it: systemctl start tcpguard".to_owned();
            model.answered(&Request::Status, Err(why), second(12));
            format!("=== {}x{} ===\n{}", size.0, size.1, page(&model, 12, size))
        })
        .concat();
    assert_expected("top-gone", &gone);
}

#[test]
fn every_pane_and_its_details_have_their_pages() {
    let scene = status(flooded(Mode::Enforce));
    let pages = pages(&mut model(&scene, view(), SIZES[0]), SIZES[0]);
    let all = pages.iter().map(|(title, page)| format!("=== {title} ===\n{}", text(page)));
    assert_expected("top-panes", &all.collect::<String>());
}

#[test]
fn a_plain_terminal_gets_ascii_and_nothing_is_lost() {
    for (name, scene) in scenes() {
        let view = View { utf8: false, ..view() };
        for size in SIZES {
            for (title, page) in pages(&mut model(&scene, view.clone(), size), size) {
                let text = text(&page);
                assert!(text.is_ascii(), "{name} {title}:\n{text}");
                let known = text.replace("? keys", "").replace("  ?  ", "");
                let asked = ["attack?", "random?", "command?"];
                let known = asked.iter().fold(known, |text, word| text.replace(word, ""));
                assert!(
                    !known.contains('?'),
                    "{name} {title} has a sign without a substitute:\n{text}"
                );
            }
        }
    }
}

#[test]
fn colours_only_add_to_the_words() {
    let mut colours = 0;
    for (name, scene) in scenes() {
        let colour = View { colour: true, ..view() };
        let plain = pages(&mut model(&scene, view(), SIZES[0]), SIZES[0]);
        let coloured = pages(&mut model(&scene, colour, SIZES[0]), SIZES[0]);
        for ((title, plain), (_, coloured)) in plain.iter().zip(&coloured) {
            assert_eq!(text(plain), text(coloured), "{name} {title}");
            let reset = |page: &Buffer| page.content.iter().all(|cell| cell.fg == Color::Reset);
            assert!(reset(plain), "{name} {title} has colours that nobody asked for");
            colours += usize::from(!reset(coloured));
        }
    }
    assert!(colours > 4, "{colours} pages have colours");
}

#[test]
fn a_smaller_terminal_says_so_and_no_size_is_too_odd() {
    let scene = status(flooded(Mode::Enforce));
    for size in [(79, 24), (80, 23), (40, 10), (5, 3), (1, 1), (300, 2)] {
        for (title, page) in pages(&mut model(&scene, view(), size), size) {
            let text = text(&page);
            let says = text.replace('\n', " ").contains("needs 80 columns and 24 lines");
            assert!(says || size.0 * size.1 < 100, "{title} {size:?}: {text}");
        }
    }
    for size in [(80, 200), (500, 24), (81, 25), (100, 30), (120, 33)] {
        for (title, page) in pages(&mut model(&scene, view(), size), size) {
            assert!(!text(&page).contains("needs 80 columns"), "{title} {size:?}");
        }
    }
}

#[test]
fn numbers_that_are_no_longer_true_are_faint_and_say_how_old_they_are() {
    let faint = |page: &Buffer| {
        let cells = page.content.iter().filter(|cell| !cell.symbol().trim().is_empty());
        cells.filter(|cell| cell.modifier.contains(Modifier::DIM)).count()
    };
    let mut model = model(&status(calm()), view(), SIZES[0]);
    let shown = drawn(&model, NOW, SIZES[0]);
    assert_eq!(faint(&shown), 0);

    let why = "tcpguard is not running; start it: systemctl start tcpguard".to_owned();
    model.answered(&Request::Status, Err(why), second(11));
    let shown = drawn(&model, 12, SIZES[0]);
    let said = "these numbers are 12s old. tcpguard is not running; start it:";
    assert!(text(&shown).contains(said), "{}", text(&shown));
    assert!(faint(&shown) > 100, "{} faint cells", faint(&shown));
    assert!(text(&shown).contains("[::]:443"), "they stay");

    let answer = Response::Status(Box::new(status(calm())));
    model.answered(&Request::Status, Ok(answer), second(12));
    let shown = drawn(&model, 13, SIZES[0]);
    assert!(!text(&shown).contains("old."), "{}", text(&shown));
    assert_eq!(faint(&shown), 0);
}

#[test]
fn an_agent_that_says_nothing_is_noticed_too() {
    let model = model(&status(calm()), view(), SIZES[0]);
    assert!(!page(&model, 3, SIZES[0]).contains("old."));
    let page = page(&model, 4, SIZES[0]);
    assert!(page.contains("numbers are 4s old. the agent does not answer"), "{page}");
    assert!(page.contains("journalctl -u tcpguard"), "{page}");
}

#[test]
fn the_time_of_the_scene_is_that_of_the_answer() {
    let model = model(&status(calm()), view(), SIZES[0]);
    let time = clock().wall.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M:%S").to_string();
    assert!(page(&model, NOW, SIZES[0]).lines().next().unwrap().ends_with(&time));
}
