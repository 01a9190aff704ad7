//! Rules and exemptions, as they are reported.

use ipnet::IpNet;

use crate::input::{
    FleetName, Listener, ListenerId, Matcher, Origin, Ports, Rule, RuleId, RuleReason, Timestamp,
    describe, signature_in_words,
};

/// One rule.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct RuleReport {
    /// Its id.
    pub id: RuleId,
    /// `source` or `signature`.
    pub kind: String,
    /// Its matcher, in words: a prefix, or a signature and its listener.
    pub matches: String,
    /// Local ports to which it drops SYNs; a signature's listener has its own.
    pub ports: Ports,
    /// `incident`, `operator`, or the name of a rule of the fleet, such as `fleet:ops/42`.
    pub origin: String,
    /// The incident it was made for.
    pub incident: Option<u64>,
    /// Reason for which it was made.
    pub reason: RuleReason,
    /// Time at which it was made.
    pub created: Timestamp,
    /// Time at which it ends, unless renewed.
    pub expires: Timestamp,
    /// Time at which it ends unless an operator confirms it before that. `None`: it needs no confirmation.
    pub confirmed_until: Option<Timestamp>,
    /// SYNs dropped (in observe mode: would have been).
    pub hits: u64,
    /// SYNs that matched and passed because they were retransmitted.
    pub accepted_retransmits: u64,
    /// Handshakes that new clients completed after that.
    #[serde(default)]
    pub completed: u64,
}

impl RuleReport {
    /// Returns the report of a rule without hits. `listener` names the listener of a signature.
    pub fn of(rule: &Rule, listener: impl Fn(ListenerId) -> Option<Listener>) -> Self {
        let (kind, matches, ports) = match &rule.matcher {
            Matcher::Source(net, ports) => ("source", net.to_string(), *ports),
            Matcher::Signature { listener: id, mask, fingerprint } => {
                let at = match *id {
                    ListenerId::HOST => Some(Listener::HOST),
                    id => listener(id),
                };
                let matches = at.map_or_else(
                    || format!("{} to listener {}", describe(*mask, fingerprint), id.0),
                    |at| signature_in_words(*mask, fingerprint, &at),
                );
                ("signature", matches, Ports::EVERY)
            }
        };
        let (origin, incident) = match &rule.origin {
            Origin::Incident(id) => ("incident".to_owned(), Some(*id)),
            Origin::Operator { .. } => ("operator".to_owned(), None),
            Origin::Fleet(name) => (name.to_string(), None),
        };
        Self {
            id: rule.id,
            kind: kind.to_owned(),
            matches,
            ports,
            origin,
            incident,
            reason: rule.reason.clone(),
            created: rule.created,
            expires: rule.expires,
            confirmed_until: rule.confirmation.as_ref().map(|confirmation| confirmation.until),
            hits: 0,
            accepted_retransmits: 0,
            completed: 0,
        }
    }
}

/// A prefix of the allowlist.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct AllowReport {
    /// Sources that are exempt from drops by source or signature.
    pub net: IpNet,
    /// Reason for the exemption.
    pub reason: String,
    /// User id of the operator; 0 where an operator of the fleet exempted them.
    pub uid: u32,
    /// The rule of the fleet that exempts them; `None`: an operator of this host did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetName>,
    /// Time since which they are exempt.
    pub created: Timestamp,
    /// Time until which they are exempt.
    pub expires: Timestamp,
}
