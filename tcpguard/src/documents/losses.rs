//! The part of the document about packets dropped before XDP: no BPF program of tcpguard saw them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_host::linux::SoftnetCpu;

use super::build::number;
use super::{Facts, LossCounters, Reading};

/// Share of the packets from which on a loss is heavy: 99.9 % of the real clients are to connect.
const LOSS_SHARE: f64 = 0.001;
/// Lost packets per second from which on a loss can be heavy. Fewer are slight, whatever their share.
const LOSS_PPS: f64 = 10.0;
/// Share of all packets from which on one CPU counts as receiving them alone.
const ONE_QUEUE: f64 = 0.9;
/// Packets per second on one CPU from which on it is reported that this CPU receives them alone.
const ONE_QUEUE_PPS: f64 = 10_000.0;
/// Packets per second below which their spread over CPUs is not reported.
const SKEW_PPS: f64 = 1_000.0;

/// Packets dropped before XDP: lost in the ring of a network card or in the backlog of a CPU.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Losses {
    /// Extent of the loss over the last 5 s.
    pub state: LossState,
    /// Packets lost per second over the last 5 s; `null` before the second poll, as every rate here.
    pub lost_pps: Option<f64>,
    /// Share of the lost packets in all packets, 0 to 1; `null` where no packet arrived, or the rate is
    /// not known.
    pub lost_ratio: Option<f64>,
    /// Losses of each attached interface.
    pub interfaces: Vec<InterfaceLosses>,
    /// Load and losses of each CPU that is online. The losses include packets of interfaces without the
    /// XDP program, such as loopback.
    pub cpus: Vec<CpuLoad>,
    /// Share of the packets that the busiest CPU receives, 0 to 1: 1 where the card has one queue.
    /// `null` with one CPU, and below 1,000 packets per second.
    pub skew: Option<f64>,
}

/// Extent of a loss of packets.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossState {
    /// No packet is lost.
    #[default]
    None,
    /// Less than one packet in a thousand is lost, or fewer than 10 per second.
    Slight,
    /// One packet in a thousand or more is lost, and at least 10 per second: clients fail to connect.
    Heavy,
    /// A value that this version does not know.
    #[schemars(skip)]
    #[serde(other)]
    Unknown,
}

/// Packets that one interface received and lost since it exists.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct InterfaceLosses {
    /// Name of the interface.
    pub name: String,
    /// Packets that the interface received and handed on.
    pub rx_packets: u64,
    /// Packets lost because the ring or the buffer of the card was full.
    pub missed: u64,
    /// Packets lost because the FIFO of the card overflowed.
    pub fifo: u64,
    /// Packets that the driver or the stack dropped. They do not count as lost: with some drivers they
    /// are the packets that the XDP program dropped, with others packets of protocols that the stack
    /// does not handle.
    pub dropped: u64,
    /// Packets lost per second, `missed` and `fifo` together.
    pub lost_pps: Option<f64>,
}

/// Packets that one CPU received and lost. The losses count since the CPU is online.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct CpuLoad {
    /// Number of the CPU.
    pub cpu: u32,
    /// Packets of the attached interfaces that the XDP program has seen on this CPU.
    pub packets: u64,
    /// Growth of `packets` per second.
    pub packets_pps: Option<f64>,
    /// Packets lost because the backlog of the CPU was full (`net.core.netdev_max_backlog`).
    pub dropped: u64,
    /// Growth of `dropped` per second.
    pub dropped_pps: Option<f64>,
    /// Number of times that the CPU stopped with packets left, because its budget was used up
    /// (`net.core.netdev_budget`).
    pub squeezed: u64,
    /// Growth of `squeezed` per second.
    pub squeezed_pps: Option<f64>,
}

impl Losses {
    /// Returns the document's form of the measured losses.
    pub fn build(facts: &Facts) -> Self {
        let reading = &facts.losses;
        let (lost_pps, lost_ratio) = lost(reading);
        let cpus = cpus(reading);
        Self {
            state: Self::state_of(reading),
            lost_pps: lost_pps.map(number),
            lost_ratio: lost_ratio.map(number),
            interfaces: interfaces(facts),
            skew: skew(&cpus).map(number),
            cpus,
        }
    }

    /// Returns the extent of the loss.
    pub fn state_of(reading: &Reading<LossCounters>) -> LossState {
        let (lost_pps, lost_ratio) = lost(reading);
        state(lost_pps.unwrap_or_default(), lost_ratio.unwrap_or_default())
    }

    /// Returns the CPU that receives nearly all packets, with its share, while packets are many;
    /// otherwise `None`.
    pub fn one_queue(&self) -> Option<(u32, f64)> {
        let busiest = busiest(&self.cpus)?;
        let share = self.skew.filter(|share| *share >= ONE_QUEUE)?;
        (busiest.packets_pps? >= ONE_QUEUE_PPS).then_some((busiest.cpu, share))
    }
}

/// Returns the packets lost per second, and their share in all packets.
fn lost(reading: &Reading<LossCounters>) -> (Option<f64>, Option<f64>) {
    let lost_pps = reading.rate(LossCounters::lost);
    let seen_pps = reading.rate(LossCounters::seen);
    let ratio = lost_pps.zip(seen_pps).and_then(|(lost, seen)| share(lost, lost + seen));
    (lost_pps, ratio)
}

