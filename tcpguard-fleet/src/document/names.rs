//! Names of hosts, roles and sites. Each is one token of a subject: it has no dot and no wildcard.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::string_form::string_form;

/// Name of a host on the bus: 8 to 64 lower-case hexadecimal digits, those of its machine id or of its key.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostId(Arc<str>);

string_form!(HostId, "^[0-9a-f]{8,64}$");

/// Name of a role or of a site: 1 to 32 of lower-case letters, digits and `-`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Label(Arc<str>);

string_form!(Label, "^[a-z0-9-]{1,32}$");

/// Reason that a text is not such a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// The text is not a [`HostId`].
    #[error("not a host id: 8 to 64 lower-case hexadecimal digits")]
    Host,
    /// The text is not a [`Label`].
    #[error("not a name: 1 to 32 of lower-case letters, digits and -")]
    Label,
}

impl HostId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Label {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match (8..=64).contains(&text.len()) && text.bytes().all(is_digit) {
            true => Ok(Self(text.into())),
            false => Err(NameError::Host),
        }
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        match (1..=32).contains(&text.len()) && text.bytes().all(is_letter) {
            true => Ok(Self(text.into())),
            false => Err(NameError::Label),
        }
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_hexadecimal_digits() {
        for text in ["a1b2c3d4", &"0f".repeat(32)] {
            assert_eq!(text.parse::<HostId>().map(|host| host.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "a1b2c3", "A1B2C3D4", "web1.fra", "a1b2c3d4*", &"0f".repeat(33)] {
            assert_eq!(text.parse::<HostId>(), Err(NameError::Host), "{text}");
        }
    }

    #[test]
    fn a_role_or_a_site_is_a_short_word() {
        for text in ["ops", "fra-1", &"a".repeat(32)] {
            assert_eq!(text.parse::<Label>().map(|label| label.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "Ops", "a.b", ">", "a b", &"a".repeat(33)] {
            assert_eq!(text.parse::<Label>(), Err(NameError::Label), "{text}");
        }
    }
}
