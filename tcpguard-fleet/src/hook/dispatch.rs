//! Delivery of events to one target, one at a time. Events never wait for a target to be added: they go to its queue.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::document::Hook;
use super::queue::Queue;

/// Number of tries for one event.
const TRIES: u32 = 3;
/// Time before the second try. Each further one is put off four times as long.
const RETRY: Duration = Duration::from_secs(1);

/// A receiver of events.
pub trait Target {
    /// Delivers an event once, within a time of its own.
    ///
    /// # Errors
    /// When the event did not arrive.
    fn deliver(&self, hook: &Hook) -> impl Future<Output = Result<(), DeliveryError>> + Send;
}

/// Reason for which an event did not arrive.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DeliveryError {
    /// The document may arrive at the next try.
    #[error("{0}")]
    Temporary(String),
    /// Each try would fail alike.
    #[error("{0}")]
    Permanent(String),
}

/// The events of one target. They are added by one task and delivered by another.
#[derive(Debug, Default)]
pub struct Dispatcher {
    queue: Mutex<Queue>,
    added: Notify,
    /// True from the end of the process on. The task that delivers has the receiver.
    is_ending: watch::Sender<bool>,
    delivered: AtomicU64,
    failed: AtomicU64,
}

/// Numbers of events of one target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counts {
    /// Events that wait.
    pub waiting: usize,
    /// Events that arrived.
    pub delivered: u64,
    /// Events that did not arrive after all tries.
    pub failed: u64,
    /// Events that found no slot in the queue.
    pub dropped: u64,
}

impl Dispatcher {
    /// Adds an event. It does not wait.
    pub fn push(&self, hook: Hook) {
        self.queue().push(hook);
        self.added.notify_one();
    }

    /// Returns the numbers of events.
    pub fn counts(&self) -> Counts {
        let queue = self.queue();
        Counts {
            waiting: queue.len(),
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dropped: queue.dropped(),
        }
    }

    /// Delivers events until the end of the process, and reports those that did not arrive.
    pub async fn run(
        &self,
        target: &(impl Target + Sync),
        mut report: impl FnMut(&Hook, &DeliveryError) + Send,
    ) {
        let mut ending = self.is_ending.subscribe();
        loop {
            // The lock is not held while the event is delivered.
            let next = self.queue().pop();
            let Some(hook) = next else {
                // In this order: the last events are delivered before the end.
                tokio::select! {
                    biased;
                    () = self.added.notified() => {}
                    _ = ending.wait_for(|is_ending| *is_ending) => return,
                }
                continue;
            };
            match deliver(target, &hook, &mut ending).await {
                Ok(()) => {
                    self.delivered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    report(&hook, &error);
                }
            }
        }
    }

