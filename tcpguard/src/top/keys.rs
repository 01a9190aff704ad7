//! The meaning of the keys.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::panes::Pane;

/// An action that the user wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Quit,
    /// Stop the process, as Ctrl-Z does with any program.
    Stop,
    /// Draw everything anew, as something else wrote over it.
    Redraw,
    /// Move this many rows down; up when negative.
    Walk(isize),
    /// Move this many pages down; up when negative.
    Page(isize),
    /// Move to the first row.
    First,
    /// Move to the last row.
    Last,
    /// Move this many panes on; back when negative.
    Turn(isize),
    Show(Pane),
    Filter,
    /// Hold the picture, or continue.
    Pause,
    /// Show all details of the selected row.
    Open,
    /// Show the help about the keys.
    Help,
    /// Propose the other mode.
    Mode,
    /// Propose to keep a pending change.
    Confirm,
    /// Propose to block a prefix that is typed.
    Block,
    /// Propose to remove the selected rule, or to release a mitigation of the selected listener.
    Release,
    Type(char),
    /// Delete the last letter.
    Erase,
    /// Accept the typed text, or run the proposed command.
    Accept,
    /// Return to the previous view.
    Close,
}

/// The current activity, which decides the meaning of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Doing {
    /// Looking at the panes.
    Looking,
    Typing,
    /// Reading the keys or the details of a row.
    Reading,
    /// Deciding on a proposed command.
    Deciding,
}

/// The keys as the help shows them.
pub const HELP: [(&str, &str); 16] = [
    ("1 to 4", "listeners, incidents, rules, alerts"),
    ("Tab, Shift-Tab", "the next of these, the previous one (also: right, left)"),
    ("down, up (j, k)", "the next row, the previous one"),
    ("PageDown, PageUp", "the next page, the previous one"),
    ("Home, End (g, G)", "the first row, the last row"),
    ("Enter", "details of the row"),
    ("/", "only rows with these letters; Esc shows all again"),
    ("p, space", "hold the picture; again: continue"),
    ("m", "enforce, with a rollback; in mode enforce: observe"),
    ("c", "confirm a change that would be rolled back"),
    ("b", "block a prefix"),
    ("u", "remove the rule, or release a mitigation of the listener"),
    ("?", "these keys; Esc or q returns"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "stop; fg continues"),
    ("q, Ctrl-C", "quit"),
];

/// The action of `key` during `doing`; `None` if it has none.
pub fn action(key: KeyEvent, doing: Doing) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('z') => Some(Action::Stop),
            KeyCode::Char('l') => Some(Action::Redraw),
            _ => None,
        };
    }
    match doing {
        Doing::Typing => typed(key.code),
        Doing::Reading => read(key.code),
        Doing::Looking => looked(key.code),
        // A key that is pressed by mistake runs nothing.
        Doing::Deciding if key.code == KeyCode::Char('y') => Some(Action::Accept),
        Doing::Deciding => Some(Action::Close),
    }
}

const fn typed(key: KeyCode) -> Option<Action> {
    Some(match key {
        KeyCode::Char(letter) => Action::Type(letter),
        KeyCode::Backspace => Action::Erase,
        KeyCode::Enter => Action::Accept,
        KeyCode::Esc => Action::Close,
        _ => return None,
    })
}

const fn read(key: KeyCode) -> Option<Action> {
    match key {
        KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | '?') => Some(Action::Close),
        other => moved(other),
    }
}

fn looked(key: KeyCode) -> Option<Action> {
    Some(match key {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Char('?') | KeyCode::F(1) => Action::Help,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('m') => Action::Mode,
        KeyCode::Char('c') => Action::Confirm,
        KeyCode::Char('b') => Action::Block,
        KeyCode::Char('u') => Action::Release,
        KeyCode::Char(digit @ '1'..='4') => Action::Show(Pane::ALL[digit as usize - '1' as usize]),
        KeyCode::Tab | KeyCode::Right => Action::Turn(1),
        KeyCode::BackTab | KeyCode::Left => Action::Turn(-1),
        KeyCode::Enter => Action::Open,
        KeyCode::Esc => Action::Close,
        other => return moved(other),
    })
}

