//! Replies that are returned: no limit holds for them.

use std::collections::VecDeque;

use tcpguard_common::abi::{Action, Addr, Reason, ReplyRate};
use tcpguard_common::model::Model;

use super::{
    MS, OWN_COOKIES, Rate, S, any_source, budget, counters, exhaust_stack, flood, host, mixed,
    send, v4, validate,
};

/// A host whose limit for each network is the default one, on one of two CPUs.
fn limited() -> Model {
    let mut host = host(OWN_COOKIES);
    host.config.replies_per_network = ReplyRate::share(256, 2);
    exhaust_stack(&mut host);
    host
}

/// Connections that come evenly over so many seconds.
struct Connections {
    per_second: u64,
    seconds: u64,
    rtt: u64,
    /// True if clients complete what is answered.
    complete: bool,
}

impl Connections {
    /// Returns the share of their first SYNs that was answered, in the first second and from then on.
    fn answered(&self, host: &mut Model, source: impl Fn(u64) -> Addr) -> [f64; 2] {
        let (start, mut open) = (host.now_ns, VecDeque::new());
        let mut counts = [[0; 2]; 2];
        for number in 0..self.per_second * self.seconds {
            let now = start + number * S / self.per_second;
            while let Some((_, client)) = open.pop_front_if(|(due, _)| *due <= now) {
                validate(host, client);
            }
            host.now_ns = now;
            let client = source(number);
            let answered = send(host, client, mixed(number) as u32).action() == Action::Tx;
            let [all, of_them] = &mut counts[usize::from(number >= self.per_second)];
            *all += 1;
            *of_them += u64::from(answered);
            if answered && self.complete {
                open.push_back((now + self.rtt, client));
            }
        }
        counts.map(|[all, of_them]| of_them as f64 / all.max(1) as f64)
    }
}

/// A proxy, a carrier's NAT, and several addresses of one. The naive limit counts what is returned like what is not: the
/// same clients, if the host does not hear that they complete.
#[test]
fn however_many_clients_come_from_one_address_or_network_they_are_answered() {
    for (addresses, per_second, rtt, least) in [
        (1, 400, 150, 0.99),
        (1, 670, 1, 0.99),
        (1, 670, 150, 0.95),
        (1, 670, 300, 0.5),
        (1, 4_500, 20, 0.9),
        (4, 500, 200, 0.99),
        (16, 800, 50, 0.99),
        (16, 3_000, 100, 0.5),
    ] {
        for v6 in [false, true] {
            let source = |number: u64| match v6 {
                false => v4(203, 0, 113, (number % addresses) as u8),
                true => {
                    let network = 0x0007_0000 | (number % addresses) as u32;
                    Addr::from_v6_words([0x2001_0db8, network, 7, 7])
                }
            };
            let connections =
                |complete| Connections { per_second, seconds: 4, rtt: rtt * MS, complete };
            let case = (addresses, per_second, rtt, v6);
            let [first, later] = connections(true).answered(&mut limited(), source);
            assert!(first >= least && later >= 0.999, "{case:?}: {first} {later}");
            let [_, naive] = connections(false).answered(&mut limited(), source);
            assert!(naive < 0.8, "{case:?}: the limit was too wide to prove anything: {naive}");
        }
    }
}

/// With a cookie that completes a handshake again and again, an attacker raises no limit but its own.
#[test]
fn a_neighbour_that_completes_all_it_can_gets_no_more_replies_sent_to_others() {
    for v6 in [false, true] {
        let at = |number: u64| match v6 {
            false => v4(203, 0, 113, number as u8),
            true => Addr::from_v6_words([0x2001_0db8, 0x0007_0000 | number as u32 & 0xff, 7, 7]),
        };
        let attacker = at(1);
        let mut host = limited();
        host.config.replies_per_network = ReplyRate::share(256, 1);
        let mut to_others = 0;
        for number in 0..100_000 {
            host.now_ns += S / 50_000;
            if send(&mut host, attacker, number as u32) == Reason::Cookie {
                (0..3).for_each(|_| validate(&mut host, attacker));
            }
            let other = at(2 + mixed(number) % 250);
            to_others += u64::from(send(&mut host, other, number as u32) == Reason::Cookie);
        }
        // At once, in two seconds, and the one of the attacker's first handshake.
        assert!(to_others <= 256 + 2 * 256 + 1, "{to_others}");
        assert!(to_others > 400, "the flood was too small to prove anything: {to_others}");
        counters(&host);
    }
}

/// Replies to SYNs that spoof a busy client are not returned.
#[test]
fn a_flood_spoofing_a_busy_client_gets_no_more_than_the_client_completes_in_a_second() {
    let mut host = limited();
    let proxy = v4(203, 0, 113, 7);
    let connections = Connections { per_second: 400, seconds: 3, rtt: 20 * MS, complete: true };
    connections.answered(&mut host, |_| proxy);
    let spoofed = flood(&mut host, 60_000, 3 * S, |_| proxy);
    let (of_client, of_network) = (50 + 3 * 20 + 2 * 400, 128 + 3 * 128);
    assert!(spoofed.answered <= of_client + of_network, "{spoofed:?}");
}

/// Clients of networks that a flood spoofs as well. The stack takes the SYNs that XDP may no longer answer, as far as
/// its queue holds them. The naive limit drops them, at every try.
#[test]
fn beyond_a_limit_the_stack_gets_what_it_can_hold_and_a_client_that_tries_again() {
    const CLIENTS: u64 = 20;
    let mut host = limited();
    budget(&mut host, Rate::per_second(100, 25));
    host.budgets.clear();
    let named = |number: u64| v4(203, 0, 100 + (number % 16) as u8, mixed(number) as u8);
    let client = |number: u64| v4(203, 0, 100 + (number % 16) as u8, number as u8);
    let mut waiting: Vec<u64> = (0..CLIENTS).collect();
    let mut passed = 0;
    for round in 0..3 {
        let fate = flood(&mut host, 40_000, S + 10 * MS, |number| named(round << 40 | number));
        passed += fate.passed;
        waiting.retain(|number| send(&mut host, client(*number), 7).action() == Action::Drop);
        assert_eq!(round == 0, !waiting.is_empty(), "{waiting:?}");
    }
    assert!((300..=3 * 101 + 26).contains(&passed), "{passed}");
    let new_client = any_source(1 << 50);
    assert_eq!(send(&mut host, new_client, 1), Reason::Cookie, "other networks do not notice");
    counters(&host);
}
