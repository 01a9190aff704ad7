//! The effects of keys and responses.

use std::time::Duration;

use tcpguard::documents::Status;
use tcpguard::text::View;
use tcpguard::top::{Action, Doing, Model, Options, Pane, Wish};
use tcpguard_engine::{Mode, RuleReason};

use super::support::{calm, degraded, flooded, status};
use super::{NOW, SIZES, options, page, played, second, story, view};

fn model(scene: Status) -> Model {
    Model::new(scene, Duration::ZERO, options(), view(), SIZES[0])
}

/// A host with so many listeners, the busiest last.
fn many_listeners(count: u16) -> Status {
    let mut status = status(calm());
    let one = status.listeners[0].clone();
    status.listeners = (1..=count)
        .map(|number| {
            let mut listener = one.clone();
            listener.id = u32::from(number);
            listener.port = number;
            listener.syn_pps = f64::from(number);
            listener
        })
        .collect();
    status
}

/// The rows of the list, the first cell of each.
fn listed(model: &Model) -> Vec<String> {
    model.rows().iter().map(|row| row.cells[0].text.clone()).collect()
}

fn typed(model: &mut Model, text: &str) {
    model.handle(Action::Filter);
    for letter in text.chars() {
        model.handle(Action::Type(letter));
    }
}

fn first_line_after_headings(page: &str) -> &str {
    page.lines().nth(3).unwrap()
}

#[test]
fn panes_go_round() {
    let mut model = model(status(calm()));
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(model.pane());
        model.handle(Action::Turn(1));
    }
    assert_eq!(seen[..5], Pane::ALL);
    assert_eq!(seen[5], Pane::Overview);
    model.handle(Action::Turn(-1));
    model.handle(Action::Turn(-1));
    assert_eq!(model.pane(), Pane::Incidents);
}

#[test]
fn what_the_model_cannot_do_is_wished_for() {
    let mut model = model(status(flooded(Mode::Enforce)));
    assert_eq!(model.handle(Action::Quit), Some(Wish::Quit));
    assert_eq!(model.handle(Action::Stop), Some(Wish::Stop));
    assert_eq!(model.handle(Action::Redraw), Some(Wish::Redraw));
    assert_eq!(model.handle(Action::Open), None, "the overview has nothing to open");
    model.handle(Action::Show(Pane::Incidents));
    assert_eq!(model.handle(Action::Open), Some(Wish::Explain(3)));
}

#[test]
fn a_filter_is_typed_corrected_and_given_up() {
    let mut model = model(status(calm()));
    model.handle(Action::Filter);
    assert_eq!(model.doing(), Doing::Looking, "the overview has no list");
    model.handle(Action::Show(Pane::Listeners));
    typed(&mut model, "443");
    assert_eq!((model.doing(), listed(&model)), (Doing::Typing, vec!["[::]:443".to_owned()]));
    assert!(page(&model, 0, SIZES[0]).lines().last().unwrap().starts_with("/443"));
    model.handle(Action::Accept);
    assert_eq!((model.doing(), listed(&model).len()), (Doing::Looking, 1));
    assert!(page(&model, 0, SIZES[0]).contains("only rows with \"443\": 1 of 2"));

    typed(&mut model, "x");
    assert!(listed(&model).is_empty());
    assert!(page(&model, 0, SIZES[0]).contains("no row has \"443x\"; Esc shows all again"));
    model.handle(Action::Close);
    assert_eq!(listed(&model).len(), 1, "Esc while typing: as before");
    model.handle(Action::Filter);
    model.handle(Action::Erase);
    assert!(page(&model, 0, SIZES[0]).lines().last().unwrap().ends_with("/44"));
    model.handle(Action::Accept);
    model.handle(Action::Close);
    assert_eq!(listed(&model).len(), 2, "Esc afterwards: all");
}

#[test]
fn each_pane_keeps_its_own_filter_and_order() {
    let mut model = model(status(flooded(Mode::Enforce)));
    model.handle(Action::Show(Pane::Listeners));
    typed(&mut model, "22");
    model.handle(Action::Accept);
    model.handle(Action::Show(Pane::Sources));
    assert_eq!(listed(&model).len(), 1, "no filter here");
    model.handle(Action::Show(Pane::Listeners));
    assert_eq!(listed(&model), ["0.0.0.0:22"]);
}

