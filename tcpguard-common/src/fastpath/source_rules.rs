//! The source rule over an address: the one with the longest prefix, found in a hash where it can be.
//!
//! A trie costs a cache miss for nearly every bit in which thousands of rules differ, a hash one or two.
//! So the rules that cover one client as a whole (an IPv4 address, an IPv6 /64), of which lists are
//! made, stand in a hash, all others in tries. No IPv4 prefix is longer than that of a client, so the
//! rule in the hash counts. IPv6 prefixes may be longer than a /64: where there are such beneath a rule
//! of the hash, it says so ([`RuleRef::NARROW`]).

use super::Tables;
use crate::abi::{Addr, Config, RuleRef};

/// The rule of this set with the longest prefix over `source`, among those for this port (in network byte
/// order) or for [`crate::abi::EVERY_PORT`]; [`RuleRef::NONE`] without one. `tables_in_use` are the bits
/// of [`Config::source_rules`] that are about such rules.
#[inline(always)]
pub(super) fn over<T: Tables>(
    tables_in_use: u8,
    tables: &T,
    set: u64,
    port: [u8; 2],
    source: &Addr,
) -> RuleRef {
    let host = if tables_in_use & Config::HOSTS != 0 {
        tables.source_host(set, port, &source.client())
    } else {
        RuleRef::NONE
    };
    let is_longest = host.is_rule() && host.flags & RuleRef::NARROW == 0;
    if is_longest || tables_in_use & Config::NETS == 0 {
        return host;
    }
    let net = tables.source_net(set, port, source);
    if host.is_rule() && net.flags & RuleRef::NARROW == 0 { host } else { net }
}
