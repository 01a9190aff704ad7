//! What one kernel said of the programs and the agent.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tcpguard_goals::verifier::{self, Costs};

use super::guest::{EXIT, LEFT, PINS, SAID, STATUS};

/// The exit code of an agent that another start would not help (`RestartPreventExitStatus=`).
const REFUSED: &str = "4";

/// One kernel's answers.
#[derive(Debug, Default)]
pub struct Kernel {
    /// The part of its release that tells it from others.
    pub name: String,
    /// By "object/program": instructions verified, or why it was refused.
    pub programs: Costs,
    /// By object: why the agent does without it on such a kernel.
    pub left_out: BTreeMap<String, String>,
    /// By object: bytes of kernel memory that its maps take.
    pub maps: BTreeMap<String, u64>,
    /// What became of the agent, or why that is too little; `None` where it did not run.
    pub agent: Option<Result<Agent, String>>,
}

/// What became of an agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Agent {
    /// It ran.
    Works {
        /// SYNs, SYN-ACKs and completions that it saw of the one handshake.
        handshake: String,
        /// Who makes its SYN cookies: a `backend` of the status.
        cookies: String,
    },
    /// It said this, ended, and left nothing behind.
    Refuses(String),
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
        let status = output.lines().find_map(|line| line.split_once(STATUS));
        kernel.agent = status.map(|(_, status)| worked(status));
        Ok(kernel)
    }

    /// Of a kernel that is too old: `output` tells how the agent ended there.
    pub fn too_old(name: &str, output: &str) -> Self {
        Self { name: name.into(), agent: Some(refused(output)), ..Self::default() }
    }

    fn heard(&mut self, answer: &Value) {
        let object = answer["object"].as_str().unwrap_or_default();
        if let Some(bytes) = answer["bytes"].as_u64() {
            self.maps.insert(object.to_owned(), bytes);
        }
        if let Some(why) = answer["left_out"].as_str() {
            self.left_out.insert(object.to_owned(), why.to_owned());
        }
        self.programs.extend(verifier::cost(answer));
    }

    /// How many programs this kernel refused, and whether the agent failed on it.
    pub fn failures(&self) -> usize {
        let refused = self.programs.values().filter(|program| program.is_err()).count();
        refused + usize::from(matches!(self.agent, Some(Err(_))))
    }

    /// As `docs/kernel-support.json` keeps it.
    pub fn to_json(&self) -> Value {
        let programs: BTreeMap<_, _> = self
            .programs
            .iter()
            .filter_map(|(name, cost)| Some((name, *cost.as_ref().ok()?)))
            .collect();
        let (handshake, cookies, refuses) = match &self.agent {
            Some(Ok(Agent::Works { handshake, cookies })) => (Some(handshake), Some(cookies), None),
            Some(Ok(Agent::Refuses(said))) => (None, None, Some(said)),
            Some(Err(_)) | None => (None, None, None),
        };
        json!({
            "name": self.name,
            "programs": programs,
            "maps": self.maps,
            "left_out": self.left_out,
            "handshake": handshake,
            "cookies": cookies,
            "refuses": refuses,
        })
    }

    /// What [`Self::to_json`] made, for the test that compares the page with the record. What is
    /// missing counts as not there.
    #[cfg(test)]
    pub fn from_json(value: &Value) -> Self {
        let entries = |name: &str| value[name].as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let agent = match (text(&value["handshake"]), text(&value["refuses"])) {
            (Some(handshake), _) => Some(Agent::Works {
                handshake,
                cookies: text(&value["cookies"]).unwrap_or_default(),
            }),
            (None, refuses) => refuses.map(Agent::Refuses),
        };
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
            agent: agent.map(Ok),
        }
    }
}

