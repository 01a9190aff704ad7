//! Benchmark of tcpguard: its cost for a packet in the kernel, for a packet of a capture and in the
//! agent, and its benefit.
#![forbid(unsafe_code)]

mod agent;
mod calm;
mod capture;
mod e2e;
mod machine;
mod page;
mod part;
mod programs;
mod record;
mod replay;
mod samples;
mod timeline;
mod verdict;
mod whole;

use std::process::ExitCode;

use anyhow::{Result, bail};

use capture::Kind;
use programs::cores;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => return whole::bench(&words),
        [first, ..] if first.starts_with('-') => return whole::bench(&words),
        ["programs", words @ ..] => programs::bench(words)?,
        ["cores", words @ ..] => cores::bench(words)?,
        ["e2e", words @ ..] => e2e::bench(words)?,
        ["calm", words @ ..] => calm::bench(words)?,
        ["timeline", words @ ..] => timeline::bench(words)?,
        ["agent", words @ ..] => agent::bench(words)?,
        ["replay"] => record::print_and_write(&replay::measure(false)?, None)?,
        ["page"] => whole::page()?,
        ["capture", kind, packets] => replay::write(Kind::named(kind)?, packets.parse()?)?,
        _ => bail!(
            "usage: bench [--help]                 everything in turn, and what came of each target\n\
             \x20      bench programs [--help]        what a packet costs in each program\n\
             \x20      bench cores [--help]           packets that a program takes on several CPUs at once\n\
             \x20      bench e2e [--help]             what clients get under floods, and others' defences\n\
             \x20      bench calm [--help]            bulk TCP and new connections without an attack\n\
             \x20      bench timeline [--help]        time to detect, mitigate and release a flood\n\
             \x20      bench agent [--help]           what the daemon costs, idle and under floods\n\
             \x20      bench replay                   what one of a capture costs, and memory\n\
             \x20      bench page                     writes docs/evidence/performance.md anew, from its record\n\
             \x20      bench capture KIND PACKETS     writes the capture that is replayed"
        ),
    }
    Ok(ExitCode::SUCCESS)
}
