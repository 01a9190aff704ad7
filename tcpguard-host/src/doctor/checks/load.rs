//! Checks of the packets that the CPUs take, and of those lost before any program or listener saw them.

use super::super::document::Finding;
use super::super::facts::Facts;

/// Packets below which their distribution over the CPUs says nothing.
const ENOUGH: u64 = 1_000_000;

pub(in super::super) fn losses(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "lost_by_cpus";
    let load = &facts.host.load;
    let found = format!(
        "{} packets dropped at full backlogs and {} rounds cut short since boot, of {} packets",
        load.backlog_drops, load.squeezed, load.received
    );
    vec![if load.backlog_drops == 0 {
        Finding::passed(ID, found)
    } else if load.is_burst(load.backlog_drops) {
        Finding::note(ID, found)
    } else {
        Finding::warning(ID, format!("{found}: clients among them")).fix("tcpguard tune")
    }]
}

/// Finds one CPU that takes nearly all packets while others could help: a flood then ends at its limit.
pub(in super::super) fn skew(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "receive_skew";
    let load = &facts.host.load;
    let (cpus, busiest) = (facts.host.cpus, load.received_by_busiest);
    if cpus < 2 || load.received < ENOUGH {
        return vec![Finding::passed(ID, "one CPU, or too few packets since boot to tell")];
    }
    let percent = u128::from(busiest) * 100 / u128::from(load.received);
    let found = format!("one of {cpus} CPUs took {percent} % of the packets since boot");
    vec![if percent < 80 {
        Finding::passed(ID, found)
    } else if load.squeezed == 0 && load.backlog_drops == 0 {
        Finding::note(ID, format!("{found}, and kept up")).fix("tcpguard tune")
    } else {
        let words = "did not always keep up: more queues, or RPS, spread them";
        Finding::warning(ID, format!("{found}, and {words}")).fix("tcpguard tune")
    }]
}
