//! The results of the programs and the agent on one kernel.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tcpguard_goals::verifier::{self, Costs};

use super::guest::{BLOCK, BLOCK_S, STATUS};
use super::stacked;

/// Tolerance in seconds for the time at which a blocked client gets in again. It tries once a
/// second, and programs start slowly in a guest.
const LATE_S: f64 = 4.0;

/// Results of one kernel.
#[derive(Debug, Default)]
pub struct Kernel {
    /// The part of its release that distinguishes it from others.
    pub name: String,
    /// Number of instructions verified, or the reason of the refusal, by "object/program".
    pub programs: Costs,
    /// Reason why the agent does without an object on such a kernel, by object.
    pub left_out: BTreeMap<String, String>,
    /// Bytes of kernel memory that the maps of an object take, by object.
    pub maps: BTreeMap<String, u64>,
    /// Digest of the instructions that an object held (`tcpguard_kit::measure::digest`), by object.
    pub digests: BTreeMap<String, String>,
    /// Outcome of the agent's run, or the reason why it is not enough; `None` where the agent did
    /// not run.
    pub agent: Option<Result<Agent, String>>,
    /// Outcome of the agent's runs on bonds and VLANs; none where there was no such run.
    pub stacked: stacked::Results,
}

/// Outcome of an agent's run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Agent {
    /// SYNs, SYN-ACKs and completions that it saw of the one handshake.
    pub handshake: String,
    /// Backend of its SYN cookies: a `backend` of the status.
    pub cookies: String,
    /// Time from a block of [`BLOCK_S`] to the next connection of the client, in seconds. Meanwhile the time of day is set
    /// and agents are killed.
    pub block: String,
}

impl Kernel {
    /// Reads the loader's lines out of `output`, which may hold a kernel's console too.
    ///
    /// # Errors
    /// When there is none: the loader did not run.
    pub fn loaded(name: &str, output: &str) -> Result<Self> {
        let mut kernel = Self { name: name.into(), ..Self::default() };
        for answer in verifier::answers(output) {
            kernel.heard(&answer);
        }
        if kernel.programs.is_empty() {
            bail!("on Linux {name} the loader said nothing");
        }
        let after = |what: &str| output.lines().find_map(|line| Some(line.split_once(what)?.1));
        let block = after(BLOCK).unwrap_or_default();
        kernel.agent = after(STATUS).map(|status| worked(status, block));
        Ok(kernel)
    }

    fn heard(&mut self, answer: &Value) {
        let object = answer["object"].as_str().unwrap_or_default();
        if let Some(bytes) = answer["bytes"].as_u64() {
            self.maps.insert(object.to_owned(), bytes);
        }
        if let Some(digest) = answer["digest"].as_str() {
            self.digests.insert(object.to_owned(), digest.to_owned());
        }
        if let Some(why) = answer["left_out"].as_str() {
            self.left_out.insert(object.to_owned(), why.to_owned());
        }
        self.programs.extend(verifier::cost(answer));
    }

    /// Returns the number of programs that this kernel refused and of runs in which the agent failed on it.
    pub fn failures(&self) -> usize {
        let refused = self.programs.values().filter(|program| program.is_err()).count();
        let wrong = self.stacked.values().filter(|result| result.is_err()).count();
        refused + wrong + usize::from(matches!(self.agent, Some(Err(_))))
    }

    /// Returns the record of this kernel, as `testing/record/kernel-support.json` keeps it.
    pub fn to_json(&self) -> Value {
        let programs: BTreeMap<_, _> = self
            .programs
            .iter()
            .filter_map(|(name, cost)| Some((name, *cost.as_ref().ok()?)))
            .collect();
        let agent = self.agent.as_ref().and_then(|agent| agent.as_ref().ok());
        let stacked: BTreeMap<_, _> = self
            .stacked
            .iter()
            .filter_map(|(case, counts)| Some((case, counts.as_ref().ok()?)))
            .collect();
        json!({
            "name": self.name,
            "programs": programs,
            "maps": self.maps,
            "digests": self.digests,
            "left_out": self.left_out,
            "handshake": agent.map(|agent| &agent.handshake),
            "cookies": agent.map(|agent| &agent.cookies),
            "block": agent.map(|agent| &agent.block),
            "stacked": stacked,
        })
    }

