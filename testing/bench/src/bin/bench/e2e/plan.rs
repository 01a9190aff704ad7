//! Plan of the runs: every defence at every rate, in bounded time, and the cells by which targets are judged.

use super::arm::Arm;
use super::attack::{Kind, Rate};
use super::record::Record;
use super::run::Setting;

/// Connections per second from new clients, and as many from validated clients.
pub const CLIENTS: u32 = 200;

const ROUNDS: usize = 3;
/// Rounds of the runs by which targets are judged.
const JUDGED_ROUNDS: usize = 5;

/// The floods and defences by which targets are judged.
const JUDGED: [(Kind, Rate, &[Arm]); 3] = [
    (Kind::Fixed, Rate::Maximum, &[Arm::Drop, Arm::Ours]),
    (Kind::Mimic, Rate::Paced(500_000), &[Arm::Cookies1, Arm::Ours]),
    (Kind::Mimic, Rate::Maximum, &[Arm::Cookies1, Arm::Drop, Arm::Ours]),
];

const PACES: [Rate; 2] = [Rate::Paced(100_000), Rate::Paced(500_000)];
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
/// Floods at maximum and defences for whose clients the first retransmissions of a SYN decide, so that they
/// are measured with each `tcp_syn_linear_timeouts`.
const RETRANSMITTED: [Kind; 3] = [Kind::Fixed, Kind::Returning, Kind::Mimic];
const WITH_RETRANSMISSIONS: [Arm; 3] = [Arm::Cookies1, Arm::Drop, Arm::Ours];

/// The records, in the order in which a round goes through them. Those of one setting are together,
/// since they share the ideal filters between them. `linear`: the clients' `tcp_syn_linear_timeouts` at maximum,
/// first that of the targets. `quick`: one round of the judged ones.
pub fn of_targets(base: Setting, linear: &[Option<u8>], quick: bool) -> Vec<Record> {
    let mut records = Vec::new();
    let judged = linear.first().copied().flatten();
    let at = |flood, rate| {
        let linear = if rate == Rate::Maximum { judged } else { base.linear };
        Setting { flood, linear, rate: Some(rate), ..base }
    };
    if !quick {
        records.push(Record::new(Arm::Cookies1, base, ROUNDS));
        for (flood, arms) in
            [(Kind::Fixed, &AGAINST_FIXED_FINGERPRINT[..]), (Kind::Mimic, &AGAINST_COPIES[..])]
        {
            for rate in PACES.into_iter().chain([Rate::Maximum]) {
                let setting = at(flood, rate);
                records.extend(arms.iter().map(|arm| Record::new(*arm, setting, ROUNDS)));
            }
        }
        for &linear in linear {
            for flood in RETRANSMITTED {
                let setting = Setting { linear, ..at(flood, Rate::Maximum) };
                WITH_RETRANSMISSIONS.iter().for_each(|arm| {
                    cell(&mut records, *arm, setting, ROUNDS);
                });
            }
        }
    }
    for (flood, rate, arms) in JUDGED {
        let rounds = if quick { 1 } else { JUDGED_ROUNDS };
        for arm in arms {
            let record = cell(&mut records, *arm, at(flood, rate), rounds);
            // The machine's speed must not decide: doubtful results are measured again.
            (record.rounds, record.is_judged) = (rounds, true);
        }
    }
    records
}

/// A cell that is there already, or another beside its neighbours.
fn cell(records: &mut Vec<Record>, arm: Arm, setting: Setting, rounds: usize) -> &mut Record {
    let is = |record: &Record| record.arm == arm && record.setting == setting;
    let at = records.iter().position(is).unwrap_or_else(|| {
        let neighbour = records.iter().rposition(|record| record.setting == setting);
        let place = neighbour.map_or(records.len(), |at| at + 1);
        records.insert(place, Record::new(arm, setting, rounds));
        place
    });
    &mut records[at]
}
