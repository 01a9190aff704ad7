//! `tcpguard capture`

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tcpguard_host::units;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::CaptureArgs;
use super::error::CliError;
use super::events::{PATIENCE, STEP, is_away};
use super::session::Session;
use crate::control::{ClientError, Request, Response};
use crate::documents::{CaptureEnd, CaptureResult, CapturedSyn, CapturedSyns};
use crate::replay::capture::writer::{LARGEST, Writer};

pub(super) fn run(args: &CaptureArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let to_output = args.write == Path::new("-");
    if to_output && (session.terminal || session.json) {
        let what = if session.json { "is for --json" } else { "is a terminal" };
        let hint = "tcpguard capture -w FILE, or: sudo tcpguard capture -w - | tcpdump -n -r -";
        return Err(CliError::usage(format!("standard output {what}"), hint).into());
    }
    // First: without an agent there is nothing to record, and no file to be left.
    let known = ask(None, session)?.last;
    let file = if to_output { None } else { Some(create(args)?) };
    let begun = Instant::now();
    let mut recording = Recording::new(args, file);
    let ended = recording.record(known, session);
    recording.report(ended.as_ref().ok().copied(), begun.elapsed(), session)?;
    ended.map(drop)
}

/// The SYNs after number `after`.
fn ask(after: Option<u64>, session: &Session<'_>) -> Result<CapturedSyns, ClientError> {
    session.client.ask(Request::CapturedSyns { after }, Response::try_as_captured_syns)
}

/// Creates the file, readable by its owner only: it holds addresses of clients.
fn create(args: &CaptureArgs) -> Result<File, CliError> {
    let path = &args.write;
    let failed =
        |error: io::Error| CliError::file("write", path, &error, "name another file with --write");
    // Another kind of file, such as a pipe, cannot be made anew.
    let is_special = fs::metadata(path).is_ok_and(|there| !there.is_file());
    if args.force && is_special {
        return OpenOptions::new().write(true).open(path).map_err(failed);
    }
    if args.force && path.symlink_metadata().is_ok() {
        fs::remove_file(path).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} exists", path.display());
            Err(CliError::refused(message, "name another file with --write, or use --force"))
        }
        created => created.map_err(failed),
    }
}

/// SIGINT and SIGTERM: they end a recording, and what was recorded until then is complete.
struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        drop(entered);
        Ok(Self { runtime, interrupt, terminate })
    }

    /// Sleeps for this time, or until a signal comes. Returns whether one came.
    fn sleep(&mut self, time: Duration) -> bool {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => true,
                _ = self.terminate.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        })
    }
}

/// Amounts of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Amounts {
    packets: u64,
    stand_for: u64,
    bytes: u64,
}

/// A capture within its limits of packets and size.
struct Recording<'a> {
    args: &'a CaptureArgs,
    /// `None`: standard output.
    file: Option<File>,
    writer: Writer,
    made: Amounts,
    /// Those that are in the file.
    written: Amounts,
}

impl<'a> Recording<'a> {
    fn new(args: &'a CaptureArgs, file: Option<File>) -> Self {
        let (made, written) = Default::default();
        Self { args, file, writer: Writer::start(), made, written }
    }

    /// Records what comes after SYN number `known`.
    fn record(&mut self, mut known: u64, session: &mut Session<'_>) -> anyhow::Result<CaptureEnd> {
        let mut signals = Signals::catch().map_err(|error| {
            CliError::refused(format!("cannot catch signals: {error}"), "tcpguard status")
        })?;
        let (begun, mut heard) = (Instant::now(), Instant::now());
        let mut end = None;
        loop {
            match ask(Some(known), session) {
                Ok(CapturedSyns { last, syns }) => {
                    (known, heard) = (last, Instant::now());
                    end = self.add(&syns).or(end);
                }
                Err(error) if is_away(&error) && heard.elapsed() < PATIENCE => {}
                Err(error) => return Err(error.into()),
            }
            self.write(session)?;
            if let Some(end) = end {
                return Ok(end);
            }
            // The last step asks once more.
            let left = self.args.time.saturating_sub(begun.elapsed());
            end = if signals.sleep(STEP.min(left)) {
                Some(CaptureEnd::Signal)
            } else if left <= STEP {
                Some(CaptureEnd::Time)
            } else {
                None
            };
        }
    }

    /// Adds those that there is room for. Returns the limit that was reached.
    fn add(&mut self, syns: &[CapturedSyn]) -> Option<CaptureEnd> {
        for syn in syns {
            self.writer.add(syn);
            self.made.packets += 1;
            self.made.stand_for += u64::from(syn.one_in);
            if self.made.packets >= self.args.count {
                return Some(CaptureEnd::Packets);
            } else if self.writer.bytes() + LARGEST > self.most_bytes() {
                return Some(CaptureEnd::Size);
            }
        }
        None
    }