/// What `tcpguard status` says of the handshake: the arriving SYN proves the ingress program, the
/// SYN-ACK that left the egress one, the completion the tracepoint.
fn worked(status: &str) -> Result<Agent, String> {
    let Ok(status) = serde_json::from_str::<Value>(status) else {
        return Err("it gave no status; see the console".to_owned());
    };
    let state = status["daemon"]["state"].as_str().unwrap_or_default();
    let totals = &status["listeners"][0]["totals"];
    let count = |name: &str| totals[name].as_u64().unwrap_or(0);
    let seen = ["syn", "syn_ack", "established"].map(count);
    let handshake = seen.map(|count| count.to_string()).join("/");
    if state == "protecting" && seen.iter().all(|count| *count > 0) {
        let cookies = status["cookies"]["backend"].as_str().unwrap_or_default().to_owned();
        Ok(Agent::Works { handshake, cookies })
    } else {
        Err(format!("it is \"{state}\" and saw {handshake} of one handshake"))
    }
}

/// A refusal is clean when it is one sentence that names the cause, ends with the code that keeps the
/// service from trying again, and leaves neither a program nor a pin.
fn refused(output: &str) -> Result<Agent, String> {
    let all = |what: &str| -> Vec<&str> {
        output.lines().filter_map(|line| Some(line.split_once(what)?.1.trim())).collect()
    };
    let said = all(SAID);
    let facts = [(EXIT, REFUSED), (PINS, "0"), (LEFT, "0")];
    for (what, wanted) in facts {
        if all(what) != [wanted] {
            return Err(format!(
                "\"{}\" is {:?}, not {wanted}; it said {said:?}",
                what.trim(),
                all(what)
            ));
        }
    }
    match said[..] {
        [sentence] if sentence.contains("too old") => Ok(Agent::Refuses(sentence.to_owned())),
        _ => Err(format!("it said {said:?}, not in one sentence that the kernel is too old")),
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
        let whole = worked(&status("{\"syn\":1,\"syn_ack\":2,\"established\":1}"));
        let works = Agent::Works { handshake: "1/2/1".to_owned(), cookies: "own".to_owned() };
        assert_eq!(whole, Ok(works));
        let blind = worked(&status("{\"syn\":1,\"syn_ack\":0,\"established\":1}"));
        assert_eq!(blind, Err("it is \"protecting\" and saw 1/0/1 of one handshake".to_owned()));
        assert!(worked("").is_err());
    }

    #[test]
    fn a_loader_that_said_nothing_is_an_error_and_not_an_empty_column() {
        let error = Kernel::loaded("6.1", "Kernel panic - not syncing\n").unwrap_err();
        assert_eq!(error.to_string(), "on Linux 6.1 the loader said nothing");
    }

    #[test]
    fn a_refusal_is_one_sentence_and_leaves_nothing() {
        let sentence = "tcpguard: Linux 5.10.0 is too old: it needs 6.1";
        let clean = format!("{SAID}{sentence}\n{EXIT}4\n{PINS}0\n{LEFT}0\n");
        assert_eq!(refused(&clean), Ok(Agent::Refuses(sentence.to_owned())));
        for (whole, broken) in [
            (format!("{EXIT}4"), format!("{EXIT}1")),
            (format!("{PINS}0"), format!("{PINS}3")),
            (format!("{LEFT}0"), format!("{LEFT}1")),
            (format!("{LEFT}0\n"), String::new()),
            (format!("{SAID}{sentence}"), format!("{SAID}{sentence}\n{SAID}and more")),
            ("too old".to_owned(), "refused by the verifier".to_owned()),
        ] {
            let output = clean.replace(&whole, &broken);
            assert!(refused(&output).is_err(), "{output}");
        }
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let console = format!(
            "{{\"object\":\"guard\",\"program\":\"ingress\",\"instructions\":1940}}\n\
             {{\"object\":\"cookie\",\"left_out\":\"no such function\"}}\n\
             {{\"object\":\"guard\",\"maps\":3,\"bytes\":2097152}}\n\
             {STATUS}{}\n",
            status("{\"syn\":1,\"syn_ack\":1,\"established\":1}")
        );
        let works = Kernel::loaded("6.1.0-50", &console).unwrap();
        let old = Kernel::too_old("5.10", &format!("{SAID}too old\n{EXIT}4\n{PINS}0\n{LEFT}0\n"));
        for kernel in [works, old] {
            let read = Kernel::from_json(&kernel.to_json());
            assert_eq!(format!("{read:?}"), format!("{kernel:?}"));
        }
    }
}
