//! Rendering of text on the reader's terminal.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use tcpguard_host::escape;
use tcpguard_host::time::Time;

/// The capabilities of the reader's terminal.
#[derive(Clone, Debug)]
pub struct View {
    /// True if it shows more than ASCII.
    pub utf8: bool,
    /// True if to use colour.
    pub colour: bool,
    /// The time zone in which times are shown.
    pub zone: TimeZone,
    /// Columns of a line.
    pub width: usize,
}

/// The meaning of a colour. The words say it too.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tone {
    #[default]
    Plain,
    /// A value as it should be.
    Good,
    /// A value that is worth a look.
    Warning,
    Bad,
    Heading,
}

impl View {
    /// Columns where those of the terminal are not known, as in a file.
    pub const WIDTH: usize = 100;
    /// Fewer columns hold no sentence.
    const NARROWEST: usize = 40;
    /// A longer line is hard to follow.
    const WIDEST: usize = 140;

    /// Columns to use of a terminal that says that it has so many; 0 where it does not know.
    pub fn columns(reported: u16) -> usize {
        match reported {
            0 => Self::WIDTH,
            reported => usize::from(reported).clamp(Self::NARROWEST, Self::WIDEST),
        }
    }

    /// `text` in a colour, where there are colours.
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        // Select Graphic Rendition, ECMA-48 8.3.117.
        let code = match tone {
            _ if !self.colour => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
            Tone::Heading => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Time of day: `14:02:11`.
    pub fn time(&self, time: Time) -> String {
        time.0.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    /// End of something that begins at `from`: `14:02:11`, with the date where that is another day.
    pub fn end(&self, from: Time, end: Time) -> String {
        if self.day(from) == self.day(end) { self.time(end) } else { self.moment(end) }
    }

    /// Date: `2026-11-14`.
    pub(super) fn day(&self, time: Time) -> String {
        time.0.to_zoned(self.zone.clone()).strftime("%Y-%m-%d").to_string()
    }

    /// Date and time to the second: `2026-11-14 09:41:07`.
    pub(super) fn moment(&self, time: Time) -> String {
        format!("{} {}", self.day(time), self.time(time))
    }

    /// Date and time: `2026-11-14 09:41`.
    pub(crate) fn date(&self, time: Time) -> String {
        time.0.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// `text` in the characters that the terminal can show, and without those that have no form: names
    /// and reasons of others may hold them.
    pub fn encode<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if text.is_ascii() {
            return Cow::Borrowed(text);
        }
        if self.utf8 {
            return escape::shown_page(text);
        }
        let mut ascii = String::with_capacity(text.len());
        for char in text.chars() {
            match char {
                '●' => ascii.push('*'),
                '✗' | '×' => ascii.push('x'),
                '✓' => ascii.push_str("ok"),
                '—' | '–' | '−' => ascii.push('-'),
                '→' => ascii.push_str("->"),
                '…' => ascii.push_str("..."),
                '≥' => ascii.push_str(">="),
                '≤' => ascii.push_str("<="),
                '▼' => ascii.push('v'),
                '▲' => ascii.push('^'),
                plain if plain.is_ascii() => ascii.push(plain),
                _ => ascii.push('?'),
            }
        }
        Cow::Owned(ascii)
    }
}

/// `text` broken at spaces into lines of at most `width` characters; a longer word has a line of
/// its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// At most `width` characters of `text`; one that is cut off ends in `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain("…".chars().take(width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_without_utf8_gets_ascii() {
        let view = View { utf8: false, colour: false, zone: TimeZone::UTC, width: View::WIDTH };
        assert_eq!(view.encode("● a — b → c … ✓ ✗ ü"), "* a - b -> c ... ok x ?");
    }

    #[test]
    fn what_turns_or_hides_other_characters_reaches_no_terminal() {
        for (utf8, expected) in [(true, "● gnp.?exe ?"), (false, "* gnp.?exe ?")] {
            let view = View { utf8, colour: false, zone: TimeZone::UTC, width: View::WIDTH };
            assert_eq!(view.encode("● gnp.\u{202e}exe \u{9b}"), expected);
        }
    }

    #[test]
    fn a_terminal_is_used_as_far_as_lines_can_be_read() {
        for (reported, columns) in [(0, 100), (20, 40), (80, 80), (132, 132), (400, 140)] {
            assert_eq!(View::columns(reported), columns, "{reported}");
        }
    }

    #[test]
    fn an_end_on_another_day_is_shown_with_its_date() {
        let view = View { utf8: true, colour: false, zone: TimeZone::UTC, width: View::WIDTH };
        let at = |text: &str| Time(text.parse().unwrap());
        let from = at("2026-11-14T09:41:07Z");
        assert_eq!(view.end(from, at("2026-11-14T10:41:07Z")), "10:41:07");
        assert_eq!(view.end(from, at("2026-11-15T09:41:07Z")), "2026-11-15 09:41:07");
    }

    #[test]
    fn what_is_cut_off_says_so() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("abcd", 1, "…"),
            ("abcd", 0, ""),
            ("äöü", 3, "äöü"),
        ] {
            assert_eq!(cut(text, width), expected, "{text} in {width}");
        }
    }

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aaaaaaaa b", 5), ["aaaaaaaa", "b"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
