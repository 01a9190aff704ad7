//! Counter records. All only grow; the agent computes differences.

use super::{Class, Reason, Unanswered};

/// Slots for [`super::Reason`] codes.
pub const REASON_SLOTS: usize = 64;
/// Slots for [`super::Class`] codes.
pub const CLASS_SLOTS: usize = 16;
/// Slots for [`super::Unanswered`] codes.
pub const UNANSWERED_SLOTS: usize = 16;

/// Each code has a slot of its own. Programs mask codes with the number of slots less one for the verifier.
const _: () = assert!(
    Reason::ALL.len() <= REASON_SLOTS
        && Class::ALL.len() <= CLASS_SLOTS
        && Unanswered::ALL.len() <= UNANSWERED_SLOTS
        && REASON_SLOTS.is_power_of_two()
        && CLASS_SLOTS.is_power_of_two()
        && UNANSWERED_SLOTS.is_power_of_two()
);

/// Value of `PACKETS`, one per interface slot and CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacketCounters {
    /// Packets counted on entry, before anything is decided: `entry == sum(reasons)`.
    pub entry: u64,
    /// Bytes of these packets; of one that is not IP and came in several pieces, those of the first.
    pub bytes: u64,
    /// Packets by [`super::Reason`].
    pub reasons: [u64; REASON_SLOTS],
    /// TCP segments by [`super::Class`].
    pub classes: [u64; CLASS_SLOTS],
}

impl Default for PacketCounters {
    fn default() -> Self {
        Self { entry: 0, bytes: 0, reasons: [0; REASON_SLOTS], classes: [0; CLASS_SLOTS] }
    }
}

/// Value of `LATE`, one per listener for all CPUs: handshakes that completed late, and SYNs of clients that waited.
/// Concurrent additions of two CPUs may be lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Late {
    /// Third ACKs that [`ListenerCounters::acknowledged`] counts, by the age of their SYN: those with a
    /// SYN from before the agent's last poll, those with a SYN from before the poll before it too, and so
    /// on. Each counts once. From this the agent knows how many of the handshakes that began between two
    /// polls completed, not only how many completed between them.
    pub polls: [u64; LATE_POLLS],
    /// Handshakes that new clients completed after a SYN that a rule matched had passed, as
    /// [`RuleReturns::completed`].
    pub let_through: u64,
    /// Of the SYNs that [`ListenerCounters::syn_retransmit`] counts, those that came as late as those of a client's
    /// kernel; see [`crate::fastpath::retransmit_timing`] (sampled).
    pub syn_retransmit_timed: u64,
}

/// Polls that [`Late`] distinguishes.
pub const LATE_POLLS: usize = 2;

/// Value of `LISTENER_COUNTERS`, one per listener and CPU. Exact, except where it says sampled:
/// those count one flow in `2^sample_shift` with that weight.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListenerCounters {
    /// SYNs that arrived, whatever became of them, retransmissions included.
    pub syn: u64,
    /// Of these, retransmissions of a SYN that is still pending (sampled).
    pub syn_retransmit: u64,
    /// SYN-ACKs that left, retransmissions included.
    pub syn_ack: u64,
    /// Of these, retransmissions (sampled).
    pub syn_ack_retransmit: u64,
    /// Handshakes that the kernel completed (tracepoint).
    pub established: u64,
    /// Handshakes that returning clients completed, each client counted once in ten seconds; see
    /// [`crate::fastpath::clients`].
    pub established_returning: u64,
    /// Third ACKs with the right acknowledgement number (sampled).
    pub acknowledged: u64,
    /// Half-open handshakes that the client reset (sampled).
    pub reset: u64,
    /// Out-of-state segments, which belong to no connection: answered by the stack with a reset, or dropped by
    /// the XDP program ([`super::Reason::DropOutOfState`]).
    pub refused: u64,
    /// SYNs dropped by a source rule, or that would have been in enforce mode.
    pub dropped_source: u64,
    /// SYNs dropped by a signature rule, or that would have been in enforce mode.
    pub dropped_signature: u64,
    /// Retransmitted SYNs that a signature rule matched and that passed or were answered.
    pub accepted_retransmits: u64,
    /// SYNs that a rule matched and that passed because their source was validated or exempt.
    pub exempt: u64,
    /// Handshakes with a SYN-ACK that was retransmitted although the third ACK had arrived (sampled): the stack
    /// ignored the ACK, as it does when the accept queue is full.
    pub ack_ignored: u64,
    /// SYNs answered with a cookie.
    pub cookies_sent: u64,
    /// ACKs with a good cookie: handed to the kernel with a request socket, or with
    /// [`super::ListenerEntry::KERNEL_COOKIES`] found good at XDP by the search for out-of-state
    /// segments. The kernel may still drop them. Handshakes that it completes are counted in
    /// `established`. If a handshake is not completed, the client sends its ACK again, with its data,
    /// and is counted again after 0.27 s.
    pub cookies_redeemed: u64,
    /// SYNs dropped because there were too many: beyond the SYN budget, or beyond a limit of replies.
    pub limited: u64,
}

/// Value of `HOST`, one per CPU: counters that belong to no listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HostCounters {
    /// SYNs that left: connections that this host opens.
    pub own_syn: u64,
    /// Segments that arrived and that only ever answer a SYN: SYN-ACKs, and resets with ACK and
    /// sequence number zero (RFC 9293 §3.10.7.1).
    pub reply_seen: u64,
    /// Of these, replies to no SYN of this host (sampled).
    pub unsolicited: u64,
    /// SYNs for an address and port on which nothing listens.
    pub no_listener: u64,
    /// Of these, those that are delivered to this host itself.
    pub no_listener_own: u64,
    /// Resets with which this host's own stack has refused such a SYN.
    pub refused: u64,
    /// SYNs to closed ports beyond [`super::Config::closed_ports`]: dropped in enforce mode
    /// ([`super::Reason::DropClosedPort`]), counted in the others.
    pub closed_over: u64,
    /// Handshakes that the kernel completed with clients of an interface that is not attached, loopback aside
    /// (tracepoint).
    pub elsewhere: u64,
    /// Index of the interface of the last one.
    pub elsewhere_by: u64,
    /// SYNs that got no cookie although cookies are sent at their listener, by [`super::Unanswered`].
    pub unanswered: [u64; UNANSWERED_SLOTS],
}

/// Counters of a rule. Each CPU counts hits in `RULE_HITS`. All of them count in `RULE_RETURNS` what a flood makes rare.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RuleHits {
    /// SYNs dropped, or that would have been in enforce mode.
    pub hits: u64,
    /// Retransmissions and completions of the clients among them.
    pub returns: RuleReturns,
}

/// Value of `RULE_RETURNS`, one per rule slot. Counts no further than its types.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RuleReturns {
    /// SYNs that matched, were retransmitted, and passed or were answered for it, and those for which they
    /// stand where a CPU saw more than it could remember.
    pub accepted_retransmits: u32,
    /// Handshakes that new clients completed after a SYN that matched had passed, likewise weighted.
    pub completed: u32,
}

/// Packets from and to one source, in `SOURCES` (any source) and `CLIENTS` (validated ones).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SourceCounters {
    /// SYNs from it (weighted sample).
    pub syn: u64,
    /// SYN-ACKs to it (weighted sample).
    pub syn_ack: u64,
    /// ACK segments from it (weighted sample).
    pub ack: u64,
    /// RSTs from it (weighted sample).
    pub rst: u64,
    /// Handshakes it completed.
    pub completed: u64,
    /// Boot time in ns of the last packet counted here.
    pub last_ns: u64,
}
