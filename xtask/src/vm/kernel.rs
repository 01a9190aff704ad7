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
    fn a_guest_that_stopped_after_the_loader_fails_in_every_part() {
        let console =
            "{\"object\":\"guard\",\"program\":\"ingress\",\"instructions\":1940}\nguest: end\n";
        let kernel = Kernel::booted("6.12.95", console).unwrap();
        assert!(matches!(kernel.agent, Some(Err(_))));
        assert!(kernel.cases.contains_key(DOCTOR) && kernel.cases.values().all(Result::is_err));
        assert_eq!(kernel.failures(), 1 + kernel.cases.len());
    }

    #[test]
    fn the_features_that_the_doctor_misses_are_counted_and_have_to_fit_the_agents_cookies() {
        let finding = |name| json!({"severity": "notice", "code": "kernel_features", "subject": name, "text": "no"});
        let findings = ["TCX", "bpf_sk_assign_tcp_reqsk"].map(finding);
        let report = json!({ "findings": findings });
        let console = |cookies: &str| {
            let status =
                status("{\"syn\":1,\"syn_ack\":1,\"established\":1}").replace("own", cookies);
            format!(
                "{{\"object\":\"guard\",\"program\":\"ingress\",\"instructions\":1940}}\n\
                 {}{report}\n{STATUS}{status}\n{BLOCK}9.5 50.1\n",
                doctor::REPORT
            )
        };
        let kernel = Kernel::booted("6.1.0-50", &console("kernel_helper")).unwrap();
        assert_eq!(kernel.cases[DOCTOR], Ok("2".to_owned()));
        assert_eq!(kernel.missing["TCX"], "no");
        let kernel = Kernel::booted("6.1.0-50", &console("own")).unwrap();
        assert!(kernel.cases[DOCTOR].is_err() && kernel.missing.is_empty());
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
        kernel.cases.insert("agent on a bond".to_owned(), Ok("80/80/40".to_owned()));
        kernel.missing.insert("TCX".to_owned(), "not in this kernel".to_owned());
        let read = Kernel::from_json(&kernel.to_json());
        assert_eq!(format!("{read:?}"), format!("{kernel:?}"));
    }
}
