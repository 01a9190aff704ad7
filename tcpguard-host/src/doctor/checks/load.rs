//! Checks of the packets that the CPUs take, and of those lost before any program or listener saw them.

use super::super::document::Checked;
use super::super::facts::Facts;
use crate::units::percent;

/// Packets below which their distribution over the CPUs says nothing.
const ENOUGH: u64 = 1_000_000;
/// Share of all packets from which one CPU takes nearly all.
const MOST: f64 = 0.8;

pub(in super::super) fn losses(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "lost_by_cpus";
    let load = &facts.host.load;
    let found = format!(
        "{} packets dropped at full backlogs and {} rounds cut short since boot, of {} packets",
        load.backlog_drops, load.squeezed, load.received
    );
    vec![if load.backlog_drops == 0 {
        Checked::passed(CODE, found)
    } else if load.is_burst(load.backlog_drops) {
        Checked::notice(CODE, found)
    } else {
        Checked::warning(CODE, format!("{found}: clients among them")).hint("tcpguard tune")
    }]
}

/// Finds one CPU that takes nearly all packets while others could help: a flood then ends at its limit.
pub(in super::super) fn skew(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "receive_skew";
    let load = &facts.host.load;
    let (cpus, busiest) = (facts.host.cpus, load.received_by_busiest);
    if cpus < 2 || load.received < ENOUGH {
        return vec![Checked::passed(CODE, "one CPU, or too few packets since boot to tell")];
    }
    let share = busiest as f64 / load.received as f64;
    let found = format!("one of {cpus} CPUs took {} of the packets since boot", percent(share));
    vec![if share < MOST {
        Checked::passed(CODE, found)
    } else if load.squeezed == 0 && load.backlog_drops == 0 {
        Checked::notice(CODE, format!("{found}, and kept up")).hint("tcpguard tune")
    } else {
        let words = "did not always keep up: more queues, or RPS, spread them";
        Checked::warning(CODE, format!("{found}, and {words}")).hint("tcpguard tune")
    }]
}
