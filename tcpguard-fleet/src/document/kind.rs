//! Kinds of documents.

use std::time::Duration;

/// Kind of a document.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A signature of a flood, as one host sees it.
    Signature,
    /// An incident of one host.
    Incident,
    /// A host: its versions, mode and state.
    Host,
    /// An operator's rule.
    Rule,
    /// Relief that a host asks of the routers.
    Relief,
    /// Routes that a controller announces for a host.
    Announced,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Signature, Self::Incident, Self::Host, Self::Rule, Self::Relief, Self::Announced];

    /// Name and major version of the documents.
    pub const fn schema(self) -> &'static str {
        match self {
            Self::Signature => "tcpguard.fleet.signature/1",
            Self::Incident => "tcpguard.fleet.incident/1",
            Self::Host => "tcpguard.fleet.host/1",
            Self::Rule => "tcpguard.fleet.rule/1",
            Self::Relief => "tcpguard.fleet.relief/1",
            Self::Announced => "tcpguard.fleet.announced/1",
        }
    }

    /// Token of their subjects.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Signature => "sig",
            Self::Incident => "inc",
            Self::Host => "host",
            Self::Rule => "rule",
            Self::Relief => "relief",
            Self::Announced => "announced",
        }
    }

    /// The kind with this token.
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.token() == token)
    }

    /// Longest time for which a receiver keeps the content without hearing it again: three times the interval at
    /// which it is repeated, so that two lost messages in a row change nothing. A rule has an end of its own.
    pub const fn max_ttl(self) -> Duration {
        Duration::from_secs(match self {
            Self::Signature | Self::Incident => 60,
            Self::Host => 90,
            Self::Relief | Self::Announced => 30,
            Self::Rule => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_token_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_token(kind.token()), Some(kind));
        }
        assert_eq!(Kind::from_token(""), None);
    }
}
