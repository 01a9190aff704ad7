//! Circumstances of a poll beside a listener's counters.

use std::time::Duration;

use crate::input::{Mode, Queues, Timestamp};

/// Largest number of averages that are made of missed polls.
const PARTS: usize = 64;

/// Values beside a listener's counters that are needed to read them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollContext {
    /// Time of the poll.
    pub at: Timestamp,
    /// Time since the poll before.
    pub elapsed: Duration,
    /// Normal time between polls.
    pub poll: Duration,
    /// The kernel's treatment of matched SYNs.
    pub mode: Mode,
    /// The listener's SYNs that its full SYN queue dropped without an answer; `None` while its accept
    /// queue is to blame.
    pub queue_drops: Option<u64>,
    /// Cookies of the kernel's that no SYN-ACK of any listener accounts for.
    pub unseen_cookies: u64,
    /// The listener's queues; `None` without a socket of this host.
    pub queues: Option<Queues>,
    /// An accept queue of this host overflowed.
    pub overflowed: bool,
    /// The listener's own SYN queue was found full.
    pub queue_full: bool,
    /// One flow in `2^sample_shift` is tracked.
    pub sample_shift: u8,
    /// Outgoing packets are not seen, in a capture: every SYN that is not retransmitted counts as answered.
    pub one_sided: bool,
    /// The listener's queues cannot be read: it is behind this host, or in a capture.
    pub unread: bool,
    /// XDP answers its SYNs, or did a moment ago.
    pub answering: bool,
    /// Frames that reached the stack in this poll or the one before, with headers that extend beyond the
    /// parser's bounds. Each may hold a SYN that was not counted and to which the stack replies.
    pub beyond: u64,
}

impl PollContext {
    /// The polls of which a sample is, those that were missed included.
    pub fn parts(&self) -> usize {
        let polls = (self.elapsed.as_secs_f64() / self.poll.as_secs_f64()).round() as usize;
        polls.clamp(1, PARTS)
    }
}
