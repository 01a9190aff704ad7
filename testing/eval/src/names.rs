//! Service that remains for an address under a mimicking flood with that address as its source.
//!
//! A SYN does not prove its sender. So many a second to one network are answered with cookies
//! (`cookies.replies_per_network`), so that the host sends no flood of replies to the named address. Half of the
//! replies that may be sent at once is left to the network's other addresses. The address's own SYNs have the same
//! chance as any other SYN with that source.

use tcpguard_common::abi::option::{SACK, TIMESTAMPS, WSCALE};
use tcpguard_common::abi::{
    Addr, Config, ListenerEntry, ListenerKey, Reason, ReplyRate, SynAckRecord,
};
use tcpguard_common::model::{Model, cookie_secret, enforcing};
use tcpguard_sim::Random;

use crate::table::{Block, percent, rate};

const SECOND: u64 = 1_000_000_000;
/// Start of the flood, in ns since boot.
const START: u64 = 5_000 * SECOND;
/// Time after which the replies that may be sent at once are used up, in ns after the start.
const WARM: u64 = 4 * SECOND;
/// Time between two clients of the address, and between two of another address in its network, in ns.
const EVERY: u64 = SECOND / 10;
/// Times at which a SYN without a reply is retransmitted, in ns after the first one (RFC 6298 §2.1).
const AGAIN: [u64; 2] = [SECOND, 3 * SECOND];
/// Rates of the floods, SYN/s.
const RATES: [u64; 3] = [2_000, 20_000, 200_000];
/// Time for which clients come, s.
const SECONDS: u64 = 10;

const SERVER: [u8; 4] = [192, 0, 2, 1];
const PORT: u16 = 443;
/// Source address of the flood.
const NAMED: [u8; 4] = [203, 0, 113, 7];
/// Another address of its network.
const BESIDE: [u8; 4] = [203, 0, 113, 90];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// SYNs of clients, and how many of them were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share {
    clients: u64,
    at_once: u64,
    in_the_end: u64,
}

impl Share {
    fn of(&self, answered: u64) -> f64 {
        answered as f64 / self.clients.max(1) as f64
    }
}

/// A client, and the SYN that it sends next.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    source: [u8; 4],
    port: u16,
    seq: u32,
    since: u64,
    tries: usize,
}

impl Waiting {
    /// Returns the time at which the client sends that SYN, in ns since boot.
    fn due(&self) -> u64 {
        self.since + if self.tries == 0 { 0 } else { AGAIN[self.tries - 1] }
    }
}

/// A host that answers SYNs with cookies, by the defaults.
struct Host {
    model: Model,
    waiting: Vec<Waiting>,
    named: Share,
    beside: Share,
}

impl Host {
    fn new() -> Self {
        let mut model = Model::new(Config {
            established_seen: 1,
            tracked_bits: Config::tracked_bits(20_000),
            replies_per_network: ReplyRate::share(4_096, 1),
            ..enforcing(START)
        });
        model.now_ns = START;
        model.cookie_secret = cookie_secret(1);
        let port = PORT.to_be_bytes();
        let mitigations = ListenerEntry::OWN_COOKIES;
        let entry = ListenerEntry { id: 0, mitigations, ..ListenerEntry::default() };
        model.add_listener(ListenerKey::new(Addr::ANY_V4, port), entry);
        let record = SynAckRecord {
            mss: 1460,
            window: 65_160,
            ttl: 61,
            wscale: 10,
            options: WSCALE | SACK | TIMESTAMPS,
            ..SynAckRecord::default()
        };
        model.syn_acks.insert(ListenerKey::new(Addr::from_v4(SERVER), port), record);
        model.replies_by(MAC, MAC, 0);
        Self { model, waiting: Vec::new(), named: Share::default(), beside: Share::default() }
    }

    /// Returns whether a SYN that arrives at this time is answered.
    fn replies(&mut self, at: u64, source: [u8; 4], port: u16, seq: u32) -> bool {
        self.model.now_ns = at;
        self.model.config.heartbeat_ns = at;
        self.model.ingress(&syn(source, port, seq)) == Reason::Cookie
    }

    fn share(&mut self, source: [u8; 4]) -> &mut Share {
        if source == NAMED { &mut self.named } else { &mut self.beside }
    }

