//! JWTs of NATS: claims as JSON, signed with Ed25519 by a key of NATS (header `ed25519-nkey`).

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tcpguard_host::hint::Failure;

use crate::cli::key::seed;

/// Header of every JWT.
const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// A new key.
pub(super) fn make_key(kind: KeyPairType) -> Result<KeyPair, Failure> {
    key_of(kind, seed()?)
}

/// The key of these bytes.
pub(super) fn key_of(kind: KeyPairType, bytes: [u8; 32]) -> Result<KeyPair, Failure> {
    KeyPair::new_from_raw(kind, bytes).map_err(|error| failure(&error))
}

/// The key of a seed.
pub(super) fn read_key(seed: &str) -> Result<KeyPair, Failure> {
    KeyPair::from_seed(seed).map_err(|error| failure(&error))
}

/// The seed of a key.
pub(super) fn seed_of(key: &KeyPair) -> Result<String, Failure> {
    key.seed().map_err(|error| failure(&error))
}

/// A subject of a JWT.
pub(super) struct Claims<'a> {
    /// Public key of the subject.
    pub subject: &'a str,
    /// Name of the subject.
    pub name: &'a str,
    /// Time of issue.
    pub at: jiff::Timestamp,
    /// Time of its end.
    pub ends: Option<jiff::Timestamp>,
    /// The claims of NATS.
    pub nats: Value,
}

/// Signs a JWT.
pub(super) fn sign(issuer: &KeyPair, claims: Claims<'_>) -> Result<String, Failure> {
    let Claims { subject, name, at, ends, nats } = claims;
    let mut claims = json!({
        "iat": at.as_second(),
        "iss": issuer.public_key(),
        "sub": subject,
        "name": name,
        "nats": nats,
    });
    if let Some(ends) = ends {
        claims["exp"] = ends.as_second().into();
    }
    let digest: [u8; 32] = Sha256::digest(claims.to_string().as_bytes()).into();
    claims["jti"] = BASE32_NOPAD.encode(&digest).into();
    let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let content = format!("{}.{}", encode(HEADER), encode(&claims.to_string()));
    let signature = issuer.sign(content.as_bytes()).map_err(|error| failure(&error))?;
    Ok(format!("{content}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// Credentials as the clients of NATS read them.
pub(super) fn credentials(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

fn failure(error: &nkeys::error::Error) -> Failure {
    Failure::new(
        format!("a key of the bus cannot be used: {error}"),
        "use another --authority file",
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The claims of a JWT, whose signature is checked.
    pub fn claims(jwt: &str) -> Value {
        let (content, signature) = jwt.rsplit_once('.').expect("a signature");
        let (header, claims) = content.split_once('.').expect("two parts");
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).expect("base 64");
        assert_eq!(decode(header), HEADER.as_bytes());
        let claims: Value = serde_json::from_slice(&decode(claims)).expect("JSON");
        let issuer = KeyPair::from_public_key(claims["iss"].as_str().expect("an issuer"));
        let verified = issuer.expect("a key").verify(content.as_bytes(), &decode(signature));
        assert!(verified.is_ok(), "{jwt}");
        claims
    }

    #[test]
    fn a_jwt_is_signed_by_its_issuer() {
        let issuer = make_key(KeyPairType::Account).expect("a key");
        let again = read_key(&seed_of(&issuer).expect("a seed")).expect("a key");
        assert_eq!(again.public_key(), issuer.public_key());
        let at = "2026-11-20T14:05:31Z".parse().expect("a time");
        let nats = json!({ "type": "user", "version": 2 });
        let of = |ends| Claims { subject: "UABC", name: "a1b2c3d4", at, ends, nats: nats.clone() };
        let without_end = claims(&sign(&issuer, of(None)).expect("signed"));
        assert_eq!(without_end["name"], "a1b2c3d4");
        assert_eq!(without_end["nats"], nats);
        assert!(without_end.get("exp").is_none());
        let ends = claims(&sign(&issuer, of(Some(at))).expect("signed"));
        assert_eq!(ends["exp"], ends["iat"]);
        assert_ne!(ends["jti"], without_end["jti"]);
    }
}
