//! The log: lines on stderr, for the journal with a priority (sd-daemon(3)), and for people with a time.

use std::io::{self, Write as _};
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};
use tcpguard_host::escape;

struct Stderr {
    is_journal: bool,
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let message = record.args().to_string();
            let line = line(record.level(), &escape::escaped_line(&message), self.is_journal);
            // A closed stderr is no reason to stop.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    fn flush(&self) {}
}

/// Starts logging.
pub(super) fn start(verbose: u8, quiet: bool) {
    static LOGGER: OnceLock<Stderr> = OnceLock::new();
    let logger =
        LOGGER.get_or_init(|| Stderr { is_journal: std::env::var_os("JOURNAL_STREAM").is_some() });
    // The only error is that there is a logger, which is this one.
    let _ = log::set_logger(logger);
    log::set_max_level(match (quiet, verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Info,
        (false, 1) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    });
}

fn line(level: Level, message: &str, is_journal: bool) -> String {
    if !is_journal {
        return format!("{:.3} {level} {message}", jiff::Timestamp::now());
    }
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    format!("<{priority}>{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_journal_has_a_priority() {
        assert_eq!(line(Level::Error, "lost", true), "<3>lost");
        assert!(line(Level::Info, "lost", false).ends_with(" INFO lost"));
    }
}
