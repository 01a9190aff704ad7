use super::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn failed() -> MitigationReason {
    MitigationReason::Failed { error: "no".into(), remedy: None }
}

fn need(mitigation: Mitigation) -> Need {
    let (why, hold) = (MitigationReason::QueueFull, Duration::from_secs(30));
    Need { mitigation, why, rate: 0, hold }
}

fn poll(ladder: &mut Ladder, ms: u64, needs: &[Need], over: bool) -> Vec<Move> {
    ladder.poll(at(ms), needs, over.then(|| at(ms)), |_| None)
}

fn takes(moves: &[Move]) -> Vec<Mitigation> {
    let taken = |one: &Move| match one {
        Move::Take { mitigation, .. } => Some(*mitigation),
        Move::Leave { .. } => None,
    };
    moves.iter().filter_map(taken).collect()
}

#[test]
fn a_mitigation_starts_once_and_stops_half_a_minute_after_it_was_last_needed() {
    let mut ladder = Ladder::default();
    let needs = [need(Mitigation::Cookies)];
    assert_eq!(takes(&poll(&mut ladder, 1000, &needs, false)), [Mitigation::Cookies]);
    assert_eq!(poll(&mut ladder, 1250, &needs, false), []);
    assert_eq!(poll(&mut ladder, 31_000, &[], false), []);
    assert!(ladder.has(Mitigation::Cookies));
    let left = poll(&mut ladder, 31_250, &[], false);
    assert!(matches!(&left[..], [Move::Leave { mitigation: Mitigation::Cookies, .. }]), "{left:?}");
    assert!(!ladder.has(Mitigation::Cookies));
}

#[test]
fn when_it_is_over_every_mitigation_stops_at_once() {
    let mut ladder = Ladder::default();
    poll(&mut ladder, 1000, &[need(Mitigation::Cookies), need(Mitigation::Budget)], false);
    assert_eq!(poll(&mut ladder, 1250, &[], true).len(), 2);
}

/// A new agent may take a flood for failed handshakes at first.
#[test]
fn an_adopted_mitigation_stays_active_until_its_flood_is_detected_again() {
    let inherited = || {
        let mut ladder = Ladder::default();
        ladder.adopt(at(1000), Mitigation::Cookies, 0, Duration::from_secs(30));
        ladder
    };
    let mut ladder = inherited();
    assert_eq!(poll(&mut ladder, 1250, &[], true), []);
    assert_eq!(poll(&mut ladder, 1500, &[need(Mitigation::Cookies)], false), []);
    assert_eq!(poll(&mut ladder, 1750, &[], true).len(), 1, "now it has ended");
    let mut ladder = inherited();
    assert_eq!(poll(&mut ladder, 30_900, &[], true), []);
    assert_eq!(poll(&mut ladder, 31_000, &[], true).len(), 1, "it was no longer needed");
}

#[test]
fn a_deferred_mitigation_waits_and_is_not_refused() {
    let mut ladder = Ladder::default();
    ladder.defer(at(1000), Mitigation::Cookies, failed());
    assert!(
        ladder.waits(Mitigation::Cookies, at(1999))
            && !ladder.refuses(Mitigation::Cookies, at(1999))
    );
    assert!(!ladder.waits(Mitigation::Cookies, at(2000)), "it is tried again");
}

#[test]
fn a_failed_mitigation_is_retried_after_a_minute_then_after_two() {
    let mut ladder = Ladder::default();
    let needs = [need(Mitigation::Cookies)];
    poll(&mut ladder, 1000, &needs, false);
    assert!(ladder.refuse(at(1000), Mitigation::Cookies, failed()));
    assert_eq!(poll(&mut ladder, 60_750, &needs, false), []);
    assert_eq!(takes(&poll(&mut ladder, 61_000, &needs, false)), [Mitigation::Cookies]);
    ladder.refuse(at(61_000), Mitigation::Cookies, failed());
    assert_eq!(poll(&mut ladder, 180_750, &needs, false), []);
    assert_eq!(takes(&poll(&mut ladder, 181_000, &needs, false)), [Mitigation::Cookies]);
}

#[test]
fn a_withheld_mitigation_is_not_retried_before_something_changes() {
    let needs = [need(Mitigation::Cookies)];
    let withheld = || {
        let mut ladder = Ladder::default();
        poll(&mut ladder, 1000, &needs, false);
        assert!(ladder.withhold(Mitigation::Cookies, failed()));
        ladder.forgive();
        assert_eq!(poll(&mut ladder, 100_000_000, &needs, false), []);
        let reported = ladder.report(at(100_000_000)).next().expect("refused");
        assert_eq!((reported.state, reported.until), (MitigationState::Refused, None));
        ladder
    };
    let mut ladder = withheld();
    ladder.reconsider(at(100_000_000), Mitigation::Cookies, false);
    assert_eq!(takes(&poll(&mut ladder, 100_000_000, &needs, false)), [Mitigation::Cookies]);
    let mut ladder = withheld();
    ladder.order(Mitigation::Cookies, Order::Auto, 0, at(100_000_000));
    assert_eq!(takes(&poll(&mut ladder, 100_000_000, &needs, false)), [Mitigation::Cookies]);
}

