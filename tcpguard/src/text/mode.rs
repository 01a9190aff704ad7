//! A mode that reverts.

use std::time::Duration;

use tcpguard_engine::Mode;
use tcpguard_host::time::Time;
use tcpguard_host::units::span;

use super::view::View;
use crate::documents::ModeRevert;

/// Returns the time at which `mode` reverts, the mode that follows, and the command that keeps it, as text.
pub fn mode_end(mode: Mode, end: &ModeRevert, view: &View) -> String {
    let (mode, revert_to) = (mode.name(), end.revert_to.name());
    let left = span(Duration::from_secs(end.in_s));
    let reverts =
        |at: Time| format!("mode {mode} reverts to {revert_to} in {left} (at {})", view.time(at));
    match (end.confirm_by, end.until) {
        (Some(by), None) => format!("{} unless confirmed: sudo tcpguard confirm", reverts(by)),
        (Some(by), Some(until)) => {
            format!(
                "{}, or at {} if confirmed: sudo tcpguard confirm",
                reverts(by),
                view.time(until)
            )
        }
        (None, Some(until)) => format!("{}. To keep it: sudo tcpguard mode {mode}", reverts(until)),
        (None, None) => format!("to keep mode {mode}: sudo tcpguard mode {mode}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_when_to_what_and_how_to_keep_it() {
        let time = |text: &str| Some(Time(format!("2026-11-20T{text}Z").parse().unwrap()));
        let view =
            View { utf8: true, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH };
        let text = |confirm_by, until, in_s| {
            let end = ModeRevert { revert_to: Mode::Observe, confirm_by, until, in_s };
            mode_end(Mode::Enforce, &end, &view)
        };
        assert_eq!(
            text(time("14:06:31"), None, 60),
            "mode enforce reverts to observe in 1m (at 14:06:31) unless confirmed: sudo tcpguard confirm"
        );
        assert_eq!(
            text(None, time("14:15:31"), 600),
            "mode enforce reverts to observe in 10m (at 14:15:31). To keep it: sudo tcpguard mode enforce"
        );
        assert_eq!(
            text(time("14:06:31"), time("14:15:31"), 9),
            "mode enforce reverts to observe in 9s (at 14:06:31), or at 14:15:31 if confirmed: sudo \
             tcpguard confirm"
        );
    }
}
