use proptest::prelude::*;
use tcpguard_engine::{Listener, ListenerKind, ListenerSample};

use super::*;

const POLL: u64 = 250;

/// A listener with these counters and half-open handshakes.
fn listener(id: u32, counters: ListenerCounters, half_open: Option<u32>) -> ListenerSample {
    ListenerSample {
        id: ListenerId(id),
        listener: Listener { addr: [192, 0, 2, 1].into(), port: 443 },
        kind: ListenerKind::Local,
        counters,
        queues: Some(Queues { half_open, accept: 1, backlog: 128 }),
        distinct_sources: 0,
    }
}

fn syns(syn: u64) -> ListenerCounters {
    ListenerCounters { syn, ..ListenerCounters::default() }
}

fn sample(at_ms: u64, listeners: Vec<ListenerSample>) -> Sample {
    Sample { at: Timestamp::from_millis(at_ms), listeners, ..Sample::default() }
}

/// Time since boot as time of day.
fn time_at(at: Timestamp) -> Time {
    Time(jiff::Timestamp::UNIX_EPOCH.checked_add(at.since(Timestamp::default())).unwrap())
}

fn document(line: &Line) -> Timeline {
    line.document(7, time_at)
}

/// SYNs of a line, from its rates.
fn counted(line: &Timeline) -> f64 {
    let begins = std::iter::once(0).chain(line.points.iter().map(|point| point.at_ms));
    let spans = begins.zip(&line.points).map(|(begin, point)| point.at_ms - begin);
    spans.zip(&line.points).map(|(span, point)| point.syn_pps * span as f64 / 1000.0).sum()
}

#[test]
fn what_came_in_the_half_minute_before_is_known_when_an_incident_begins() {
    let mut recorder = Recorder::default();
    for poll in 0..=200 {
        let half_open = (poll % 20 == 0).then_some(3);
        let listeners = vec![listener(0, syns(10 * poll), half_open)];
        recorder.note(&sample(60_000 + POLL * poll, listeners), Mode::Observe);
    }
    recorder.begin(7, ListenerId(0));
    let line = document(&recorder.open()[&7]);
    assert_eq!((line.id, line.interval_ms, line.points.len()), (7, 250, BEFORE));
    assert_eq!(line.began, time_at(Timestamp::from_millis(60_000 + 50_000 - 30_000)));
    assert_eq!(line.points[0].at_ms, 250);
    assert_eq!(line.points[BEFORE - 1].at_ms, 30_000);
    assert!(line.points.iter().all(|point| point.syn_pps == 40.0));
    let half_open = line.points.iter().filter_map(|point| point.half_open);
    assert_eq!(half_open.collect::<Vec<_>>(), [3; 6], "every fifth second");
    let of = |point: &Point| (point.accept_queue, point.queue_limit);
    assert_eq!(of(&line.points[0]), (Some(1), Some(128)));
}

#[test]
fn a_line_ends_once_and_begins_once() {
    let mut recorder = Recorder::default();
    recorder.begin(1, ListenerId(0));
    assert!(recorder.open().is_empty(), "nothing is known of that listener");
    for poll in 0..4 {
        recorder.note(&sample(POLL * poll, vec![listener(0, syns(poll), None)]), Mode::Observe);
        recorder.begin(1, ListenerId(0));
    }
    assert_eq!(document(&recorder.end(1).unwrap()).points.len(), 3);
    assert!(recorder.end(1).is_none());
    for incident in 2..1000 {
        recorder.begin(incident, ListenerId(0));
    }
    assert_eq!(recorder.open().len(), AT_ONCE);
}

#[test]
fn what_rules_match_is_dropped_in_enforce_mode_only_and_what_is_too_much_always() {
    let mut recorder = Recorder::default();
    let counters = |poll: u64| ListenerCounters {
        syn: 100 * poll,
        dropped_source: 10 * poll,
        dropped_signature: 20 * poll,
        limited: 5 * poll,
        cookies_sent: 40 * poll,
        established: Some(3 * poll),
        acknowledged: 4 * poll,
        ..ListenerCounters::default()
    };
    for (poll, mode) in (0..).zip([Mode::Observe, Mode::Observe, Mode::Enforce]) {
        recorder.note(&sample(1000 * poll, vec![listener(0, counters(poll), None)]), mode);
    }
    recorder.begin(7, ListenerId(0));
    let line = document(&recorder.open()[&7]);
    let dropped: Vec<f64> = line.points.iter().map(|point| point.dropped_pps).collect();
    assert_eq!(dropped, [5.0, 35.0]);
    let modes: Vec<Mode> = line.points.iter().map(|point| point.mode).collect();
    assert_eq!(modes, [Mode::Observe, Mode::Enforce]);
    let Point { syn_pps, completed_pps, matched_pps, cookies_sent_pps, .. } = line.points[0];
    assert_eq!((syn_pps, completed_pps, matched_pps, cookies_sent_pps), (100.0, 3.0, 30.0, 40.0));
}