    /// A client sends its SYN, for the first time or again.
    fn connect(&mut self, at: u64, client: Waiting) {
        let is_first = client.tries == 0;
        let is_answered = self.replies(at, client.source, client.port, client.seq);
        let share = self.share(client.source);
        share.clients += u64::from(is_first);
        share.at_once += u64::from(is_first && is_answered);
        share.in_the_end += u64::from(is_answered);
        if !is_answered && client.tries < AGAIN.len() {
            self.waiting.push(Waiting { tries: client.tries + 1, ..client });
        }
    }

    /// Retransmits the SYNs of the clients that are due.
    fn retry(&mut self, now: u64) {
        if self.waiting.iter().all(|client| client.due() > now) {
            return;
        }
        let (ready, waiting): (Vec<Waiting>, Vec<Waiting>) =
            self.waiting.iter().copied().partition(|client| client.due() <= now);
        self.waiting = waiting;
        for client in ready {
            self.connect(now, client);
        }
    }
}

/// A SYN as clients send it.
fn syn(source: [u8; 4], port: u16, seq: u32) -> Vec<u8> {
    let mut frame = [MAC, [2, 0, 0, 0, 0, 9]].concat();
    frame.extend([8, 0, 0x45, 0, 0, 52, 0, 1, 0x40, 0, 57, 6, 0, 0]);
    frame.extend(source);
    frame.extend(SERVER);
    frame.extend(port.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0x80, 2, 0xfa, 0xf0, 0, 0, 0, 0]);
    frame.extend([2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2]);
    frame
}

/// Clients of the address that the flood uses as its source, at so many SYNs a second, and clients of another address
/// in its network. None of them completes its handshake, so that each stays a new client.
fn play(per_second: u64, seconds: u64) -> (Share, Share) {
    let mut host = Host::new();
    let mut random = Random::new(per_second);
    let mut next = START + WARM;
    let end = START + WARM + seconds * SECOND;
    // The run goes on until the last retransmission.
    let last = end + AGAIN[AGAIN.len() - 1];
    let mut number = 0;
    loop {
        let at = START + number * SECOND / per_second;
        if at > last {
            return (host.named, host.beside);
        }
        number += 1;
        host.replies(at, NAMED, random.bits() as u16, random.bits() as u32);
        host.retry(at);
        if at >= next && next < end {
            next += EVERY;
            for source in [NAMED, BESIDE] {
                let (port, seq) = (random.bits() as u16, random.bits() as u32);
                host.connect(at, Waiting { source, port, seq, since: at, tries: 0 });
            }
        }
    }
}

pub fn block() -> Block {
    let note = format!(
        "A limit ([limitations](../limitations.md)). A flood spoofs one address, has the fingerprint of \
         its clients and retransmits nothing. Cookies answer, by the defaults. Packets go through \
         the data path's own code. New clients of that address, and of another one in its /24, \
         come ten times a second for {SECONDS} s and retransmit their SYN after 1 and 3 s. \"At \
         once\": share of them with a reply to the first SYN. \"In 3 s\": share with a reply to \
         any SYN. None of them has completed a handshake."
    );
    let columns =
        ["SYN/s", "its own, at once", "its own, in 3 s", "others, at once", "others, in 3 s"];
    let mut block = Block::new("New SYNs of the address that a flood names", &note, &columns);
    for per_second in RATES {
        let (named, beside) = play(per_second, SECONDS);
        block.row([
            rate(per_second as f64),
            percent(Some(named.of(named.at_once))),
            percent(Some(named.of(named.in_the_end))),
            percent(Some(beside.of(beside.at_once))),
            percent(Some(beside.of(beside.in_the_end))),
        ]);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its answers are shared among all SYNs in its name, and those of its network are left to the others.
    #[test]
    fn the_faster_the_flood_the_fewer_of_its_syns_get_replies_and_all_others_do() {
        let (slow, beside_slow) = play(2_000, 5);
        let (fast, beside_fast) = play(20_000, 5);
        assert_eq!((slow.clients, fast.clients), (50, 50));
        assert_eq!(slow.at_once, slow.clients, "below the limit: {slow:?}");
        assert!(fast.of(fast.in_the_end) < 0.2, "{fast:?}");
        for beside in [beside_slow, beside_fast] {
            assert_eq!(beside.at_once, beside.clients, "{beside:?}");
        }
    }
}
