//! What cookies are made with, and how listeners answer.

use tcpguard_common::abi::{CookieKeys, FailedCookies, ListenerKey, SynAckRecord};

use super::Dataplane;
use crate::kernel::KernelError;

impl Dataplane {
    /// Replaces the keys of cookies. Those that stay the same are not disturbed: only a key that is
    /// out of use may change while the programs run.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn set_cookie_keys(&self, keys: &CookieKeys) -> Result<(), KernelError> {
        self.cookie_keys.set(&0, keys)
    }

    /// The keys of cookies; all-zero before they are drawn.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn cookie_keys(&self) -> Result<CookieKeys, KernelError> {
        Ok(self.cookie_keys.get(&0)?.unwrap_or_default())
    }

    /// What the last SYN-ACK from each local address and port looked like.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn syn_acks(&self) -> Result<Vec<(ListenerKey, SynAckRecord)>, KernelError> {
        self.syn_acks.entries()
    }

    /// What the last SYN-ACK from this address and port looked like.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn syn_ack(&self, key: &ListenerKey) -> Result<Option<SynAckRecord>, KernelError> {
        self.syn_acks.get(key)
    }

    /// Records such a look, as the programs do: for benchmarks and self-tests, in which no SYN-ACK
    /// leaves.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn set_syn_ack(&self, key: &ListenerKey, record: &SynAckRecord) -> Result<(), KernelError> {
        self.syn_acks.set(key, record)
    }

    /// The cookies of a listener that were wrong: [`FailedCookies::invalid`] counts them.
    ///
    /// # Errors
    /// See [`Self::set_config`].
    pub fn failed_cookies(&self, id: u32) -> Result<FailedCookies, KernelError> {
        Ok(self.failed_cookies.get(&id)?.unwrap_or_default())
    }

    pub(super) fn forget_syn_acks(&self) -> Result<(), KernelError> {
        for (key, _) in self.syn_acks.entries()? {
            self.syn_acks.remove(&key)?;
        }
        Ok(())
    }
}