    /// Reads the output of [`Self::to_json`], for the test that compares the page with the record.
    /// A missing value counts as absent.
    #[cfg(test)]
    pub fn from_json(value: &Value) -> Self {
        let entries = |name: &str| value[name].as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let agent = text(&value["handshake"]).map(|handshake| Agent {
            handshake,
            cookies: text(&value["cookies"]).unwrap_or_default(),
            block: text(&value["block"]).unwrap_or_default(),
        });
        Self {
            name: text(&value["name"]).unwrap_or_default(),
            programs: entries("programs")
                .filter_map(|(name, cost)| Some((name.clone(), Ok(cost.as_u64()?))))
                .collect(),
            left_out: entries("left_out")
                .filter_map(|(object, why)| Some((object.clone(), text(why)?)))
                .collect(),
            maps: entries("maps")
                .filter_map(|(object, bytes)| Some((object.clone(), bytes.as_u64()?)))
                .collect(),
            digests: entries("digests")
                .filter_map(|(object, digest)| Some((object.clone(), text(digest)?)))
                .collect(),
            agent: agent.map(Ok),
            stacked: entries("stacked")
                .filter_map(|(case, counts)| Some((case.clone(), Ok(text(counts)?))))
                .collect(),
        }
    }
}

/// Judges the handshake by `tcpguard status`: the arriving SYN proves the ingress program, the
/// SYN-ACK that left the egress one, the completion the tracepoint. `block` is the text after
/// [`BLOCK`].
fn worked(status: &str, block: &str) -> Result<Agent, String> {
    let Ok(status) = serde_json::from_str::<Value>(status) else {
        return Err("it gave no status; see the console".to_owned());
    };
    let state = status["daemon"]["state"].as_str().unwrap_or_default();
    let totals = &status["listeners"][0]["totals"];
    let count = |name: &str| totals[name].as_u64().unwrap_or(0);
    let seen = ["syn", "syn_ack", "established"].map(count);
    let handshake = seen.map(|count| count.to_string()).join("/");
    if state != "protecting" || seen.contains(&0) {
        return Err(format!("it is \"{state}\" and saw {handshake} of one handshake"));
    }
    let cookies = status["cookies"]["backend"].as_str().unwrap_or_default().to_owned();
    Ok(Agent { handshake, cookies, block: block_held(block)? })
}

/// Returns the seconds after which the client got in again, if that was not before its time and not long after it.
fn block_held(times: &str) -> Result<String, String> {
    let times: Vec<f64> = times.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    let [set, open] = times[..] else { return Err("nobody got in after a block".to_owned()) };
    let (held, wanted) = (open - set, f64::from(BLOCK_S));
    match (wanted..=wanted + LATE_S).contains(&held) {
        true => Ok(format!("{held:.1}")),
        false => Err(format!("a block of {BLOCK_S} s ended after {held:.1} s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(totals: &str) -> String {
        format!(
            "{{\"daemon\":{{\"state\":\"protecting\"}},\"cookies\":{{\"backend\":\"own\"}},\
             \"listeners\":[{{\"totals\":{totals}}}]}}"
        )
    }

    #[test]
    fn an_agent_that_missed_a_part_of_the_handshake_has_failed() {
        let whole = worked(&status("{\"syn\":1,\"syn_ack\":2,\"established\":1}"), "9.5 50.1");
        let [handshake, cookies, block] = ["1/2/1", "own", "40.6"].map(str::to_owned);
        assert_eq!(whole, Ok(Agent { handshake, cookies, block }));
        let blind = worked(&status("{\"syn\":1,\"syn_ack\":0,\"established\":1}"), "9.5 50.1");
        assert_eq!(blind, Err("it is \"protecting\" and saw 1/0/1 of one handshake".to_owned()));
        assert!(worked("", "9.5 50.1").is_err());
    }

    #[test]
    fn a_block_that_ends_by_the_time_of_day_has_failed() {
        assert_eq!(block_held("9.5 49.5"), Ok("40.0".to_owned()));
        for (times, why) in [
            ("9.5 12.5", "a block of 40 s ended after 3.0 s"),
            ("9.5 60.0", "a block of 40 s ended after 50.5 s"),
            ("", "nobody got in after a block"),
        ] {
            assert_eq!(block_held(times), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_loader_that_said_nothing_is_an_error_and_not_an_empty_column() {
        let error = Kernel::loaded("6.1", "Kernel panic - not syncing\n").unwrap_err();
        assert_eq!(error.to_string(), "on Linux 6.1 the loader said nothing");
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let console = format!(
            "{{\"object\":\"guard\",\"program\":\"ingress\",\"instructions\":1940}}\n\
             {{\"object\":\"cookie\",\"left_out\":\"no such function\"}}\n\
             {{\"object\":\"guard\",\"maps\":3,\"bytes\":2097152}}\n\
             {STATUS}{}\n{BLOCK}9.5 50.1\n",
            status("{\"syn\":1,\"syn_ack\":1,\"established\":1}")
        );
        let mut kernel = Kernel::loaded("6.1.0-50", &console).unwrap();
        kernel.stacked.insert("agent on a bond".to_owned(), Ok("80/80/40".to_owned()));
        let read = Kernel::from_json(&kernel.to_json());
        assert_eq!(format!("{read:?}"), format!("{kernel:?}"));
    }
}
