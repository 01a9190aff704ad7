//! Names by content: equal contents have equal names on every host.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::string_form::string_form;

/// Name by content: the first 64 bits of a SHA-256 (FIPS 180-4), written as 16 lower-case hexadecimal digits.
///
/// Among 4,096 contents two have the same name by chance once in 2^41 fleets. A name decides nothing by itself: the
/// content stands beside it and is compared with it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id(u64);

string_form!(Id, "^[0-9a-f]{16}$");

/// Reason that a text is not an [`Id`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an id: 16 lower-case hexadecimal digits")]
pub struct IdError;

impl Id {
    /// The first name in order.
    pub(crate) const MIN: Self = Self(0);
    /// The last name in order.
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// The name of `content`, which is of this kind. Contents of different kinds have different names.
    pub fn of(kind: &str, content: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(kind.as_bytes());
        hash.update([0_u8]);
        hash.update(content);
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        word(text).map(Self).ok_or(IdError)
    }
}

/// A word of 16 lower-case hexadecimal digits: no other text stands for the same word.
fn word(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_word = text.len() == 16 && text.bytes().all(is_digit);
    is_word.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_start_of_the_hash_of_kind_and_content() {
        let digest = Sha256::digest(b"a\0b");
        let start: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Id::of("a", b"b").to_string(), start);
        assert_ne!(Id::of("a", b"b"), Id::of("", b"a\0b"), "another kind");
        assert_ne!(Id::of("a", b"b"), Id::of("a", b"c"));
    }

    #[test]
    fn one_text_stands_for_each_name() {
        let id = Id(0xab);
        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!("00000000000000ab".parse(), Ok(id));
        for text in ["", "ab", "00000000000000AB", "+0000000000000ab", "00000000000000abc", "é"] {
            assert_eq!(text.parse::<Id>(), Err(IdError), "{text}");
        }
    }
}
