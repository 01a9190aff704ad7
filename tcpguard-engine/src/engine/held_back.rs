//! Listeners at which the guard does less than elsewhere, because the configuration says so.

use super::Engine;
use crate::{Listener, Mode};

impl Engine {
    /// Why rules are not made for a listener's incidents although the guard's mode would have them;
    /// `None` where it does there what it does everywhere.
    pub(super) fn held_back(&self, listener: Listener) -> Option<&'static str> {
        why(self.settings.mode(listener, self.mode), self.mode)
    }

    /// Lets incidents ask for no rules where the guard is held back. What is in the kernel drops,
    /// whatever the mode of the listener, and so it must not be there.
    pub(super) fn hold_back(&mut self) {
        for watch in self.watches.values_mut() {
            let mode = self.settings.mode(watch.listener, self.mode);
            if let (Some(why), Some(incident)) = (why(mode, self.mode), &mut watch.incident) {
                incident.release_rules(why);
            }
        }
    }
}

/// Why rules are not made at a listener where `mode` holds, though elsewhere the guard is in mode
/// `guard`.
pub(super) fn why(mode: Mode, guard: Mode) -> Option<&'static str> {
    match mode {
        _ if mode >= guard => None,
        Mode::Off => Some("the guard is off at this listener"),
        Mode::Observe | Mode::Enforce => Some("the guard only observes this listener"),
    }
}

/// Why no step that keeps SYNs away is taken at a listener where `mode` holds; `None` where they are.
pub(super) fn idle(mode: Mode, guard: Mode) -> Option<&'static str> {
    why(mode, guard).or(match mode {
        Mode::Off => Some("the guard is off"),
        Mode::Observe => Some("the guard only observes"),
        Mode::Enforce => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_names_the_listener_where_only_it_is_spared() {
        for (mode, guard, rules, steps) in [
            (Mode::Enforce, Mode::Enforce, None, None),
            (Mode::Observe, Mode::Observe, None, Some("the guard only observes")),
            (Mode::Off, Mode::Off, None, Some("the guard is off")),
            (
                Mode::Observe,
                Mode::Enforce,
                Some("the guard only observes this listener"),
                Some("the guard only observes this listener"),
            ),
            (
                Mode::Off,
                Mode::Observe,
                Some("the guard is off at this listener"),
                Some("the guard is off at this listener"),
            ),
        ] {
            assert_eq!((why(mode, guard), idle(mode, guard)), (rules, steps), "{mode:?} {guard:?}");
        }
    }
}
