//! The bus without waiting: publications, subscriptions and readings of the durable store are tasks of their own, with
//! bounded queues to and from the one task that owns the state of a process.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::bus::{Bus, BusError, Received, Stored};

/// Publications that wait. With 50 signatures a host sends at most 8 at once.
const UNSENT: usize = 64;
/// Received documents that wait.
const WAITING: usize = 256;
/// Time between two tries to subscribe.
const RETRY: Duration = Duration::from_secs(5);
/// Documents of the store that are read at once. Each is a request of its own, of a millisecond.
pub(super) const BATCH: usize = 64;

/// The bus, as a process uses it.
#[derive(Debug)]
pub(super) struct BusLink<B> {
    bus: B,
    connections: watch::Receiver<u64>,
    publications: mpsc::Sender<(String, Vec<u8>)>,
    publisher: JoinHandle<()>,
    received: mpsc::Receiver<Received>,
    receiver: mpsc::Sender<Received>,
    subscriptions: BTreeMap<String, JoinHandle<()>>,
    batches: mpsc::Receiver<Batch>,
    reader: mpsc::Sender<Batch>,
    /// Publications for which there was no slot.
    dropped: u64,
}

/// Documents of the store, or the reason for which there are none.
type Batch = Result<Vec<Stored>, BusError>;

/// News of the bus.
#[derive(Debug)]
pub(super) enum News {
    /// A new connection.
    Connected,
    /// A document.
    Received(Received),
    /// Documents of the store.
    Stored(Batch),
}

impl<B: Bus> BusLink<B> {
    /// Must be called within a tokio runtime.
    pub fn new(bus: B) -> Self {
        let (publications, mut to_publish) = mpsc::channel::<(String, Vec<u8>)>(UNSENT);
        let (receiver, received) = mpsc::channel(WAITING);
        let (reader, batches) = mpsc::channel(1);
        let publisher = tokio::spawn({
            let bus = bus.clone();
            async move {
                while let Some((subject, document)) = to_publish.recv().await {
                    if let Err(error) = bus.publish(&subject, document).await {
                        log::debug!("{subject} not published: {error}");
                    }
                }
            }
        });
        let subscriptions = BTreeMap::new();
        let connections = bus.connections();
        Self {
            bus,
            connections,
            publications,
            publisher,
            received,
            receiver,
            subscriptions,
            batches,
            reader,
            dropped: 0,
        }
    }

    /// Publishes a document, or drops it if too many wait.
    pub fn publish(&mut self, subject: String, document: Vec<u8>) {
        if self.publications.try_send((subject, document)).is_err() {
            self.dropped += 1;
        }
    }

    /// Listens to these subjects and no others.
    pub fn subscribe(&mut self, patterns: impl IntoIterator<Item = String>) {
        let mut before = std::mem::take(&mut self.subscriptions);
        for pattern in patterns {
            let task = before.remove(&pattern);
            let task = task.unwrap_or_else(|| {
                tokio::spawn(listen(self.bus.clone(), pattern.clone(), self.receiver.clone()))
            });
            self.subscriptions.insert(pattern, task);
        }
        before.values().for_each(JoinHandle::abort);
    }

    /// Reads the documents of the store behind position `after`, at most [`BATCH`]. One reading at a time.
    pub fn read_store(&self, after: u64) {
        let (bus, reader) = (self.bus.clone(), self.reader.clone());
        tokio::spawn(async move {
            let batch = bus.stored(after, BATCH).await;
            // A process that ends needs no documents.
            let _ = reader.send(batch).await;
        });
    }

    /// The next connection, document or batch.
    pub async fn next(&mut self) -> News {
        tokio::select! {
            Ok(()) = self.connections.changed() => News::Connected,
            Some(received) = self.received.recv() => News::Received(received),
            Some(batch) = self.batches.recv() => News::Stored(batch),
            // This side holds a sender of both.
            else => std::future::pending().await,
        }
    }

    /// Publications that were dropped because too many waited.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl<B> Drop for BusLink<B> {
    fn drop(&mut self) {
        self.publisher.abort();
        self.subscriptions.values().for_each(JoinHandle::abort);
    }
}

