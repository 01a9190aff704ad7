//! Whether the host's packet filter lets the clients in that the guard answers with SYN cookies, and
//! which of its rules such an answer would bypass: rule sets as they were read, judged by functions.
//!
//! A SYN that is answered at XDP never comes to netfilter. The first that it sees of the connection is
//! the client's ACK: a rule whose result depends on having seen the SYN judges it wrongly.

mod judge;
mod packet;
mod words;

pub use judge::{Kind, Offence, Question, Way, offences};
pub use words::mark_rules;

use crate::host::netfilter::RuleSet;

/// What can be done about rules that SYN cookies do not suit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FirewallChoice {
    /// No cookies at listeners which they concern.
    #[default]
    Refuse,
    /// Cookies all the same: the operator knows.
    Allow,
}

/// What of the rule sets cannot be judged, in words; `None`: nothing.
pub fn unread(rules: &RuleSet) -> Option<String> {
    let mut what = Vec::new();
    if !rules.complete {
        what.push("the rule set is too large to be read as a whole".to_owned());
    }
    if !rules.legacy.is_empty() {
        let tables = rules.legacy.join(", ");
        what.push(format!("tables of iptables-legacy cannot be read ({tables})"));
    }
    (!what.is_empty()).then(|| what.join("; "))
}

#[cfg(test)]
pub(crate) mod tests;
