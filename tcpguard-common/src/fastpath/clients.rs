//! Validated clients, and the filter in front of them.
//!
//! Under a flood nearly every look-up among the clients is for a source that is none, and costs a
//! cache miss. So a filter answers first: one mark for each prefix that a client is in. It can say
//! "perhaps" of a stranger, never "no" of a client. It goes by prefix and not by a hash of the whole
//! address, because clients share prefixes: 64 KiB, which the cache holds, then tell as many
//! strangers as four times that. Marks are only ever added; when there are too many, the agent fills
//! the other one of two filters from the clients still known and changes over to it. Both get the
//! marks of new clients at all times. A mark is a byte, so that CPUs that set two at once lose none.
//!
//! A *known* client completed its first handshake a minute ago or more, and counts once in ten seconds
//! however many it completes. Whether the guard keeps clients out is judged by these completions, so an
//! attacker who wants to weigh in it needs as many addresses of his own as clients come in ten seconds,
//! and must have come with all of them before.

use super::{Tables, hash, sets};
use crate::abi::maps::CLIENT_MARKS;
use crate::abi::{Addr, Client, Config};

/// From so long after its first completed handshake on a client is known, in ns.
pub const KNOWN_AFTER_NS: u64 = 60_000_000_000;
/// In this time a known client counts once, in ns.
pub const KNOWN_EVERY_NS: u64 = 10_000_000_000;

/// How well the owner of an address was known that completed a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Acquaintance {
    /// It never did before, as far as anybody remembers.
    New,
    /// It did, lately or a moment ago.
    Validated,
    /// It did, and counts for one more.
    Known,
}

/// The place of a client's mark: its /16 for IPv4, its /48 mixed into 16 bits for IPv6.
#[inline(always)]
pub const fn mark(client: &Addr) -> usize {
    let [first, second, _, last] = *client.words();
    let mark = match client.as_v4() {
        Some(_) => last.to_be() as u64 >> 16,
        // Multiplicative hashing (Knuth, TAOCP 6.4): the highest bits depend on all.
        None => {
            let prefix = (first.to_be() as u64) << 16 | second.to_be() as u64 >> 16;
            prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48
        }
    };
    mark as usize & (CLIENT_MARKS - 1)
}

/// The client that an address belongs to, given its [`Addr::client`].
#[inline(always)]
pub(super) fn find<'a, T: Tables>(
    config: &Config,
    tables: &'a mut T,
    client: &Addr,
) -> Option<&'a mut Client> {
    if tables.may_be_client(config.client_filter, mark(client)) {
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
) -> Acquaintance {
    let addr = addr.client();
    if let Some(client) = tables.client(&addr) {
        client.completed_ns = now;
        client.counters.completed += completed;
        if now < client.known_from_ns {
            return Acquaintance::Validated;
        }
        client.known_from_ns = now + KNOWN_EVERY_NS;
        return Acquaintance::Known;
    }
    let known_from_ns = now + KNOWN_AFTER_NS;
    let mut client = Client { completed_ns: now, known_from_ns, ..Client::default() };
    let hash = hash::source(&config.hash_key, &addr);
    if let Some(counters) = sets::source(tables, hash, &addr) {
        client.counters = *counters;
    }
    client.counters.completed += completed;
    tables.insert_client(&addr, &client);
    // After the insertion, so that whoever reads the clients and then this mark misses neither.
    tables.mark_client(mark(&addr));
    Acquaintance::New
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_the_prefix_of_an_ipv4_client_and_a_mix_of_that_of_an_ipv6_client() {
        assert_eq!(mark(&Addr::from_v4([192, 168, 1, 2])), 0xc0a8);
        let v6 = |second, rest| mark(&Addr::from_v6_words([0x2001_0db8, second, rest, rest]));
        assert_eq!(v6(0x0001_0002, 0), v6(0x0001_ffff, 7), "one /48");
        assert_ne!(v6(0x0001_0002, 0), v6(0x0002_0002, 0));
    }
}