#[test]
fn of_the_host_all_listeners_are_counted_and_what_is_nowhere() {
    let mut recorder = Recorder::default();
    for poll in 0..3 {
        let listeners = vec![listener(0, syns(7 * poll), None), listener(1, syns(5 * poll), None)];
        let host =
            HostCounters { no_listener: 9 * poll, unsolicited: 2 * poll, ..Default::default() };
        recorder.note(&Sample { host, ..sample(1000 * poll, listeners) }, Mode::Observe);
    }
    recorder.begin(7, ListenerId::HOST);
    let Point { syn_pps, nowhere_pps, unsolicited_pps, queue_limit, .. } =
        document(&recorder.open()[&7]).points[1];
    assert_eq!((syn_pps, nowhere_pps, unsolicited_pps, queue_limit), (12.0, 9.0, 2.0, None));
}

#[test]
fn five_minutes_of_the_host_are_remembered_second_by_second() {
    let mut recorder = Recorder::default();
    assert_eq!(recorder.history(time_at).seconds, []);
    for poll in 0..=2000 {
        let counters =
            ListenerCounters { limited: poll, cookies_sent: 2 * poll, ..syns(10 * poll) };
        let listeners = vec![listener(0, counters, None), listener(1, syns(poll), None)];
        let host =
            HostCounters { no_listener: 5 * poll, closed_dropped: 3 * poll, ..Default::default() };
        recorder.note(&Sample { host, ..sample(POLL * poll, listeners) }, Mode::Observe);
    }
    let History { seconds, .. } = recorder.history(time_at);
    assert_eq!(seconds.len(), SECONDS);
    let [first, .., last] = seconds[..] else { panic!() };
    assert_eq!(last.at, time_at(Timestamp::from_millis(500_000)));
    assert_eq!(first.at, time_at(Timestamp::from_millis(201_000)));
    assert_eq!((last.syn_pps, last.dropped_pps, last.cookies_sent_pps), (64.0, 16.0, 8.0));
    assert_eq!(last.passed_pps(), 40.0);
}

#[test]
fn a_counter_that_begins_again_counts_nothing() {
    let mut recorder = Recorder::default();
    for (poll, count) in (0..).zip([100, 200, 3, 13]) {
        recorder.note(&sample(1000 * poll, vec![listener(0, syns(count), None)]), Mode::Observe);
    }
    recorder.begin(7, ListenerId(0));
    let line = document(&recorder.open()[&7]);
    let rates: Vec<f64> = line.points.iter().map(|point| point.syn_pps).collect();
    assert_eq!(rates, [100.0, 0.0, 10.0]);
}

#[test]
fn the_busiest_listeners_are_remembered_and_one_that_becomes_busy_at_once() {
    let mut recorder = Recorder::default();
    let mut counts = vec![0_u64; 1000];
    for poll in 0..40 {
        for (id, count) in counts.iter_mut().enumerate() {
            *count += match id {
                0..200 => 20,
                // Attacked from the thirtieth poll on.
                999 if poll >= 30 => 500,
                _ => u64::from(poll % 4 == 0),
            };
        }
        let listeners = (0..).zip(&counts).map(|(id, count)| listener(id, syns(*count), None));
        recorder.note(&sample(POLL * poll, listeners.collect()), Mode::Observe);
    }
    let remembered = |id| recorder.tracks[&ListenerId(id)].intervals.len();
    assert!((0..200).all(|id| remembered(id) == 39));
    assert!(remembered(999) >= 10, "{}", remembered(999));
    let all = recorder.tracks.values().filter(|track| !track.intervals.is_empty()).count();
    assert_eq!(all, BUSIEST);

    let left = vec![listener(0, syns(counts[0]), None)];
    let gone = (1..1000).map(ListenerId).collect();
    recorder.note(&Sample { gone, ..sample(POLL * 40, left) }, Mode::Observe);
    let left: Vec<_> = recorder.tracks.keys().copied().collect();
    assert_eq!(left, [ListenerId(0), ListenerId::HOST], "those that have gone are forgotten");
}

