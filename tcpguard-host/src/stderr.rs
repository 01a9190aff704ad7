//! Lines on stderr: for people at a terminal with time and level, for the journal with a priority. So is the log:
//! nothing that a packet can cause is logged above trace, and an important event is an alert.
//!
//! A service's stderr is a stream to journald. When journald hangs, an ordinary write to it would wait
//! for ever, and the agent with it. So lines that the stream does not take at once are lost, and
//! counted.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::net::{SendFlags, send};

use crate::escape;

/// Beginning of the targets of lines that the BPF programs write. `--bpf-log` has chosen their level already.
const BPF: &str = "tcpguard_ebpf";

/// Number of messages that the journal's stream did not take.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Returns the number of messages on stderr that the journal did not take.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Returns whether stderr is a stream to journald, by the variable that says so (systemd.exec(5)).
pub fn is_journal() -> bool {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        rustix::fs::fstat(io::stderr())
            .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

/// Writes one message of any number of lines. A closed stderr is no reason to stop.
pub fn write(level: Level, message: &str) {
    let message = &escape::escaped_lines(message);
    if !is_journal() {
        let time = jiff::Timestamp::now();
        let _ = writeln!(io::stderr(), "{time:.3} {level} {message}");
        return;
    }
    let lines = for_journal(level, message);
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match send(io::stderr(), lines.as_bytes(), flags) {
        Ok(sent) if sent == lines.len() => {}
        _ => _ = LOST.fetch_add(1, Ordering::Relaxed),
    }
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() || metadata.target().starts_with(BPF)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            write(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Starts the log, once per process; later calls only change the level: that of so many `-v` and `-q` on the command line.
pub fn start_log(verbose: u8, quiet: bool) {
    // The only error is that a logger is set already, and that is this one.
    let _ = log::set_logger(&Stderr);
    log::set_max_level(match (quiet, verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Info,
        (false, 1) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    });
}

/// Each line with its priority, as sd-daemon(3) has it.
fn for_journal(level: Level, message: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    message.lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_message_carries_its_priority() {
        assert_eq!(for_journal(Level::Error, "two\nlines"), "<3>two\n<3>lines\n");
        assert_eq!(for_journal(Level::Info, "one"), "<6>one\n");
    }
}
