use super::*;

/// A listener that is polled every 250 ms.
struct Polled {
    egress_check: EgressCheck,
    now: Timestamp,
    /// SYNs in each poll that get no answer and are no proof of anything.
    unanswered: u64,
    /// The result when routes are asked for; `None`: no response comes.
    routes: Option<Routes>,
    /// Number of unanswered sources among those for which routes are asked.
    about: usize,
}

/// Answers to clients would be seen, those to the unanswered sources leave elsewhere.
const SPOOFED: Routes = Routes {
    home: Home::Attached,
    shown: Home::Unknown,
    ordinary: Some(0.0),
    hidden: 1.0,
    unreachable: 1.0,
};
/// All answers leave elsewhere.
const ASYMMETRIC: Routes =
    Routes { home: Home::Elsewhere, ordinary: Some(1.0), unreachable: 0.0, ..SPOOFED };

impl Polled {
    /// Returns a listener for which routes say nothing.
    fn new() -> Self {
        Self::with(Some(Routes::default()))
    }

    fn with(routes: Option<Routes>) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        Self { egress_check: EgressCheck::default(), now, unanswered: 0, routes, about: 64 }
    }

    /// Makes so many polls with these counts: SYNs, SYN-ACKs, completed, half-open, cookies. Returns the verdict.
    fn polls(&mut self, times: u32, counts: [u64; 5]) -> Egress {
        let [syn, syn_ack, acknowledged, half_open, cookies] = counts;
        let established = Some(acknowledged);
        let delta = ListenerCounters {
            syn,
            syn_ack,
            acknowledged,
            established,
            ..ListenerCounters::default()
        };
        let half_open = (half_open > 0).then_some(half_open as u32);
        let queues = Queues { half_open, accept: 0, backlog: 128 };
        for _ in 0..times {
            self.now = self.now + Duration::from_millis(250);
            self.egress_check.poll(self.now, &delta, &queues, cookies, self.unanswered);
            if self.egress_check.asks_for_routes(self.now) {
                self.egress_check.ask_routes(self.now, self.about);
                if let Some(routes) = self.routes {
                    self.egress_check.learn_routes(self.now, routes);
                }
            }
        }
        self.egress_check.verdict()
    }
}

#[test]
fn a_poll_that_counted_nothing_is_not_kept() {
    let mut polled = Polled::new();
    polled.polls(20, [0; 5]);
    assert!(polled.egress_check.polls.is_empty());
    polled.polls(1, [1, 0, 0, 0, 0]);
    polled.polls(3, [0; 5]);
    assert_eq!(polled.egress_check.polls.len(), 1);
}

#[test]
fn clients_that_complete_unanswered_handshakes_prove_it_within_seconds() {
    let mut polled = Polled::new();
    assert_eq!(polled.polls(3, [10, 0, 10, 0, 0]), Egress::Unknown, "30 may be chance");
    assert_eq!(polled.polls(1, [10, 0, 10, 0, 0]), Egress::Unseen);
    // One client every two seconds never does: nothing is to be protected there.
    let mut rare = Polled::new();
    for _ in 0..100 {
        assert_eq!(rare.polls(8, [0, 0, 0, 0, 0]), Egress::Unknown);
        assert_eq!(rare.polls(1, [1, 0, 1, 0, 0]), Egress::Unknown);
    }
}

#[test]
fn connections_that_did_not_come_by_here_prove_nothing() {
    let mut polled = Polled::new();
    let delta = ListenerCounters { established: Some(100), ..ListenerCounters::default() };
    for _ in 0..40 {
        polled.now = polled.now + Duration::from_millis(250);
        polled.egress_check.poll(polled.now, &delta, &Queues::default(), 0, 0);
    }
    assert_eq!(polled.egress_check.verdict(), Egress::Unknown, "of the host with itself");
}

#[test]
fn unanswered_syns_alone_prove_nothing_but_ask_for_a_count() {
    let mut polled = Polled::new();
    assert_eq!(polled.polls(100, [1000, 0, 0, 0, 0]), Egress::Unknown, "a firewall");
    assert!(polled.egress_check.asks_for_count());
    assert_eq!(polled.polls(1, [1000, 1, 0, 0, 0]), Egress::Seen);
    assert!(!polled.egress_check.asks_for_count());
}

#[test]
fn a_queue_that_takes_handshakes_without_a_syn_ack_proves_it() {
    let mut polled = Polled::new();
    polled.polls(1, [1, 0, 0, 1, 0]);
    assert_eq!(polled.polls(1, [1000, 0, 0, 128, 0]), Egress::Unseen);
    // Seen answers account for the growth.
    let mut seen = Polled::new();
    seen.polls(1, [1, 1, 0, 1, 0]);
    assert_eq!(seen.polls(1, [1000, 127, 0, 128, 0]), Egress::Seen);
}

