//! The effects of keys and responses.

use std::time::Duration;

use tcpguard::control::proto::Change;
use tcpguard::control::{Request, Response};
use tcpguard::documents::history::History;
use tcpguard::documents::{Advised, Blocked, Incident, ModeRevert, Rule, Status, Unblocked};
use tcpguard::text::View;
use tcpguard::top::{Action, Doing, Model, Pane, Wish};
use tcpguard_engine::{ClientsWithin, Mitigation, Mode, Order, RuleReason};
use tcpguard_host::time::Time;

use super::support::{calm, clock, flooded, status};
use super::{NOW, SIZES, drawn, explain, history, page, second, text, view};

fn model(scene: Status) -> Model {
    super::model(&scene, view(), SIZES[0])
}

fn shown(model: &Model) -> String {
    page(model, NOW, SIZES[0])
}

fn last_line(model: &Model) -> String {
    shown(model).lines().last().unwrap().to_owned()
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

/// The rows of a list, the first cell of each.
fn listed(model: &Model, pane: Pane) -> Vec<String> {
    model.rows(pane).iter().map(|row| row.cells[0].0.clone()).collect()
}

fn typed(model: &mut Model, action: Action, text: &str) {
    model.handle(action);
    for letter in text.chars() {
        model.handle(Action::Type(letter));
    }
}

/// Presses the key that proposes a command, and returns the command and its request.
fn proposed(model: &mut Model, action: Action) -> (String, Request) {
    assert_eq!(model.handle(action), None, "nothing runs without a confirmation");
    assert_eq!(model.doing(), Doing::Deciding, "{}", shown(model));
    let page = shown(model);
    let command = page.lines().find_map(|line| line.strip_prefix("Command    ")).unwrap();
    assert!(page.contains("Run this command?") && page.contains("Effect"), "{page}");
    let Some(Wish::Send(request)) = model.handle(Action::Accept) else { panic!("{page}") };
    assert_eq!(model.doing(), Doing::Looking);
    (command.to_owned(), request)
}

#[test]
fn panes_go_round() {
    let mut model = model(status(calm()));
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(model.focus());
        model.handle(Action::Turn(1));
    }
    assert_eq!(seen[..4], Pane::ALL);
    assert_eq!(seen[4], Pane::Listeners);
    model.handle(Action::Turn(-1));
    model.handle(Action::Turn(-1));
    assert_eq!(model.focus(), Pane::Alerts);
}

#[test]
fn what_the_model_cannot_do_is_wished_for() {
    let mut model = model(status(flooded(Mode::Enforce)));
    assert_eq!(model.handle(Action::Quit), Some(Wish::Quit));
    assert_eq!(model.handle(Action::Stop), Some(Wish::Stop));
    assert_eq!(model.handle(Action::Redraw), Some(Wish::Redraw));
    model.handle(Action::Show(Pane::Incidents));
    let wish = Wish::Send(Request::ExplainIncident { id: 3 });
    assert_eq!(model.handle(Action::Open), Some(wish));
}

#[test]
fn the_mode_is_enforced_with_a_rollback_and_confirmed_afterwards() {
    let mut scene = status(flooded(Mode::Observe));
    let (command, request) = proposed(&mut model(scene.clone()), Action::Mode);
    assert_eq!(command, format!("sudo {}", Advised::TRY_ENFORCE));
    let terms = |mode, rollback_after_s| Request::SetMode { mode, for_s: None, rollback_after_s };
    assert_eq!(request, terms(Mode::Enforce, Some(60)));

    scene.daemon.mode = Mode::Enforce;
    let (command, request) = proposed(&mut model(scene.clone()), Action::Mode);
    assert_eq!(
        (command.as_str(), request),
        ("sudo tcpguard mode observe", terms(Mode::Observe, None))
    );

    let mut calm = model(scene.clone());
    calm.handle(Action::Confirm);
    assert_eq!(last_line(&calm), "✗ no change is pending confirmation");
    scene.daemon.mode_reverts = Some(ModeRevert {
        revert_to: Mode::Observe,
        confirm_by: Some(Time(clock().wall)),
        until: None,
        in_s: 42,
    });
    let mut pending = model(scene);
    assert!(last_line(&pending).starts_with("c confirm"), "{}", shown(&pending));
    let (command, request) = proposed(&mut pending, Action::Confirm);
    assert_eq!(command, "sudo tcpguard confirm");
    assert_eq!(request, Request::Confirm { net: None });
}

