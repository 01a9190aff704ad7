//! The machine on which numbers were measured: without it no reader can compare theirs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The kernel's measures against leaks of the processor, where they cost programs that packets go
/// through: calls and returns that are not foreseen. Below `/sys`.
const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";
const COSTLY: [&str; 4] = ["retbleed", "spec_rstack_overflow", "spectre_v2", "tsa"];

/// The machine, and the version of tcpguard that was measured on it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Machine {
    /// The processor's name for itself.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// True if the processor says that it is a guest's.
    pub is_virtual: bool,
    /// "spectre_v2: Retpolines", each of which the processor needs or would.
    pub mitigations: Vec<String>,
    /// Release of the running kernel.
    pub kernel: String,
    /// State of the compiler of programs: "on", "off", "on, hardened".
    pub jit: String,
    pub date: String,
    /// Version of tcpguard, and the result of `git describe` for its source.
    pub guard: String,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// Without `/proc`.
    pub fn here() -> Result<Self> {
        let read =
            |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let cpuinfo = read("/proc/cpuinfo")?;
        // Kernels without a file know nothing of that leak.
        let state = |name: &&str| {
            let text = fs::read_to_string(Path::new(VULNERABILITIES).join(name)).ok()?;
            mitigation(name, &text)
        };
        let sysctl = |name: &str| read(&format!("/proc/sys/net/core/{name}"));
        Ok(Self {
            cpu: model(&cpuinfo),
            cpus: std::thread::available_parallelism()?.get(),
            is_virtual: is_virtual(&cpuinfo),
            mitigations: COSTLY.iter().filter_map(state).collect(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            // Hardening is a file of some architectures only.
            jit: jit(&sysctl("bpf_jit_enable")?, &sysctl("bpf_jit_harden").unwrap_or_default()),
            date: jiff::Timestamp::now().strftime("%-d %B %Y").to_string(),
            guard: format!("{} ({})", env!("CARGO_PKG_VERSION"), commit()),
        })
    }

    /// A list in Markdown.
    pub fn list(&self) -> String {
        let guest = if self.is_virtual { ", of a virtual machine" } else { "" };
        let mitigations = match self.mitigations.as_slice() {
            [] => "none needed".to_owned(),
            some => some.join("; "),
        };
        let Self { cpu, cpus, kernel, jit, date, guard, .. } = self;
        format!(
            "- Processor: {cpu}, {cpus} CPUs{guest}\n\
             - Kernel: Linux {kernel}, BPF JIT {jit}\n\
             - Mitigations: {mitigations}\n\
             - tcpguard {guard}, {date}\n"
        )
    }
}

fn model(cpuinfo: &str) -> String {
    // Arm has no name for itself, only numbers.
    let model = value(cpuinfo, "model name").or_else(|| value(cpuinfo, "CPU part"));
    model.unwrap_or("unknown").to_owned()
}

fn is_virtual(cpuinfo: &str) -> bool {
    value(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
}

/// Of the first processor.
fn value<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

/// The kernel's measure against the leak `name`, in a word; `None` if the processor has none.
fn mitigation(name: &str, text: &str) -> Option<String> {
    let text = text.trim();
    if text == "Not affected" {
        return None;
    }
    let measures = text.strip_prefix("Mitigation: ").unwrap_or(text);
    let first = measures.split(';').next().unwrap_or(measures);
    Some(format!("{name}: {first}"))
}

fn jit(enable: &str, harden: &str) -> String {
    let enabled = if enable.trim() == "0" { "off" } else { "on" };
    let hardened = if matches!(harden.trim(), "" | "0") { "" } else { ", hardened" };
    format!("{enabled}{hardened}")
}

/// Of the source that this program was built from, as far as git is there to say.
fn commit() -> String {
    let described = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    match described {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "commit unknown".to_owned(),
    }
}
