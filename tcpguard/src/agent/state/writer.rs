//! Writes the state without ever holding up the detection loop, which a disk under load would.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{State, store};

/// A state, and who waits for it to be written.
type Job = (State, Option<Sender<()>>);

/// A thread that writes the newest state it was given. Dropping this waits until that is done.
#[derive(Debug)]
pub struct StateWriter {
    states: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl StateWriter {
    /// Writes into `dir`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(dir: PathBuf) -> std::io::Result<Self> {
        let (states, incoming) = channel();
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || write_newest(&dir, &incoming))?;
        Ok(Self { states: Some(states), thread: Some(thread) })
    }

    /// Has `state` written in place of what was there.
    pub fn write(&self, state: State) {
        if let Some(states) = &self.states {
            // The thread ends only when the sender has gone.
            let _ = states.send((state, None));
        }
    }

    /// The same, and waits until it is on the disk, or for `limit`: what an operator was told is done
    /// is not to be lost.
    pub fn write_and_wait(&self, state: State, limit: Duration) {
        let (written, done) = channel();
        if let Some(states) = &self.states
            && states.send((state, Some(written))).is_ok()
        {
            // Whether it could be written is told by the thread.
            let _ = done.recv_timeout(limit);
        }
    }
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        drop(self.states.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by itself.
            let _ = thread.join();
        }
    }
}

fn write_newest(dir: &std::path::Path, incoming: &Receiver<Job>) {
    let mut told = false;
    while let Ok((mut state, waiting)) = incoming.recv() {
        let mut waiting = Vec::from_iter(waiting);
        while let Ok((newer, waits)) = incoming.try_recv() {
            state = newer;
            waiting.extend(waits);
        }
        match store(dir, &state) {
            Ok(()) => told = false,
            Err(error) if !told => {
                told = true;
                log::warn!(
                    "rules, mode and what is learned last until the next start only: cannot write to \
                     {}: {error}",
                    dir.display()
                );
            }
            Err(_) => {}
        }
        for written in waiting {
            // Who has stopped waiting needs no word.
            let _ = written.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Time;

    #[test]
    fn the_last_state_is_on_the_disk_when_the_writer_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let writer = StateWriter::start(dir.path().join("deep/er")).unwrap();
        let written = Time("2026-01-02T03:04:06Z".parse().unwrap());
        for number in 0..50 {
            writer.write(State::new(format!("boot {number}"), written));
        }
        drop(writer);
        let state = State::load(&dir.path().join("deep/er")).unwrap();
        assert_eq!(state.boot, "boot 49");
    }

    #[test]
    fn who_waits_finds_the_state_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let writer = StateWriter::start(dir.path().to_owned()).unwrap();
        let written = Time("2026-01-02T03:04:06Z".parse().unwrap());
        for number in 0..20 {
            let boot = format!("boot {number}");
            writer.write_and_wait(State::new(boot.clone(), written), Duration::from_secs(10));
            assert_eq!(State::load(dir.path()).unwrap().boot, boot);
        }
    }
}