#[test]
fn a_line_of_a_day_has_few_steps_and_forgets_no_syn_and_no_full_queue() {
    let mut recorder = Recorder::default();
    let mut total = 0;
    let polls = 86_400_000 / POLL;
    for poll in 0..=polls {
        total += if poll == 0 { 0 } else { 1 + poll % 3 };
        let half_open = (poll == 99_999).then_some(127).or(Some(1));
        let listeners = vec![listener(0, syns(total), half_open)];
        recorder.note(&sample(POLL * poll, listeners), Mode::Enforce);
        if poll == 1 {
            recorder.begin(7, ListenerId(0));
        }
        let intervals = recorder.lines.get(&7).map_or(0, |line| line.intervals.len());
        assert!(
            intervals < INTERVALS && (poll < 480 || intervals >= INTERVALS / 2),
            "{intervals} at {poll}"
        );
    }
    let line = document(&recorder.open()[&7]);
    assert!((200_000..=300_000).contains(&line.interval_ms), "{} ms", line.interval_ms);
    assert_eq!(line.points.last().unwrap().at_ms, 86_400_000);
    assert!(
        (counted(&line) - total as f64).abs() < 0.01 * 480.0 * 250.0,
        "{} {total}",
        counted(&line)
    );
    assert_eq!(line.points.iter().filter_map(|point| point.half_open).max(), Some(127));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whenever the agent comes to poll.
    #[test]
    fn steps_follow_each_other_and_hold_every_syn(
        polls in proptest::collection::vec((1..20_000_u64, 0..5_000_u64), 2..2_000),
        begin in 0..2_000_usize,
    ) {
        let mut recorder = Recorder::default();
        let (mut at, mut total) = (0, 0);
        let mut times = Vec::new();
        for (number, (span, count)) in polls.iter().enumerate() {
            at += span;
            total += count;
            times.push((at, total));
            recorder.note(&sample(at, vec![listener(0, syns(total), None)]), Mode::Observe);
            if number == begin.min(polls.len() - 1) {
                recorder.begin(7, ListenerId(0));
            }
        }
        let line = document(&recorder.open()[&7]);
        prop_assert!(line.points.len() < INTERVALS);
        prop_assert!(line.points.is_sorted_by(|one, next| one.at_ms < next.at_ms));
        let began = line.began.0.as_millisecond() as u64;
        let from = times.iter().find(|(at, _)| *at == began);
        prop_assert!(from.is_some(), "it begins at a poll");
        let expected = (total - from.unwrap().1) as f64;
        let last = line.points.last().map_or(0, |point| point.at_ms);
        prop_assert_eq!(began + last, at);
        // Rates have two decimals.
        let rounding = 0.005 * last as f64 / 1000.0 + 1e-6;
        prop_assert!((counted(&line) - expected).abs() <= rounding + 1e-9 * expected);
    }
}

#[test]
fn a_listener_that_is_still_for_long_is_not_followed_and_has_its_history_all_the_same() {
    let (mut recorder, id) = (Recorder::default(), ListenerId(0));
    for poll in 0..=300 {
        // A sample has it only where something has changed.
        let listeners = Vec::from_iter((poll == 0).then(|| listener(0, syns(7), Some(3))));
        recorder.note(&sample(POLL * poll, listeners), Mode::Observe);
    }
    assert!(!recorder.tracks.contains_key(&id));
    recorder.begin(7, id);
    recorder.note(&sample(POLL * 301, vec![listener(0, syns(17), None)]), Mode::Observe);
    let line = document(&recorder.open()[&7]);
    assert_eq!((line.points.len(), counted(&line)), (BEFORE + 1, 10.0));
    assert_eq!((line.points[0].queue_limit, line.points[0].half_open), (Some(128), None));
    recorder.note(&Sample { gone: vec![id], ..sample(POLL * 302, Vec::new()) }, Mode::Observe);
    assert!(!recorder.tracks.contains_key(&id) && !recorder.idle.contains_key(&id));
}
