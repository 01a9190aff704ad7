//! Functions in which a thread of this machine spends its time: the kernel's and those of tcpguard's BPF
//! programs.
//!
//! `perf` samples the thread some thousand times a second by a timer, which needs no counters of the processor.
//! Each stage of the XDP program that does not stand in the program itself is a function of its own there, and
//! so are the kernel's functions for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

pub const LOOKS: u32 = 4_000;

/// A program that was loaded without a name: those of the kit's own making.
pub const NAMELESS: &str = "BPF: without a name";

/// perf, which samples a thread.
pub struct Perf(Child);

/// The samples of perf.
#[derive(Debug, PartialEq)]
pub struct Looks {
    pub count: u64,
    /// The greatest share first.
    pub functions: Vec<Function>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    pub name: String,
    /// Its share of all samples, 0 to 1.
    pub share: f64,
    /// The share of all samples that found the thread at one and the same instruction. Where this is most of
    /// the share, the thread waits there.
    pub hottest: f64,
}

impl Perf {
    /// Samples `thread` until it is stopped, and keeps the samples in `file`.
    pub fn start(thread: Pid, file: &Path) -> Result<Self> {
        let mut command = Command::new("perf");
        command.args(["record", "--quiet", "--event", "cpu-clock", "--freq", &LOOKS.to_string()]);
        command.args(["--tid", &thread.as_raw_nonzero().to_string(), "--output"]).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().context("no perf: install linux-perf").map(Self)
    }

    pub fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::INT)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Looks {
    /// Reads the file that perf has written.
    pub fn read(file: &Path) -> Result<Self> {
        let mut command = Command::new("perf");
        // An address and the function that it is in, a line each. Without the address perf 6.1 says nothing.
        command.args(["script", "--fields", "ip,sym", "--input"]).arg(file);
        let output = command.output().context("no perf: install linux-perf")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "perf script: {}",
            said.lines().next().unwrap_or_default()
        );
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(samples: &str) -> Self {
        let mut functions: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
        for (address, symbol) in samples.lines().filter_map(|line| line.trim().split_once(' ')) {
            let addresses = functions.entry(function(symbol.trim())).or_default();
            *addresses.entry(address).or_default() += 1;
        }
        let count: u64 = functions.values().flat_map(BTreeMap::values).sum();
        let share = |looks: u64| looks as f64 / count as f64;
        let mut functions: Vec<_> = functions
            .into_iter()
            .map(|(name, addresses)| Function {
                name,
                share: share(addresses.values().sum()),
                hottest: share(addresses.into_values().max().unwrap_or_default()),
            })
            .collect();
        functions.sort_by(|one, other| other.share.total_cmp(&one.share));
        Self { count, functions }
    }
}

/// A function's name without the parts that distinguish builds of BPF programs:
/// `bpf_prog_6deef7357e7b4530_look`.
fn function(symbol: &str) -> String {
    let program = symbol.strip_prefix("bpf_prog_").map(|rest| rest.split_once('_'));
    match program {
        Some(Some((_, name))) => format!("BPF: {name}"),
        Some(None) => NAMELESS.to_owned(),
        None => symbol.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_by_function_whatever_its_build() {
        let samples = "  ffffffffc0000010 bpf_prog_6deef7357e7b4530_look\n\n \
                       ffffffffc0001010 bpf_prog_0123456789abcdef_look \n \
                       ffffffffc0001010 bpf_prog_0123456789abcdef_look \n\
                       ffffffffc0002010 bpf_prog_0123456789abcdef\n  \
                       ffffffff81d35f77 htab_map_hash\n";
        let function =
            |name: &str, share, hottest| Function { name: name.to_owned(), share, hottest };
        assert_eq!(
            Looks::parse(samples),
            Looks {
                count: 5,
                functions: vec![
                    function("BPF: look", 0.6, 0.4),
                    function(NAMELESS, 0.2, 0.2),
                    function("htab_map_hash", 0.2, 0.2),
                ],
            }
        );
    }
}
