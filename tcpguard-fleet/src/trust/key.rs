//! Keys of operators, and the signatures of their rules (Ed25519, RFC 8032).

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::reason::Reason;
use crate::document::{DocumentError, Kind, Label, RuleBody, SignedRule};

/// The public key of an operator, as configurations hold it: 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublicKey(VerifyingKey);

/// The secret key of an operator. It is never on a host that rules are for.
pub struct OperatorKey(SigningKey);

/// Reason that a text is not a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// The text is not 64 hexadecimal digits.
    #[error("not a key: 64 lower-case hexadecimal digits")]
    Form,
    /// The number is no point of the curve, or a weak one: signatures under it need no secret key.
    #[error("not a public key of Ed25519")]
    Point,
}

impl PublicKey {
    /// Checks the signature of a rule by this key.
    pub(super) fn verify(&self, rule: &SignedRule) -> Result<(), Reason> {
        let signature = read(&rule.sig).ok_or(Reason::BadSignature)?;
        let message = message(&rule.role, &rule.body);
        let verified = self.0.verify_strict(&message, &Signature::from_bytes(&signature));
        verified.map_err(|_| Reason::BadSignature)
    }
}

impl OperatorKey {
    /// The key of 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The key in a key file: 64 hexadecimal digits, and white space around them.
    ///
    /// # Errors
    /// When it is another text.
    pub fn parse(file: &str) -> Result<Self, KeyError> {
        read(file.trim()).map(|seed| Self::from_seed(&seed)).ok_or(KeyError::Form)
    }

    /// The content of its key file.
    pub fn to_file(&self) -> String {
        HEXLOWER.encode(self.0.as_bytes()) + "\n"
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a rule of a role.
    ///
    /// # Errors
    /// When a field of the rule has a value that makes no sense.
    pub fn sign(&self, role: Label, rule: &RuleBody) -> Result<SignedRule, DocumentError> {
        let body = rule.to_json()?;
        let signature = self.0.sign(&message(&role, &body));
        let (key, sig) = (self.public().to_string(), HEXLOWER.encode(&signature.to_bytes()));
        Ok(SignedRule { role, key, body, sig })
    }
}

/// The bytes that are signed. A signature is valid for no other document and for no other role.
fn message(role: &Label, body: &str) -> Vec<u8> {
    format!("{}\n{role}\n{body}", Kind::Rule.schema()).into_bytes()
}

/// Reads as many bytes, of two lower-case hexadecimal digits each.
fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = read(text).ok_or(KeyError::Form)?;
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(key)),
            _ => Err(KeyError::Point),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&HEXLOWER.encode(self.0.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::Ports;

    use super::*;
    use crate::document::tests::time;
    use crate::document::{HostSelector, RuleKind};

    /// RFC 8032, section 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn rule() -> RuleBody {
        RuleBody {
            kind: RuleKind::Block,
            prefix: "203.0.113.0/24".parse().expect("a prefix"),
            ports: Ports::EVERY,
            hosts: HostSelector::default(),
            not_after: time("2026-11-20T15:00:00Z"),
            reason: "abuse".to_owned(),
            who: "ada".to_owned(),
            serial: 42,
        }
    }

    #[test]
    fn a_key_file_holds_the_seed() {
        let key = OperatorKey::parse(&format!("{SEED}\n")).expect("a key");
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(key.to_file(), format!("{SEED}\n"));
        assert_eq!(PUBLIC.parse(), Ok(key.public()));
        assert!(OperatorKey::parse("secret").is_err());
    }

    #[test]
    fn points_under_which_anything_is_signed_are_no_keys() {
        // The neutral element, and a point that is not on the curve.
        let (neutral, off) =
            ("01".to_owned() + &"00".repeat(31), "02".to_owned() + &"00".repeat(31));
        for text in [neutral, off] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Point), "{text}");
        }
        assert_eq!("d75a".parse::<PublicKey>(), Err(KeyError::Form));
    }

    #[test]
    fn a_signature_is_valid_for_one_rule_of_one_role_only() {
        let key = OperatorKey::parse(SEED).expect("a key");
        let signed = key.sign("ops".parse().expect("a role"), &rule()).expect("signed");
        let public = key.public();
        assert_eq!(public.verify(&signed), Ok(()));
        let other = "noc".parse().expect("a role");
        let changed = [
            SignedRule { body: signed.body.replace("/24", "/16"), ..signed.clone() },
            SignedRule { role: other, ..signed.clone() },
            SignedRule { sig: "00".repeat(64), ..signed.clone() },
            SignedRule { sig: String::new(), ..signed.clone() },
        ];
        for rule in changed {
            assert_eq!(public.verify(&rule), Err(Reason::BadSignature), "{rule:?}");
        }
        let unknown = OperatorKey::from_seed(&[7; 32]).public();
        assert_eq!(unknown.verify(&signed), Err(Reason::BadSignature));
    }
}
