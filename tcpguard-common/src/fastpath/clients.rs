//! Validated clients, and the filter in front of them.
//!
//! Under a flood nearly every look-up among the clients is for a source that is none, and costs a cache miss.
//! So a filter is consulted first: one mark for each prefix that a client is in. It can say "perhaps" of an
//! unvalidated source, never "no" of a client. It goes by prefix and not by a hash of the whole address,
//! because clients share prefixes: 8 KiB, which the nearest cache holds, then rule out as many unvalidated sources
//! as four times that would by hash. Marks are only ever added. When there are too many, the agent fills the other
//! one of two filters from the clients still validated and changes over to it. Both get the marks of new
//! clients at all times. A mark is a bit, set by an atomic instruction, so that CPUs that set two at once lose none.
//!
//! A *returning* client completed its first handshake a minute ago or more, and counts once in each ten
//! seconds however many it completes. The ten seconds begin at a moment of its own. Otherwise clients that
//! first connected together, after a restart or an outage, would all count in the same second, and be missed
//! in the nine others. These completions show whether mitigations keep clients out. To influence them, an
//! attacker needs as many addresses as clients come in ten seconds, and must have connected from all of them
//! before. Of an IPv6 /48, which one person may hold, no more count than `NETWORK_RETURNING_RATE` allows, and no
//! more become clients than `NETWORK_RATE` does.
//!
//! *What a client may send.* Behind one address there may be a proxy, or the NAT of a carrier, with hundreds of
//! connections a second. So a token of its bucket is for a SYN that is not answered: it is returned when a handshake
//! completes. Where cookies answer, as many more handshakes may be under way at once as it completed in a second: they
//! take no place in a queue. An attacker who spoofs the address gets no more by this than what its owner completes.
//! The first handshake of an address gives its network back the token of the reply. Later ones do not, because the
//! token was the client's own, and one cookie can complete a handshake again and again: with them an attacker would
//! raise the limit for its neighbours.

use super::ladder::ANY_COOKIES;
use super::{PacketCtx, Tables, VALIDATED_RATE, hash, sets};
use crate::abi::maps::{CLIENT_MARK_WORDS, CLIENT_MARKS};
use crate::abi::{Addr, Client, Config, Rate};

/// Time after its first completed handshake from which a client counts as returning, in ns.
pub const RETURNING_AFTER_NS: u64 = 60_000_000_000;
/// Time in which a returning client counts once, in ns.
pub const RETURNING_EVERY_NS: u64 = 10_000_000_000;

/// Rate of the /64s of an IPv6 /48 that may become clients: 1,024 at once and one in 4 s. One person may hold
/// all 65,536 of them. No SYN of those beyond it is dropped for that.
const NETWORK_RATE: Rate = Rate { interval_ns: 4_000_000_000, burst: 1_024 };
/// Rate of the completed handshakes of an IPv6 /48 that count as those of returning clients: 8 in ten seconds.
const NETWORK_RETURNING_RATE: Rate = Rate { interval_ns: 1_250_000_000, burst: 8 };

/// Handshakes that a client may have under way at once, besides those of [`VALIDATED_RATE`], however many it completes:
/// 6,800 connections a second at a round-trip time of 150 ms.
const MOST_UNDER_WAY: u16 = 1_024;

/// The end, in boot time in ns, of the period of a client with this hash in which `now_ns` lies.
#[inline(always)]
pub const fn period_end(hash: u64, now_ns: u64) -> u64 {
    let phase = hash % RETURNING_EVERY_NS;
    ((now_ns + phase) / RETURNING_EVERY_NS + 1) * RETURNING_EVERY_NS - phase
}

/// Units of [`Client::returning_from`].
#[inline(always)]
const fn moment(now_ns: u64) -> u32 {
    (now_ns >> 27) as u32
}

