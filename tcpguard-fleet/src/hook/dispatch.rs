//! Delivery of events to one target, one at a time. Events never wait for a target to be added: they go to its queue.

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::document::Hook;
use super::queue::Queue;

/// Time before the second try. Each further one is put off four times as long.
const RETRY: Duration = Duration::from_secs(1);

/// A receiver of events.
pub trait Target {
    /// Number of tries for one event.
    const TRIES: u32;

    /// Delivers an event once, within a time of its own.
    ///
    /// # Errors
    /// When the event did not arrive.
    fn deliver(&self, hook: &Hook) -> impl Future<Output = Result<(), DeliveryError>> + Send;
}

/// Reason for which an event did not arrive.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DeliveryError {
    /// It may arrive at the next try.
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

    /// Delivers events for ever, and reports those that did not arrive.
    pub async fn run(
        &self,
        target: &(impl Target + Sync),
        mut report: impl FnMut(&Hook, &DeliveryError) + Send,
    ) -> Infallible {
        loop {
            // The lock is not held while the event is delivered.
            let next = self.queue().pop();
            let Some(hook) = next else {
                self.added.notified().await;
                continue;
            };
            match deliver(target, &hook).await {
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

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic leaves the queue whole: each of its methods makes one change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn deliver<T: Target>(target: &T, hook: &Hook) -> Result<(), DeliveryError> {
    let mut pause = RETRY;
    for _ in 1..T::TRIES {
        match target.deliver(hook).await {
            Err(DeliveryError::Temporary(_)) => tokio::time::sleep(pause).await,
            result => return result,
        }
        pause *= 4;
    }
    target.deliver(hook).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

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
        const TRIES: u32 = 3;

        async fn deliver(&self, hook: &Hook) -> Result<(), DeliveryError> {
            let second = self.start.elapsed().as_secs();
            self.seen.lock().unwrap().push((second, hook.clone()));
            tokio::time::sleep(Duration::from_secs(1)).await;
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
                tokio::time::sleep(Duration::from_millis(10)).await;
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
}
