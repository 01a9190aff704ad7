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
    /// Move this many panes to the right; to the left when negative.
    Turn(isize),
    Show(Pane),
    Filter,
    /// Sort by the next column.
    Sort,
    /// Sort in the other direction.
    Reverse,
    /// Hold the picture, or continue.
    Pause,
    /// Show all details of the selected row.
    Open,
    /// Show the help about the keys.
    Help,
    Type(char),
    /// Delete the last letter.
    Erase,
    /// Accept the typed text.
    Accept,
    /// Return to the previous view.
    Close,
}

/// The current activity, which decides the meaning of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Doing {
    /// Looking at a pane.
    Looking,
    Typing,
    /// Reading the keys or the story of an incident.
    Reading,
}

/// The keys as the help shows them.
pub const HELP: [(&str, &str); 14] = [
    ("1 to 5", "overview, listeners, sources, signatures, incidents"),
    ("Tab, Shift-Tab", "the next of these, the one before (also: right, left)"),
    ("down, up (j, k)", "the next row, the one before"),
    ("PageDown, PageUp", "a page on, a page back"),
    ("Home, End (g, G)", "the first row, the last row"),
    ("Enter", "all that an incident was judged by"),
    ("s", "sort by the next column"),
    ("r", "sort in the other direction"),
    ("/", "show only rows with these letters; Esc shows all again"),
    ("p, space", "hold what is shown; again: go on"),
    ("?", "these keys; Esc or q goes back"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "stop; fg goes on"),
    ("q, Ctrl-C", "leave"),
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
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char(digit @ '1'..='5') => Action::Show(Pane::ALL[digit as usize - '1' as usize]),
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

    const DOING: [Doing; 3] = [Doing::Looking, Doing::Typing, Doing::Reading];

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
        // Looking at a pane, typing a filter, reading.
        let table: [(KeyEvent, [Option<Action>; 3]); 30] = [
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
            (letter('1'), [Some(Show(Pane::Overview)), Some(Type('1')), None]),
            (letter('5'), [Some(Show(Pane::Incidents)), Some(Type('5')), None]),
            (letter('6'), [None, Some(Type('6')), None]),
            (letter('/'), [Some(Filter), Some(Type('/')), None]),
            (letter('s'), [Some(Sort), Some(Type('s')), None]),
            (letter('r'), [Some(Reverse), Some(Type('r')), None]),
            (letter('p'), [Some(Pause), Some(Type('p')), None]),
            (plain(KeyCode::Enter), [Some(Open), Some(Accept), Some(Close)]),
            (letter('?'), [Some(Help), Some(Type('?')), Some(Close)]),
            (plain(KeyCode::Esc), [Some(Close); 3]),
            (plain(KeyCode::Backspace), [None, Some(Erase), None]),
        ];
        for (key, expected) in table {
            let found = DOING.map(|doing| action(key, doing));
            assert_eq!(found, expected, "{key:?}");
        }
    }

    #[test]
    fn a_key_let_go_means_nothing() {
        let key = KeyEvent { kind: KeyEventKind::Release, ..letter('q') };
        assert_eq!(DOING.map(|doing| action(key, doing)), [None; 3]);
    }
}
