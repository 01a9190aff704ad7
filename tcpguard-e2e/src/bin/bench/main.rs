//! What the guard costs, a packet in the kernel and a packet of a capture, and what it is worth.
#![forbid(unsafe_code)]

mod capture;
mod e2e;
mod part;
mod programs;
mod replay;
mod samples;

use anyhow::{Result, bail};

use capture::Kind;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => programs::bench(&[]),
        ["programs", words @ ..] => programs::bench(words),
        ["e2e", words @ ..] => e2e::bench(words),
        ["replay"] => replay::run(),
        ["capture", kind, packets] => replay::write(Kind::named(kind)?, packets.parse()?),
        _ => bail!(
            "usage: bench                          what a packet costs in each program\n\
             \x20      bench programs [--help]        likewise, with options\n\
             \x20      bench e2e [--help]             what clients get under floods, and others' defences\n\
             \x20      bench replay                   what one of a capture costs, and memory\n\
             \x20      bench capture KIND PACKETS     writes the capture that is replayed"
        ),
    }
}
