//! What the loader said on each kernel, as one table.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use serde_json::Value;

use super::guest::STATUS;

/// One kernel's answers.
#[derive(Debug)]
pub struct Kernel {
    name: String,
    /// By "object/program": instructions verified, or why it was refused.
    programs: BTreeMap<String, Result<u64, String>>,
    /// By object: why the agent does without it on such a kernel.
    left_out: BTreeMap<String, String>,
    /// By object: bytes of kernel memory that its maps take.
    maps: BTreeMap<String, u64>,
    /// What the agent saw of the one handshake, or why that is too little; `None` where it did not
    /// run.
    agent: Option<Result<String, String>>,
}

impl Kernel {
    /// Reads the loader's lines out of `output`, which may hold a kernel's console too.
    ///
    /// # Errors
    /// When there is none: the loader did not run.
    pub fn new(name: &str, output: &str) -> Result<Self> {
        let mut kernel = Self {
            name: name.into(),
            programs: BTreeMap::new(),
            left_out: BTreeMap::new(),
            maps: BTreeMap::new(),
            agent: None,
        };
        for line in output.lines().filter(|line| line.starts_with('{')) {
            let Ok(answer) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let object = answer["object"].as_str().unwrap_or_default();
            if let Some(bytes) = answer["bytes"].as_u64() {
                kernel.maps.insert(object.to_owned(), bytes);
            }
            if let Some(why) = answer["left_out"].as_str() {
                kernel.left_out.insert(object.to_owned(), why.to_owned());
            }
            let Some(program) = answer["program"].as_str() else {
                continue;
            };
            let result = match (answer["instructions"].as_u64(), answer["refused"].as_str()) {
                (Some(instructions), None) => Ok(instructions),
                (_, refused) => Err(refused.unwrap_or("no answer").to_owned()),
            };
            kernel.programs.insert(format!("{object}/{program}"), result);
        }
        if kernel.programs.is_empty() {
            bail!("on Linux {name} the loader said nothing");
        }
        let status = output.lines().find_map(|line| line.split_once(STATUS));
        kernel.agent = status.map(|(_, status)| handshake(status));
        Ok(kernel)
    }

    /// How many programs this kernel refused, and whether the agent failed on it.
    pub fn failures(&self) -> usize {
        let refused = self.programs.values().filter(|program| program.is_err()).count();
        refused + usize::from(matches!(self.agent, Some(Err(_))))
    }

    fn agent(&self) -> String {
        match &self.agent {
            Some(Ok(seen)) => seen.clone(),
            Some(Err(_)) => "FAILED".to_owned(),
            None => "-".to_owned(),
        }
    }

    fn program(&self, name: &str) -> String {
        match self.programs.get(name) {
            Some(Ok(instructions)) => instructions.to_string(),
            Some(Err(_)) => "REFUSED".to_owned(),
            None => "-".to_owned(),
        }
    }

    fn map_size(&self, object: &str) -> String {
        let mebibytes = |bytes: &u64| format!("{:.1} MiB", *bytes as f64 / f64::from(1 << 20));
        self.maps.get(object).map_or_else(|| "-".to_owned(), mebibytes)
    }
}

/// Programs down, kernels across: instructions verified, or REFUSED with the reason below.
pub fn render(kernels: &[Kernel]) -> String {
    let programs: BTreeSet<_> = kernels.iter().flat_map(|kernel| kernel.programs.keys()).collect();
    let objects: BTreeSet<_> = kernels.iter().flat_map(|kernel| kernel.maps.keys()).collect();
    let line = |title: &str, cell: &dyn Fn(&Kernel) -> String| -> Vec<String> {
        [title.to_owned()].into_iter().chain(kernels.iter().map(cell)).collect()
    };
    let mut lines = vec![line("instructions verified", &|kernel| kernel.name.clone())];
    lines.extend(programs.iter().map(|name| line(name, &|kernel| kernel.program(name))));
    lines.extend(
        objects
            .iter()
            .map(|object| line(&format!("maps of {object}"), &|kernel| kernel.map_size(object))),
    );
    lines.push(line("agent: SYN/SYN-ACK/completed", &Kernel::agent));
    let mut text = align(&lines);
    for kernel in kernels {
        if let Some(Err(why)) = &kernel.agent {
            text.push_str(&format!("FAILED the agent on Linux {}: {why}\n", kernel.name));
        }
        for (object, why) in &kernel.left_out {
            text.push_str(&format!("LEFT OUT {object} on Linux {}: {why}\n", kernel.name));
        }
        for (name, result) in &kernel.programs {
            if let Err(reason) = result {
                text.push_str(&format!("REFUSED {name} on Linux {}: {reason}\n", kernel.name));
            }
        }
    }
    text
}