/// Status of the owner of an address that completed a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClientStatus {
    /// A new client: it completed none before, as far as the tables hold.
    New,
    /// A client that counts neither as new nor as returning: it completed one lately or a moment ago, or the
    /// limit of its network is reached.
    Validated,
    /// A returning client: it completed one before, and counts for one more.
    Returning,
}

/// Position of a client's mark: its /16 for IPv4, its /48 mixed into 16 bits for IPv6.
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

/// The marks of a client filter.
pub type Marks = [u64; CLIENT_MARK_WORDS];

/// Returns whether a mark is set.
#[must_use]
pub const fn is_marked(marks: &Marks, mark: usize) -> bool {
    marks[mark / 64 % CLIENT_MARK_WORDS] >> (mark % 64) & 1 != 0
}

/// Sets a mark.
pub const fn set_mark(marks: &mut Marks, mark: usize) {
    marks[mark / 64 % CLIENT_MARK_WORDS] |= 1 << (mark % 64);
}

/// Returns the number of marks that are set.
#[must_use]
pub fn marked(marks: &Marks) -> usize {
    marks.iter().map(|word| word.count_ones() as usize).sum()
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

/// Takes a token for a SYN of a client, or returns `false`.
#[inline(always)]
pub(super) fn take(client: &mut Client, pkt: &PacketCtx) -> bool {
    let answered = pkt.mitigations & ANY_COOKIES != 0;
    client
        .bucket
        .take(pkt.now, if answered { answered_rate(client, pkt.now) } else { VALIDATED_RATE })
}

/// Rate of a client's SYNs where cookies answer them.
#[inline(always)]
const fn answered_rate(client: &Client, now_ns: u64) -> Rate {
    let more = client.lately.at(now_ns);
    let more = if more > MOST_UNDER_WAY { MOST_UNDER_WAY } else { more };
    Rate { burst: VALIDATED_RATE.burst + more as u32, ..VALIDATED_RATE }
}

/// Returns whether the SYNs of a client are more than its bucket gives where cookies answer, so that limits apply to
/// them as to those of other sources.
#[must_use]
pub const fn is_limited(client: &Client, now_ns: u64) -> bool {
    // The one token that there may be has just grown back.
    client.bucket.after(now_ns, answered_rate(client, now_ns), 2).is_none()
}

/// Records that the owner of an address completed a handshake. Only this makes a client.
#[inline(never)]
pub(super) fn validate<T: Tables>(
    config: &Config,
    tables: &mut T,
    addr: &Addr,
    now: u64,
    completed: u64,
) -> ClientStatus {
    let addr = addr.client();
    let hash = hash::source(&config.hash_key, &addr);
    if let Some(client) = tables.client(&addr) {
        client.completed_ns = now;
        client.counters.completed += completed;
        client.lately.add(now, completed);
        client.bucket.give_back(VALIDATED_RATE, completed);
        if moment(now) < client.returning_from {
            return ClientStatus::Validated;
        }
        client.returning_from = moment(period_end(hash, now)) + 1;
        return of_network(config, tables, &addr, now);
    }
    if !may_join(config, tables, &addr, now) {
        return ClientStatus::Validated;
    }
    if let Some(bucket) = tables.reply_limit(hash::source(&config.hash_key, &addr.network())) {
        config.replies_per_network.give_back(bucket, now);
    }
    let returning_from = moment(period_end(hash, now + RETURNING_AFTER_NS)) + 1;
    let mut client = Client { completed_ns: now, returning_from, ..Client::default() };
    if let Some(counters) = sets::source(tables, hash, &addr) {
        client.counters = *counters;
    }
    client.counters.completed += completed;
    client.lately.add(now, completed);
    tables.insert_client(&addr, &client);
    // After the insertion, so that a reader of the clients and then of this mark misses neither.
    tables.mark_client(mark(&addr));
    ClientStatus::New
}

/// Returns the hash that leads to the network of an IPv6 client; `None` for an IPv4 client.
#[inline(always)]
fn network(config: &Config, client: &Addr) -> Option<u64> {
    let is_v4 = client.as_v4().is_some();
    if is_v4 { None } else { Some(hash::source(&config.hash_key, &client.network())) }
}

/// Returns whether the owner of an address may become a client.
#[inline(always)]
fn may_join<T: Tables>(config: &Config, tables: &mut T, client: &Addr, now: u64) -> bool {
    let network = network(config, client).and_then(|hash| tables.client_network(hash));
    network.is_none_or(|network| network.bucket.take(now, NETWORK_RATE))
}

/// Returns the status of a returning client: whether its completed handshake counts.
#[inline(always)]
fn of_network<T: Tables>(config: &Config, tables: &mut T, client: &Addr, now: u64) -> ClientStatus {
    let network = network(config, client).and_then(|hash| tables.client_network(hash));
    if network.is_none_or(|network| network.returning.take(now, NETWORK_RETURNING_RATE)) {
        ClientStatus::Returning
    } else {
        ClientStatus::Validated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Model, hash_key};

    #[test]
    fn of_an_ipv6_48_few_become_clients_and_few_count() {
        let config = Config { hash_key: hash_key(1), ..Config::default() };
        let mut host = Model::new(config);
        let mut completed = |net: u32, now| {
            let client = Addr::from_v6_words([0x2001_0db8, net, 0, 1]);
            validate(&config, &mut host, &client, now, 1)
        };
        let start = 7 * RETURNING_EVERY_NS;
        let new = (0..4_000).filter(|net| completed(*net, start) == ClientStatus::New).count();
        assert_eq!(new, NETWORK_RATE.burst as usize);
        assert_eq!(completed(1 << 16, start), ClientStatus::New, "another /48");
        let later = start + RETURNING_AFTER_NS + 2 * RETURNING_EVERY_NS;
        let returning = |completed: &mut dyn FnMut(u32, u64) -> ClientStatus, now| {
            (0..100).filter(|net| completed(*net, now) == ClientStatus::Returning).count()
        };
        assert_eq!(returning(&mut completed, later), NETWORK_RETURNING_RATE.burst as usize);
        assert_eq!(returning(&mut completed, later + 2 * RETURNING_EVERY_NS), 8);
        assert_eq!(completed(1 << 16, later), ClientStatus::Returning);
        let mut v4 = |last, now| {
            let client = Addr::from_v4([198, 51, 100, last]);
            validate(&config, &mut host, &client, now, 1)
        };
        assert!((0..200).all(|last| v4(last, start) == ClientStatus::New));
        assert!((0..200).all(|last| v4(last, later) == ClientStatus::Returning));
    }

    #[test]
    fn clients_that_become_known_at_once_count_at_moments_of_their_own() {
        let (seconds, now) = (RETURNING_EVERY_NS / 10, 3 * RETURNING_EVERY_NS);
        let mut by_second = [0; 10];
        for hash in 0..1_000_u64 {
            let end = period_end(hash::syn(hash, 0), now);
            assert!(end > now && end <= now + RETURNING_EVERY_NS, "{end}");
            by_second[((end - now - 1) / seconds) as usize] += 1;
            // A client that always comes counts once in each period.
            assert_eq!(period_end(hash::syn(hash, 0), end), end + RETURNING_EVERY_NS);
        }
        assert!(by_second.iter().all(|count| (60..140).contains(count)), "{by_second:?}");
    }

    #[test]
    fn a_mark_is_the_prefix_of_an_ipv4_client_and_a_mix_of_that_of_an_ipv6_client() {
        assert_eq!(mark(&Addr::from_v4([192, 168, 1, 2])), 0xc0a8);
        let v6 = |second, rest| mark(&Addr::from_v6_words([0x2001_0db8, second, rest, rest]));
        assert_eq!(v6(0x0001_0002, 0), v6(0x0001_ffff, 7), "one /48");
        assert_ne!(v6(0x0001_0002, 0), v6(0x0002_0002, 0));
    }
}