/// Three attacks and a rollback, on the smallest terminal.
#[test]
fn a_pending_rollback_and_the_action_are_seen_however_much_goes_on() {
    let mut scene = status(flooded(Mode::Observe));
    scene.daemon.mode = Mode::Enforce;
    let flood = scene.incidents[0].clone();
    let at = |port, id| Incident { port, id, ..flood.clone() };
    scene.incidents.extend([at(8080, 4), at(9000, 5)]);
    scene.daemon.mode_reverts = Some(ModeRevert {
        revert_to: Mode::Observe,
        confirm_by: Some(Time(clock().wall)),
        until: None,
        in_s: 42,
    });
    let page = shown(&model(scene));
    assert!(page.contains("mode enforce for 42s"), "{page}");
    assert!(page.contains("mode enforce reverts to observe in 42s"), "{page}");
    assert!(page.contains("Action     sudo tcpguard"), "{page}");
    assert!(page.contains("#5 SYN flood"), "{page}");
}

#[test]
fn details_of_an_incident_are_asked_for_anew_with_each_status() {
    let mut model = model(status(flooded(Mode::Enforce)));
    assert_eq!(model.renewal(&Request::Status), None);
    model.handle(Action::Show(Pane::Incidents));
    model.handle(Action::Open);
    assert_eq!(model.renewal(&Request::Status), Some(Request::ExplainIncident { id: 3 }));
    assert_eq!(model.renewal(&Request::History), None);
    model.handle(Action::Pause);
    assert_eq!(model.renewal(&Request::Status), None, "it is held");
}

#[test]
fn a_prefix_is_blocked_once_its_effect_is_known() {
    let mut scene = status(flooded(Mode::Enforce));
    let mut one = model(scene.clone());
    typed(&mut one, Action::Block, "192.0.2.300");
    assert!(last_line(&one).starts_with("Prefix to block: 192.0.2.300"));
    assert_eq!(one.handle(Action::Accept), None);
    assert!(last_line(&one).contains("is not a prefix"), "{}", shown(&one));

    typed(&mut one, Action::Block, "192.0.2.0/24");
    let Some(Wish::Send(request)) = one.handle(Action::Accept) else { panic!() };
    assert!(request.is_dry_run() && !request.is_change(), "{request:?}");
    let rule: Rule = Rule {
        matches: "192.0.2.0/24".to_owned(),
        kind: Mitigation::Source,
        ..scene.rules.list.remove(0)
    };
    let clients = ClientsWithin { validated: 0, last_minute: 0 };
    one.answered(
        &request,
        Ok(Response::Blocked(Box::new(Blocked { rule, replaces: None, dry_run: true, clients }))),
        second(NOW),
    );
    let page = shown(&one);
    assert!(page.contains("Command    sudo tcpguard block 192.0.2.0/24"), "{page}");
    assert!(page.contains("would block 192.0.2.0/24"), "{page}");
    let Some(Wish::Send(request)) = one.handle(Action::Accept) else { panic!() };
    assert!(matches!(request, Request::Change { change: Change::Block { .. }, dry_run: false }));

    one.answered(&request, Err("permission denied; use sudo".to_owned()), second(NOW));
    assert_eq!(last_line(&one), "✗ permission denied; use sudo");
    assert!(page_at(&one, 11).starts_with("q quit"), "for some seconds");
}

fn page_at(model: &Model, now: u64) -> String {
    page(model, now, SIZES[0]).lines().last().unwrap().to_owned()
}

#[test]
fn a_rule_is_removed_and_a_mitigation_released() {
    let scene = status(flooded(Mode::Enforce));
    let mut one = model(scene.clone());
    one.handle(Action::Release);
    let (command, request) = {
        one.handle(Action::Close);
        proposed(&mut one, Action::Release)
    };
    assert_eq!(command, "sudo tcpguard mitigation [::]:443 cookies off --for 10m");
    let Request::Change { change: Change::OrderMitigation { mitigation, order, .. }, .. } = request
    else {
        panic!()
    };
    assert_eq!((mitigation, order), (Mitigation::Cookies, Order::Off));

    one.handle(Action::Walk(1));
    one.handle(Action::Release);
    assert_eq!(last_line(&one), "✗ this listener has no mitigation to release");
    one.handle(Action::Show(Pane::Rules));
    let (command, request) = proposed(&mut one, Action::Release);
    assert_eq!(command, "sudo tcpguard unblock --rule 7");
    assert!(request.is_change());
    one.answered(
        &request,
        Ok(Response::Unblocked(Unblocked { removed: scene.rules.list, dry_run: false })),
        second(NOW),
    );
    assert_eq!(last_line(&one), "done: unblock --rule 7 --origin all");
    one.handle(Action::Show(Pane::Alerts));
    one.handle(Action::Release);
    assert_eq!(last_line(&one), "✗ select a rule or a listener first");
}

