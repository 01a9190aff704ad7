//! Ranges of the fields of documents.

use std::fmt::Display;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use tcpguard_host::escape;

use super::error::DocumentError;

/// Largest rate, per second. No link carries a hundredth of it.
const MAX_RATE: f64 = 1e12;
/// Largest whole number. Every reader of JSON keeps it exact (RFC 8259, section 6).
pub(super) const MAX_WHOLE: u64 = (1 << 53) - 1;

type Checked = Result<(), DocumentError>;

/// An error about a field.
pub(super) fn wrong(field: &'static str, problem: impl Into<String>) -> Checked {
    Err(DocumentError::OutOfRange { field, problem: problem.into() })
}

/// A value within a range.
pub(super) fn within<T: PartialOrd + Display>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Checked {
    match range.contains(&value) {
        true => Ok(()),
        false => wrong(field, format!("{value} ({} to {})", range.start(), range.end())),
    }
}

/// A number per second.
pub(super) fn rate(field: &'static str, value: f64) -> Checked {
    within(field, value, 0.0..=MAX_RATE)
}

/// A share of 1.
pub(super) fn share(field: &'static str, value: f64) -> Checked {
    within(field, value, 0.0..=1.0)
}

/// A whole number that every reader keeps exact.
pub(super) fn whole(field: &'static str, value: u64) -> Checked {
    within(field, value, 0..=MAX_WHOLE)
}

/// A list of at most `most` elements.
pub(super) fn list<T>(field: &'static str, list: &[T], most: usize) -> Checked {
    match list.len() {
        length if length <= most => Ok(()),
        length => wrong(field, format!("{length} elements (at most {most})")),
    }
}

/// A text of at most `most` bytes, each character of which has a form.
pub(super) fn text(field: &'static str, text: &str, most: usize) -> Checked {
    if text.len() > most {
        return wrong(field, format!("{} bytes (at most {most})", text.len()));
    }
    match text.chars().any(escape::is_unseen) {
        true => wrong(field, "it holds a control or format character"),
        false => Ok(()),
    }
}

/// A word in lower case, as the names of states.
pub(super) fn word(field: &'static str, word: &str) -> Checked {
    let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    match (1..=32).contains(&word.len()) && word.bytes().all(is_letter) {
        true => Ok(()),
        false => wrong(field, "not a word of 1 to 32 lower-case letters, digits and _"),
    }
}

/// The prefix of a single address.
pub(super) fn address(field: &'static str, net: IpNet) -> Checked {
    match net.prefix_len() == net.max_prefix_len() {
        true => Ok(()),
        false => wrong(field, format!("{net} is not the prefix of one address")),
    }
}

/// A prefix without bits behind its length.
pub(super) fn prefix(field: &'static str, net: IpNet) -> Checked {
    match net == net.trunc() {
        true => Ok(()),
        false => wrong(field, format!("{net} has bits behind its length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_its_range_is_named_with_the_range() {
        assert_eq!(share("share", 1.0), Ok(()));
        let error = share("share", 1.5).unwrap_err().to_string();
        assert_eq!(error, "share: 1.5 (0 to 1)");
        for value in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(rate("syn_pps", value).is_err(), "{value}");
        }
        assert!(whole("seq", MAX_WHOLE + 1).is_err());
        assert!(list("ports", &[1, 2, 3], 2).is_err());
    }

    #[test]
    fn text_that_a_terminal_would_obey_is_no_text() {
        assert_eq!(text("reason", "größe, 日本", 15), Ok(()));
        for bad in ["\x1b[2J", "a\u{202e}b", "two\nlines", "longer than it is"] {
            assert!(text("reason", bad, 15).is_err(), "{bad:?}");
        }
    }
}
