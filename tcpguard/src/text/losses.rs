//! Packets dropped before XDP, in a line or two.

use tcpguard_host::units::{percent, short, whole};

use crate::documents::{CpuLoad, LossState, Losses};

/// Describes the present losses with their location, and the number of earlier ones.
pub fn in_words(losses: &Losses) -> String {
    let mut parts = vec![now(losses)];
    parts.extend(rings(losses));
    parts.extend(backlogs(&losses.cpus));
    // Neither loses anything by itself: both say why something may be lost next.
    let squeezed: f64 = losses.cpus.iter().filter_map(|cpu| cpu.squeezed_pps).sum();
    if squeezed > 0.0 {
        parts.push(format!("CPU budget used up {}/s", short(squeezed)));
    }
    if let Some((cpu, share)) = losses.one_queue() {
        parts.push(format!("CPU {cpu} receives {}", percent(share)));
    }
    parts.join("; ")
}

fn now(losses: &Losses) -> String {
    match (losses.state, losses.lost_pps) {
        (_, None) => "before XDP: not known yet".to_owned(),
        (LossState::None, _) => "none before XDP".to_owned(),
        (_, Some(pps)) => {
            let share = losses
                .lost_ratio
                .map_or_else(String::new, |share| format!(" ({} of all packets)", percent(share)));
            format!("{}/s before XDP{share}", short(pps))
        }
    }
}

/// The rings that ever lost anything.
fn rings(losses: &Losses) -> impl Iterator<Item = String> {
    losses.interfaces.iter().filter_map(|interface| {
        let lost = interface.missed + interface.fifo;
        let pps = interface.lost_pps.filter(|pps| *pps > 0.0);
        (lost > 0).then(|| amount(&format!("ring of {}", interface.name), lost, pps))
    })
}

/// The backlogs of all CPUs, if they ever lost anything.
fn backlogs(cpus: &[CpuLoad]) -> Option<String> {
    let ever: u64 = cpus.iter().map(|cpu| cpu.dropped).sum();
    let pps: f64 = cpus.iter().filter_map(|cpu| cpu.dropped_pps).sum();
    (ever > 0).then(|| amount("CPU backlogs", ever, Some(pps).filter(|pps| *pps > 0.0)))
}

fn amount(name: &str, ever: u64, pps: Option<f64>) -> String {
    let ever = whole(ever);
    match pps {
        Some(pps) => format!("{name} {}/s ({ever} ever)", short(pps)),
        None => format!("{name} {ever} ever"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::InterfaceLosses;

    fn cpu(packets_pps: f64, dropped: u64, dropped_pps: f64, squeezed_pps: f64) -> CpuLoad {
        CpuLoad {
            cpu: 0,
            packets: 1_000_000,
            packets_pps: Some(packets_pps),
            dropped,
            dropped_pps: Some(dropped_pps),
            squeezed: 12,
            squeezed_pps: Some(squeezed_pps),
        }
    }

    fn losses(missed: u64, pps: f64, cpu: CpuLoad) -> Losses {
        Losses {
            state: LossState::None,
            lost_pps: Some(pps),
            lost_ratio: Some(0.083),
            interfaces: vec![InterfaceLosses {
                name: "eth0".to_owned(),
                rx_packets: 1_000_000,
                missed,
                fifo: 0,
                dropped: 5,
                lost_pps: Some(pps),
            }],
            cpus: vec![cpu],
            skew: None,
        }
    }

    #[test]
    fn nothing_lost_is_four_words() {
        let quiet = losses(0, 0.0, cpu(20_000.0, 0, 0.0, 0.0));
        assert_eq!(in_words(&quiet), "none before XDP");
    }

    #[test]
    fn losses_of_long_ago_are_listed_apart() {
        let found = in_words(&losses(3, 0.0, cpu(20_000.0, 10, 0.0, 0.0)));
        let expected = "none before XDP; ring of eth0 3 ever; CPU backlogs 10 ever";
        assert_eq!(found, expected);
    }

    #[test]
    fn present_losses_are_reported_with_their_place() {
        let mut losses = losses(1_200_000, 11_000.0, cpu(132_000.0, 90_000, 1_000.0, 20.0));
        (losses.state, losses.lost_pps) = (LossState::Heavy, Some(12_000.0));
        losses.skew = Some(1.0);
        let expected = "12k/s before XDP (8.3% of all packets); ring of eth0 11k/s \
                        (1.2M ever); CPU backlogs 1000/s (90k ever); CPU budget used up \
                        20/s; CPU 0 receives 100%";
        assert_eq!(in_words(&losses), expected);
    }

    #[test]
    fn before_the_second_poll_nothing_is_known() {
        let mut losses = losses(0, 0.0, cpu(0.0, 0, 0.0, 0.0));
        losses.lost_pps = None;
        assert_eq!(in_words(&losses), "before XDP: not known yet");
    }
}