#[test]
fn a_proposed_command_is_given_up_by_any_other_key() {
    let mut model = model(status(flooded(Mode::Observe)));
    model.handle(Action::Mode);
    assert!(last_line(&model).starts_with("y run it"), "{}", shown(&model));
    assert_eq!(model.handle(Action::Close), None);
    assert_eq!(model.doing(), Doing::Looking);
    assert_eq!(model.handle(Action::Accept), None);
}

#[test]
fn a_filter_is_typed_corrected_and_given_up() {
    let mut model = model(status(calm()));
    typed(&mut model, Action::Filter, "443");
    assert_eq!(model.doing(), Doing::Typing);
    assert_eq!(listed(&model, Pane::Listeners), ["[::]:443"]);
    assert!(last_line(&model).starts_with("/443"));
    model.handle(Action::Accept);
    assert_eq!((model.doing(), listed(&model, Pane::Listeners).len()), (Doing::Looking, 1));
    assert!(shown(&model).contains("1 Listeners 2, 1 with \"443\""), "{}", shown(&model));

    typed(&mut model, Action::Filter, "x");
    assert!(listed(&model, Pane::Listeners).is_empty());
    assert!(shown(&model).contains("no row has \"443x\"; Esc shows all again"));
    model.handle(Action::Close);
    assert_eq!(listed(&model, Pane::Listeners).len(), 1, "Esc while typing: as before");
    model.handle(Action::Filter);
    model.handle(Action::Erase);
    assert!(last_line(&model).ends_with("/44"));
    model.handle(Action::Accept);
    model.handle(Action::Close);
    assert_eq!(listed(&model, Pane::Listeners).len(), 2, "Esc afterwards: all");
}

#[test]
fn each_pane_keeps_its_own_filter() {
    let mut model = model(status(flooded(Mode::Enforce)));
    typed(&mut model, Action::Filter, "22");
    model.handle(Action::Accept);
    assert_eq!(listed(&model, Pane::Rules).len(), 1, "no filter here");
    assert_eq!(listed(&model, Pane::Listeners), ["0.0.0.0:22"]);
}

#[test]
fn the_last_of_very_many_rows_can_be_reached() {
    let mut model = model(many_listeners(4096));
    let busiest = shown(&model);
    assert!(busiest.contains("\n0.0.0.0:4096 "), "{busiest}");
    model.handle(Action::Last);
    assert!(shown(&model).contains("\n0.0.0.0:1 "));
    model.handle(Action::First);
    assert_eq!(shown(&model), busiest);
    model.handle(Action::Page(1));
    assert!(shown(&model).contains("\n0.0.0.0:4086 "), "{}", shown(&model));
    model.handle(Action::Page(-1));
    assert_eq!(shown(&model), busiest);
}

#[test]
fn the_selected_row_is_a_listener_and_not_a_place() {
    let mut model = model(many_listeners(3));
    assert_eq!(listed(&model, Pane::Listeners), ["0.0.0.0:3", "0.0.0.0:2", "0.0.0.0:1"]);
    model.handle(Action::Last);
    let mut scene = many_listeners(3);
    scene.listeners[0].syn_pps = 99.0;
    model.answered(&Request::Status, Ok(Response::Status(Box::new(scene))), second(1));
    assert_eq!(listed(&model, Pane::Listeners)[0], "0.0.0.0:1");
    model.handle(Action::Open);
    assert!(shown(&model).contains("0.0.0.0:1: ok"), "{}", shown(&model));
}

#[test]
fn a_held_view_stands_still_and_goes_on_where_the_agent_is_then() {
    let mut model = model(status(calm()));
    model.handle(Action::Pause);
    let held = shown(&model);
    assert!(held.lines().next().unwrap().ends_with("HELD at 14:05:31"), "{held}");
    let flood = status(flooded(Mode::Enforce));
    for now in [1, 2] {
        let answer = Response::Status(Box::new(flood.clone()));
        model.answered(&Request::Status, Ok(answer), second(now));
        let answer = Response::History(Box::new(history(&flood)));
        model.answered(&Request::History, Ok(answer), second(now));
    }
    assert_eq!(page(&model, 3, SIZES[0]), held);
    model.handle(Action::Pause);
    let now = page(&model, 3, SIZES[0]);
    assert!(now.contains("UNDER ATTACK, mitigating") && !now.contains("HELD"), "{now}");
}

