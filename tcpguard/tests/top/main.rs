//! `tcpguard top` as a user sees it, scene by scene, and the effects of keys.
//!
//! The expected pages are `tests/expected/top-*.txt`, all panes of a scene in one file; after a
//! wanted change write them anew with `UPDATE_EXPECTED=1 cargo test -p tcpguard --test top` and read
//! the difference.

#![cfg(feature = "tui")]

mod behaviour;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use support::{calm, clock, degraded, flooded, status};
use tcpguard::documents::{FullIncident, Status};
use tcpguard::text::View;
use tcpguard::top::{Action, Model, Options, Pane, draw};
use tcpguard_engine::Mode;

/// The sizes that pages are drawn in.
const SIZES: [(u16, u16); 2] = [(80, 24), (140, 40)];
/// Seconds shown before the scene begins, and seconds that the scene lasts.
const BEFORE: u64 = 120;
const LASTS: u64 = 200;

fn second(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn view() -> View {
    View { utf8: true, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH }
}

fn options() -> Options {
    Options { interface: None, delay: second(1) }
}

fn scenes() -> [(&'static str, Status); 4] {
    [
        ("calm", status(calm())),
        ("observing-attack", status(flooded(Mode::Observe))),
        ("mitigating", status(flooded(Mode::Enforce))),
        ("degraded", status(degraded())),
    ]
}

/// A model that has seen two calm minutes and then `scene`, its rates a little different every
/// second and its totals growing.
fn played(scene: &Status, view: View, size: (u16, u16)) -> Model {
    let calm = status(calm());
    let mut model = Model::new(calm.clone(), Duration::ZERO, options(), view, size);
    for now in 1..BEFORE + LASTS {
        let mut status = if now < BEFORE { calm.clone() } else { scene.clone() };
        let share = 0.8 + ((now * 7) % 10) as f64 / 50.0;
        for rates in status.interfaces.iter_mut().filter_map(|it| it.rates.as_mut()) {
            rates.syn_pps *= share;
            rates.drop_pps *= share;
        }
        for listener in &mut status.listeners {
            listener.syn_pps *= share;
            listener.completed_pps *= share;
        }
        let missing = BEFORE + LASTS - 1 - now;
        for source in &mut status.sources {
            source.syn += 3 * now;
        }
        for rule in &mut status.rules.list {
            rule.hits = rule.hits.saturating_sub(missing * 98_000);
        }
        model.feed(status, second(now));
    }
    model
}

/// The moment at which a played model is looked at.
const NOW: u64 = BEFORE + LASTS;

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

/// Every page there is of a model: all panes, the keys, and the story of an incident.
fn pages(model: &mut Model, size: (u16, u16)) -> Vec<(String, Buffer)> {
    let mut pages = Vec::new();
    for pane in Pane::ALL {
        model.handle(Action::Show(pane));
        pages.push((pane.title().to_owned(), drawn(model, NOW, size)));
    }
    model.handle(Action::Help);
    pages.push(("Keys".to_owned(), drawn(model, NOW, size)));
    model.handle(Action::Close);
    if model.handle(Action::Open).is_some() {
        pages.push(("Asked".to_owned(), drawn(model, NOW, size)));
        model.explained(3, Ok(story()));
        pages.push(("Story".to_owned(), drawn(model, NOW, size)));
        model.handle(Action::Close);
    }
    pages
}

#[test]
fn each_scene_has_its_pages() {
    for (name, scene) in scenes() {
        for size in SIZES {
            let mut model = played(&scene, view(), size);
            let panes = pages(&mut model, size).into_iter().take(Pane::ALL.len());
            let all: String =
                panes.map(|(title, page)| format!("=== {title} ===\n{}", text(&page))).collect();
            assert_expected(&format!("top-{name}-{}x{}", size.0, size.1), &all);
        }
    }
}

#[test]
fn what_lies_over_a_pane_has_its_page() {
    let mut model = played(&status(flooded(Mode::Enforce)), view(), SIZES[0]);
    model.handle(Action::Help);
    assert_expected("top-keys", &page(&model, NOW, SIZES[0]));
    model.handle(Action::Close);
    model.handle(Action::Show(Pane::Incidents));
    model.handle(Action::Open);
    model.explained(3, Ok(story()));
    let first = page(&model, NOW, SIZES[0]);
    model.handle(Action::Last);
    let last = page(&model, NOW, SIZES[0]);
    assert_expected("top-story", &format!("{first}=== the end ===\n{last}"));
}

#[test]
fn a_plain_terminal_gets_ascii_and_nothing_is_lost() {
    for (name, scene) in scenes() {
        let view = View { utf8: false, ..view() };
        for size in SIZES {
            for (title, page) in pages(&mut played(&scene, view.clone(), size), size) {
                let text = text(&page);
                assert!(text.is_ascii(), "{name} {title}:\n{text}");
                let known = text.replace("? keys", "").replace("  ?  ", "");
                let asked = ["attack?", "random?"];
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
        let plain = pages(&mut played(&scene, view(), SIZES[0]), SIZES[0]);
        let coloured = pages(&mut played(&scene, colour, SIZES[0]), SIZES[0]);
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
        for (title, page) in pages(&mut played(&scene, view(), size), size) {
            let text = text(&page);
            let says = text.replace('\n', " ").contains("needs 80 columns and 24 lines");
            assert!(says || size.0 * size.1 < 100, "{title} {size:?}: {text}");
        }
    }
    for size in [(80, 200), (500, 24), (81, 25), (100, 30), (120, 33)] {
        for (title, page) in pages(&mut played(&scene, view(), size), size) {
            assert!(!text(&page).contains("needs"), "{title} {size:?}");
        }
    }
}

#[test]
fn numbers_that_are_no_longer_true_are_faint_and_say_how_old_they_are() {
    let faint = |page: &Buffer| {
        let cells = page.content.iter().filter(|cell| !cell.symbol().trim().is_empty());
        cells.filter(|cell| cell.modifier.contains(Modifier::DIM)).count()
    };
    let mut model = played(&status(calm()), view(), SIZES[0]);
    let shown = drawn(&model, NOW, SIZES[0]);
    assert_eq!(faint(&shown), 0);

    model.fail("tcpguard is not running; start it: systemctl start tcpguard".to_owned());
    let shown = drawn(&model, NOW + 11, SIZES[0]);
    let said = "these numbers are 12s old: tcpguard is not running; start it: systemctl start";
    assert!(text(&shown).contains(said), "{}", text(&shown));
    assert!(faint(&shown) > 100, "{} faint cells", faint(&shown));
    assert!(text(&shown).contains("[::]:443") || text(&shown).contains("SYN/s"), "they stay");

    model.feed(status(calm()), second(NOW + 12));
    let shown = drawn(&model, NOW + 13, SIZES[0]);
    assert!(!text(&shown).contains("old:"), "{}", text(&shown));
    assert_eq!(faint(&shown), 0);
}

#[test]
fn an_agent_that_says_nothing_is_noticed_too() {
    let model = played(&status(calm()), view(), SIZES[0]);
    assert!(!page(&model, NOW + 2, SIZES[0]).contains("old:"));
    let page = page(&model, NOW + 3, SIZES[0]);
    assert!(page.contains("numbers are 4s old: the agent does not answer"), "{page}");
    assert!(page.contains("journalctl -u tcpguard"), "{page}");
}

#[test]
fn the_time_of_the_scene_is_that_of_the_answer() {
    let model = played(&status(calm()), view(), SIZES[0]);
    let time = clock().wall.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M:%S").to_string();
    assert!(page(&model, NOW, SIZES[0]).lines().next().unwrap().ends_with(&time));
}
