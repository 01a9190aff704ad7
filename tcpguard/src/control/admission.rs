//! Limits on the connections of each user, so that no user can lock out another, and none the
//! administrator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tcpguard_host::hint::Failure;

pub(super) const TOTAL: usize = 32;
/// Connections at once of one user other than root.
pub(super) const PER_USER: usize = 8;
/// Of [`TOTAL`], kept free for root.
pub(super) const RESERVED_FOR_ROOT: usize = 1;

/// Counts connections by user.
#[derive(Clone, Default)]
pub(super) struct Admission {
    open: Arc<Mutex<HashMap<u32, usize>>>,
}

/// The right to hold one connection, given back when dropped.
pub(super) struct Permit {
    admission: Admission,
    uid: u32,
}

impl Admission {
    /// A permit for one more connection of `uid`.
    pub(super) fn admit(&self, uid: u32) -> Result<Permit, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = open.values().sum();
        let own = open.get(&uid).copied().unwrap_or(0);
        let room = if uid == 0 { TOTAL } else { TOTAL - RESERVED_FOR_ROOT };
        if total >= room {
            let message = format!("connection limit of the agent's sockets reached ({total})");
            return Err(Failure::new(message, "ss -xp"));
        }
        if uid != 0 && own >= PER_USER {
            let message = format!("connection limit of user {uid} reached ({own})");
            return Err(Failure::new(message, "ss -xp"));
        }
        *open.entry(uid).or_default() += 1;
        Ok(Permit { admission: self.clone(), uid })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    /// All connections of `uid` that are admitted.
    fn fill(admission: &Admission, uid: u32) -> Vec<Permit> {
        std::iter::from_fn(|| admission.admit(uid).ok()).collect()
    }

    #[test]
    fn one_user_gets_eight_and_the_next_still_gets_in() {
        let admission = Admission::default();
        assert_eq!(fill(&admission, 1000).len(), PER_USER, "already dropped with the vector");
        let held = fill(&admission, 1000);
        assert_eq!(held.len(), PER_USER);
        assert!(admission.admit(1001).is_ok());
    }

    #[test]
    fn a_refusal_names_the_limit_and_a_hint() {
        let admission = Admission::default();
        let held = fill(&admission, 1000);
        let of_user = admission.admit(1000).map(drop).expect_err("no more of this one");
        let others: Vec<_> = (1001..1010).flat_map(|uid| fill(&admission, uid)).collect();
        let of_all = admission.admit(2000).map(drop).expect_err("no more of any user");
        for (why, limit) in [(of_user, "user 1000 reached (8)"), (of_all, "sockets reached (31)")] {
            assert!(why.message.ends_with(limit), "{why}");
            assert!(hint_check::is_named(&why.hint), "{why:?}");
        }
        drop((held, others));
    }

    #[test]
    fn root_gets_in_when_every_user_slot_is_taken() {
        let admission = Admission::default();
        let held: Vec<_> = (1000..1010).flat_map(|uid| fill(&admission, uid)).collect();
        assert_eq!(held.len(), TOTAL - RESERVED_FOR_ROOT);
        let root = admission.admit(0);
        assert!(root.is_ok());
        assert!(admission.admit(0).is_err(), "the total holds for root too");
        drop(root);
        assert!(admission.admit(0).is_ok());
    }
}
