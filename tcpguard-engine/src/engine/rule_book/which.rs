//! The rules that a request names, and those that may be made.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::RuleBook;
use crate::input::{FleetAction, FleetRule, Matcher, RuleToImport, Timestamp, Which, Whose};
use crate::output::{FleetRefusal, RequestError};
use crate::rules::Entry;
use crate::settings::Limits;

impl RuleBook {
    pub fn check_harmless(&self, net: IpNet) -> Result<(), RequestError> {
        check_width(net)?;
        match self.exempt.touched_by_own(&net) {
            Some((covers, what)) => Err(RequestError::Protected { net, covers, what }),
            None => Ok(()),
        }
    }

    /// The rules that are refused, by their position.
    pub fn refused(&self, rules: &[RuleToImport], force: bool) -> Vec<(usize, RequestError)> {
        let mut places: BTreeMap<IpNet, usize> = BTreeMap::new();
        let mut refused = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let net = rule.net.trunc();
            let first = *places.entry(net).or_insert(place);
            let harm = if force { None } else { self.check_harmless(net).err() };
            let twice = (first != place).then_some(RequestError::Twice { net, first });
            refused.extend(twice.or(harm).map(|why| (place, why)));
        }
        refused
    }

    /// Returns the sources of a rule, unless it is refused whatever clients and other rules of the fleet there are.
    pub fn check_fleet_rule(
        &self,
        now: Timestamp,
        rule: &FleetRule,
    ) -> Result<IpNet, FleetRefusal> {
        if !rule.is_valid() {
            return Err(FleetRefusal::Malformed);
        }
        if self.fleet.is_overruled(now, &rule.name) {
            return Err(FleetRefusal::Overruled);
        }
        let net = rule.net.trunc();
        check_width(net).map_err(FleetRefusal::Harmful)?;
        if rule.action == FleetAction::Allow {
            return Ok(net);
        }
        if self.table.operators_over(&net).is_some() {
            return Err(FleetRefusal::Overruled);
        }
        match self.exempt.touched_by(&net) {
            Some((covers, what)) => {
                Err(FleetRefusal::Harmful(RequestError::Protected { net, covers, what }))
            }
            None => Ok(net),
        }
    }

    /// Returns whether a rule depends on the clients within its sources. Those of a rule that is repeated, or is
    /// refused anyway, need not be counted.
    pub fn asks_for_clients(&self, now: Timestamp, rule: &FleetRule) -> bool {
        let matcher = Matcher::Source(rule.net.trunc(), rule.ports);
        let known = self.table.find(&matcher).and_then(Entry::fleet);
        rule.action == FleetAction::Block
            && known != Some(&rule.name)
            && self.check_fleet_rule(now, rule).is_ok()
    }

    pub fn not_found(&self, which: Which, whose: Whose) -> RequestError {
        let mut asked = self.table.iter().filter(|entry| whose.includes(entry));
        let wider = asked.find_map(|entry| match (which, entry.rule.matcher) {
            (Which::Within(net), Matcher::Source(rule, _)) if rule.contains(&net) => {
                Some((entry.rule.id, rule))
            }
            _ => None,
        });
        let automatic = match whose {
            Whose::Operators => {
                let of_incidents = |entry: &&Entry| Whose::Incidents.includes(entry);
                self.table.iter().filter(of_incidents).filter(|e| which.includes(e)).count()
            }
            Whose::Incidents | Whose::Fleet | Whose::All => 0,
        };
        RequestError::NotFound { which, whose, wider, automatic: automatic as u32 }
    }
}

impl Which {
    pub(crate) fn includes(self, entry: &Entry) -> bool {
        match self {
            Self::Within(net) => lies_within(&net, entry),
            Self::Numbered(id) => entry.rule.id == id,
            Self::All => true,
        }
    }
}

impl Whose {
    pub(crate) fn includes(self, entry: &Entry) -> bool {
        match self {
            Self::Operators => entry.is_operators(),
            Self::Incidents => entry.incident().is_some(),
            Self::Fleet => entry.fleet().is_some(),
            Self::All => true,
        }
    }
}

/// Returns whether it is a rule on sources that all lie within `net`.
pub fn lies_within(net: &IpNet, entry: &Entry) -> bool {
    entry.rule.matcher.prefix().is_some_and(|source| net.contains(&source))
}

/// Refuses a prefix that is wider than rules may be without force.
pub fn check_width(net: IpNet) -> Result<(), RequestError> {
    let shortest = match net {
        IpNet::V4(_) => Limits::MIN_PREFIX_V4,
        IpNet::V6(_) => Limits::MIN_PREFIX_V6,
    };
    if net.prefix_len() < shortest {
        return Err(RequestError::TooWide { net, shortest });
    }
    Ok(())
}