#[test]
fn lists_are_sorted_and_the_row_that_is_pointed_at_stays_so() {
    let mut model = model(many_listeners(3));
    model.handle(Action::Show(Pane::Listeners));
    assert_eq!(listed(&model), ["0.0.0.0:3", "0.0.0.0:2", "0.0.0.0:1"], "the busiest first");
    model.handle(Action::Walk(1));
    model.handle(Action::Walk(1));
    model.handle(Action::Reverse);
    assert_eq!(listed(&model), ["0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:3"]);
    let title =
        page(&model, 0, SIZES[0]).lines().find(|line| line.starts_with("─")).map(str::to_owned);
    assert!(title.unwrap().contains(" 0.0.0.0:1 "), "what was pointed at before");
    model.handle(Action::Sort);
    assert!(page(&model, 0, SIZES[0]).contains("DROP/s▼"));
}

#[test]
fn the_last_of_very_many_rows_can_be_reached() {
    let mut model = model(many_listeners(4096));
    model.handle(Action::Show(Pane::Listeners));
    let busiest = page(&model, 0, SIZES[0]);
    assert!(first_line_after_headings(&busiest).starts_with("0.0.0.0:4096 "), "{busiest}");
    model.handle(Action::Last);
    assert!(page(&model, 0, SIZES[0]).contains("\n0.0.0.0:1 "));
    model.handle(Action::First);
    assert_eq!(page(&model, 0, SIZES[0]), busiest);
    model.handle(Action::Page(1));
    let next = page(&model, 0, SIZES[0]);
    assert!(next.contains("\n0.0.0.0:4083 "), "{next}");
    model.handle(Action::Page(-1));
    assert_eq!(page(&model, 0, SIZES[0]), busiest);
}

#[test]
fn a_held_view_stands_still_and_goes_on_where_the_agent_is_then() {
    let mut model = played(&status(calm()), view(), SIZES[0]);
    model.handle(Action::Pause);
    let held = page(&model, NOW, SIZES[0]);
    assert!(held.lines().next().unwrap().ends_with("HELD at 14:05:31"), "{held}");
    model.feed(status(flooded(Mode::Enforce)), second(NOW));
    model.feed(status(flooded(Mode::Enforce)), second(NOW + 1));
    assert_eq!(page(&model, NOW + 2, SIZES[0]), held);
    model.handle(Action::Pause);
    let now = page(&model, NOW + 2, SIZES[0]);
    assert!(now.contains("UNDER ATTACK, mitigating") && !now.contains("HELD"), "{now}");
}

#[test]
fn an_incident_is_shown_from_beginning_to_end() {
    let mut model = model(status(flooded(Mode::Enforce)));
    model.handle(Action::Show(Pane::Incidents));
    model.handle(Action::Open);
    assert_eq!(model.doing(), Doing::Reading);
    assert!(page(&model, 0, SIZES[0]).contains("asking for all that is known of incident #3"));
    model.explained(4, Ok(story()));
    assert!(page(&model, 0, SIZES[0]).contains("asking"), "that was another one");
    model.explained(3, Ok(story()));

    let whole = {
        let mut tall = model.clone();
        tall.resize(80, 200);
        page(&tall, 0, (80, 200))
    };
    let mut reachable: Vec<String> = Vec::new();
    for _ in 0..200 {
        reachable.extend(page(&model, 0, SIZES[0]).lines().skip(3).take(20).map(str::to_owned));
        model.handle(Action::Walk(1));
    }
    for line in whole.lines().skip(3).filter(|line| line.starts_with("  ")) {
        assert!(reachable.iter().any(|one| one == line), "{line:?} cannot be reached");
    }
    model.handle(Action::Close);
    assert_eq!((model.doing(), model.pane()), (Doing::Looking, Pane::Incidents));
    model.explained(3, Ok(story()));
    assert_eq!(model.doing(), Doing::Looking, "nobody reads it any longer");
}

#[test]
fn an_incident_that_is_not_known_any_longer_says_so() {
    let mut model = model(status(flooded(Mode::Enforce)));
    model.handle(Action::Show(Pane::Incidents));
    model.handle(Action::Open);
    model.explained(3, Err("no attack #3".to_owned()));
    assert!(page(&model, 0, SIZES[0]).contains("no attack #3"));
}