#[test]
fn what_may_have_changed_ends_what_has_no_end_and_later_each_time() {
    let mut ladder = Ladder::default();
    let needs = [need(Mitigation::Cookies)];
    ladder.refuse(at(1000), Mitigation::Cookies, failed());
    ladder.reconsider(at(2000), Mitigation::Cookies, false);
    assert_eq!(poll(&mut ladder, 60_750, &needs, false), [], "it has an end of its own");
    ladder.reconsider(at(60_750), Mitigation::Cookies, true);
    assert_eq!(takes(&poll(&mut ladder, 60_750, &needs, false)), [Mitigation::Cookies]);
    ladder.withhold(Mitigation::Cookies, failed());
    for ms in [61_000, 200_000] {
        ladder.reconsider(at(ms), Mitigation::Cookies, false);
    }
    assert_eq!(poll(&mut ladder, 300_750, &needs, false), [], "it is the second time");
    assert_eq!(takes(&poll(&mut ladder, 301_000, &needs, false)), [Mitigation::Cookies]);
}

#[test]
fn an_operators_word_counts_until_it_ends() {
    let mut ladder = Ladder::default();
    ladder.order(Mitigation::Cookies, Order::Off, 0, at(10_000));
    assert_eq!(poll(&mut ladder, 1000, &[need(Mitigation::Cookies)], false), []);
    assert!(ladder.forbidden(at(1000), Mitigation::Cookies));
    assert_eq!(takes(&poll(&mut ladder, 10_000, &[need(Mitigation::Cookies)], false)).len(), 1);

    let mut ladder = Ladder::default();
    ladder.order(Mitigation::Budget, Order::On, 1000, at(10_000));
    assert_eq!(takes(&poll(&mut ladder, 1000, &[], true)), [Mitigation::Budget]);
    assert_eq!(poll(&mut ladder, 9_750, &[], true), []);
    assert_eq!(poll(&mut ladder, 10_000, &[], true).len(), 1);
}

#[test]
fn what_the_configuration_forbids_is_left_at_once_and_only_an_operators_word_stands_over_it() {
    let mut ladder = Ladder::default();
    let needs = [need(Mitigation::Cookies), need(Mitigation::Budget)];
    assert_eq!(poll(&mut ladder, 1000, &needs, false).len(), 2);
    ladder.bar(&[Mitigation::Cookies]);
    let left = poll(&mut ladder, 1250, &needs, false);
    assert!(matches!(&left[..], [Move::Leave { mitigation: Mitigation::Cookies, .. }]), "{left:?}");
    let reported = |ladder: &Ladder, ms| {
        let mut reported =
            ladder.report(at(ms)).filter(|report| report.mitigation == Mitigation::Cookies);
        reported.next().map(|report| (report.state, report.until))
    };
    assert_eq!(reported(&ladder, 1250), Some((MitigationState::Forbidden, None)));

    ladder.order(Mitigation::Cookies, Order::On, 0, at(10_000));
    assert_eq!(takes(&poll(&mut ladder, 1500, &needs, false)), [Mitigation::Cookies]);
    assert_eq!(poll(&mut ladder, 10_000, &needs, false).len(), 1, "its time is over");
    ladder.bar(&[]);
    assert_eq!(takes(&poll(&mut ladder, 10_250, &needs, false)), [Mitigation::Cookies]);
}

#[test]
fn where_the_agent_may_not_act_no_order_takes_a_mitigation_that_keeps_syns_away() {
    let mut ladder = Ladder::default();
    ladder.order(Mitigation::Cookies, Order::On, 0, at(60_000));
    for ms in [1000, 1250, 1500] {
        let needs = [need(Mitigation::Budget), need(Mitigation::OutOfState)];
        let idle = |mitigation: Mitigation| {
            mitigation.keeps_syns_away().then_some(HeldBack::AgentObserves)
        };
        let moves = ladder.poll(at(ms), &needs, None, idle);
        assert_eq!(takes(&moves).len(), usize::from(ms == 1000), "{moves:?}");
    }
    assert!(ladder.has(Mitigation::OutOfState) && !ladder.has(Mitigation::Cookies));
}

#[test]
fn a_budget_that_changes_is_taken_again() {
    let mut ladder = Ladder::default();
    let budget = |rate| [Need { rate, ..need(Mitigation::Budget) }];
    assert_eq!(poll(&mut ladder, 1000, &budget(100), false).len(), 1);
    assert_eq!(poll(&mut ladder, 1250, &budget(100), false), []);
    let moved = poll(&mut ladder, 1500, &budget(50), false);
    assert!(matches!(&moved[..], [Move::Take { rate: 50, .. }]), "{moved:?}");
}

#[test]
fn a_flood_that_a_hint_announced_is_dropped_beyond_the_limits_until_its_time_is_over() {
    let hint = || {
        let why = MitigationReason::Hinted { hosts: 3 };
        [Need { why, hold: Duration::ZERO, ..need(Mitigation::Cookies) }]
    };
    let mut ladder = Ladder::default();
    assert_eq!(takes(&poll(&mut ladder, 1000, &hint(), false)), [Mitigation::Cookies]);
    assert!(ladder.sends_ahead());
    assert_eq!(poll(&mut ladder, 1250, &[need(Mitigation::Cookies)], false), []);
    assert!(!ladder.sends_ahead(), "the flood has come");
    for ms in [1500, 31_000] {
        assert_eq!(poll(&mut ladder, ms, &hint(), false), []);
        assert!(!ladder.sends_ahead(), "cookies are held for the flood");
    }
    assert_eq!(poll(&mut ladder, 31_250, &hint(), false), []);
    assert!(ladder.sends_ahead(), "only the hint is left");
    assert_eq!(poll(&mut ladder, 31_500, &[], false).len(), 1, "it ends with the hint");
    assert!(!ladder.sends_ahead());
}
