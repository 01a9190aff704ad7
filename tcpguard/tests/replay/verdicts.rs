//! Verdicts on traffic of known kinds.

use rustix::time::{ClockId, clock_gettime};
use tcpguard_engine::Mode;

use super::files::PCAP;
use super::packets::*;
use super::{observe, run, verdicts, whole};

/// Clients that come one after another.
fn visitors(from: u64, count: u32, every: u64, shows: Shows) -> Vec<Stamped> {
    // Those of another second are others.
    let first = (from / SECOND % 1000) as u32 * 10_000;
    (0..count)
        .flat_map(|n| {
            let at = from + u64::from(n) * every;
            connection(at, client(first + n), addr(SERVER), shows)
        })
        .collect()
}

#[test]
fn a_spoofed_flood_is_one_in_both_directions_or_one() {
    for shows in [Shows::Both, Shows::Arriving] {
        let mut packets = visitors(BEGIN, 200, 50 * MS, shows);
        packets.extend(flood(BEGIN + 5 * SECOND, 5, 1000, shows, any_address));
        let replay = observe(&PCAP.write(&in_order(packets)));
        assert_eq!(verdicts(&replay), [("random_spoofed", SERVER)], "{shows:?}");
        let incident = &replay.incidents[0];
        assert!((4.5..=5.5).contains(&incident.started_s), "{shows:?}: {}", incident.started_s);
        assert!(incident.detected_after_s <= 1.5, "{shows:?}: {}", incident.detected_after_s);
        assert_eq!(incident.ended_s, None);
        assert!((4500..=5100).contains(&incident.syns), "{shows:?}: {}", incident.syns);
        assert!(
            (4000..=6000).contains(&incident.evidence.numbers.sources_estimate),
            "{}",
            incident.evidence.numbers.sources_estimate
        );
        assert_eq!(replay.handshakes, 200, "{shows:?}");
    }
}

#[test]
fn a_single_source_flood_is_one_in_both_directions_or_one() {
    let one = |_| "203.0.113.9".parse().unwrap();
    for shows in [Shows::Both, Shows::Arriving] {
        let mut packets = visitors(BEGIN, 100, 50 * MS, shows);
        packets.extend(flood(BEGIN + 2 * SECOND, 3, 500, shows, one));
        let replay = observe(&PCAP.write(&in_order(packets)));
        assert_eq!(verdicts(&replay), [("single_source", SERVER)], "{shows:?}");
        let top = &replay.incidents[0].evidence.numbers.top_sources[0];
        assert_eq!(top.addr.to_string(), "203.0.113.9");
    }
}

#[test]
fn a_flood_shorter_than_a_poll_at_the_very_end_is_seen() {
    let one = |_| "203.0.113.9".parse().unwrap();
    let packets = flood(BEGIN, 1, 1000, Shows::Arriving, one);
    let replay = observe(&PCAP.write(&packets[..200]));
    assert_eq!(verdicts(&replay), [("single_source", SERVER)]);
}

#[test]
fn clients_that_complete_are_no_incident_however_many_come_at_once() {
    for shows in [Shows::Both, Shows::Arriving] {
        let mut packets = visitors(BEGIN, 100, 100 * MS, shows);
        packets.extend(visitors(BEGIN + 10 * SECOND, 2000, MS, shows));
        let replay = observe(&PCAP.write(&in_order(packets)));
        let floods: Vec<_> =
            verdicts(&replay).into_iter().filter(|(class, _)| *class != "flash_crowd").collect();
        assert_eq!(floods, [], "{shows:?}");
        assert_eq!(replay.handshakes, 2100, "{shows:?}");
    }
}

#[test]
fn a_burst_of_38_syns_within_a_poll_is_no_incident() {
    let packets = flood(BEGIN, 1, 380, Shows::Arriving, any_address);
    assert_eq!(verdicts(&observe(&PCAP.write(&packets[..38]))), []);
}

#[test]
fn syns_to_many_places_flood_none_of_them() {
    let mut dice = Dice(11);
    let packets: Vec<Stamped> = (0..1000)
        .map(|number| {
            let from = (any_address(dice.next()), 5000).into();
            let to = (any_address(dice.next()), 80).into();
            (BEGIN + number * MS, Tcp::new(from, to, SYN, 7, 0).packet())
        })
        .collect();
    assert_eq!(verdicts(&observe(&PCAP.write(&packets))), []);
}

/// Enforce mode: once the rule is there, the flood gets no replies, and clients go on.
#[test]
fn in_enforce_mode_answers_to_dropped_syns_are_left_out() {
    let mut packets = visitors(BEGIN, 1500, 10 * MS, Shows::Both);
    packets.extend(flood(BEGIN + 5 * SECOND, 10, 1000, Shows::Both, any_address));
    let file = PCAP.write(&in_order(packets));
    let observed = whole(run(&file, Mode::Observe));
    let enforced = whole(run(&file, Mode::Enforce));
    for replay in [&observed, &enforced] {
        assert_eq!(verdicts(replay), [("random_spoofed", SERVER)]);
    }
    let (observed, enforced) = (&observed.incidents[0], &enforced.incidents[0]);
    assert_eq!(observed.evidence.dropped, 0);
    assert!(observed.evidence.matched > 5000, "{}", observed.evidence.matched);
    assert!(enforced.evidence.dropped > 5000, "{}", enforced.evidence.dropped);
    assert!(enforced.syns >= 9500, "what is dropped is still counted: {}", enforced.syns);
}