#[test]
fn a_queue_that_was_full_from_the_start_proves_it_after_eight_seconds() {
    let mut polled = Polled::new();
    assert_eq!(polled.polls(32, [1000, 0, 0, 128, 0]), Egress::Unknown);
    assert_eq!(polled.polls(1, [1000, 0, 0, 128, 0]), Egress::Unseen);
    // A retransmitted SYN-ACK in the meantime is seen.
    let mut seen = Polled::new();
    for _ in 0..4 {
        seen.polls(31, [1000, 0, 0, 128, 0]);
        assert_eq!(seen.polls(1, [1000, 128, 0, 128, 0]), Egress::Seen);
    }
}

/// A mitigation that relieves the queue may leave no eight seconds to wait.
#[test]
fn where_routes_lead_elsewhere_a_queue_that_was_full_from_the_start_proves_it_at_once() {
    let after = |routes| {
        let mut polled = Polled::with(Some(routes));
        polled.unanswered = 1000;
        polled.polls(3, [1000, 0, 0, 128, 0])
    };
    assert_eq!(after(ASYMMETRIC), Egress::Unseen);
    assert_eq!(after(Routes::default()), Egress::Unknown, "they say nothing");
    let some = Routes { hidden: 0.49, ..ASYMMETRIC };
    assert_eq!(after(some), Egress::Unknown, "most of the answers would be seen");
    assert_eq!(after(SPOOFED), Egress::Seen);
}

#[test]
fn cookies_of_the_kernel_that_leave_unseen_prove_it_at_once() {
    let mut polled = Polled::new();
    assert_eq!(polled.polls(1, [1000, 0, 0, 0, 900]), Egress::Unseen);
    let mut elsewhere = Polled::new();
    assert_eq!(elsewhere.polls(20, [1000, 0, 0, 0, 100]), Egress::Unknown, "of another port");
}

#[test]
fn answers_are_seen_again_only_after_half_a_minute_without_proof() {
    let mut polled = Polled::new();
    assert_eq!(polled.polls(8, [10, 0, 10, 0, 0]), Egress::Unseen);
    // For as long as the window holds the old completions there is proof.
    assert_eq!(polled.polls(120, [10, 10, 10, 0, 0]), Egress::Unseen);
    assert_eq!(polled.polls(16, [10, 10, 10, 0, 0]), Egress::Seen);
    assert_eq!(polled.polls(1, [10, 10, 10, 0, 0]), Egress::Seen);
}

#[test]
fn silence_changes_nothing() {
    let mut polled = Polled::new();
    polled.polls(8, [10, 0, 10, 0, 0]);
    assert_eq!(polled.polls(4000, [0, 0, 0, 0, 0]), Egress::Unseen);
}

#[test]
fn while_cookies_answer_nothing_is_learned() {
    let mut polled = Polled::new();
    polled.polls(4, [10, 10, 10, 0, 0]);
    let delta = ListenerCounters {
        syn: 100,
        cookies_sent: 100,
        acknowledged: 50,
        established: Some(50),
        ..ListenerCounters::default()
    };
    for _ in 0..40 {
        polled.now = polled.now + Duration::from_millis(250);
        polled.egress_check.poll(polled.now, &delta, &Queues::default(), 0, 0);
    }
    assert_eq!(polled.egress_check.verdict(), Egress::Seen);
}

/// Four addresses of an attacker hold 500 cookies back until no more are sent.
#[test]
fn cookies_that_are_returned_late_prove_nothing() {
    let mut polled = Polled::new();
    polled.polls(4, [10, 10, 10, 0, 0]);
    let sent = ListenerCounters {
        syn: 1250,
        cookies_sent: 1250,
        established: Some(0),
        ..ListenerCounters::default()
    };
    polled.now = polled.now + Duration::from_millis(250);
    polled.egress_check.poll(polled.now, &sent, &Queues::default(), 0, 0);
    polled.polls(120, [5, 5, 5, 0, 0]);
    let returned = ListenerCounters {
        acknowledged: 63,
        established: Some(63),
        cookies_redeemed: 63,
        ..ListenerCounters::default()
    };
    for _ in 0..8 {
        polled.now = polled.now + Duration::from_millis(250);
        polled.egress_check.poll(polled.now, &returned, &Queues::default(), 0, 0);
    }
    assert_eq!(polled.egress_check.verdict(), Egress::Seen);
    polled.polls(600, [5, 5, 5, 0, 0]);
    assert_eq!(polled.polls(16, [10, 0, 10, 0, 0]), Egress::Unseen, "no cookie is left");
}

/// A flood of many listeners, or one in bursts too short to ask about, proves nothing by counts.
#[test]
fn a_proof_of_which_no_unanswered_source_was_asked_about_lapses() {
    let no_route = Routes { ordinary: None, ..Routes::default() };
    for routes in [None, Some(no_route)] {
        let mut polled = Polled::with(routes);
        polled.about = 0;
        polled.polls(1, [1, 1, 0, 1, 0]);
        assert_eq!(polled.polls(1, [500, 15, 0, 128, 0]), Egress::Seen, "{routes:?}");
        assert!(polled.egress_check.waits_for_routes());
        assert_eq!(polled.polls(40, [10, 10, 0, 128, 0]), Egress::Seen, "{routes:?}");
        assert!(!polled.egress_check.waits_for_routes());
    }
    let mut asked = Polled::with(None);
    asked.polls(1, [1, 1, 0, 1, 0]);
    asked.polls(1, [500, 15, 0, 128, 0]);
    assert_eq!(asked.polls(1, [10, 10, 0, 128, 0]), Egress::Unseen, "no reply comes");
}

