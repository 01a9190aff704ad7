//! Plan of the runs: every defence at every rate, in bounded time, and the cells by which targets are judged.

use super::arm::Arm;
use super::attack::{Delivery, Kind, Rate};
use super::record::Record;
use super::run::Setting;

/// Connections per second from new clients, and as many from validated clients.
pub const CLIENTS: u32 = 200;

const ROUNDS: usize = 3;

/// The floods and defences by which targets are judged.
const JUDGED: [(Kind, Rate, &[Arm]); 3] = [
    (Kind::Fixed, Rate::Maximum, &[Arm::Drop, Arm::Ours]),
    (Kind::Mimic, Rate::Paced(500_000), &[Arm::Cookies1, Arm::Ours]),
    (Kind::Mimic, Rate::Maximum, &[Arm::Cookies1, Arm::OursAnswering, Arm::Ours]),
];

const PACES: [Rate; 4] =
    [Rate::Paced(10_000), Rate::Paced(100_000), Rate::Paced(500_000), Rate::Maximum];
/// Defences against a fixed-fingerprint flood. `tcp_syncookies=2` has the same effect under a flood as 1.
const AGAINST_FIXED_FINGERPRINT: [Arm; 12] = [
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
/// Defences against copies, without a limit per source: a fixed-fingerprint flood shows its effect on random
/// sources as well.
const AGAINST_COPIES: [Arm; 4] = [Arm::Cookies1, Arm::Synproxy, Arm::Drop, Arm::Ours];
/// Floods and defences where native XDP gains nothing, and where replies are longer than the SYNs.
const AS_SOCKET_BUFFERS: [(Kind, &[Arm]); 2] = [
    (
        Kind::Fixed,
        &[
            Arm::Cookies1,
            Arm::Hashlimit,
            Arm::Meter,
            Arm::DropGeneric,
            Arm::Drop,
            Arm::Ours,
            Arm::OursCookies,
        ],
    ),
    (Kind::Mimic, &[Arm::Cookies1, Arm::Drop, Arm::Ours]),
];

/// The records, in the order in which a round goes through them. Those of one setting are together,
/// since they share the ideal filters between them. `quick`: one round of the judged ones.
pub fn of_targets(base: Setting, quick: bool) -> Vec<Record> {
    let mut records = Vec::new();
    if !quick {
        records.push(Record::new(Arm::Cookies1, base, ROUNDS));
        for (flood, arms) in
            [(Kind::Fixed, &AGAINST_FIXED_FINGERPRINT[..]), (Kind::Mimic, &AGAINST_COPIES[..])]
        {
            for rate in PACES {
                let setting = Setting { flood, rate: Some(rate), ..base };
                records.extend(arms.iter().map(|arm| Record::new(*arm, setting, ROUNDS)));
            }
        }
        for (flood, arms) in AS_SOCKET_BUFFERS {
            let (rate, delivery) = (Some(Rate::Maximum), Delivery::Sockets);
            let setting = Setting { flood, rate, delivery, ..base };
            records.extend(arms.iter().map(|arm| Record::new(*arm, setting, ROUNDS)));
        }
    }
    for (flood, rate, arms) in JUDGED {
        let setting = Setting { flood, rate: Some(rate), ..base };
        arms.iter()
            .for_each(|arm| judge(&mut records, *arm, setting, if quick { 1 } else { ROUNDS }));
    }
    records
}

/// Marks a cell as judged: one that is there already, or another beside its neighbours. The machine's speed
/// must not decide: doubtful results are measured again.
fn judge(records: &mut Vec<Record>, arm: Arm, setting: Setting, rounds: usize) {
    let same = records.iter_mut().find(|record| record.arm == arm && record.setting == setting);
    if let Some(record) = same {
        record.is_judged = true;
        return;
    }
    let neighbour = records.iter().rposition(|record| record.setting == setting);
    let place = neighbour.map_or(records.len(), |at| at + 1);
    records.insert(place, Record { is_judged: true, ..Record::new(arm, setting, rounds) });
}

#[cfg(test)]
mod tests {
    use tcpguard_kit::net::lab::Family;

    use super::*;

    fn base() -> Setting {
        Setting { clients: CLIENTS, ..Setting::near(Family::V4) }
    }

    #[test]
    fn everything_is_run_in_all_rounds_and_what_is_judged_marked() {
        let records = of_targets(base(), false);
        assert_eq!(records.iter().filter(|record| record.is_judged).count(), 7);
        assert!(records.iter().all(|record| record.rounds == ROUNDS));
        assert!(records.len() <= 80, "{} cells take more than 70 minutes", records.len());
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