/// An agent that has started again knows its own seconds only.
#[test]
fn the_plot_keeps_the_time_before_a_restart_of_the_agent() {
    let flood = status(flooded(Mode::Enforce));
    let mut model = model(flood.clone());
    let before = shown(&model);
    let mut young = history(&flood);
    young.seconds.drain(..290);
    model.answered(&Request::History, Ok(Response::History(Box::new(young))), second(NOW));
    assert_eq!(shown(&model), before);
    let none = History { seconds: Vec::new() };
    model.answered(&Request::History, Ok(Response::History(Box::new(none))), second(NOW));
    assert_eq!(shown(&model), before);
}

#[test]
fn an_incident_is_shown_from_beginning_to_end_in_any_width() {
    let mut model = model(status(flooded(Mode::Enforce)));
    model.handle(Action::Show(Pane::Incidents));
    model.handle(Action::Open);
    assert_eq!(model.doing(), Doing::Reading);
    assert!(shown(&model).contains("asking for incident #3"), "{}", shown(&model));
    explain(&mut model);
    let whole = model.details();
    let mut reachable: Vec<String> = Vec::new();
    for _ in 0..200 {
        reachable.extend(shown(&model).lines().map(str::to_owned));
        model.handle(Action::Walk(1));
    }
    for line in &whole {
        assert!(reachable.iter().any(|one| one == line.trim_end()), "{line:?} cannot be reached");
    }
    model.resize(140, 40);
    let wide = text(&drawn(&model, NOW, (140, 40)));
    assert!(wide.lines().any(|line| line.chars().count() > 100), "{wide}");
    assert!(model.details().len() < whole.len());

    model.handle(Action::Close);
    assert_eq!((model.doing(), model.focus()), (Doing::Looking, Pane::Incidents));
    explain(&mut model);
    assert_eq!(model.doing(), Doing::Looking, "a late answer opens nothing");
}

#[test]
fn an_incident_that_is_not_known_any_longer_says_so() {
    let mut model = model(status(flooded(Mode::Enforce)));
    model.handle(Action::Show(Pane::Incidents));
    model.handle(Action::Open);
    let answer = Err("no attack #3".to_owned());
    model.answered(&Request::ExplainIncident { id: 3 }, answer, second(NOW));
    assert!(shown(&model).contains("no attack #3"));
}

/// The situation is the status page's, and leaves room for the plots and the lists.
#[test]
fn many_incidents_leave_room_for_plots_and_lists() {
    let mut scene = status(flooded(Mode::Observe));
    let says = "9 handshakes/s at :443 (baseline 52/s): MOST CLIENTS FAIL";
    assert!(shown(&model(scene.clone())).contains(says));
    let one = scene.incidents[0].clone();
    scene.incidents.extend(std::iter::repeat_n(one, 9));
    let many = shown(&model(scene));
    assert!(many.contains(" on 10 listeners, since "), "{many}");
    assert!(many.contains("\nSYN/s ") && many.contains("\nLISTENER "), "{many}");
    assert!(many.lines().last().unwrap().starts_with("q quit"), "{many}");
}

#[test]
fn empty_lists_name_the_next_command() {
    let mut scene = status(calm());
    scene.listeners.clear();
    let mut model = model(scene);
    for (pane, words) in [
        (Pane::Listeners, "ss -lnt"),
        (Pane::Incidents, "journalctl -u tcpguard"),
        (Pane::Rules, "tcpguard block PREFIX"),
        (Pane::Alerts, "tcpguard events"),
    ] {
        model.handle(Action::Show(pane));
        assert!(shown(&model).contains(words), "{}", shown(&model));
        assert_eq!(model.handle(Action::Open), None);
        assert_eq!(model.doing(), Doing::Looking, "there is nothing to open");
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
        let mut model =
            Model::new(scene.clone(), history(&scene), Duration::from_secs(1), view, SIZES[0]);
        for pane in Pane::ALL {
            model.handle(Action::Show(pane));
            let page = shown(&model);
            let control = page.chars().find(|char| char.is_control() && *char != '\n');
            assert_eq!(control, None, "{pane:?}");
            let keys = page.lines().last().unwrap();
            assert!(keys.starts_with("q quit"), "{pane:?}: {keys}");
            model.handle(Action::Open);
            let page = shown(&model);
            let control = page.chars().find(|char| char.is_control() && *char != '\n');
            assert_eq!(control, None, "{pane:?}");
            model.handle(Action::Close);
        }
    }
}
