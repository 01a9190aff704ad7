//! Time to put a rule set in force, and to replace it with another.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;
use tcpguard_common::abi::maps::MAX_RULES;
use tcpguard_kit::daemon::agent::{Agent, Mode, cli};
use tcpguard_kit::net::lab::{Lab, LabOptions};
use tcpguard_kit::net::netns::Netns;

use crate::samples::Samples;

const SIZES: [u32; 2] = [10_000, 100_000];
/// Imports of each size in one round.
const TIMES: usize = 3;

/// The time of `tcpguard rules import`, from its start to its end, when all rules are in force.
#[derive(Clone, Debug, Serialize)]
pub struct RuleCost {
    /// Rules of a set.
    pub rules: u32,
    /// Times where there were no rules before, in ms.
    pub install: Samples,
    /// Times where there were as many rules before, half of them the same, in ms.
    pub replace: Samples,
    /// Reason why the agent took no rules.
    pub refused: Option<String>,
}

impl RuleCost {
    /// Returns all sizes, not measured yet.
    pub fn all() -> Vec<Self> {
        let cost = |rules| Self {
            rules,
            install: Samples::default(),
            replace: Samples::default(),
            refused: None,
        };
        SIZES.map(cost).into()
    }

    fn time(&mut self, host: &Netns) -> Result<()> {
        let half = self.rules / 2;
        let sets = [("/run/a.rules", 0..self.rules), ("/run/b.rules", half..half + self.rules)];
        for (path, rules) in &sets {
            host.write(path, &lines(rules.clone()))?;
        }
        let [(first, _), (second, _)] = sets;
        for _ in 0..TIMES {
            match import(host, first)? {
                Ok(took) => self.install.push(took),
                Err(refusal) => {
                    self.refused = Some(refusal);
                    return Ok(());
                }
            }
            let replaced = import(host, second)?.map_err(anyhow::Error::msg)?;
            self.replace.push(replaced);
            let flushed = cli(host, &["rules", "flush"])?;
            let said = String::from_utf8_lossy(&flushed.stderr);
            ensure!(flushed.status.success(), "rules flush: {}", said.trim());
        }
        Ok(())
    }
}

/// Measures one more round of all sizes, by an agent that has room for all of them.
///
/// # Errors
/// When the lab or the agent fails. That it refuses a set is no error.
pub fn round(costs: &mut [RuleCost]) -> Result<()> {
    let lab = Lab::new(LabOptions::default())?;
    let room = format!("[policy]\nrules = {MAX_RULES}\n");
    let _agent = Agent::start_with(&lab.edge, Mode::Enforce, &room, &[])?;
    costs.iter_mut().filter(|cost| cost.refused.is_none()).try_for_each(|it| it.time(&lab.edge))
}

/// Milliseconds, or the reason why tcpguard refused the import.
fn import(host: &Netns, path: &str) -> Result<Result<f64, String>> {
    let begun = Instant::now();
    let output = cli(host, &["rules", "import", "--replace", path])?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    Ok(match output.status.success() {
        true => Ok(took),
        false => Err(first_line(&String::from_utf8_lossy(&output.stderr))),
    })
}

fn first_line(said: &str) -> String {
    said.lines().next().unwrap_or("refused without a word").trim().to_owned()
}

/// Returns the rules as a file of rules has them.
fn lines(rules: Range<u32>) -> String {
    let line = |rule| format!("{{\"prefix\":\"{}\",\"for_s\":3600}}\n", prefix(rule));
    rules.map(line).collect()
}

/// Returns the prefix of a rule: one in ten an IPv6 /64, one in ten an IPv4 /28, the others single addresses.
fn prefix(rule: u32) -> String {
    let v4 = |host| Ipv4Addr::from_bits(0x6440_0000 + rule * 16 + host);
    match rule % 10 {
        0 => format!("{}/64", Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(rule) << 64)),
        1 => format!("{}/28", v4(0)),
        _ => v4(5).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use ipnet::IpNet;

    use super::*;

    #[test]
    fn rules_are_different_networks() {
        let network = |rule| match prefix(rule).parse::<IpNet>() {
            Ok(network) => network.trunc(),
            Err(_) => IpNet::from(prefix(rule).parse::<std::net::IpAddr>().unwrap()),
        };
        let most = 3 * SIZES[1] / 2;
        assert_eq!((0..most).map(network).collect::<HashSet<_>>().len(), most as usize);
        assert_eq!(lines(0..2).lines().count(), 2);
    }

    #[test]
    fn a_refusal_is_its_first_line() {
        assert_eq!(first_line("no room\nimport fewer\n"), "no room");
        assert_eq!(first_line(""), "refused without a word");
    }
}
