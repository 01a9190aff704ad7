//! Checks of the packets that the CPUs process, and of those dropped before XDP.

use super::super::document::Checked;
use super::super::facts::Facts;
use crate::units::percent;

/// Number of packets from which their distribution over the CPUs is significant.
const ENOUGH: u64 = 1_000_000;
/// Share of all packets from which one CPU takes nearly all.
const MOST: f64 = 0.8;

pub(in super::super) fn losses(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "lost_by_cpus";
    let load = &facts.host.load;
    let found = format!(
        "{} packets dropped at full backlogs and {} rounds over budget since boot, of {} packets",
        load.backlog_drops, load.squeezed, load.received
    );
    vec![if load.backlog_drops == 0 {
        Checked::passed(CODE, found)
    } else if load.is_burst(load.backlog_drops) {
        Checked::notice(CODE, found)
    } else {
        Checked::warning(CODE, format!("{found}, including client packets")).hint("tcpguard tune")
    }]
}

/// Finds one CPU that takes nearly all packets while others could help: a flood then ends at its limit.
pub(in super::super) fn skew(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "receive_skew";
    let load = &facts.host.load;
    let (cpus, busiest) = (facts.host.cpus, load.received_by_busiest);
    if cpus < 2 || load.received < ENOUGH {
        return vec![Checked::passed(CODE, "one CPU, or too few packets since boot")];
    }
    let share = busiest as f64 / load.received as f64;
    let found =
        format!("one of {cpus} CPUs processed {} of all packets since boot", percent(share));
    vec![if share < MOST {
        Checked::passed(CODE, found)
    } else if load.squeezed == 0 && load.backlog_drops == 0 {
        Checked::notice(CODE, format!("{found} without loss")).hint("tcpguard tune")
    } else {
        let remedy = "and was overloaded at times: use more queues or RPS";
        Checked::warning(CODE, format!("{found} {remedy}")).hint("tcpguard tune")
    }]
}
