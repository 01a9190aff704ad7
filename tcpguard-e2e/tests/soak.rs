//! Mixed traffic, attacks and changes for minutes, or an hour: they cost the agent nothing, and each
//! attack is told once. Needs root, `TCPGUARD_BIN` and bash.

use std::time::Duration;

use tcpguard_e2e::soak::judge;
use tcpguard_e2e::soak::play::play;
use tcpguard_e2e::soak::samples::Held;
use tcpguard_e2e::soak::schedule::{Schedule, What};
use tcpguard_goals::{Goal, Row, minutes, seed};

const SECOND: Duration = Duration::from_secs(1);
/// Share of the clients that must be answered within a second, floods' first second included.
const SERVED: f64 = 0.99;

#[test]
fn soak_attacks_and_changes_cost_nothing_and_each_is_told_once() {
    let row = Row::new(Goal::Soak);
    let schedule = Schedule::draw(seed(), 60 * SECOND * minutes(3, 60));
    let record = play(&schedule).unwrap();

    let mut faults = judge::leaks(&record.samples);
    faults.extend(judge::incidents(&record.played, &record.lives, &record.told));
    faults.extend(judge::polls(&record.polls));
    let served = record.attempts.share_within(SECOND);
    if served < SERVED {
        faults.push(record.attempts.summary());
    }
    let floods =
        schedule.events.iter().filter(|event| matches!(event.what, What::Flood(_))).count();
    let growth = judge::growth(&record.samples).expect("looks at the agent");
    let most = |of: fn(&Held) -> u64| record.samples.iter().map(|s| of(&s.held)).max().unwrap_or(0);
    let said = format!(
        "floods, {} agents: {growth}, at most {} KiB, {} of files, {} of maps, {} descriptors and {} \
         threads; {} incidents, {:.2} % of {} clients served{}",
        record.lives.len(),
        most(|held| held.anonymous) >> 10,
        most(|held| held.file) >> 10,
        most(|held| held.maps) >> 10,
        most(|held| held.descriptors),
        most(|held| held.threads),
        record.told.len(),
        100.0 * served,
        record.attempts.0.len(),
        faults.iter().fold(String::new(), |all, fault| all + "; " + fault),
    );
    let leaks = judge::leaks(&record.leaky);
    let found = ["memory", "descriptors"].map(|what| leaks.iter().any(|leak| leak.contains(what)));
    row.result(floods as u64, said, faults.is_empty())
        .naive(
            schedule.length.as_secs(),
            format!("seconds with 32 KiB and a descriptor leaked in each: {}", leaks.join("; ")),
            found == [true; 2],
        )
        .finish();
}
