//! What leaves the guard by itself: alerts to the journal and to stderr, and the log.

pub mod alert;
pub mod events;
pub mod history;
pub mod journal;
pub mod log;
pub mod stderr;

pub use alert::{Alert, AlertSink};
pub use history::History;
pub use journal::Journal;