    const fn most_bytes(&self) -> u64 {
        self.args.max_size << 20
    }

    /// Writes what was added. If it fails, the file ends with the packets that were written before.
    fn write(&mut self, session: &mut Session<'_>) -> Result<(), CliError> {
        let bytes = self.writer.take();
        match &mut self.file {
            Some(file) => file.write_all(&bytes).map_err(|error| {
                // A part of a block would make the file invalid. A pipe has no length.
                let _ = file.set_len(self.written.bytes);
                CliError::file("write", &self.args.write, &error, "df -h")
            })?,
            None => session.print_bytes(&bytes)?,
        }
        self.written = Amounts { bytes: self.writer.bytes(), ..self.made };
        Ok(())
    }

    /// Says what was recorded, and why it ended; `None`: by an error, which is said by itself.
    fn report(
        &self,
        end: Option<CaptureEnd>,
        lasted: Duration,
        session: &mut Session<'_>,
    ) -> anyhow::Result<()> {
        let Amounts { packets, stand_for, bytes } = self.written;
        let ended = match end {
            Some(CaptureEnd::Packets) => {
                format!("; limit reached: {} (--count)", units::counted(self.args.count, "packet"))
            }
            Some(CaptureEnd::Size) => {
                format!("; limit reached: {} (--max-size)", units::bytes(self.most_bytes()))
            }
            Some(CaptureEnd::Time) => {
                format!("; limit reached: {} (--for)", units::span(self.args.time))
            }
            Some(CaptureEnd::Signal) => "; ended by a signal".to_owned(),
            None => String::new(),
        };
        session.say(&format!(
            "wrote {}: {}, which stand for about {} that XDP dropped or answered{ended}",
            self.args.write.display(),
            units::counted(packets, "packet"),
            units::counted(stand_for, "SYN"),
        ));
        let Some(ended_by) = end else { return Ok(()) };
        if packets == 0 {
            let message = "XDP dropped and answered no SYN to a listener meanwhile: nothing is dropped in \
                           mode observe, or without an attack";
            session.warn(message, "tcpguard status");
        }
        if session.json {
            session.print_document(&CaptureResult {
                file: self.args.write.clone(),
                packets,
                stand_for,
                bytes,
                duration_s: (lasted.as_secs_f64() * 10.0).round() / 10.0,
                ended_by,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Verb;
    use super::super::args::Args;
    use super::*;

    fn args(line: &str) -> CaptureArgs {
        let words = ["tcpguard", "capture"].into_iter().chain(line.split(' '));
        match Args::try_parse_from(words).unwrap().verb {
            Verb::Capture(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn syns(count: usize) -> Vec<CapturedSyn> {
        let header = vec![0x45; 100];
        let syn = CapturedSyn {
            at_ns: 7,
            header,
            reason: "cookie".to_owned(),
            answered: true,
            one_in: 64,
        };
        vec![syn; count]
    }

    #[test]
    fn a_capture_ends_at_its_limits_and_never_beyond_them() {
        let five = args("-w x -c 5");
        let mut few = Recording::new(&five, None);
        assert_eq!(few.add(&syns(4)), None);
        assert_eq!(few.add(&syns(4)), Some(CaptureEnd::Packets));
        assert_eq!((few.made.packets, few.made.stand_for), (5, 5 * 64));
        let one_mib = args("-w x -c 1000000 --max-size 1");
        let mut small = Recording::new(&one_mib, None);
        assert_eq!(small.add(&syns(10_000)), Some(CaptureEnd::Size));
        let bytes = small.writer.bytes();
        assert!((1_000_000..=1 << 20).contains(&bytes), "{bytes}");
    }

    #[test]
    fn one_syn_adds_no_more_than_is_left_for_it() {
        let named = args("-w x");
        let mut recording = Recording::new(&named, None);
        let before = recording.writer.bytes();
        let header = vec![0x60; 112];
        let syn = syns(1).remove(0);
        let reason = "drop_beyond_bounds_and_longer".to_owned();
        recording.add(&[CapturedSyn { header, reason, one_in: 1 << 31, ..syn }]);
        assert!(recording.writer.bytes() - before <= LARGEST, "{}", recording.writer.bytes());
    }

    #[test]
    fn a_file_is_private_and_is_overwritten_only_on_demand() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcapng");
        let named = |more: &str| args(&format!("-w {}{more}", path.display()));
        create(&named("")).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        let refused = create(&named("")).unwrap_err();
        assert_eq!(refused.to_string(), format!("{} exists", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        create(&named(" --force")).unwrap();
        assert_eq!(mode(), 0o600);
        assert!(create(&args("-w /dev/null --force")).is_ok(), "no regular file");
        assert!(create(&args("-w /nowhere/x")).is_err());
    }
}
