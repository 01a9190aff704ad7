//! Trust between hosts: the documents and rules of others that a host accepts, and the reasons for which it refuses
//! the rest.
//!
//! The bus vouches for the sender of a document, and for nothing else. Rules come from operators, who sign them: the
//! bus can lose them, but can neither make nor end one. All that a peer or the bus itself can send is bounded in size,
//! number, rate and time.

mod admission;
mod bounds;
mod key;
mod operator_rules;
mod peer;
mod reason;
mod role;
#[cfg(test)]
mod tests;

pub use admission::{Admission, Identity};
pub use bounds::{Bounds, MAX_RULE_TIME, MAX_RULES, MAX_SKEW};
pub use key::{KeyError, OperatorKey, PublicKey};
pub use operator_rules::{ActiveRule, Change, OperatorRules, RuleName, SavedRules, SavedSerial};
pub use peer::Peer;
pub use reason::{Reason, Refusals};
pub use role::{Role, Roles};
