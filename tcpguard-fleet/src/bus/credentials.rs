//! Proof of a host's name on the bus, and its end.

use std::path::PathBuf;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

/// Proof of a host's name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Credentials {
    /// None: for tests, and for a bus that only this host reaches.
    #[default]
    None,
    /// A file with a user's JWT and seed, as `nsc` and `tcpguard-fleet enroll` write it.
    File(PathBuf),
    /// A certificate and its key, in PEM.
    Certificate {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// The claims of a user's JWT that are read here. The server examines its signature.
#[derive(Debug, Deserialize)]
pub struct Claims {
    /// Name of the host, by which the server permits subjects.
    pub name: Option<String>,
    /// End in seconds since 1970 (RFC 7519, section 4.1.4). `nsc` writes 0 for none.
    exp: Option<i64>,
}

impl Claims {
    /// The claims in a file of credentials; `None` if there is no JWT.
    pub fn read(file: &str) -> Option<Self> {
        // The seed has no dots.
        let jwt = file.lines().find(|line| line.matches('.').count() == 2)?;
        let claims = BASE64URL_NOPAD.decode(jwt.trim().split('.').nth(1)?.as_bytes()).ok()?;
        serde_json::from_slice(&claims).ok()
    }

    /// The end of the credentials; `None` if they have none.
    pub fn end(&self) -> Option<jiff::Timestamp> {
        let end = self.exp.filter(|end| *end != 0)?;
        jiff::Timestamp::from_second(end).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(file: &str) -> Option<jiff::Timestamp> {
        Claims::read(file)?.end()
    }

    fn file(claims: &str) -> String {
        let claims = BASE64URL_NOPAD.encode(claims.as_bytes());
        format!(
            "-----BEGIN NATS USER JWT-----\nhead.{claims}.signature\n------END NATS USER JWT------\n"
        )
    }

    #[test]
    fn name_and_end_are_those_of_the_jwt() {
        let end_of = |claims| end(&file(claims)).map(|end| end.to_string());
        assert_eq!(
            end_of(r#"{"sub":"U","exp":1764374400}"#).as_deref(),
            Some("2025-11-29T00:00:00Z")
        );
        for without in [r#"{"sub":"U"}"#, r#"{"exp":0}"#, r#"{"exp":"soon"}"#, "{"] {
            assert_eq!(end_of(without), None, "{without}");
        }
        for other in ["", "SUAM", "a.b.c", "head.\u{e9}.signature", "..", "a.e30.b.c"] {
            assert_eq!(end(other), None, "{other}");
        }
        let named = Claims::read(&file(r#"{"name":"a1b2c3d4"}"#)).and_then(|claims| claims.name);
        assert_eq!(named.as_deref(), Some("a1b2c3d4"));
        assert_eq!(end(&file(&format!(r#"{{"exp":{}}}"#, i64::MAX))), None, "beyond all times");
    }
}
