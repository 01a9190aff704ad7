//! Rules that could cut off a service of the host or its operator, pending confirmation.
//!
//! The end of such a rule in the kernel is the moment by which it must be confirmed. So it ends then,
//! whatever has happened to the agent. The engine only has to restore the replaced rule.

use super::RuleBook;
use crate::engine::outbox::Outbox;
use crate::incident::{Event, NamedRule, Target};
use crate::input::{Force, Rule, RuleConfirmation, RuleToImport, Timestamp};
use crate::rules::Terms;
use crate::settings::Limits;

/// Rules removed together that are reported one by one; more are reported in one line.
pub const ALERTED_SINGLY: usize = 8;

impl RuleBook {
    /// Terms of a rule that replaces `before`, the operator's rule over the same prefix. `cuts_off`: it drops
    /// clients.
    pub fn terms(
        &self,
        now: Timestamp,
        rule: &RuleToImport,
        force: Force,
        before: Option<&Rule>,
        cuts_off: bool,
    ) -> Terms {
        let net = rule.net.trunc();
        let lifetime = rule.lifetime.unwrap_or(Limits::MANUAL_RULE);
        let mut until = now + lifetime.min(Limits::MAX_MANUAL_RULE);
        let mut forced = force != Force::No && self.exempt.is_protected(&net);
        // Without a word about its end a rule that is there already never ends sooner.
        if let (None, Some(before)) = (rule.lifetime, before.filter(|before| rule.is(before))) {
            if before.confirmation.is_some() {
                let Rule { forced, expires, confirmation, .. } = before.clone();
                return Terms { forced, expires, confirmation };
            }
            until = until.max(before.expires);
            forced |= before.forced;
        }
        let for_good = Terms { forced, expires: until, confirmation: None };
        let Force::PendingConfirmation { within, caller } = force else { return for_good };
        let risky = cuts_off
            || self.check_harmless(net).is_err()
            || caller.is_some_and(|caller| net.contains(&caller));
        let expires = now + within;
        if !risky || expires >= until {
            return for_good;
        }
        // A second trial does not make the first one last.
        let instead_of = before.and_then(|before| match &before.confirmation {
            Some(confirmation) => confirmation.instead_of.clone(),
            None => Some(Box::new(before.clone())),
        });
        Terms { forced, expires, confirmation: Some(RuleConfirmation { until, instead_of }) }
    }

    pub fn reverted(&mut self, now: Timestamp, rule: Rule, outbox: &mut Outbox) {
        let named = NamedRule { id: rule.id, target: Target::of(&rule.matcher) };
        let back = rule.confirmation.and_then(|confirmation| confirmation.to_restore(now));
        let restored = back.map(|before| self.put_back(now, before, outbox));
        let event = Event::RuleReverted { rule: named, restored };
        outbox.alert(event, None);
    }
}
