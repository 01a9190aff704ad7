//! Rules and exemptions, as they are reported.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::Display;

use crate::input::{
    FleetName, Listener, ListenerId, Matcher, Mitigation, Origin, Ports, Rule, RuleId, RuleReason,
    Timestamp, describe, map_time, signature_in_words,
};

/// Origin of a rule, as it is reported.
#[derive(Clone, Debug, Deserialize, Display, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RuleOrigin {
    /// Made for an incident.
    Incident,
    /// Made by an operator of this host.
    Operator,
    /// Made by an operator of the fleet: the name of the rule.
    #[serde(untagged)]
    #[strum(to_string = "{0}")]
    Fleet(String),
}

/// One rule: the SYNs that it drops, its reason, lifetime and counters.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RuleReport<At = Timestamp> {
    /// Number of the rule.
    pub id: RuleId,
    /// Kind of the rule: `source` or `signature`.
    pub kind: Mitigation,
    /// Matcher in words: a prefix, or a signature and its listener.
    pub matches: String,
    /// Local ports to which the rule drops SYNs, ascending; empty: every port, or the port of a
    /// signature's listener.
    #[schemars(with = "Vec<u16>")]
    pub ports: Ports,
    /// Origin of the rule: `incident`, `operator`, or the name of a rule of the fleet such as `fleet:ops/42`.
    #[schemars(with = "String")]
    pub origin: RuleOrigin,
    /// Number of the incident for which the rule was made; `null` for a rule of an operator.
    pub incident: Option<u64>,
    /// Reason for which the rule was made.
    pub reason: RuleReason,
    /// Time at which the rule was made.
    pub created_at: At,
    /// Time at which the rule expires, unless it is renewed; while it is pending confirmation, time by
    /// which it must be confirmed.
    pub expires_at: At,
    /// Time until `expires_at`, in s.
    pub expires_in_s: u64,
    /// Time at which the rule expires if an operator confirms it before `expires_at`; `null` when no
    /// confirmation is pending.
    pub confirmed_until: Option<At>,
    /// SYNs that the rule dropped; in mode `observe`, SYNs that it would have dropped.
    pub hits: u64,
    /// SYNs that the rule matched and that passed because they were retransmitted.
    pub accepted_retransmits: u64,
    /// Handshakes that new clients completed after such a retransmitted SYN had passed.
    pub completed: u64,
}

map_time!(
    RuleReport: created_at, expires_at, confirmed_until;
    id, kind, matches, ports, origin, incident, reason, expires_in_s, hits, accepted_retransmits,
    completed
);

impl<At> RuleReport<At> {
    /// Returns whether an operator of the fleet made it.
    pub fn is_of_fleet(&self) -> bool {
        matches!(self.origin, RuleOrigin::Fleet(_))
    }

    /// Returns the matcher with its ports: `192.0.2.0/24 to port 443`.
    pub fn subject(&self) -> String {
        format!("{}{}", self.matches, self.ports)
    }

    /// Returns the prefix of a source rule.
    pub fn prefix(&self) -> Option<IpNet> {
        (self.kind == Mitigation::Source).then(|| self.matches.parse().ok())?
    }
}

impl RuleReport {
    /// Returns the report of a rule without hits, as it is at `now`. `listener` names the listener of a signature.
    pub fn of(
        now: Timestamp,
        rule: &Rule,
        listener: impl Fn(ListenerId) -> Option<Listener>,
    ) -> Self {
        let (matches, ports) = match &rule.matcher {
            Matcher::Source(net, ports) => (net.to_string(), *ports),
            Matcher::Signature { listener: id, mask, fingerprint } => {
                let at = match *id {
                    ListenerId::HOST => Some(Listener::HOST),
                    id => listener(id),
                };
                let matches = at.map_or_else(
                    || format!("{} to listener {}", describe(*mask, fingerprint), id.0),
                    |at| signature_in_words(*mask, fingerprint, &at),
                );
                (matches, Ports::EVERY)
            }
        };
        let (origin, incident) = match &rule.origin {
            Origin::Incident(id) => (RuleOrigin::Incident, Some(*id)),
            Origin::Operator { .. } => (RuleOrigin::Operator, None),
            Origin::Fleet(name) => (RuleOrigin::Fleet(name.to_string()), None),
        };
        Self {
            id: rule.id,
            kind: rule.matcher.mitigation(),
            matches,
            ports,
            origin,
            incident,
            reason: rule.reason.clone(),
            created_at: rule.created,
            expires_at: rule.expires,
            expires_in_s: rule.expires.seconds_from(now),
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