/// Passes on the documents of a subscription, which is made again whenever it ends.
async fn listen(bus: impl Bus, pattern: String, receiver: mpsc::Sender<Received>) {
    loop {
        match bus.subscribe(&pattern).await {
            Ok(mut documents) => {
                while let Some(document) = documents.recv().await {
                    if receiver.send(document).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => log::debug!("no subscription to {pattern}: {error}"),
        }
        sleep(RETRY).await;
    }
}

/// Times at which the durable store is read: behind the last position at each new connection and once a minute, in case
/// that a document was lost on its way, and as a whole every ten minutes, in case that the store was made anew.
#[derive(Debug)]
pub(super) struct Rounds {
    next: Timestamp,
    whole: Timestamp,
    is_reading: bool,
    /// True if a connection is newer than the reading that goes on.
    is_outdated: bool,
}

/// Time between two readings of new documents.
const NEW: Duration = Duration::from_secs(60);
/// Time between two readings of all.
const WHOLE: Duration = Duration::from_secs(600);
/// Time before another try.
const FAILED: Duration = Duration::from_secs(10);

impl Rounds {
    /// The first reading is now.
    pub fn new(now: Timestamp) -> Self {
        Self { next: now, whole: now + WHOLE, is_reading: false, is_outdated: false }
    }

    /// Makes the next reading due, after any that goes on.
    pub fn restart(&mut self, now: Timestamp) {
        self.next = now;
        self.is_outdated = self.is_reading;
    }

    /// The position behind which to read now, if it is time; `known` is the last that is known.
    pub fn begin(&mut self, now: Timestamp, known: u64) -> Option<u64> {
        if self.is_reading || now < self.next {
            return None;
        }
        self.is_reading = true;
        if now < self.whole {
            return Some(known);
        }
        self.whole = now + WHOLE;
        Some(0)
    }

    /// Takes the end of a reading: the number of its documents, or `None` after an error.
    pub fn end(&mut self, now: Timestamp, read: Option<usize>) {
        self.is_reading = false;
        self.next = match read {
            _ if std::mem::take(&mut self.is_outdated) => now,
            Some(BATCH..) => now,
            Some(_) => now + NEW,
            None => now + FAILED,
        };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A document by its subject.
    type Published = (String, Vec<u8>);
    /// A subscription by its pattern.
    type Subscriber = (String, mpsc::Sender<Received>);

    /// A bus in memory. A subscription ends with its test.
    #[derive(Clone, Default)]
    pub struct Memory {
        pub published: Arc<Mutex<Vec<Published>>>,
        pub stored: Arc<Mutex<Vec<Stored>>>,
        pub connections: watch::Sender<u64>,
        subscribers: Arc<Mutex<Vec<Subscriber>>>,
        /// True if publications never end.
        pub hangs: bool,
    }

    impl Memory {
        /// Delivers a document to the subscriptions of this pattern.
        pub async fn deliver(&self, pattern: &str, document: Received) -> usize {
            let subscribers = self.subscribers.lock().unwrap().clone();
            let mut delivered = 0;
            for (_, sender) in subscribers.iter().filter(|(known, _)| known == pattern) {
                delivered += usize::from(sender.send(document.clone()).await.is_ok());
            }
            delivered
        }

        /// The patterns that were subscribed to.
        pub fn patterns(&self) -> Vec<String> {
            self.subscribers.lock().unwrap().iter().map(|(pattern, _)| pattern.clone()).collect()
        }
    }

    impl Bus for Memory {
        fn connections(&self) -> watch::Receiver<u64> {
            self.connections.subscribe()
        }

        async fn publish(&self, subject: &str, document: Vec<u8>) -> Result<(), BusError> {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            self.published.lock().unwrap().push((subject.to_owned(), document));
            Ok(())
        }

        async fn subscribe(&self, pattern: &str) -> Result<mpsc::Receiver<Received>, BusError> {
            let (sender, receiver) = mpsc::channel(1);
            self.subscribers.lock().unwrap().push((pattern.to_owned(), sender));
            Ok(receiver)
        }

        async fn stored(&self, after: u64, limit: usize) -> Result<Vec<Stored>, BusError> {
            let stored = self.stored.lock().unwrap();
            let behind = stored.iter().filter(|stored| stored.sequence > after);
            Ok(behind.take(limit).cloned().collect())
        }

        async fn store(&self, key: &str, document: Option<Vec<u8>>) -> Result<u64, BusError> {
            let mut stored = self.stored.lock().unwrap();
            let sequence = stored.last().map_or(1, |last| last.sequence + 1);
            stored.push(Stored { key: key.to_owned(), sequence, document });
            Ok(sequence)
        }
    }

    fn document(text: &str) -> Received {
        Received { subject: text.to_owned(), document: Vec::new() }
    }

    /// Lets the tasks of a link run until they wait.
    pub async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn subscriptions_follow_the_patterns() {
        let bus = Memory::default();
        let mut link = BusLink::new(bus.clone());
        link.subscribe(["a".to_owned(), "b".to_owned()]);
        settle().await;
        assert_eq!(bus.deliver("a", document("1")).await, 1);
        assert!(matches!(link.next().await, News::Received(received) if received == document("1")));
        link.subscribe(["b".to_owned(), "c".to_owned()]);
        settle().await;
        assert_eq!(bus.patterns(), ["a", "b", "c"], "b goes on");
        assert_eq!(bus.deliver("a", document("2")).await, 0);
        assert_eq!(bus.deliver("c", document("3")).await, 1);
        assert!(matches!(link.next().await, News::Received(received) if received == document("3")));
    }

    #[tokio::test]
    async fn a_bus_that_hangs_costs_a_bounded_queue() {
        let mut link = BusLink::new(Memory { hangs: true, ..Memory::default() });
        for number in 0..1000 {
            link.publish(number.to_string(), Vec::new());
        }
        assert_eq!(link.dropped(), 1000 - UNSENT as u64);
    }

    #[tokio::test]
    async fn documents_of_the_store_come_in_batches() {
        let bus = Memory::default();
        for number in 0..BATCH + 3 {
            bus.store(&number.to_string(), Some(Vec::new())).await.unwrap();
        }
        let mut link = BusLink::new(bus);
        let mut rounds = Rounds::new(Timestamp::from_millis(1000));
        let (mut position, mut batches) = (0, Vec::new());
        let now = Timestamp::from_millis(1000);
        while let Some(after) = rounds.begin(now, position) {
            link.read_store(after);
            let News::Stored(Ok(batch)) = link.next().await else { panic!("a batch") };
            position = batch.last().map_or(position, |last| last.sequence);
            rounds.end(now, Some(batch.len()));
            batches.push(batch.len());
        }
        assert_eq!(batches, [BATCH, 3]);
        assert_eq!(position, BATCH as u64 + 3);
    }

    #[test]
    fn the_store_is_read_each_minute_and_as_a_whole_every_ten() {
        let start = Timestamp::from_millis(1_000_000);
        let mut rounds = Rounds::new(start);
        let mut read = Vec::new();
        for second in 0..1300 {
            let now = start + Duration::from_secs(second);
            if let Some(after) = rounds.begin(now, 7) {
                assert_eq!(rounds.begin(now, 7), None, "one at a time");
                read.push((second, after));
                rounds.end(now, Some(0));
            }
        }
        let whole: Vec<_> = read.iter().filter(|(_, after)| *after == 0).collect();
        assert_eq!(whole, [&(600, 0), &(1200, 0)]);
        assert_eq!((read[0], read[1], read.len()), ((0, 7), (60, 7), 22));
        rounds.begin(start + Duration::from_secs(1400), 7);
        rounds.end(start + Duration::from_secs(1400), None);
        assert_eq!(rounds.begin(start + Duration::from_secs(1409), 7), None);
        assert_eq!(rounds.begin(start + Duration::from_secs(1410), 7), Some(7));
    }

    #[test]
    fn a_new_connection_makes_a_reading_due() {
        let now = Timestamp::from_millis(1_000_000);
        let mut rounds = Rounds::new(now);
        assert_eq!(rounds.begin(now, 7), Some(7));
        rounds.end(now, Some(0));
        rounds.restart(now);
        assert_eq!(rounds.begin(now, 7), Some(7));
        // The reading of the connection before fails, or does not know what was stored since.
        for read in [None, Some(0)] {
            rounds.restart(now);
            assert_eq!(rounds.begin(now, 7), None, "one at a time");
            rounds.end(now, read);
            assert_eq!(rounds.begin(now, 7), Some(7));
        }
        rounds.end(now, Some(0));
        assert_eq!(rounds.begin(now, 7), None, "once for a connection");
    }
}
