//! The log: lines on stderr, for operators and developers. Nothing that a packet can cause is logged
//! above trace. An important event is an alert.

use log::{LevelFilter, Log, Metadata, Record};

use super::stderr;

/// Beginning of the targets of lines that the BPF programs write. `--bpf-log` has chosen their level already.
const BPF: &str = "tcpguard_ebpf";

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() || metadata.target().starts_with(BPF)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            stderr::write(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Starts logging to stderr, once per process; later calls only change the level.
pub fn start(level: LevelFilter) {
    // The only error is that a logger is set already, and that is this one.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(level);
}

/// The level for so many `-v` and `-q` on the command line.
pub const fn level(verbose: u8, quiet: bool) -> LevelFilter {
    match (quiet, verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Info,
        (false, 1) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    }
}
