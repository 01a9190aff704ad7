//! Subjects of the bus: under which each document is published, and for which hosts listen.

use std::fmt;
use std::str::FromStr;

use super::Document;
use super::kind::Kind;
use super::names::HostId;
use super::rule::RuleKey;

/// First tokens of every subject: the name of tcpguard, and the major version of the subjects.
const ROOT: &str = "tg.1";

/// Subject of a document.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// `tg.1.sig.PORT.HOST`: a signature at a port.
    Signature {
        /// Port to which the SYNs go.
        port: u16,
        /// The sender.
        host: HostId,
    },
    /// `tg.1.inc.HOST`: an incident.
    Incident(HostId),
    /// `tg.1.host.HOST`: a host.
    Host(HostId),
    /// `tg.1.rule.ROLE.ID`: a rule. The bus publishes there the document that it has stored under `ROLE.ID`.
    Rule(RuleKey),
    /// `tg.1.relief.HOST`: relief that a host asks for.
    Relief(HostId),
    /// `tg.1.announced.HOST`: routes that a controller announces.
    Announced(HostId),
}

/// Reason that a text is not a [`Subject`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a subject of tcpguard")]
pub struct SubjectError;

/// Difference between a subject and the document that was published under it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// The document is of another kind.
    #[error("its subject is for documents of another kind")]
    Kind,
    /// The document is another host's, or a rule of another role or for another target.
    #[error("its subject has another sender")]
    Sender,
    /// The document is about another port.
    #[error("its subject is for another port")]
    Port,
}

impl Subject {
    /// Subjects of all signatures.
    pub const ALL_SIGNATURES: &str = "tg.1.sig.>";
    /// Subjects of all incidents.
    pub const ALL_INCIDENTS: &str = "tg.1.inc.*";
    /// Subjects of all hosts.
    pub const ALL_HOSTS: &str = "tg.1.host.*";
    /// Subjects of all operators' rules.
    pub const ALL_RULES: &str = "tg.1.rule.>";
    /// Subjects of all requests for relief.
    pub const ALL_RELIEF: &str = "tg.1.relief.*";
    /// Subjects of all announced routes.
    pub const ALL_ANNOUNCED: &str = "tg.1.announced.*";

    /// Subjects of all signatures at a port.
    pub fn signatures_at(port: u16) -> String {
        format!("{ROOT}.{}.{port}.*", Kind::Signature.token())
    }

