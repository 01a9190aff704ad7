//! Sanitising of foreign text on its way to a reader. A process names itself, a host has a name,
//! and an operator writes a reason. A character that a terminal would obey, or that hides or turns
//! other characters, becomes a `?` in text for people and an escape in stored lines.

use std::borrow::Cow;

/// Returns whether a character has no form of its own: a control character, which terminals obey, or one of
/// [`is_format`].
pub fn is_unseen(char: char) -> bool {
    // Nearly all text is ASCII.
    match char.is_ascii() {
        true => char.is_ascii_control(),
        false => char.is_control() || is_format(char),
    }
}

/// Returns whether it is a format character (Unicode 16.0, General_Category Cf), or separates lines or paragraphs (Zl,
/// Zp). A format character is invisible or turns the direction of the text after it (UAX #9), so that a name
/// could be mistaken for another.
pub const fn is_format(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
        | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

/// `text` with a `?` for each character that has no form.
pub fn shown(text: &str) -> Cow<'_, str> {
    replaced(text, is_unseen)
}

/// The same of a page or message of our own, in which text of others may be: its lines and colours, of
/// ASCII control characters, stay.
pub fn shown_page(text: &str) -> Cow<'_, str> {
    replaced(text, |char| !char.is_ascii() && is_unseen(char))
}

/// `text` with an escape, such as `\u{202e}`, for each character that has no form; lines and tabs stay.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |char| !matches!(char, '\n' | '\t') && is_unseen(char))
}

/// The same on one line.
pub fn escaped_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unseen)
}

fn replaced(text: &str, is_unseen: impl Fn(char) -> bool) -> Cow<'_, str> {
    match text.contains(&is_unseen) {
        false => Cow::Borrowed(text),
        true => text.chars().map(|char| if is_unseen(char) { '?' } else { char }).collect(),
    }
}

fn escaped(text: &str, is_unseen: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match is_unseen(char) {
            true => escaped.extend(char.escape_default()),
            false => escaped.push(char),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that turn or hide others: overrides and isolates of direction, joiners, marks,
    /// tags.
    const FORMAT: [char; 14] = [
        '\u{ad}',
        '\u{61c}',
        '\u{180e}',
        '\u{200b}',
        '\u{200d}',
        '\u{200f}',
        '\u{202a}',
        '\u{202e}',
        '\u{2028}',
        '\u{2066}',
        '\u{2069}',
        '\u{feff}',
        '\u{fffb}',
        '\u{e0041}',
    ];

    #[test]
    fn text_without_a_form_differs_from_text_with_one() {
        for char in FORMAT.into_iter().chain(['\0', '\n', '\x1b', '\x7f', '\u{85}', '\u{9b}']) {
            assert!(is_unseen(char), "{char:?}");
        }
        for char in "aß–… ●✗\u{a0}\u{202f}\u{fffd}日\u{639}".chars() {
            assert!(!is_unseen(char), "{char:?}");
        }
    }

    #[test]
    fn names_are_shown_harmless_and_others_as_they_are() {
        for (text, expected) in [
            ("nginx: größe", "nginx: größe"),
            ("\x1b[2J\x07two\nlines", "?[2J?two?lines"),
            ("gnp.\u{202e}exe", "gnp.?exe"),
            ("a\u{200b}b\u{2066}c\u{2069}", "a?b?c?"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(matches!(shown("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_page_keeps_its_lines_and_colours() {
        let page = "\x1b[32m● calm\x1b[0m\nof \u{202e}a\u{9b}2J\n";
        assert_eq!(shown_page(page), "\x1b[32m● calm\x1b[0m\nof ?a?2J\n");
    }

    #[test]
    fn escapes_say_what_was_there() {
        let text = "a\nb\x1b\u{202e}c";
        assert_eq!(escaped_line(text), "a\\nb\\u{1b}\\u{202e}c");
        assert_eq!(escaped_lines(text), "a\nb\\u{1b}\\u{202e}c");
        assert!(matches!(escaped_line("größe"), Cow::Borrowed(_)));
    }
}
