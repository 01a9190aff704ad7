//! The results of the programs and the agent on one kernel.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tcpguard_goals::verifier::{self, Costs};

use super::guest::{BLOCK, BLOCK_S, STATUS};
use super::{doctor, flood};

/// Tolerance in seconds for the time at which a blocked client gets in again. It tries once a
/// second, and programs start slowly in a guest.
const LATE_S: f64 = 4.0;

/// Results by title, each the cell of a table or the reason of the failure.
pub type Results = BTreeMap<String, Result<String, String>>;

/// Row with the number of [`Kernel::missing`] features.
const DOCTOR: &str = "doctor: missing features";

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
    /// Features that the doctor misses, each with its sentence.
    pub missing: doctor::Missing,
    /// Outcome of the doctor, of a flood, and of runs on bonds and VLANs; none where there were no such runs.
    pub cases: Results,
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
    /// Reads all lines out of the console of a guest, which has to have run all but bonds and VLANs.
    ///
    /// # Errors
    /// When the loader did not run. A failure of another part is its result.
    pub fn booted(name: &str, console: &str) -> Result<Self> {
        let mut kernel = Self::loaded(name, console)?;
        kernel.agent.get_or_insert_with(|| Err("it gave no status; see the console".to_owned()));
        kernel.cases = flood::results(console);
        let examined = doctor::missing(console, name).and_then(|missing| {
            if let Some(Ok(agent)) = &kernel.agent {
                doctor::agrees(&missing, &agent.cookies)?;
            }
            Ok(missing)
        });
        let row = examined.as_ref().map(|missing| missing.len().to_string()).map_err(String::clone);
        kernel.cases.insert(DOCTOR.to_owned(), row);
        kernel.missing = examined.unwrap_or_default();
        Ok(kernel)
    }

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
        let wrong = self.cases.values().filter(|result| result.is_err()).count();
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
        let cases: BTreeMap<_, _> = self
            .cases
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
            "missing": self.missing,
            "cases": cases,
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
            missing: entries("missing")
                .filter_map(|(feature, sentence)| Some((feature.clone(), text(sentence)?)))
                .collect(),
            cases: entries("cases")
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
