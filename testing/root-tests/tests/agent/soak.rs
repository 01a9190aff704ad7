//! Mixed traffic, attacks and changes for minutes, or an hour: they cost the agent nothing, and each
//! attack is reported once. Needs root, `TCPGUARD_BIN` and bash.

use std::collections::BTreeSet;
use std::time::Duration;

use tcpguard_goals::{Goal, Row, minutes, seed, size};
use tcpguard_kit::net::lab::PORT;
use tcpguard_kit::soak::judge::{self, Growth, Reported};
use tcpguard_kit::soak::play::play;
use tcpguard_kit::soak::samples::Held;
use tcpguard_kit::soak::schedule::{Schedule, What};

const SECOND: Duration = Duration::from_secs(1);
/// Share of the clients that must be answered within a second, floods' first second included.
const SERVED: f64 = 0.99;

#[test]
fn soak_attacks_and_changes_leak_nothing_and_each_is_reported_once() {
    let row = Row::new(Goal::Soak);
    let schedule = Schedule::draw(seed(), 60 * SECOND * minutes(3, 60));
    let record = play(&schedule).unwrap();

    let mut faults = judge::leaks(&record.samples);
    faults.extend(judge::incidents(&record.played, &record.lives, &record.reported));
    faults.extend(judge::polls(&record.polls));
    let served = record.attempts.share_within(SECOND);
    if served < SERVED {
        faults.push(record.attempts.summary());
    }
    let growth = Growth::in_use(&record.samples);
    if size(false, true) && !growth.saw_the_grown() {
        faults.push("no agent got old enough to judge its memory by an hour".to_owned());
    }
    if !faults.is_empty() {
        let minutes = |value| judge::minutes(&record.samples, value);
        faults.push(format!(
            "KiB by the minute: {} in use, {} resident",
            minutes(|held| held.in_use),
            minutes(|held| held.anonymous)
        ));
    }
    let floods =
        schedule.events.iter().filter(|event| matches!(event.what, What::Flood(_))).count();
    let most = |of: fn(&Held) -> u64| record.samples.iter().map(|s| of(&s.held)).max().unwrap_or(0);
    let said = format!(
        "floods, {} agents: {growth} in use, {} resident, at most {} and {} KiB, {} of files, {} of maps, \
         {} descriptors and {} threads; {} incidents, {:.2} % of {} clients served{}",
        record.lives.len(),
        Growth::resident(&record.samples),
        most(|held| held.in_use) >> 10,
        most(|held| held.anonymous) >> 10,
        most(|held| held.file) >> 10,
        most(|held| held.maps) >> 10,
        most(|held| held.descriptors),
        most(|held| held.threads),
        record.reported.len(),
        100.0 * served,
        record.attempts.0.len(),
        faults.iter().fold(String::new(), |all, fault| all + "; " + fault),
    );
    let leaks = judge::leaks(&record.leaky);
    let mistakes = judge::incidents(&record.played, &record.lives, &mistaken(&record.reported));
    let names = |all: &[String], what: &str| all.iter().any(|one| one.contains(what));
    row.result(floods as u64, said, faults.is_empty())
        .naive(
            schedule.length.as_secs(),
            format!(
                "seconds with 32 KiB and a descriptor leaked in each: {}; of a detector that misses the last \
                 flood and reports one in the first second: {}",
                leaks.join("; "),
                mistakes.join("; ")
            ),
            ["memory", "descriptors"].iter().all(|what| names(&leaks, what))
                && ["missed", "invented"].iter().all(|what| names(&mistakes, what)),
        )
        .finish();
}

/// The incidents of a detector that missed the last flood and reported one without cause.
fn mistaken(reported: &BTreeSet<Reported>) -> BTreeSet<Reported> {
    let floods = reported.iter().filter(|incident| incident.class != "flash_crowd");
    let last = floods.max_by_key(|incident| incident.at_ms);
    let class = "random_spoofed".to_owned();
    let invented = Reported { id: u64::MAX, port: PORT, class, at_ms: 1_000 };
    let others = reported.iter().filter(|incident| Some(*incident) != last);
    others.cloned().chain([invented]).collect()
}
