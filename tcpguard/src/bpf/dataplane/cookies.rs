//! The secret of SYN cookies, and the recorded SYN-ACKs of listeners.

use tcpguard_common::abi::{CookieSecret, ListenerKey, ReturnedCookies, SynAckRecord};

use super::Dataplane;
use crate::bpf::Result;

impl Dataplane {
    /// Sets the secret of the cookies. Another one voids all cookies that are outstanding.
    pub fn set_cookie_secret(&self, secret: &CookieSecret) -> Result<()> {
        self.cookie_secret.set(&0, secret)
    }

    /// The secret of the cookies; all-zero before it is drawn.
    pub fn cookie_secret(&self) -> Result<CookieSecret> {
        Ok(self.cookie_secret.get(&0)?.unwrap_or_default())
    }

    /// The record of the last SYN-ACK from each local address and port.
    pub fn syn_acks(&self) -> Result<Vec<(ListenerKey, SynAckRecord)>> {
        self.syn_acks.entries()
    }

    /// The record of the last SYN-ACK from this address and port.
    pub fn syn_ack(&self, key: &ListenerKey) -> Result<Option<SynAckRecord>> {
        self.syn_acks.get(key)
    }

    /// Records a SYN-ACK as the programs do: for benchmarks and self-tests, in which no SYN-ACK leaves.
    pub fn set_syn_ack(&self, key: &ListenerKey, record: &SynAckRecord) -> Result<()> {
        self.syn_acks.set(key, record)
    }

    /// The cookies that clients returned to a listener, valid and wrong.
    pub fn returned_cookies(&self, id: u32) -> Result<ReturnedCookies> {
        Ok(self.returned_cookies.get(&id)?.unwrap_or_default())
    }
}