/// What `tcpguard status` says of the handshake: the arriving SYN proves the ingress program, the
/// SYN-ACK that left the egress one, the completion the tracepoint.
fn handshake(status: &str) -> Result<String, String> {
    let Ok(status) = serde_json::from_str::<Value>(status) else {
        return Err("it gave no status; see the console".to_owned());
    };
    let state = status["daemon"]["state"].as_str().unwrap_or_default();
    let totals = &status["listeners"][0]["totals"];
    let count = |name: &str| totals[name].as_u64().unwrap_or(0);
    let seen = ["syn", "syn_ack", "established"].map(count);
    let text = seen.map(|count| count.to_string()).join("/");
    if state == "protecting" && seen.iter().all(|count| *count > 0) {
        Ok(text)
    } else {
        Err(format!("it is \"{state}\" and saw {text} of one handshake"))
    }
}

/// First column to the left, the others, which hold numbers, to the right.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{:<width$}", line[0], width = widths[0]));
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_beside_what_was_verified_and_explained_below() {
        let old = Kernel::new(
            "6.1",
            "[    1.0] veth: loading\n\
             {\"object\":\"guard\",\"program\":\"ingress\",\"refused\":\"unbounded min value\"}\n\
             {\"object\":\"cookie\",\"left_out\":\"no such function\"}\n\
             {\"object\":\"guard\",\"maps\":3,\"bytes\":1048576}\n",
        )
        .unwrap();
        let new = Kernel::new(
            "7.2.12",
            "{\"object\":\"guard\",\"program\":\"ingress\",\"instructions\":1940}\n\
             {\"object\":\"guard\",\"program\":\"egress\",\"instructions\":20}\n\
             {\"object\":\"guard\",\"maps\":3,\"bytes\":2097152}\n\
             [    3.0] noise guest: status {\"daemon\":{\"state\":\"protecting\"},\"listeners\":[{\"totals\":\
             {\"syn\":1,\"syn_ack\":1,\"established\":1}}]}\n",
        )
        .unwrap();
        assert_eq!((old.failures(), new.failures()), (1, 0));
        assert_eq!(
            render(&[old, new]),
            "instructions verified             6.1   7.2.12\n\
             guard/egress                        -       20\n\
             guard/ingress                 REFUSED     1940\n\
             maps of guard                 1.0 MiB  2.0 MiB\n\
             agent: SYN/SYN-ACK/completed        -    1/1/1\n\
             LEFT OUT cookie on Linux 6.1: no such function\n\
             REFUSED guard/ingress on Linux 6.1: unbounded min value\n"
        );
    }

    #[test]
    fn an_agent_that_missed_a_part_of_the_handshake_has_failed() {
        let status = |totals| {
            format!(
                "{{\"daemon\":{{\"state\":\"protecting\"}},\"listeners\":[{{\"totals\":{totals}}}]}}"
            )
        };
        let whole = status("{\"syn\":1,\"syn_ack\":2,\"established\":1}");
        assert_eq!(handshake(&whole), Ok("1/2/1".to_owned()));
        let blind = handshake(&status("{\"syn\":1,\"syn_ack\":0,\"established\":1}"));
        assert_eq!(blind, Err("it is \"protecting\" and saw 1/0/1 of one handshake".to_owned()));
        assert!(handshake("").is_err());
    }

    #[test]
    fn a_loader_that_said_nothing_is_an_error_and_not_an_empty_column() {
        let error = Kernel::new("6.1", "Kernel panic - not syncing\n").unwrap_err();
        assert_eq!(error.to_string(), "on Linux 6.1 the loader said nothing");
    }
}
