//! What the targets need, in bounded time: the cells that they are judged by for several rounds, and
//! every defence at every rate once, for the plots.

use super::arm::Arm;
use super::attack::{Delivery, Kind, Rate};
use super::record::Record;
use super::run::Setting;

/// Connections per second from strangers, and as many from regulars.
pub const CLIENTS: u32 = 200;

const ROUNDS: usize = 3;

/// What targets are judged by.
const JUDGED: [(Kind, Rate, &[Arm]); 3] = [
    (Kind::Crude, Rate::Maximum, &[Arm::Drop, Arm::Ours]),
    (Kind::Mimic, Rate::Paced(500_000), &[Arm::Cookies1, Arm::Ours]),
    (Kind::Mimic, Rate::Maximum, &[Arm::Cookies1, Arm::OursAnswering, Arm::Ours]),
];

const PACES: [Rate; 4] =
    [Rate::Paced(10_000), Rate::Paced(100_000), Rate::Paced(500_000), Rate::Maximum];
/// `tcp_syncookies=2` does under a flood what 1 does.
const AGAINST_CRUDE: [Arm; 12] = [
    Arm::None,
    Arm::Cookies1,
    Arm::Synproxy,
    Arm::Hashlimit,
    Arm::HashlimitOnly,
    Arm::Meter,
    Arm::MeterOnly,
    Arm::XdpFilter,
    Arm::DropGeneric,
    Arm::Drop,
    Arm::Ours,
    Arm::OursGeneric,
];
const AGAINST_COPIES: [Arm; 3] = [Arm::Cookies1, Arm::Drop, Arm::Ours];
/// Where native XDP gains nothing.
const AS_SOCKET_BUFFERS: [Arm; 4] = [Arm::Cookies1, Arm::DropGeneric, Arm::Drop, Arm::Ours];

/// In the order in which a round goes through them: what is in one setting together, since it shares
/// the perfect drops between. `quick`: one round of what is judged.
pub fn of_targets(base: Setting, quick: bool) -> Vec<Record> {
    let mut records = Vec::new();
    if !quick {
        records.push(Record::new(Arm::Cookies1, base, 1));
        for (flood, rates, arms) in [
            (Kind::Crude, &PACES[..], &AGAINST_CRUDE[..]),
            (Kind::Mimic, &PACES[1..], &AGAINST_COPIES[..]),
        ] {
            for &rate in rates {
                let setting = Setting { flood, rate: Some(rate), ..base };
                records.extend(arms.iter().map(|arm| Record::new(*arm, setting, 1)));
            }
        }
        let setting = Setting {
            rate: Some(Rate::Maximum),
            delivery: Delivery::Sockets,
            flood: Kind::Crude,
            ..base
        };
        records.extend(AS_SOCKET_BUFFERS.iter().map(|arm| Record::new(*arm, setting, 1)));
    }
    for (flood, rate, arms) in JUDGED {
        let setting = Setting { flood, rate: Some(rate), ..base };
        arms.iter()
            .for_each(|arm| judge(&mut records, *arm, setting, if quick { 1 } else { ROUNDS }));
    }
    records
}

/// Has a cell run in all rounds: one that is there already, or another beside its neighbours.
fn judge(records: &mut Vec<Record>, arm: Arm, setting: Setting, rounds: usize) {
    let same = records.iter_mut().find(|record| record.arm == arm && record.setting == setting);
    if let Some(record) = same {
        record.rounds = rounds;
        return;
    }
    let neighbour = records.iter().rposition(|record| record.setting == setting);
    let place = neighbour.map_or(records.len(), |at| at + 1);
    records.insert(place, Record::new(arm, setting, rounds));
}

#[cfg(test)]
mod tests {
    use tcpguard_e2e::lab::Family;

    use super::*;

    fn base() -> Setting {
        Setting { clients: CLIENTS, ..Setting::near(Family::V4) }
    }

    #[test]
    fn what_is_judged_is_run_in_all_rounds_and_everything_else_once() {
        let records = of_targets(base(), false);
        let judged: Vec<_> = records.iter().filter(|record| record.rounds == ROUNDS).collect();
        assert_eq!(judged.len(), 7);
        assert!(records.iter().all(|record| [1, ROUNDS].contains(&record.rounds)));
        let runs: usize = records.iter().map(|record| record.rounds).sum();
        assert!(runs <= 80, "{runs} runs take more than 25 minutes");
    }

    #[test]
    fn what_has_one_setting_is_run_together_and_no_cell_twice() {
        let records = of_targets(base(), false);
        let mut shown: Vec<(Setting, Vec<Arm>)> = Vec::new();
        for record in &records {
            match shown.last_mut().filter(|(setting, _)| *setting == record.setting) {
                Some((_, arms)) => arms.push(record.arm),
                None => shown.push((record.setting, vec![record.arm])),
            }
        }
        for (at, (setting, arms)) in shown.iter().enumerate() {
            assert!(!shown[..at].iter().any(|(other, _)| other == setting), "{setting:?} twice");
            assert!((1..arms.len()).all(|at| !arms[..at].contains(&arms[at])), "{arms:?}");
        }
    }

    #[test]
    fn a_quick_run_has_what_is_judged_only() {
        let records = of_targets(base(), true);
        assert_eq!(records.iter().map(|record| record.rounds).sum::<usize>(), 7);
    }
}