/// Number of polls, and the counts of each.
type Polls = (u32, [u64; 5]);

/// Counts that prove unseen replies by themselves.
const COUNTED: [(&str, &[Polls]); 3] = [
    ("a queue that grows", &[(1, [1, 1, 0, 1, 0]), (1, [500, 15, 0, 128, 0])]),
    ("cookies of the kernel", &[(1, [1000, 0, 0, 0, 900])]),
    ("a queue that stands", &[(33, [1000, 0, 0, 128, 0])]),
];

#[test]
fn sources_with_replies_elsewhere_make_no_listener_unseen() {
    for (name, polls) in COUNTED {
        let verdict = |routes| {
            let mut polled = Polled::with(Some(routes));
            polls.iter().fold(Egress::Unknown, |_, (times, counts)| polled.polls(*times, *counts))
        };
        assert_eq!(verdict(Routes::default()), Egress::Unseen, "by counts alone: {name}");
        assert_eq!(verdict(SPOOFED), Egress::Seen, "{name}");
        assert_eq!(verdict(ASYMMETRIC), Egress::Unseen, "clients are answered there: {name}");
    }
}

#[test]
fn clients_that_complete_unanswered_handshakes_prove_it_whatever_routes_say() {
    let mut polled = Polled::with(Some(SPOOFED));
    polled.unanswered = 1000;
    assert_eq!(polled.polls(8, [1010, 0, 10, 128, 0]), Egress::Unseen);
}

#[test]
fn only_what_goes_where_clients_answers_go_is_a_proof() {
    for (ordinary, expected) in [(0.25, Egress::Seen), (0.26, Egress::Unseen)] {
        let mut polled = Polled::with(Some(Routes { ordinary: Some(ordinary), ..SPOOFED }));
        polled.polls(1, [1, 1, 0, 1, 0]);
        assert_eq!(polled.polls(1, [500, 15, 0, 128, 0]), expected, "{ordinary} of 127");
    }
}

#[test]
fn where_the_route_of_replies_is_unknown_counts_decide_a_poll_later() {
    let mut polled = Polled::with(None);
    polled.polls(1, [1, 1, 0, 1, 0]);
    assert_eq!(polled.polls(1, [500, 15, 0, 128, 0]), Egress::Seen);
    assert_eq!(polled.polls(1, [500, 15, 0, 128, 0]), Egress::Unseen);
}

#[test]
fn unanswered_syns_have_their_routes_asked_for_now_and_then() {
    let polled = Polled::with(None);
    assert!(!polled.egress_check.asks_for_routes(polled.now));
    // 64 of them in four seconds, and not one in a hundred by chance.
    for (unanswered, syns, asked) in [(3, 100, false), (4, 1000, false), (4, 100, true)] {
        let mut polled = Polled::with(None);
        polled.unanswered = unanswered;
        polled.polls(40, [syns, syns - unanswered, 0, 0, 0]);
        assert_eq!(polled.egress_check.routes_asked().is_some(), asked, "{unanswered} of {syns}");
    }
    let times = |routes| {
        let mut polled = Polled::with(Some(routes));
        polled.unanswered = 100;
        let mut times = std::collections::BTreeSet::new();
        for _ in 0..80 {
            polled.polls(1, [200, 100, 0, 0, 0]);
            times.extend(polled.egress_check.routes_asked());
        }
        times.len()
    };
    assert_eq!((times(Routes::default()), times(SPOOFED)), (4, 20), "in 20 s");
}

#[test]
fn what_is_answered_elsewhere_counts_while_the_stack_takes_it() {
    let mut polled = Polled::with(Some(SPOOFED));
    polled.unanswered = 100;
    let hidden = |polled: &Polled| polled.egress_check.hidden(polled.now);
    polled.polls(8, [200, 100, 0, 15, 0]);
    assert_eq!(hidden(&polled), 0.0, "a packet filter may drop it");
    polled.polls(1, [200, 100, 0, 16, 0]);
    assert_eq!(hidden(&polled), 1.0);
    polled.polls(32, [200, 100, 0, 0, 0]);
    assert_eq!(hidden(&polled), 1.0, "queues are counted every five seconds in calm");
    polled.polls(1, [200, 100, 0, 0, 0]);
    assert_eq!(hidden(&polled), 0.0);
    polled.polls(1, [200, 100, 0, 0, 2]);
    polled.polls(15, [200, 100, 0, 0, 2]);
    assert_eq!(hidden(&polled), 1.0, "cookies of the kernel");
}
