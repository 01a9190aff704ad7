//! Validated clients, and the filter in front of them.
//!
//! Under a flood nearly every look-up among the clients is for a source that is none, and costs a
//! cache miss. So a filter answers first: one mark per hash of a client. It can say "perhaps" of a
//! stranger, never "no" of a client. Marks are only ever added; when there are too many, the agent
//! fills the other one of two filters from the clients still known and changes over to it. Both get
//! the marks of new clients at all times. A mark is a byte, so that CPUs that set two at once lose
//! none.

use super::{Tables, hash};
use crate::abi::maps::CLIENT_MARKS;
use crate::abi::{Addr, Client, Config};

/// The place of an address's mark, given its [`hash::source`].
#[inline(always)]
pub const fn mark(source_hash: u64) -> usize {
    source_hash as usize & (CLIENT_MARKS - 1)
}

/// The client that an address belongs to; `source_hash` is that of its [`Addr::client`].
#[inline(always)]
pub(super) fn find<'a, T: Tables>(
    config: &Config,
    tables: &'a mut T,
    client: &Addr,
    source_hash: u64,
) -> Option<&'a mut Client> {
    if tables.may_be_client(config.client_filter, mark(source_hash)) {
        tables.client(client)
    } else {
        None
    }
}

/// Records that the owner of an address completed a handshake. Only this makes a client.
#[inline(never)]
pub(super) fn validate<T: Tables>(
    config: &Config,
    tables: &mut T,
    addr: &Addr,
    now: u64,
    completed: u64,
) {
    let addr = addr.client();
    if let Some(client) = tables.client(&addr) {
        client.completed_ns = now;
        client.counters.completed += completed;
        return;
    }
    let mut client = Client { completed_ns: now, ..Client::default() };
    if let Some(counters) = tables.source(&addr) {
        client.counters = *counters;
    }
    client.counters.completed += completed;
    tables.insert_client(&addr, &client);
    // After the insertion, so that whoever reads the clients and then this mark misses neither.
    tables.mark_client(mark(hash::source(&config.hash_key, &addr)));
}