    /// Kind of the documents under it.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Signature { .. } => Kind::Signature,
            Self::Incident(_) => Kind::Incident,
            Self::Host(_) => Kind::Host,
            Self::Rule(_) => Kind::Rule,
            Self::Relief(_) => Kind::Relief,
            Self::Announced(_) => Kind::Announced,
        }
    }

    /// The host that alone may publish under it; `None` for rules, which the bus publishes.
    pub const fn host(&self) -> Option<&HostId> {
        match self {
            Self::Signature { host, .. }
            | Self::Incident(host)
            | Self::Host(host)
            | Self::Relief(host)
            | Self::Announced(host) => Some(host),
            Self::Rule(_) => None,
        }
    }

    /// The subject of a document. `None` for a rule, whose key is in its signed body.
    pub fn of(document: &Document) -> Option<Self> {
        let host = document.envelope()?.host.clone();
        Some(match document {
            Document::Signature(signature) => {
                Self::Signature { port: signature.evidence.port, host }
            }
            Document::Incident(_) => Self::Incident(host),
            Document::Host(_) => Self::Host(host),
            Document::Rule(_) => return None,
            Document::Relief(_) => Self::Relief(host),
            Document::Announced(_) => Self::Announced(host),
        })
    }

    /// Compares a document with the subject under which it was published. The target of a rule is compared when its
    /// signature is.
    ///
    /// # Errors
    /// Names the difference.
    pub fn check(&self, document: &Document) -> Result<(), Mismatch> {
        if document.kind() != self.kind() {
            return Err(Mismatch::Kind);
        }
        let is_sender = match (self, document) {
            (Self::Rule(key), Document::Rule(rule)) => key.role == rule.role,
            _ => document.envelope().map(|envelope| &envelope.host) == self.host(),
        };
        if !is_sender {
            return Err(Mismatch::Sender);
        }
        match (self, document) {
            (Self::Signature { port, .. }, Document::Signature(signature))
                if *port != signature.evidence.port =>
            {
                Err(Mismatch::Port)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{ROOT}.{}.", self.kind().token())?;
        match self {
            Self::Signature { port, host } => write!(out, "{port}.{host}"),
            Self::Rule(key) => write!(out, "{key}"),
            Self::Incident(host)
            | Self::Host(host)
            | Self::Relief(host)
            | Self::Announced(host) => write!(out, "{host}"),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let rest = text.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('.'));
        let (kind, name) = rest.and_then(|rest| rest.split_once('.')).ok_or(SubjectError)?;
        let kind = Kind::from_token(kind).ok_or(SubjectError)?;
        let host = |name: &str| name.parse::<HostId>().map_err(|_| SubjectError);
        Ok(match kind {
            Kind::Signature => {
                let (number, name) = name.split_once('.').ok_or(SubjectError)?;
                let port: u16 = number.parse().map_err(|_| SubjectError)?;
                // One text for each port: neither `+443` nor `0443`.
                if port == 0 || port.to_string() != number {
                    return Err(SubjectError);
                }
                Self::Signature { port, host: host(name)? }
            }
            Kind::Incident => Self::Incident(host(name)?),
            Kind::Host => Self::Host(host(name)?),
            Kind::Rule => Self::Rule(name.parse().map_err(|_| SubjectError)?),
            Kind::Relief => Self::Relief(host(name)?),
            Kind::Announced => Self::Announced(host(name)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_one_text() {
        for text in [
            "tg.1.sig.443.a1b2c3d4",
            "tg.1.inc.a1b2c3d4",
            "tg.1.host.a1b2c3d4",
            "tg.1.rule.ops.0123456789abcdef",
            "tg.1.relief.a1b2c3d4",
            "tg.1.announced.a1b2c3d4",
        ] {
            let subject: Subject = text.parse().expect(text);
            assert_eq!(subject.to_string(), text);
            assert_eq!(subject.host().is_none(), subject.kind() == Kind::Rule);
        }
        for text in [
            "",
            "tg.1",
            "tg.2.inc.a1b2c3d4",
            "tg.1.inc",
            "tg.1.inc.*",
            "tg.1.inc.a1b2c3d4.x",
            "tg.1.sig.a1b2c3d4",
            "tg.1.sig.0.a1b2c3d4",
            "tg.1.sig.0443.a1b2c3d4",
            "tg.1.sig.65536.a1b2c3d4",
            "tg.1.rule.ops",
            "tg.1.other.a1b2c3d4",
        ] {
            assert_eq!(text.parse::<Subject>(), Err(SubjectError), "{text}");
        }
    }

    #[test]
    fn patterns_are_those_of_the_kinds() {
        let patterns = [
            (Kind::Signature, Subject::ALL_SIGNATURES),
            (Kind::Incident, Subject::ALL_INCIDENTS),
            (Kind::Host, Subject::ALL_HOSTS),
            (Kind::Rule, Subject::ALL_RULES),
            (Kind::Relief, Subject::ALL_RELIEF),
            (Kind::Announced, Subject::ALL_ANNOUNCED),
        ];
        for (kind, pattern) in patterns {
            let start = format!("{ROOT}.{}.", kind.token());
            assert!(matches!(pattern.strip_prefix(&start), Some("*" | ">")), "{pattern}");
        }
        assert_eq!(Subject::signatures_at(443), "tg.1.sig.443.*");
    }
}