const fn moved(key: KeyCode) -> Option<Action> {
    Some(match key {
        KeyCode::Down | KeyCode::Char('j') => Action::Walk(1),
        KeyCode::Up | KeyCode::Char('k') => Action::Walk(-1),
        KeyCode::PageDown => Action::Page(1),
        KeyCode::PageUp => Action::Page(-1),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOING: [Doing; 4] = [Doing::Looking, Doing::Typing, Doing::Reading, Doing::Deciding];

    fn plain(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    fn letter(letter: char) -> KeyEvent {
        plain(KeyCode::Char(letter))
    }

    fn control(letter: char) -> KeyEvent {
        KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL)
    }

    #[test]
    fn each_key_means_what_people_expect() {
        use Action::*;
        // Looking at the panes, typing, reading.
        let table: [(KeyEvent, [Option<Action>; 3]); 31] = [
            (letter('q'), [Some(Quit), Some(Type('q')), Some(Close)]),
            (control('c'), [Some(Quit); 3]),
            (control('z'), [Some(Stop); 3]),
            (control('l'), [Some(Redraw); 3]),
            (control('x'), [None; 3]),
            (letter('j'), [Some(Walk(1)), Some(Type('j')), Some(Walk(1))]),
            (letter('k'), [Some(Walk(-1)), Some(Type('k')), Some(Walk(-1))]),
            (plain(KeyCode::Down), [Some(Walk(1)), None, Some(Walk(1))]),
            (plain(KeyCode::Up), [Some(Walk(-1)), None, Some(Walk(-1))]),
            (plain(KeyCode::PageDown), [Some(Page(1)), None, Some(Page(1))]),
            (plain(KeyCode::PageUp), [Some(Page(-1)), None, Some(Page(-1))]),
            (plain(KeyCode::Home), [Some(First), None, Some(First)]),
            (plain(KeyCode::End), [Some(Last), None, Some(Last)]),
            (letter('g'), [Some(First), Some(Type('g')), Some(First)]),
            (letter('G'), [Some(Last), Some(Type('G')), Some(Last)]),
            (plain(KeyCode::Tab), [Some(Turn(1)), None, None]),
            (plain(KeyCode::BackTab), [Some(Turn(-1)), None, None]),
            (plain(KeyCode::Right), [Some(Turn(1)), None, None]),
            (plain(KeyCode::Left), [Some(Turn(-1)), None, None]),
            (letter('1'), [Some(Show(Pane::Listeners)), Some(Type('1')), None]),
            (letter('4'), [Some(Show(Pane::Alerts)), Some(Type('4')), None]),
            (letter('5'), [None, Some(Type('5')), None]),
            (letter('/'), [Some(Filter), Some(Type('/')), None]),
            (letter('p'), [Some(Pause), Some(Type('p')), None]),
            (letter('m'), [Some(Mode), Some(Type('m')), None]),
            (letter('c'), [Some(Confirm), Some(Type('c')), None]),
            (letter('b'), [Some(Block), Some(Type('b')), None]),
            (letter('u'), [Some(Release), Some(Type('u')), None]),
            (plain(KeyCode::Enter), [Some(Open), Some(Accept), Some(Close)]),
            (letter('?'), [Some(Help), Some(Type('?')), Some(Close)]),
            (plain(KeyCode::Backspace), [None, Some(Erase), None]),
        ];
        for (key, expected) in table {
            let found = [0, 1, 2].map(|doing| action(key, DOING[doing]));
            assert_eq!(found, expected, "{key:?}");
        }
        assert_eq!(DOING.map(|doing| action(plain(KeyCode::Esc), doing)), [Some(Close); 4]);
    }

    #[test]
    fn only_y_runs_a_proposed_command() {
        let press = |key| action(key, Doing::Deciding);
        assert_eq!(press(letter('y')), Some(Action::Accept));
        for key in [letter('Y'), letter('n'), letter('q'), plain(KeyCode::Enter), letter(' ')] {
            assert_eq!(press(key), Some(Action::Close), "{key:?}");
        }
    }

    #[test]
    fn a_key_let_go_means_nothing() {
        let key = KeyEvent { kind: KeyEventKind::Release, ..letter('q') };
        assert_eq!(DOING.map(|doing| action(key, doing)), [None; 4]);
    }
}
