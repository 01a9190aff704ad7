//! `load INTERFACE OBJECT…`: loads every program of BPF objects on the running kernel.
//!
//! Writes one line of JSON for each program, with the instructions its verification took or the
//! reason of its refusal, and one for the maps of each object and its digest. XDP programs are also attached to
//! the interface in native mode, tracepoint programs to their tracepoint. Objects are adapted to the kernel as the agent
//! does it. Everything is let go at the end. Exit status 1 if anything was refused. With its C library it is all that a
//! virtual machine with another kernel needs.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use aya::programs::{Program, ProgramError, XdpMode};
use aya::{Btf, EbpfLoader, VerifierLogLevel};
use serde_json::{Value, json};
use tcpguard::bpf::{Features, KernelError, link_kfuncs};
use tcpguard_kit::measure::digest;
use tcpguard_kit::measure::peak::map_bytes;

/// The one tracepoint that the programs use; the object's program type does not name it.
const TRACEPOINT: &str = "inet_sock_set_state";

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let interface = arguments.next().context("usage: load INTERFACE OBJECT...")?;
    let features = Features::of_running_kernel();
    let mut refused = false;
    for object in arguments {
        for line in load_object(&interface, features, Path::new(&object)) {
            refused |= line.get("refused").is_some();
            println!("{line}");
        }
    }
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Result of each program of an object, then the memory of its maps.
fn load_object(interface: &str, features: Features, path: &Path) -> Vec<Value> {
    let object = path.file_stem().unwrap_or_default().to_string_lossy();
    let digest = match digest::of(path) {
        Ok(digest) => digest,
        Err(error) => return vec![refusal(&object, "(object)", &error)],
    };
    let linked = match linked(path, features) {
        Ok(linked) => linked,
        // The agent does without on such a kernel, and says so.
        Err(error) if matches!(error.downcast_ref(), Some(KernelError::MissingFunction { .. })) => {
            eprintln!("{object}: {error:#}");
            let why = format!("{error:#}");
            return vec![json!({ "object": object, "left_out": why, "digest": digest })];
        }
        Err(error) => return vec![refusal(&object, "(object)", &error)],
    };
    // Verbose logs of a refused program are megabytes, for which it is verified again and again; its
    // last lines say why.
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    let multi_buffer = u8::from(features.multi_buffer);
    loader.override_global("MULTI_BUFFER", &multi_buffer, false);
    let loaded = loader.load(&linked).map_err(anyhow::Error::from).and_then(|programs| {
        let maps = map_bytes(std::process::id())?;
        Ok((programs, maps))
    });
    let (mut programs, maps) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return vec![refusal(&object, "(maps)", &error)],
    };
    let mut lines: Vec<_> = programs
        .programs_mut()
        .map(|(name, program)| match load_program(interface, program) {
            Ok(instructions) => {
                json!({ "object": object, "program": name, "instructions": instructions })
            }
            Err(error) => refusal(&object, name, &error),
        })
        .collect();
    let bytes: u64 = maps.values().sum();
    lines.push(json!({ "object": object, "maps": maps.len(), "bytes": bytes, "digest": digest }));
    lines
}

/// The object, adapted to the kernel and with its calls of kernel functions linked.
fn linked(path: &Path, features: Features) -> Result<Vec<u8>> {
    let object = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(features.adapt(link_kfuncs(object)?)?)
}

/// Loads and, where that needs no set-up, attaches one program: instructions verified; 0 before Linux 5.16, which does
/// not count them.
fn load_program(interface: &str, program: &mut Program) -> Result<u32> {
    match program {
        Program::Xdp(xdp) => {
            xdp.load()?;
            let link = xdp
                .attach(interface, XdpMode::Driver)
                .with_context(|| format!("native XDP on {interface}"))?;
            // For the next: one program at a time.
            xdp.detach(link)?;
        }
        Program::SchedClassifier(classifier) => classifier.load()?,
        Program::SkLookup(lookup) => lookup.load()?,
        Program::RawTracePoint(tracepoint) => {
            tracepoint.load()?;
            tracepoint.attach(TRACEPOINT)?;
        }
        Program::BtfTracePoint(tracepoint) => {
            tracepoint.load(TRACEPOINT, &Btf::from_sys_fs()?)?;
            tracepoint.attach()?;
        }
        other => bail!("no rule for programs of type {:?}", other.prog_type()),
    }
    Ok(program.info()?.verified_instruction_count().unwrap_or(0))
}

/// A refusal with its whole story on standard error, and its last words in the result.
fn refusal(object: &str, program: &str, error: &anyhow::Error) -> Value {
    eprintln!("{object} {program}: {error:#}");
    let reason = match error.downcast_ref::<ProgramError>() {
        Some(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            last_words(&log).map_or_else(|| io_error.to_string(), str::to_owned)
        }
        _ => format!("{error:#}"),
    };
    json!({ "object": object, "program": program, "refused": reason })
}

/// The verifier's verdict, which stands at the end of its log before the statistics.
fn last_words(log: &str) -> Option<&str> {
    let statistics = ["processed ", "insns processed ", "verification time ", "stack depth "];
    let mut lines = log.lines().map(str::trim).rev();
    lines.find(|line| !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_refusal_is_the_last_line_before_the_statistics() {
        let log = "0: R1=ctx() R10=fp0\nBPF program is too large. Processed 1000001 insn\n\
                   verification time 49 usec\nstack depth 288+152 max 0\n\
                   insns processed 1000001\nprocessed 1000001 insns (limit 1000000)\n\n";
        assert_eq!(last_words(log), Some("BPF program is too large. Processed 1000001 insn"));
        assert_eq!(last_words(""), None);
    }
}
