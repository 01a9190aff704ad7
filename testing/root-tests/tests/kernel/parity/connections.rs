//! SYNs of clients of which an earlier connection still exists, in the network namespace that holds
//! it.

use tcpguard_common::abi::{ListenerEntry, Rate, Reason};
use tcpguard_kit::net::packet::{Segment, flags, linux_syn_options};

use super::out_of_state::{beside, new_clients, segment};
use super::{LISTENERS, Pair, START_NS};

const COOKIES: u8 = ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT;
/// Everything that could keep a SYN from the stack.
const ALL: u8 = COOKIES | ListenerEntry::BUDGET;

impl Pair {
    fn arm_fully(&mut self) {
        for id in 0..LISTENERS {
            self.set_mitigation_bits(id, ALL, Rate::per_second(1, 1));
        }
        self.configure(|config| {
            config.replies_per_cpu = Rate { interval_ns: u32::MAX, burst: 1 };
        });
    }

    fn of(&self, reason: Reason) -> u64 {
        self.reasons.get(&reason).copied().unwrap_or(0)
    }
}

#[test]
fn a_client_uses_the_ports_of_connections_again_that_wait_or_that_it_has_forgotten() {
    beside(|_, sockets, pair| {
        for [mut client, server] in sockets.connections.iter().copied() {
            client.set_port(9);
            pair.complete_handshake(client, server);
        }
        pair.arm_fully();
        let syn = |ends, seq| {
            let mut syn = segment(ends, flags::SYN, [seq, 0]);
            syn.options = linux_syn_options(1460, 9);
            syn.to_frame()
        };
        let let_in = pair.of(Reason::Syn);
        let mut sent = 0;
        for seq in 0..100 {
            for ends in &sockets.connections {
                pair.ingress(&syn(*ends, seq));
                sent += 1;
            }
        }
        assert_eq!(pair.of(Reason::Syn) - let_in, sent, "{:?}", pair.reasons);
        pair.set_clock(START_NS + 5_000_000_000);
        let answered = pair.of(Reason::Cookie);
        for [mut client, server] in sockets.connections.iter().copied() {
            client.set_port(10);
            pair.ingress(&syn([client, server], 1));
        }
        assert_eq!(pair.of(Reason::Cookie) - answered, sockets.connections.len() as u64);
        pair.assert_same_state();
    });
}

/// The stack answered before the listener was armed, and the client sends its SYN again.
#[test]
fn a_syn_that_the_stack_has_answered_is_left_to_it() {
    beside(|_, sockets, pair| {
        // Both ends of these connections have addresses of the host.
        pair.exempt_all(&[]);
        let began: Vec<_> = sockets.connections.iter().copied().chain(new_clients()).collect();
        for [client, server] in &began {
            pair.ingress(&segment([*client, *server], flags::SYN, [7, 0]).to_frame());
            let mut answer = Segment::new(*server, *client, flags::SYN | flags::ACK);
            (answer.seq, answer.ack) = (77, 8);
            pair.egress(&answer.to_frame());
        }
        pair.arm_fully();
        let (let_in, dropped) = (pair.of(Reason::Syn), pair.of(Reason::DropReplyLimit));
        for ends in &began {
            pair.ingress(&segment(*ends, flags::SYN, [7, 0]).to_frame());
            // Another SYN of an unvalidated source.
            pair.ingress(&segment(*ends, flags::SYN, [9, 0]).to_frame());
        }
        // Of the others one gets the reply that the limit has, and one at either listener the token of the stack.
        assert_eq!(pair.of(Reason::Syn) - let_in, sockets.connections.len() as u64 + 2);
        let others = began.len() + new_clients().len() - 3;
        assert_eq!(pair.of(Reason::DropReplyLimit) - dropped, others as u64, "{:?}", pair.reasons);
        pair.assert_same_state();
    });
}
