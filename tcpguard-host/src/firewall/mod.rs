//! Effect of the host's packet filter on clients that get SYN cookies, and its rules that such a SYN-ACK
//! would bypass: rule sets as they were read, judged by functions.
//!
//! A SYN that is answered at XDP never reaches netfilter. The first packet of the connection that
//! netfilter sees is the client's ACK. A rule with a result that depends on having seen the SYN
//! misjudges that ACK.

mod judge;
mod nat;
mod packet;
#[cfg(any(test, feature = "recorded"))]
#[path = "recorded_tests.rs"]
pub mod recorded;
mod words;

use serde::{Deserialize, Serialize};

use crate::linux::netfilter::RuleSet;
pub use judge::{Judgement, Kind, Offence, Question, Way, judge};
pub use nat::{Nat, nat, nat_of, redirection};
pub use words::mark_rules;

/// Treatment of rules that do not suit SYN cookies.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FirewallChoice {
    /// No cookies at listeners which they concern.
    #[default]
    Refuse,
    /// Cookies all the same: the operator knows.
    Allow,
}

/// The parts of the rule sets that cannot be judged, in words; `None` where there are none.
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
mod tests;
