//! Writes to the disk without ever holding up the detection loop, which a disk under load would.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The end of an agent waits no longer for the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// Function that writes something into a directory.
type Store<T> = fn(&Path, &T) -> io::Result<()>;

/// A callback that gets the outcome.
type OnDone = Box<dyn FnOnce(Result<(), Unwritten>) + Send>;

/// Reason for which content is not on the disk.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unwritten {
    #[error("cannot write to {}: {why}", dir.display())]
    Refused { dir: PathBuf, why: String },
    /// The content may still get to the disk.
    #[error("the disk has not taken it within {}ms", waited.as_millis())]
    Slow {
        /// Time for which the write was waited for.
        waited: Duration,
    },
}

/// A thread that writes the newest content. Content that arrives while the disk is busy replaces the
/// waiting one. Dropping this waits until the write is done, but for a second at most.
pub struct Writer<T> {
    shared: Arc<Shared<T>>,
    /// Hangs up when the thread ends.
    ended: Receiver<()>,
}

/// The state that the loop and the thread share.
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

struct Queue<T> {
    /// The content to write next.
    content: Option<T>,
    /// Callers that wait for it.
    waiting: Vec<OnDone>,
    /// True if no more content will come.
    closed: bool,
    /// Reason for which the last content is not on the disk.
    trouble: Option<Unwritten>,
}

impl<T: Send + 'static> Writer<T> {
    /// Starts a thread that writes into `dir` by `store`. `lost` names the data that, while writes fail,
    /// last only until the next start.
    pub fn start(
        name: &str,
        dir: PathBuf,
        store: Store<T>,
        lost: &'static str,
    ) -> io::Result<Self> {
        let queue = Queue { content: None, waiting: Vec::new(), closed: false, trouble: None };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() });
        let (hangs_up, ended) = channel();
        let its = Arc::clone(&shared);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _hangs_up: Sender<()> = hangs_up;
            its.write_newest(&dir, store, lost);
        })?;
        Ok(Self { shared, ended })
    }

    /// Hands `content` to the thread that writes. It replaces the old one.
    pub fn write(&self, content: T) {
        self.shared.queue().content = Some(content);
        self.shared.changed.notify_one();
    }

    /// Does the same, and has `callback` called by the thread once the content is on the disk, or cannot be.
    pub fn write_then(
        &self,
        content: T,
        callback: impl FnOnce(Result<(), Unwritten>) + Send + 'static,
    ) {
        {
            let mut queue = self.shared.queue();
            queue.content = Some(content);
            queue.waiting.push(Box::new(callback));
        }
        self.shared.changed.notify_one();
    }

    /// Hands `content` to the thread, and waits until it is on the disk, or for `limit`.
    ///
    /// # Errors
    /// When it is not, then.
    pub fn write_and_wait(&self, content: T, limit: Duration) -> Result<(), Unwritten> {
        let (written, done) = channel();
        self.write_then(content, move |result| {
            // A caller that has stopped waiting needs no result.
            let _ = written.send(result);
        });
        done.recv_timeout(limit).unwrap_or(Err(Unwritten::Slow { waited: limit }))
    }

    /// Returns the reason for which the last content could not be written to the disk; `None`: it was, or is
    /// being written.
    pub fn trouble(&self) -> Option<Unwritten> {
        self.shared.queue().trouble.clone()
    }
}

impl<T> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_one();
        // A thread that is stuck in the system is left to it.
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