#[test]
fn sources_and_rules_have_rates_from_the_second_look_on() {
    let mut scene = status(flooded(Mode::Enforce));
    let mut model = model(scene.clone());
    model.handle(Action::Show(Pane::Sources));
    let cell = |model: &Model, column: usize| model.rows()[0].cells[column].text.clone();
    assert_eq!(cell(&model, 1), "-");
    scene.sources[0].syn += 40;
    scene.rules.list[0].hits += 200_000;
    model.feed(scene, second(2));
    assert_eq!(cell(&model, 1), "20");
    model.handle(Action::Show(Pane::Signatures));
    assert_eq!(cell(&model, 2), "100k");
}

#[test]
fn one_interface_alone_can_be_counted() {
    let mut scene = status(degraded());
    scene.interfaces[0].rates = status(flooded(Mode::Enforce)).interfaces[0].rates.clone();
    scene.interfaces[1].rates = status(calm()).interfaces[0].rates.clone();
    let shown = |interface: Option<&str>| {
        let options = Options { interface: interface.map(str::to_owned), ..options() };
        let model = Model::new(scene.clone(), Duration::ZERO, options, view(), SIZES[0]);
        page(&model, 0, SIZES[0]).lines().nth(3).unwrap()[..22].trim().to_owned()
    };
    assert_eq!(shown(None), "SYN/s             99k");
    assert_eq!(shown(Some("eth0")), "SYN/s           98.9k");
    assert_eq!(shown(Some("eth1")), "SYN/s              52");
}

/// The line is below the headline and the panes' names, and wraps where the listener's address is long.
#[test]
fn the_overview_begins_with_whether_clients_connect() {
    let mut scene = status(flooded(Mode::Observe));
    let shown = |scene: &Status| page(&model(scene.clone()), 0, SIZES[0]);
    let says = "Clients  9 handshakes/s at :443 (baseline 52/s): MOST CLIENTS FAIL";
    assert_eq!(shown(&scene).lines().nth(2), Some(says));
    scene.incidents[0].dst = "2001:db8:1:2:3:4:5:6".parse().unwrap();
    let long = shown(&scene);
    assert!(
        long.lines().nth(2).unwrap().starts_with("Clients  9 handshakes/s at [2001:db8:"),
        "{long}"
    );
    assert!(long.lines().nth(3).unwrap().ends_with("CLIENTS FAIL"), "{long}");
    assert!(long.lines().nth(4).unwrap().starts_with("SYN/s "), "{long}");

    let one = scene.incidents[0].clone();
    scene.incidents.extend(std::iter::repeat_n(one, 3));
    let many = shown(&scene);
    assert!(many.lines().nth(5).unwrap().contains("… more: tcpguard status"), "{many}");
    assert!(many.lines().nth(6).unwrap().starts_with("SYN/s "), "{many}");
    assert!(many.lines().last().unwrap().starts_with("q quit"), "{many}");
}

#[test]
fn empty_lists_name_the_next_command() {
    let mut scene = status(calm());
    scene.listeners.clear();
    scene.sources.clear();
    let mut model = model(scene);
    for (pane, words) in [
        (Pane::Listeners, "ss -lnt"),
        (Pane::Sources, "no source has sent a SYN yet"),
        (Pane::Signatures, "tcpguard block PREFIX"),
        (Pane::Incidents, "journalctl -u tcpguard"),
    ] {
        model.handle(Action::Show(pane));
        let page = page(&model, 0, SIZES[0]);
        assert!(first_line_after_headings(&page).contains(words), "{page}");
    }
}

#[test]
fn text_from_elsewhere_cannot_write_outside_its_place() {
    let mut scene = status(flooded(Mode::Enforce));
    let hostile = "\x1b[2J\x07漢字\u{202e}\u{0301}é\r\n\t".repeat(50);
    scene.daemon.hostname.clone_from(&hostile);
    scene.rules.list[0].matches.clone_from(&hostile);
    scene.rules.list[0].reason = RuleReason::Given { text: hostile.clone() };
    for utf8 in [true, false] {
        let view = View { utf8, ..view() };
        let mut model = Model::new(scene.clone(), Duration::ZERO, options(), view, SIZES[0]);
        for pane in Pane::ALL {
            model.handle(Action::Show(pane));
            let page = page(&model, 0, SIZES[0]);
            let control = page.chars().find(|char| char.is_control() && *char != '\n');
            assert_eq!(control, None, "{pane:?}");
            let keys = page.lines().last().unwrap();
            assert!(
                keys.starts_with("q quit"),
                "{pane:?}: the last line is still the keys: {keys}"
            );
        }
    }
}
