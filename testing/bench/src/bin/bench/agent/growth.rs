//! Memory and CPU time of the agent against the number of sources of a flood.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;
use tcpguard_kit::daemon::agent::{Agent, Mode};
use tcpguard_kit::measure::peak::{Footprint, forget_peak};
use tcpguard_kit::traffic::flood::Sources;

use super::process::Watch;
use super::stage::Stage;
use super::{MIB, Options};
use crate::samples::Samples;

/// SYNs per second: enough for ten million in 20 s.
const RATE: u32 = 500_000;
/// Before the flood, for the agent to forget its start.
const SETTLE: Duration = Duration::from_secs(2);
/// Networks that floods come from, by the length of their prefixes: from 1 to a million addresses.
const PREFIXES: [u8; 3] = [32, 20, 12];
/// Their range: shared address space (RFC 6598), in which no host of the lab lies.
const NETWORKS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);

/// The agent's cost of a flood from so many sources.
#[derive(Clone, Debug, Serialize)]
pub struct GrowthCost {
    /// The network that it comes from; everywhere if none.
    network: Option<Ipv4Net>,
    /// Different sources among its SYNs, as is to be expected of random ones.
    pub sources: Samples,
    /// % of one core.
    pub cpu: Samples,
    /// The most memory at once, in MiB: in each poll for a moment, when flows are looked at.
    pub resident: Samples,
    /// The part of it that came after the first third of the flood, in MiB.
    pub growth: Samples,
}

impl GrowthCost {
    /// All numbers of sources, not measured yet. The last is the greatest.
    pub fn all() -> Vec<Self> {
        let networks = PREFIXES.iter().filter_map(|length| Ipv4Net::new(NETWORKS, *length).ok());
        let cost = |network| Self {
            network,
            sources: Samples::default(),
            cpu: Samples::default(),
            resident: Samples::default(),
            growth: Samples::default(),
        };
        networks.map(Some).chain([None]).map(cost).collect()
    }

    pub fn title(&self) -> String {
        self.network.map_or("everywhere".to_owned(), |network| network.to_string())
    }

    /// One more round of it.
    pub fn round(&mut self, options: &Options) -> Result<()> {
        let time = options.growth_window();
        let stage = Stage::new()?;
        let agent = Agent::start(&stage.lab.edge, Mode::Enforce)?;
        sleep(SETTLE);
        let sources = self.network.map_or(Sources::Random, |it| Sources::Net(IpNet::V4(it)));
        let watch = Watch::start(agent.pid())?;
        let flood = stage.flood_from(sources, RATE, time)?;
        let early = most_of(agent.pid(), time / 3)?;
        let late = most_of(agent.pid(), time.saturating_sub(watch.elapsed()))?;
        self.cpu.push(watch.percent()?);
        let sent = flood.wait()?.sent;
        self.sources.push(distinct(addresses(self.network), sent as f64));
        self.resident.push(early.max(late));
        self.growth.push((late - early).max(0.0));
        Ok(())
    }
}

fn addresses(network: Option<Ipv4Net>) -> f64 {
    // Everywhere: IPv4's global unicast addresses, by and large.
    let prefix = network.map_or(0, |network| network.prefix_len());
    2f64.powi(32 - i32::from(prefix))
}

/// Different ones among `draws` random draws from `all`: all × (1 − (1 − 1/all)^draws).
fn distinct(all: f64, draws: f64) -> f64 {
    match all > 1.0 {
        true => -all * (draws * (-1.0 / all).ln_1p()).exp_m1(),
        false => all.min(draws),
    }
}

/// The most memory that a process has at once in the time that comes, in MiB (`VmHWM`).
fn most_of(pid: u32, time: Duration) -> Result<f64> {
    forget_peak(pid)?;
    sleep(time);
    Ok(Footprint::of(pid)?.resident as f64 / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_draws_repeat_themselves_as_the_birthday_paradox_has_it() {
        assert_eq!(distinct(1.0, 5e6), 1.0);
        assert_eq!(distinct(256.0, 5e6).round(), 256.0);
        // Half of 365 days, after 365 × ln 2 people.
        assert!((distinct(365.0, 253.0) - 182.6).abs() < 0.3, "{}", distinct(365.0, 253.0));
        let everywhere = distinct(addresses(None), 1e7);
        assert!((9.98e6..1e7).contains(&everywhere), "{everywhere}");
    }

    #[test]
    fn the_greatest_number_of_sources_comes_last() {
        let all = GrowthCost::all();
        let counts: Vec<_> = all.iter().map(|cost| addresses(cost.network)).collect();
        assert_eq!(counts, [1.0, 4096.0, 1_048_576.0, 4_294_967_296.0]);
    }
}