impl<T> Shared<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        // Nothing panics while it holds it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_newest(&self, dir: &Path, store: Store<T>, lost: &str) {
        let idle = |queue: &mut Queue<T>| queue.content.is_none() && !queue.closed;
        loop {
            let waited = self.changed.wait_while(self.queue(), idle);
            let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
            let Some(content) = queue.content.take() else { return };
            let waiting = std::mem::take(&mut queue.waiting);
            let reported = queue.trouble.is_some();
            drop(queue);
            let refused = |error: io::Error| Unwritten::Refused {
                dir: dir.to_owned(),
                why: error.to_string(),
            };
            let written = store(dir, &content).map_err(refused);
            if let (Err(why), false) = (&written, reported) {
                log::warn!(
                    "{lost} not saved, lost at the next start: {why}. Retried with each change and each \
                     minute. Make room: df -h {}",
                    dir.display()
                );
            }
            self.queue().trouble = written.as_ref().err().cloned();
            waiting.into_iter().for_each(|callback| callback(written.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc::sync_channel;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(10);

    fn writer(dir: PathBuf) -> Writer<u32> {
        let store = |dir: &Path, number: &u32| {
            fs::create_dir_all(dir)?;
            fs::write(dir.join("number"), number.to_string())
        };
        Writer::start("test", dir, store, "numbers").unwrap()
    }

    /// Lets one number pass for each word.
    type Gate = Arc<Mutex<Receiver<()>>>;
    /// A number, the gate that holds it up, and the sender that is notified when it is begun.
    type Job = (u32, Gate, Sender<u32>);

    /// Numbers that take as long to be written as the test likes.
    struct Slow {
        writer: Writer<Job>,
        gate: Gate,
        words: std::sync::mpsc::SyncSender<()>,
        numbers: Sender<u32>,
        written: Receiver<u32>,
    }

    impl Slow {
        fn new() -> Self {
            let (words, gate) = sync_channel(100);
            let (numbers, written) = channel();
            let store = |_: &Path, (number, gate, begun): &Job| {
                begun.send(*number).unwrap();
                let _ = gate.lock().unwrap().recv();
                Ok(())
            };
            let writer = Writer::start("slow", PathBuf::new(), store, "numbers").unwrap();
            Self { writer, gate: Arc::new(Mutex::new(gate)), words, numbers, written }
        }

        fn job(&self, number: u32) -> Job {
            (number, Arc::clone(&self.gate), self.numbers.clone())
        }
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
    fn a_waiting_caller_finds_the_content_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let writer = writer(dir.path().to_owned());
        for number in 0..20 {
            assert_eq!(writer.write_and_wait(number, LONG), Ok(()));
            assert_eq!(fs::read_to_string(dir.path().join("number")).unwrap(), number.to_string());
        }
    }

    #[test]
    fn a_waiting_caller_learns_why_nothing_was_written_and_trouble_ends_with_its_cause() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("number")).unwrap();
        let writer = writer(dir.path().to_owned());
        let refused = writer.write_and_wait(1, LONG).expect_err("a directory is in the way");
        assert!(matches!(refused, Unwritten::Refused { .. }), "{refused}");
        assert_eq!(writer.trouble(), Some(refused));
        fs::remove_dir(dir.path().join("number")).unwrap();
        assert_eq!(writer.write_and_wait(2, LONG), Ok(()));
        assert_eq!(writer.trouble(), None);
    }

    #[test]
    fn behind_a_disk_that_hangs_only_the_newest_waits() {
        let slow = Slow::new();
        slow.writer.write(slow.job(0));
        assert_eq!(slow.written.recv_timeout(LONG), Ok(0));
        for number in 1..1000 {
            slow.writer.write(slow.job(number));
            // The gate is held by the content being written, by this, and by the waiting content.
            assert!(Arc::strong_count(&slow.gate) <= 3, "{number}");
        }
        let limit = Duration::from_millis(10);
        let asked = slow.writer.write_and_wait(slow.job(1000), limit);
        assert_eq!(asked, Err(Unwritten::Slow { waited: limit }));
        slow.words.send(()).unwrap();
        assert_eq!(slow.written.recv_timeout(LONG), Ok(1000), "and nothing in between");
        slow.words.send(()).unwrap();
    }

    #[test]
    fn an_end_does_not_wait_for_a_disk_that_hangs() {
        let slow = Slow::new();
        slow.writer.write(slow.job(0));
        assert_eq!(slow.written.recv_timeout(LONG), Ok(0));
        let begun = Instant::now();
        drop(slow.writer);
        let took = begun.elapsed();
        assert!(took >= PATIENCE && took < 2 * PATIENCE, "{took:?}");
    }
}
