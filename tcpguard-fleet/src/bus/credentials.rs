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

/// The claims of a JWT that are read here.
#[derive(Deserialize)]
struct Claims {
    /// Seconds since 1970 (RFC 7519, section 4.1.4).
    exp: Option<i64>,
}

/// End of the JWT in a file of credentials; `None` if it has none. The server examines the signature.
pub(crate) fn end(file: &str) -> Option<jiff::Timestamp> {
    // The seed has no dots.
    let jwt = file.lines().find(|line| line.matches('.').count() == 2)?;
    let claims = BASE64URL_NOPAD.decode(jwt.trim().split('.').nth(1)?.as_bytes()).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    // `nsc` writes 0 for no end.
    let end = claims.exp.filter(|end| *end != 0)?;
    jiff::Timestamp::from_second(end).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(claims: &str) -> String {
        let claims = BASE64URL_NOPAD.encode(claims.as_bytes());
        format!(
            "-----BEGIN NATS USER JWT-----\nhead.{claims}.signature\n------END NATS USER JWT------\n"
        )
    }

    #[test]
    fn the_end_is_that_of_the_jwt() {
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
        assert_eq!(end(&file(&format!(r#"{{"exp":{}}}"#, i64::MAX))), None, "beyond all times");
    }
}