#[test]
fn an_incident_ends_when_it_has_been_quiet_and_a_later_flood_is_another() {
    let mut packets = visitors(BEGIN, 20, 10 * SECOND, Shows::Both);
    packets.extend(flood(BEGIN + 5 * SECOND, 4, 500, Shows::Both, any_address));
    packets.extend(flood(BEGIN + 120 * SECOND, 4, 500, Shows::Both, any_address));
    let replay = observe(&PCAP.write(&in_order(packets)));
    let ended: Vec<bool> = replay.incidents.iter().map(|i| i.ended_s.is_some()).collect();
    assert_eq!(ended, [true, true]);
    let first = replay.incidents[0].ended_s.unwrap();
    assert!((8.5..=10.5).contains(&first), "{first}");
}

/// A hundred silences of an hour and one of years take no longer than the packets between them.
#[test]
fn silence_costs_nothing() {
    let mut packets = Vec::new();
    for hour in 0..100 {
        let at = BEGIN + hour * 3600 * SECOND;
        packets.extend(flood(at, 2, 200, Shows::Both, any_address));
    }
    packets.extend(flood(u64::from(u32::MAX) * SECOND, 1, 200, Shows::Both, any_address));
    let file = PCAP.write(&packets);
    // CPU time of this process, because the machine may be doing something else.
    let computed = || clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let before = computed();
    let replay = observe(&file);
    // The polls of a hundred hours alone would be a million and a half.
    assert!(computed() - before < 60, "{} s", computed() - before);
    assert!(replay.duration_s > 80.0 * 365.0 * 86_400.0);
    // The last of them has not been quiet for long when the capture ends.
    assert!(replay.incidents.len() >= 100, "{}", replay.incidents.len());
    assert!(replay.incidents[..100].iter().all(|incident| incident.ended_s.is_some()));
}

/// Time of the n-th of the packets, or clients, that come two and a half days apart, in ns since 1970.
fn days_apart(number: u64) -> u64 {
    BEGIN + number * 216_000 * SECOND
}

/// The cost lies in polls, and in nearly all polls of such a silence nothing can change.
#[test]
fn single_packets_days_apart_cost_a_few_polls_each() {
    let mut packets = flood(BEGIN, 1, 2000, Shows::Arriving, any_address);
    for (number, (at, _)) in (0..).zip(&mut packets) {
        *at = days_apart(number);
    }
    let outcome = run(&PCAP.write(&packets), Mode::Observe).expect("a capture");
    assert!(outcome.polls <= 5 * 2000, "{} polls", outcome.polls);
    let replay = whole(Ok(outcome));
    assert_eq!((verdicts(&replay), replay.syns), (vec![], 2000));
}

#[test]
fn what_comes_after_long_silences_is_judged_as_without_them() {
    let clients = (0..400).flat_map(|number| {
        connection(days_apart(number), client(1_000_000 + number as u32), addr(SERVER), Shows::Both)
    });
    let begin = days_apart(400);
    let mut flooded = visitors(begin, 100, 50 * MS, Shows::Both);
    flooded.extend(flood(begin + 2 * SECOND, 3, 1000, Shows::Both, any_address));
    flooded.extend(visitors(begin + 90 * SECOND, 20, 50 * MS, Shows::Both));
    let alone = in_order(flooded);
    let detected = |packets: &[Stamped]| {
        let before = (begin - packets[0].0) as f64 / SECOND as f64;
        let replay = observe(&PCAP.write(packets));
        let [incident] = &replay.incidents[..] else { panic!("{:?}", verdicts(&replay)) };
        let ended = incident.ended_s.expect("it ended before the last clients came");
        (incident.class.name(), incident.started_s - before, ended - before)
    };
    let (class, started, ended) = detected(&alone);
    let late = detected(&clients.chain(alone.iter().cloned()).collect::<Vec<_>>());
    assert_eq!((class, late.0), ("random_spoofed", "random_spoofed"));
    assert!((late.1 - started).abs() < 0.5, "{started} {}", late.1);
    assert!((late.2 - ended).abs() <= 1.0, "{ended} {}", late.2);
}

#[test]
fn time_that_steps_back_neither_hides_nor_makes_a_flood() {
    let calm = visitors(BEGIN, 100, 50 * MS, Shows::Both);
    let mut packets = in_order(calm);
    // The clock is set back by an hour, and then every second packet is out of order.
    let mut late = in_order(flood(BEGIN - 3600 * SECOND, 3, 1000, Shows::Both, any_address));
    for (number, (at, _)) in late.iter_mut().enumerate() {
        *at -= (number as u64 % 2) * 100 * MS;
    }
    packets.extend(late);
    let replay = observe(&PCAP.write(&packets));
    assert_eq!(verdicts(&replay), [("random_spoofed", SERVER)]);
    assert!((7.5..=8.5).contains(&replay.duration_s), "{}", replay.duration_s);
}

/// Just below the rate from which flows are sampled, the flow table is as full as it gets.
#[test]
fn of_more_flows_than_are_looked_at_a_sample_says_the_same() {
    let mut packets = visitors(BEGIN, 200, 25 * MS, Shows::Both);
    packets.extend(flood(BEGIN + SECOND, 4, 18_000, Shows::Both, any_address));
    let replay = observe(&PCAP.write(&in_order(packets)));
    assert_eq!(verdicts(&replay), [("random_spoofed", SERVER)]);
    let evidence = &replay.incidents[0].evidence.numbers;
    assert!(evidence.failed_flows > 20_000, "each of the sample stands for several");
    assert!(evidence.singleton_share > 0.99, "{}", evidence.singleton_share);
}

#[test]
fn the_same_capture_has_the_same_verdict() {
    let packets = flood(BEGIN, 3, 30_000, Shows::Arriving, any_address);
    let file = PCAP.write(&packets);
    assert_eq!(observe(&file), observe(&file));
}
