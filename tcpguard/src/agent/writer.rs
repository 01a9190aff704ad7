//! Writes to the disk without ever holding up the detection loop, which a disk under load would.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is to be written, and who waits for it.
type Job<T> = (T, Option<Sender<()>>);

/// How something is written into a directory.
type Store<T> = fn(&Path, &T) -> io::Result<()>;

/// A thread that writes the newest of what it was given. Dropping this waits until that is done.
#[derive(Debug)]
pub struct Writer<T> {
    jobs: Option<Sender<Job<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Writer<T> {
    /// Writes into `dir` by `store`. `lost` is what lasts until the next start only when that fails.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        name: &str,
        dir: PathBuf,
        store: Store<T>,
        lost: &'static str,
    ) -> io::Result<Self> {
        let (jobs, incoming) = channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_newest(&dir, store, lost, &incoming))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `content` written in place of what was there.
    pub fn write(&self, content: T) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only when the sender has gone.
            let _ = jobs.send((content, None));
        }
    }

    /// The same, and waits until it is on the disk, or for `limit`: what an operator was told is done
    /// is not to be lost.
    pub fn write_and_wait(&self, content: T, limit: Duration) {
        let (written, done) = channel();
        if let Some(jobs) = &self.jobs
            && jobs.send((content, Some(written))).is_ok()
        {
            // Whether it could be written is told by the thread.
            let _ = done.recv_timeout(limit);
        }
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by itself.
            let _ = thread.join();
        }
    }
}

fn write_newest<T>(dir: &Path, store: Store<T>, lost: &str, incoming: &Receiver<Job<T>>) {
    let mut told = false;
    while let Ok((mut content, waiting)) = incoming.recv() {
        let mut waiting = Vec::from_iter(waiting);
        while let Ok((newer, waits)) = incoming.try_recv() {
            content = newer;
            waiting.extend(waits);
        }
        match store(dir, &content) {
            Ok(()) => told = false,
            Err(error) if !told => {
                told = true;
                log::warn!(
                    "{lost} last until the next start only: cannot write to {}: {error}",
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
    use std::fs;

    fn writer(dir: PathBuf) -> Writer<u32> {
        let store = |dir: &Path, number: &u32| {
            fs::create_dir_all(dir)?;
            fs::write(dir.join("number"), number.to_string())
        };
        Writer::start("test", dir, store, "numbers").unwrap()
    }

    #[test]
    fn the_last_content_is_on_the_disk_when_the_writer_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(dir.path().join("deep/er"));
        for number in 0..50 {
            writer.write(number);
        }
        drop(writer);
        assert_eq!(fs::read_to_string(dir.path().join("deep/er/number")).unwrap(), "49");
    }

    #[test]
    fn who_waits_finds_the_content_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(dir.path().to_owned());
        for number in 0..20 {
            writer.write_and_wait(number, Duration::from_secs(10));
            assert_eq!(fs::read_to_string(dir.path().join("number")).unwrap(), number.to_string());
        }
    }
}