    /// Ends the deliveries: what waits has one try until `end`. Returns the number of events that did not arrive.
    pub async fn finish(&self, end: Instant) -> u64 {
        let failed = self.counts().failed;
        self.is_ending.send_replace(true);
        // The receiver ends with the task. If it does not, it is in the middle of a delivery.
        let is_late = timeout_at(end, self.is_ending.closed()).await.is_err();
        let counts = self.counts();
        counts.failed - failed + counts.waiting as u64 + u64::from(is_late)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic leaves the queue whole: each of its methods makes one change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Delivers an event with all tries. At the end of the process, the next try is the last.
async fn deliver(
    target: &impl Target,
    hook: &Hook,
    ending: &mut watch::Receiver<bool>,
) -> Result<(), DeliveryError> {
    let mut pause = RETRY;
    for _ in 1..TRIES {
        match target.deliver(hook).await {
            Err(DeliveryError::Temporary(_)) if !*ending.borrow() => tokio::select! {
                () = sleep(pause) => {}
                _ = ending.wait_for(|is_ending| *is_ending) => {}
            },
            result => return result,
        }
        pause *= 4;
    }
    target.deliver(hook).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::document::EventKind::{End, Start, Update};
    use super::super::document::tests::hook;
    use super::*;

    /// A target whose deliveries take a second and end as given, the last one for ever.
    struct Script {
        results: Mutex<Vec<Result<(), DeliveryError>>>,
        seen: Mutex<Vec<(u64, Hook)>>,
        start: Instant,
    }

    impl Script {
        fn new(mut results: Vec<Result<(), DeliveryError>>) -> Self {
            results.reverse();
            let results = Mutex::new(results);
            Self { results, seen: Mutex::default(), start: Instant::now() }
        }
    }

    impl Target for Arc<Script> {
        async fn deliver(&self, hook: &Hook) -> Result<(), DeliveryError> {
            let second = self.start.elapsed().as_secs();
            self.seen.lock().unwrap().push((second, hook.clone()));
            sleep(Duration::from_secs(1)).await;
            let mut results = self.results.lock().unwrap();
            if results.len() > 1 { results.pop().unwrap() } else { results[0].clone() }
        }
    }

    fn temporary() -> DeliveryError {
        DeliveryError::Temporary("503".to_owned())
    }

    /// Runs a dispatcher with these events for some time, and returns the times of the tries and the errors.
    async fn run(
        dispatcher: &Dispatcher,
        target: &Arc<Script>,
        seconds: u64,
    ) -> (Vec<u64>, Vec<DeliveryError>) {
        let mut errors = Vec::new();
        let limit = Duration::from_secs(seconds);
        let report = |_: &Hook, error: &DeliveryError| errors.push(error.clone());
        let ended = tokio::time::timeout(limit, dispatcher.run(target, report)).await;
        assert!(ended.is_err());
        let tries = target.seen.lock().unwrap().iter().map(|(second, _)| *second).collect();
        (tries, errors)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_delivery_is_tried_again_later_and_later() {
        let (dispatcher, target) =
            (Dispatcher::default(), Arc::new(Script::new(vec![Err(temporary())])));
        dispatcher.push(hook(Start, 1));
        assert_eq!(run(&dispatcher, &target, 60).await, (vec![0, 2, 7], vec![temporary()]));
        let ids: Vec<_> = target.seen.lock().unwrap().iter().map(|(_, hook)| hook.id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "a repeated delivery has the same id");
        let counts = Counts { waiting: 0, delivered: 0, failed: 1, dropped: 0 };
        assert_eq!(dispatcher.counts(), counts);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_that_succeeds_is_not_repeated() {
        let target = Arc::new(Script::new(vec![Err(temporary()), Ok(())]));
        let dispatcher = Dispatcher::default();
        dispatcher.push(hook(Start, 1));
        assert_eq!(run(&dispatcher, &target, 60).await, (vec![0, 2], Vec::new()));
        assert_eq!(dispatcher.counts().delivered, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_would_repeat_is_final() {
        let gone = DeliveryError::Permanent("404".to_owned());
        let target = Arc::new(Script::new(vec![Err(gone.clone())]));
        let dispatcher = Dispatcher::default();
        dispatcher.push(hook(Start, 1));
        assert_eq!(run(&dispatcher, &target, 60).await, (vec![0], vec![gone]));
    }

    #[tokio::test(start_paused = true)]
    async fn events_of_a_slow_target_collapse_meanwhile() {
        let target = Arc::new(Script::new(vec![Err(temporary()), Ok(())]));
        let dispatcher = Dispatcher::default();
        dispatcher.push(hook(Start, 1));
        let adding = async {
            for _ in 0..100 {
                sleep(Duration::from_millis(10)).await;
                dispatcher.push(hook(Update, 1));
            }
            dispatcher.push(hook(End, 1));
        };
        let (_, (tries, _)) = tokio::join!(adding, run(&dispatcher, &target, 60));
        // Without the queue there would be 102 deliveries.
        assert_eq!(tries, [0, 2, 3]);
        let last = target.seen.lock().unwrap().last().map(|(_, hook)| hook.event);
        assert_eq!(last, Some(End));
    }

    /// Ends a dispatcher after some seconds, within 4.5 more. Returns the second in which it has ended, the times of the
    /// tries, and the number of events that did not arrive.
    async fn end(
        results: Vec<Result<(), DeliveryError>>,
        events: u64,
        after: u64,
    ) -> (u64, Vec<u64>, u64) {
        let (dispatcher, target) =
            (Arc::new(Dispatcher::default()), Arc::new(Script::new(results)));
        let (running, to) = (Arc::clone(&dispatcher), Arc::clone(&target));
        let task = tokio::spawn(async move { running.run(&to, |_, _| {}).await });
        (0..events).for_each(|incident| dispatcher.push(hook(Start, incident)));
        tokio::task::yield_now().await;
        sleep(Duration::from_secs(after)).await;
        let missing = dispatcher.finish(Instant::now() + Duration::from_millis(4500)).await;
        task.abort();
        let tries = target.seen.lock().unwrap().iter().map(|(second, _)| *second).collect();
        (target.start.elapsed().as_secs(), tries, missing)
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_wait_at_the_end_are_delivered() {
        assert_eq!(end(vec![Ok(())], 3, 0).await, (3, vec![0, 1, 2], 0));
        assert_eq!(end(vec![Ok(())], 2, 9).await, (9, vec![0, 1], 0), "nothing waits");
    }

    #[tokio::test(start_paused = true)]
    async fn each_event_has_one_try_after_the_end() {
        assert_eq!(end(vec![Err(temporary())], 3, 0).await, (3, vec![0, 1, 2], 3));
        // The first event waits for its third try, which is now.
        assert_eq!(end(vec![Err(temporary())], 2, 4).await, (6, vec![0, 2, 4, 5], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_comes_in_time_and_counts_what_did_not_arrive() {
        assert_eq!(end(vec![Ok(())], 9, 0).await, (4, vec![0, 1, 2, 3, 4], 5));
    }
}