fn state(lost_pps: f64, lost_ratio: f64) -> LossState {
    match lost_pps {
        none if none <= 0.0 => LossState::None,
        many if many >= LOSS_PPS && lost_ratio >= LOSS_SHARE => LossState::Heavy,
        _ => LossState::Slight,
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn interfaces(facts: &Facts) -> Vec<InterfaceLosses> {
    let reading = &facts.losses;
    let with_links = facts.interfaces.iter().zip(&reading.now.links).enumerate();
    with_links
        .map(|(place, (interface, link))| InterfaceLosses {
            name: interface.name.clone(),
            rx_packets: link.rx_packets,
            missed: link.rx_missed,
            fifo: link.rx_fifo,
            dropped: link.rx_dropped,
            lost_pps: reading
                .rate(|counters| {
                    counters.links.get(place).map_or(0, |link| link.rx_missed + link.rx_fifo)
                })
                .map(number),
        })
        .collect()
}

fn cpus(reading: &Reading<LossCounters>) -> Vec<CpuLoad> {
    let of = |softnet: &SoftnetCpu| {
        let id = softnet.cpu;
        let packets = |counters: &LossCounters| -> u64 {
            counters.packets_by_cpu.get(id as usize).copied().unwrap_or(0)
        };
        // A CPU that was offline at the earlier reading has its present counters there, so a rate of 0.
        let softnet_of = |counters: &LossCounters| -> SoftnetCpu {
            let same = counters.softnet.iter().find(|cpu| cpu.cpu == id);
            same.copied().unwrap_or(*softnet)
        };
        let rate = |counter: &dyn Fn(&LossCounters) -> u64| reading.rate(counter).map(number);
        CpuLoad {
            cpu: id,
            packets: packets(&reading.now),
            packets_pps: rate(&packets),
            dropped: softnet.dropped,
            dropped_pps: rate(&|counters| softnet_of(counters).dropped),
            squeezed: softnet.squeezed,
            squeezed_pps: rate(&|counters| softnet_of(counters).squeezed),
        }
    };
    reading.now.softnet.iter().map(of).collect()
}

fn busiest(cpus: &[CpuLoad]) -> Option<&CpuLoad> {
    let pps = |cpu: &CpuLoad| cpu.packets_pps.unwrap_or_default();
    cpus.iter().max_by(|a, b| pps(a).total_cmp(&pps(b)))
}

fn skew(cpus: &[CpuLoad]) -> Option<f64> {
    let all: f64 = cpus.iter().filter_map(|cpu| cpu.packets_pps).sum();
    if cpus.len() < 2 || all < SKEW_PPS {
        return None;
    }
    share(busiest(cpus)?.packets_pps?, all)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_in_a_thousand_is_too_many_unless_they_are_few() {
        for (pps, ratio, expected) in [
            (0.0, 0.0, LossState::None),
            (0.2, 0.5, LossState::Slight),
            (9.9, 1.0, LossState::Slight),
            (10.0, 0.001, LossState::Heavy),
            (500.0, 0.000_9, LossState::Slight),
            (500.0, 0.2, LossState::Heavy),
        ] {
            assert_eq!(state(pps, ratio), expected, "{pps}/s, {ratio}");
        }
    }

    fn reading(packets: [u64; 2]) -> Reading<LossCounters> {
        let counters = |packets: [u64; 2]| LossCounters {
            softnet: [0, 1]
                .map(|cpu| SoftnetCpu { cpu, processed: 0, dropped: 0, squeezed: 0 })
                .into(),
            packets_by_cpu: packets.to_vec(),
            ..LossCounters::default()
        };
        Reading {
            now: counters(packets),
            earlier: Some((counters([0, 0]), Duration::from_secs(1))),
        }
    }

    #[test]
    fn skew_is_the_busiest_cpu_s_share_where_there_is_enough_to_share() {
        for (packets, expected) in [
            ([500, 499], None),
            ([500, 500], Some(0.5)),
            ([1_000, 0], Some(1.0)),
            ([2_500, 7_500], Some(0.75)),
        ] {
            assert_eq!(skew(&cpus(&reading(packets))), expected, "{packets:?}");
        }
        assert_eq!(skew(&cpus(&reading([5_000, 5_000]))[..1]), None, "with one CPU");
    }

    #[test]
    fn one_queue_is_reported_when_it_matters() {
        let reported = |packets| {
            let cpus = cpus(&reading(packets));
            let losses = Losses {
                state: LossState::None,
                lost_pps: None,
                lost_ratio: None,
                interfaces: Vec::new(),
                skew: skew(&cpus),
                cpus,
            };
            losses.one_queue().map(|(cpu, _)| cpu)
        };
        assert_eq!(reported([0, 9_999]), None);
        assert_eq!(reported([0, 10_000]), Some(1));
        assert_eq!(reported([100_000, 9_000]), Some(0));
        assert_eq!(reported([100_000, 90_000]), None);
    }
}
